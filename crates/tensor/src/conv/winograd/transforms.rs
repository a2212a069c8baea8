//! What happens to a tile before and after the products, for 16 channels at once.
//!
//! The 16 elements of a transformed tile lie `step` apart. The last row and column of the transformed upstream gradient
//! have the opposite sign of the usual one, which `weight_back` makes good.

use crate::{gemm::lanes::LANES, kernel};

type Vector = [f32; LANES];

/// The `i`-th vector of a slice.
#[inline(always)]
fn vector(from: &[f32], i: usize) -> &Vector {
    from[i * LANES..][..LANES].try_into().expect("a slice of as many elements")
}

/// Writes the 16 vectors of a transformed tile.
#[inline(always)]
fn write(tile: &[[Vector; 4]; 4], to: &mut [f32], step: usize) {
    for (p, v) in tile.as_flattened().iter().enumerate() {
        to[p * step..][..LANES].copy_from_slice(v);
    }
}

/// Four pixels from the `i`-th on.
#[inline(always)]
fn pixels(from: &[f32], i: usize) -> [&Vector; 4] {
    [vector(from, i), vector(from, i + 1), vector(from, i + 2), vector(from, i + 3)]
}

/// Four vectors `step` apart.
#[inline(always)]
fn line(from: &[f32], step: usize) -> [&Vector; 4] {
    [
        vector(from, 0),
        vector(&from[step..], 0),
        vector(&from[2 * step..], 0),
        vector(&from[3 * step..], 0),
    ]
}

/// Reads the 16 vectors of a transformed tile.
#[inline(always)]
fn read(from: &[f32], step: usize) -> [[&Vector; 4]; 4] {
    [
        line(from, step),
        line(&from[4 * step..], step),
        line(&from[8 * step..], step),
        line(&from[12 * step..], step),
    ]
}

/// `B^T d` of one column or row.
#[inline(always)]
fn input_line(d: [f32; 4]) -> [f32; 4] {
    [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]
}

/// `A^T m`.
#[inline(always)]
fn output_line(m: [f32; 4]) -> [f32; 2] {
    [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]
}

/// `G g`.
#[inline(always)]
fn weight_line(g: [f32; 3]) -> [f32; 4] {
    let (ends, middle) = (0.5 * (g[0] + g[2]), 0.5 * g[1]);
    [g[0], ends + middle, ends - middle, g[2]]
}

/// `A y`, but for the sign of the last.
#[inline(always)]
fn upstream_line(y: [f32; 2]) -> [f32; 4] {
    [y[0], y[0] + y[1], y[0] - y[1], y[1]]
}

/// `G^T s`, with the sign of the last.
#[inline(always)]
fn weight_back_line(s: [f32; 4]) -> [f32; 3] {
    let (sum, difference) = (0.5 * (s[1] + s[2]), 0.5 * (s[1] - s[2]));
    [s[0] + sum, difference, sum - s[3]]
}

kernel! {
    /// `B^T d B` of `tiles` tiles of 4x4 pixels, two pixels apart, in four rows.
    pub(super) fn input['a]['a](rows: [&'a [f32]; 4], tiles: usize, to: &'a mut [f32], step: usize) -> () {
        for k in 0..tiles {
            let d = [
                pixels(rows[0], 2 * k),
                pixels(rows[1], 2 * k),
                pixels(rows[2], 2 * k),
                pixels(rows[3], 2 * k),
            ];
            let mut out = [[[0f32; LANES]; 4]; 4];
            for x in 0..LANES {
                let columns = [
                    input_line([d[0][0][x], d[1][0][x], d[2][0][x], d[3][0][x]]),
                    input_line([d[0][1][x], d[1][1][x], d[2][1][x], d[3][1][x]]),
                    input_line([d[0][2][x], d[1][2][x], d[2][2][x], d[3][2][x]]),
                    input_line([d[0][3][x], d[1][3][x], d[2][3][x], d[3][3][x]]),
                ];
                for (i, out) in out.iter_mut().enumerate() {
                    let row = input_line([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                    for (out, v) in out.iter_mut().zip(row) {
                        out[x] = v;
                    }
                }
            }
            write(&out, &mut to[k * LANES..], step);
        }
    }
}

kernel! {
    /// `A^T m A + bias` of `tiles` tiles: two rows of `2 * tiles` pixels.
    pub(super) fn output['a]['a](from: &'a [f32], step: usize, bias: &'a [f32], rows: [&'a mut [f32]; 2], tiles: usize) -> () {
        let bias = vector(bias, 0);
        let [top, bottom] = rows;
        let pixels = top.as_chunks_mut::<{ 2 * LANES }>().0.iter_mut().zip(bottom.as_chunks_mut::<{ 2 * LANES }>().0);
        for (k, (top, bottom)) in pixels.enumerate().take(tiles) {
            let m = read(&from[k * LANES..], step);
            let mut out = [[0f32; LANES]; 4];
            for x in 0..LANES {
                let columns = [
                    output_line([m[0][0][x], m[1][0][x], m[2][0][x], m[3][0][x]]),
                    output_line([m[0][1][x], m[1][1][x], m[2][1][x], m[3][1][x]]),
                    output_line([m[0][2][x], m[1][2][x], m[2][2][x], m[3][2][x]]),
                    output_line([m[0][3][x], m[1][3][x], m[2][3][x], m[3][3][x]]),
                ];
                for i in 0..2 {
                    let row = output_line([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                    out[2 * i][x] = row[0] + bias[x];
                    out[2 * i + 1][x] = row[1] + bias[x];
                }
            }
            top[..LANES].copy_from_slice(&out[0]);
            top[LANES..].copy_from_slice(&out[1]);
            bottom[..LANES].copy_from_slice(&out[2]);
            bottom[LANES..].copy_from_slice(&out[3]);
        }
    }
}

kernel! {
    /// `A y A^T` of `tiles` tiles of 2x2 pixels side by side in two rows.
    pub(super) fn upstream['a]['a](rows: [&'a [f32]; 2], tiles: usize, to: &'a mut [f32], step: usize) -> () {
        for k in 0..tiles {
            let [top, bottom] = rows;
            let y = [
                [vector(top, 2 * k), vector(top, 2 * k + 1)],
                [vector(bottom, 2 * k), vector(bottom, 2 * k + 1)],
            ];
            let mut out = [[[0f32; LANES]; 4]; 4];
            for x in 0..LANES {
                let columns = [
                    upstream_line([y[0][0][x], y[1][0][x]]),
                    upstream_line([y[0][1][x], y[1][1][x]]),
                ];
                for (i, out) in out.iter_mut().enumerate() {
                    for (out, v) in out.iter_mut().zip(upstream_line([columns[0][i], columns[1][i]])) {
                        out[x] = v;
                    }
                }
            }
            write(&out, &mut to[k * LANES..], step);
        }
    }
}

kernel! {
    /// `G g G^T` of nine vectors.
    pub(super) fn weight['a]['a](g: &'a [[f32; LANES]; 9], to: &'a mut [f32], step: usize) -> () {
        let mut out = [[[0f32; LANES]; 4]; 4];
        for x in 0..LANES {
            let columns = [
                weight_line([g[0][x], g[3][x], g[6][x]]),
                weight_line([g[1][x], g[4][x], g[7][x]]),
                weight_line([g[2][x], g[5][x], g[8][x]]),
            ];
            for (i, out) in out.iter_mut().enumerate() {
                for (out, v) in out.iter_mut().zip(weight_line([columns[0][i], columns[1][i], columns[2][i]])) {
                    out[x] = v;
                }
            }
        }
        write(&out, to, step);
    }
}

kernel! {
    /// `G^T s G`: nine vectors.
    pub(super) fn weight_back['a]['a](from: &'a [f32], step: usize, g: &'a mut [[f32; LANES]; 9]) -> () {
        let s = read(from, step);
        for x in 0..LANES {
            let columns = [
                weight_back_line([s[0][0][x], s[1][0][x], s[2][0][x], s[3][0][x]]),
                weight_back_line([s[0][1][x], s[1][1][x], s[2][1][x], s[3][1][x]]),
                weight_back_line([s[0][2][x], s[1][2][x], s[2][2][x], s[3][2][x]]),
                weight_back_line([s[0][3][x], s[1][3][x], s[2][3][x], s[3][3][x]]),
            ];
            for i in 0..3 {
                let row = weight_back_line([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                for (j, v) in row.into_iter().enumerate() {
                    g[3 * i + j][x] = v;
                }
            }
        }
    }
}
