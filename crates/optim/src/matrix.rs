//! Products of row-major matrices: small and plain, but in registers and over packed columns, so that the loop
//! becomes vector code. Each element's order of additions depends on the inner size alone.

use alloc::{vec, vec::Vec};

use crate::{
    pieces::{Rows, in_pieces_of},
    slots::Work,
};

/// Columns of a strip, and rows that pass over it together: their sums are in registers.
const STRIP: usize = 8;
const TALL: usize = 4;
/// Inner length of a packed strip, which stays in the first cache.
const DEPTH: usize = 256;
/// Multiplications of a piece, about 50 us of work.
const PIECE: usize = 1 << 19;

/// `out += a b`, for `a` of `[rows, inner]` and `b` of `[inner, cols]`.
pub(crate) fn add_product<W: Work>(out: &mut [W], a: &[W], b: &[W], inner: usize, cols: usize) {
    let mut packed = vec![W::zero(); DEPTH * cols.next_multiple_of(STRIP)];
    for start in (0..inner).step_by(DEPTH) {
        let depth = DEPTH.min(inner - start);
        pack(&mut packed, &b[start * cols..][..depth * cols], cols);
        let rows = out.len() / cols;
        let piece = PIECE / (depth * cols);
        in_pieces_of(
            piece,
            (Rows { data: &mut *out, width: cols }, 0..rows),
            |(out, at): (Rows<'_, W>, core::ops::Range<usize>)| {
                for (out, row) in out.data.chunks_mut(TALL * cols).zip(at.step_by(TALL)) {
                    let a: [&[W]; TALL] = core::array::from_fn(|r| {
                        // Beyond the last row its numbers serve once more, and their sums are dropped.
                        let row = row + r.min(out.len() / cols - 1);
                        &a[row * inner + start..][..depth]
                    });
                    for (strip, first) in packed.chunks(depth * STRIP).zip((0..cols).step_by(STRIP))
                    {
                        let sums = tile(a, strip);
                        let width = STRIP.min(cols - first);
                        for (out, sums) in out.chunks_mut(cols).zip(sums) {
                            for (o, s) in out[first..][..width].iter_mut().zip(sums) {
                                *o = *o + s;
                            }
                        }
                    }
                }
            },
        );
    }
}

/// Strips of columns, each with the numbers of one row side by side; the last is filled up with zeros.
fn pack<W: Work>(packed: &mut [W], b: &[W], cols: usize) {
    let depth = b.len() / cols;
    for (strip, first) in packed.chunks_mut(depth * STRIP).zip((0..cols).step_by(STRIP)) {
        let width = STRIP.min(cols - first);
        for (to, from) in strip.chunks_mut(STRIP).zip(b.chunks(cols)) {
            to[..width].copy_from_slice(&from[first..][..width]);
            to[width..].fill(W::zero());
        }
    }
}

/// The products of some rows with a packed strip.
#[inline]
fn tile<W: Work>(a: [&[W]; TALL], strip: &[W]) -> [[W; STRIP]; TALL] {
    let mut sums = [[W::zero(); STRIP]; TALL];
    let depth = a[0].len();
    let a = a.map(|row| &row[..depth]);
    for (k, b) in strip.chunks_exact(STRIP).take(depth).enumerate() {
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum = *sum + a[k] * b;
            }
        }
    }
    sums
}

/// `x` of `[rows, cols]`, transposed.
pub(crate) fn transposed<W: Work>(x: &[W], rows: usize, cols: usize) -> Vec<W> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| x[r * cols + c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition_for_any_size() {
        for (rows, inner, cols) in
            [(1, 1, 1), (4, 8, 8), (5, 9, 7), (3, 600, 17), (70, 257, 33), (2, 0, 3), (0, 2, 3)]
        {
            // Small integers: sums are exact in any order.
            let a: Vec<f32> = (0..rows * inner).map(|i| (i % 7) as f32 - 3.0).collect();
            let b: Vec<f32> = (0..inner * cols).map(|i| (i % 5) as f32 - 2.0).collect();
            let mut out = vec![1.0f32; rows * cols];
            add_product(&mut out, &a, &b, inner, cols);
            for (i, &got) in out.iter().enumerate() {
                let (r, c) = (i / cols, i % cols);
                let want: f32 = (0..inner).map(|k| a[r * inner + k] * b[k * cols + c]).sum();
                assert_eq!(got, 1.0 + want, "{rows} {inner} {cols}: {r} {c}");
            }
        }
    }
}
