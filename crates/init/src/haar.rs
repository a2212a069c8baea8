//! Random matrices with orthonormal columns.

use alloc::{vec, vec::Vec};

use gradus_core::RngStream;
use gradus_kernel::{kernel, par};
use num_traits::Float;

use crate::lanes::{Groups, Normals};

/// Reflections that are applied together.
const PANEL: usize = 32;
/// Columns that are computed together, and stay in registers.
const TILE: usize = 16;

/// A matrix of `rows` by `cols`, `rows >= cols`, with orthonormal columns, uniform over all such (Haar).
///
/// It is the Q of a normal matrix's QR decomposition by Householder reflections, with the signs that make the
/// diagonal of R positive; the sign of 0 is plus. The normal matrix itself is never decomposed: what a step
/// reflects is a fresh normal vector again, because the steps before it turned it without looking at it.
/// The reflections are applied 32 at a time to 16 columns at a time; all in f64.
///
/// # References
/// Stewart: The efficient generation of random orthogonal matrices (1980). Mezzadri: How to generate random
/// matrices from the classical compact groups (2007), arXiv:math-ph/0609050, for the signs. Schreiber, Van
/// Loan: A storage-efficient WY representation (1989), for the panels.
pub(crate) struct Haar {
    /// Rows, up to a multiple of four with rows of 0.
    rows: usize,
    /// One after the other, each `rows` by `TILE`.
    tiles: Vec<f64>,
}

impl Haar {
    pub(crate) fn new(rows: usize, cols: usize, stream: RngStream) -> Self {
        let padded = rows.next_multiple_of(4);
        let mut signs = vec![1.0; cols];
        let panels: Vec<Panel> = (signs.chunks_mut(PANEL).enumerate())
            .map(|(p, signs)| Panel::new(p * PANEL, rows, padded, stream, signs))
            .collect();
        let mut tiles = vec![0.0; padded * cols.next_multiple_of(TILE)];
        let fill = |t: usize, tile: &mut [f64]| {
            let first = t * TILE;
            for (k, &sign) in signs.iter().enumerate().skip(first).take(TILE) {
                tile[k * TILE + k - first] = sign;
            }
            // Reflections behind these columns find only zeros.
            for (p, panel) in panels.iter().enumerate().take(first / PANEL + 1).rev() {
                panel.apply(&mut tile[p * PANEL * TILE..]);
            }
        };
        let size = (padded * TILE).max(1);
        // Two multiplications and additions for each row of each reflection.
        let ns = (padded * TILE * cols) as f64 * 0.5;
        par::map_chunks(&mut tiles, size, ns, fill);
        Self { rows: padded, tiles }
    }

    /// The element in row `i` and column `j`.
    pub(crate) fn get(&self, i: usize, j: usize) -> f64 {
        self.tiles[(j / TILE * self.rows + i) * TILE + j % TILE]
    }
}

/// The product of up to 32 reflections, `1 - V T V^T`.
struct Panel {
    /// The vectors as columns, from the panel's own first row on; 0 above and beside them.
    v: Vec<[f64; PANEL]>,
    t: [[f64; PANEL]; PANEL],
}

impl Panel {
    /// Draws reflections number `first` and following, one for each of `signs`, and sets these.
    fn new(first: usize, rows: usize, padded: usize, stream: RngStream, signs: &mut [f64]) -> Self {
        let mut v = vec![[0.0; PANEL]; padded - first];
        let mut taus = [0.0; PANEL];
        let mut x = vec![0f32; rows - first];
        for (j, sign) in signs.iter_mut().enumerate() {
            let k = first + j;
            let x = &mut x[j..];
            Normals(stream).fill_range(k * rows + k, x);
            let norm = Float::sqrt(x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>());
            let head = f64::from(x[0]);
            // The tail of the vector is never shortened by cancellation this way.
            let beta = if head < 0.0 { norm } else { -norm };
            if beta == 0.0 {
                continue;
            }
            *sign = beta.signum();
            taus[j] = (beta - head) / beta;
            let scale = 1.0 / (head - beta);
            for (row, &x) in v[j..].iter_mut().zip(&*x) {
                row[j] = f64::from(x) * scale;
            }
            v[j][j] = 1.0;
        }
        let mut gram = [[0.0; PANEL]; PANEL];
        for row in &v {
            for (gram, &a) in gram.iter_mut().zip(row) {
                for (gram, &b) in gram.iter_mut().zip(row) {
                    *gram += a * b;
                }
            }
        }
        let mut t = [[0.0; PANEL]; PANEL];
        for (j, &tau) in taus.iter().enumerate() {
            for (i, t) in t.iter_mut().enumerate().take(j) {
                t[j] = -tau * (i..j).map(|l| t[l] * gram[l][j]).sum::<f64>();
            }
            t[j][j] = tau;
        }
        Self { v, t }
    }

    /// Replaces `q`, rows of `TILE`, by its product with the reflections.
    fn apply(&self, q: &mut [f64]) {
        apply(self, q);
    }
}

kernel! {
    fn apply['a]['a](panel: &'a Panel, q: &'a mut [f64]) -> () {
        /// Rows that stay in the innermost cache for all columns of `V`.
        const ROWS: usize = 64;
        let mut y = [[0.0; TILE]; PANEL];
        for (v, q) in panel.v.chunks(ROWS).zip(q.chunks(ROWS * TILE)) {
            for (j, y) in y.iter_mut().enumerate() {
                let mut sum = *y;
                for (v, q) in v.iter().zip(q.chunks_exact(TILE)) {
                    for (sum, q) in sum.iter_mut().zip(q) {
                        *sum += v[j] * q;
                    }
                }
                *y = sum;
            }
        }
        let mut z = [[0.0; TILE]; PANEL];
        for (z, t) in z.iter_mut().zip(&panel.t) {
            for (&t, y) in t.iter().zip(&y) {
                for (z, y) in z.iter_mut().zip(y) {
                    *z += t * y;
                }
            }
        }
        for (v, q) in panel.v.iter().zip(q.chunks_exact_mut(TILE)) {
            let mut row: [f64; TILE] = core::array::from_fn(|l| q[l]);
            for (&v, z) in v.iter().zip(&z) {
                for (row, z) in row.iter_mut().zip(z) {
                    *row -= v * z;
                }
            }
            q.copy_from_slice(&row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn haar(rows: usize, cols: usize, seed: u64) -> Haar {
        Haar::new(rows, cols, RngStream::new(seed, 0, 0))
    }

    #[test]
    fn columns_are_orthonormal() {
        for (rows, cols) in [(1, 1), (2, 1), (5, 5), (33, 32), (40, 33), (129, 70), (100, 100)] {
            let q = haar(rows, cols, 5);
            for a in 0..cols {
                for b in 0..=a {
                    let dot: f64 = (0..rows).map(|i| q.get(i, a) * q.get(i, b)).sum();
                    let want = if a == b { 1.0 } else { 0.0 };
                    assert!((dot - want).abs() < 1e-13, "{rows} x {cols}: {a} {b} {dot}");
                }
            }
        }
    }

    #[test]
    fn reflections_build_the_q_of_the_normal_matrix_that_they_would_have_met() {
        // One column: Q is the vector over its norm, with its own signs.
        let mut x = [0f32; 9];
        Normals(RngStream::new(5, 0, 0)).fill_range(0, &mut x);
        let norm = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let q = haar(9, 1, 5);
        for (i, &x) in x.iter().enumerate() {
            assert!((q.get(i, 0) - f64::from(x) / norm).abs() < 1e-14);
        }
    }

    /// Every entry of a Haar matrix has mean 0 and variance `1 / n`, its fourth moment is `3 / (n (n + 2))`,
    /// and half of the determinants are positive. The trace tells wrong signs: its mean is 0, its variance 1.
    #[test]
    fn matrices_are_uniform_over_the_group() {
        let (n, draws) = (3, 4000);
        let (mut means, mut squares, mut fourth, mut trace2, mut positive) =
            ([0.0; 9], [0.0; 9], 0.0, 0.0, 0.0);
        for seed in 0..draws {
            let q = haar(n, n, seed);
            let m: [f64; 9] = core::array::from_fn(|k| q.get(k / 3, k % 3));
            for (k, x) in m.iter().enumerate() {
                means[k] += x / draws as f64;
                squares[k] += x * x / draws as f64;
                fourth += x.powi(4) / (9 * draws) as f64;
            }
            trace2 += (m[0] + m[4] + m[8]).powi(2) / draws as f64;
            let minor = |a: usize, b: usize, c: usize, d: usize| m[a] * m[d] - m[b] * m[c];
            let det =
                m[0] * minor(4, 5, 7, 8) - m[1] * minor(3, 5, 6, 8) + m[2] * minor(3, 4, 6, 7);
            assert!((det.abs() - 1.0).abs() < 1e-12);
            positive += if det > 0.0 { 1.0 / draws as f64 } else { 0.0 };
        }
        let sd = 1.0 / (draws as f64).sqrt();
        assert!(means.iter().all(|m| m.abs() < 4.5 * sd * 0.58), "{means:?}");
        assert!(squares.iter().all(|s| (s - 1.0 / 3.0).abs() < 4.5 * sd * 0.3), "{squares:?}");
        assert!((fourth - 0.2).abs() < 0.01, "{fourth}");
        assert!((trace2 - 1.0).abs() < 0.1, "{trace2}");
        assert!((positive - 0.5).abs() < 4.5 * sd * 0.5, "{positive}");
    }
}
