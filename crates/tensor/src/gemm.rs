//! Matrix products of strided matrices.

#![allow(unsafe_code)]

use crate::{Real, par};

/// A matrix to read: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> MatRef<'a, T> {
    /// A dense row-major matrix.
    ///
    /// # Panics
    /// When `data` is shorter than `rows * cols`.
    #[must_use]
    #[track_caller]
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols, 1)
    }

    /// A matrix with any strides.
    ///
    /// # Panics
    /// When an element lies outside of `data`.
    #[must_use]
    #[track_caller]
    pub fn strided(
        data: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        check_bounds(data.len(), rows, cols, row_stride, col_stride);
        Self { data, rows, cols, row_stride, col_stride }
    }

    /// The transpose, without moving anything.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Number of columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    fn rows_from(self, first: usize, rows: usize) -> Self {
        let start = (first * self.row_stride).min(self.data.len());
        Self { data: &self.data[start..], rows, ..self }
    }
}

/// A dense matrix to write, with rows `row_stride` apart.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// A dense row-major matrix.
    ///
    /// # Panics
    /// When `data` is shorter than `rows * cols`.
    #[must_use]
    #[track_caller]
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows are `row_stride` apart.
    ///
    /// # Panics
    /// When an element lies outside of `data` or rows overlap.
    #[must_use]
    #[track_caller]
    pub fn strided(data: &'a mut [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        check_bounds(data.len(), rows, cols, row_stride, 1);
        assert!(
            rows <= 1 || row_stride >= cols,
            "a matrix to write: rows of {cols} elements {row_stride} apart overlap"
        );
        Self { data, rows, cols, row_stride }
    }
}

#[track_caller]
fn check_bounds(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) {
    if rows > 0 && cols > 0 {
        let last = (rows - 1)
            .checked_mul(row_stride)
            .and_then(|r| (cols - 1).checked_mul(col_stride).and_then(|c| r.checked_add(c)));
        assert!(
            last.is_some_and(|l| l < len),
            "a {rows}x{cols} matrix with strides ({row_stride}, {col_stride}) does not fit into {len} elements"
        );
    }
}

/// Fewest rows of a block that one thread computes: each block packs B anew.
const MIN_ROWS: usize = 32;
/// From this many rows on there are two blocks a thread, so that a slow thread does not hold up the others.
const BALANCED_ROWS: usize = 512;
/// Nanoseconds of one multiply-add, roughly.
pub(crate) const MULTIPLY_ADD_NS: f64 = 0.02;

/// `C = A B`, or `C += A B` when `accumulate`.
///
/// Every element of C sums its products in an order that depends on the inner size alone, so that the result is
/// the same for any number of threads.
///
/// # Panics
/// When the shapes do not fit.
#[track_caller]
pub fn gemm<T: Real>(a: MatRef<'_, T>, b: MatRef<'_, T>, c: MatMut<'_, T>, accumulate: bool) {
    assert!(
        a.cols == b.rows && c.rows == a.rows && c.cols == b.cols,
        "gemm: {}x{} times {}x{} into {}x{}",
        a.rows,
        a.cols,
        b.rows,
        b.cols,
        c.rows,
        c.cols
    );
    let (m, k, n, stride) = (a.rows, a.cols, b.cols, c.row_stride);
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            for row in c.data.chunks_mut(stride.max(n)).take(m) {
                row[..n].fill(T::ZERO);
            }
        }
        return;
    }
    let row_ns = (n * k) as f64 * MULTIPLY_ADD_NS;
    // The order of the sums is that of the inner size, so this cut may follow the pool and change no bit.
    let threads = rayon::current_num_threads();
    let parts = if m >= BALANCED_ROWS { 2 * threads } else { threads };
    let block_rows = m.div_ceil(parts).next_multiple_of(16).max(MIN_ROWS);
    if m <= block_rows || !par::worth_it(m, row_ns) {
        block(a, b, c, accumulate);
        return;
    }
    // The last row may end before its stride does, so blocks are cut by hand.
    let data = &mut c.data[..(m - 1) * stride + n];
    rayon::scope(|s| {
        let mut rest = data;
        for first in (0..m).step_by(block_rows) {
            let rows = block_rows.min(m - first);
            let cut = (rows * stride).min(rest.len());
            let (mine, later) = rest.split_at_mut(cut);
            rest = later;
            s.spawn(move |_| {
                let c = MatMut { data: mine, rows, cols: n, row_stride: stride };
                block(a.rows_from(first, rows), b, c, accumulate);
            });
        }
    });
}

fn block<T: Real>(a: MatRef<'_, T>, b: MatRef<'_, T>, c: MatMut<'_, T>, accumulate: bool) {
    let strides = (
        a.row_stride as isize,
        a.col_stride as isize,
        b.row_stride as isize,
        b.col_stride as isize,
    );
    let (rsa, csa, rsb, csb) = strides;
    let beta = if accumulate { 1.0 } else { 0.0 };
    let (pa, pb, pc) = (a.data.as_ptr(), b.data.as_ptr(), c.data.as_mut_ptr());
    match T::DTYPE {
        // SAFETY: T is f32 (the match); MatRef and MatMut checked at construction (and rows_from and gemm kept)
        // that every element lies inside its slice; C is borrowed mutably and its rows do not overlap.
        gradus_core::DType::F32 => unsafe {
            matrixmultiply::sgemm(
                a.rows,
                a.cols,
                b.cols,
                1.0,
                pa.cast(),
                rsa,
                csa,
                pb.cast(),
                rsb,
                csb,
                beta as f32,
                pc.cast(),
                c.row_stride as isize,
                1,
            );
        },
        // SAFETY: as above; Real is implemented for f32 and f64 only, and this is not f32.
        _ => unsafe {
            matrixmultiply::dgemm(
                a.rows,
                a.cols,
                b.cols,
                1.0,
                pa.cast(),
                rsa,
                csa,
                pb.cast(),
                rsb,
                csb,
                beta,
                pc.cast(),
                c.row_stride as isize,
                1,
            );
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u64) -> Vec<f64> {
        (0..n as u64)
            .map(|i| {
                (gradus_core::splitmix64(seed * 1_000_003 + i) >> 40) as f64 / (1u64 << 24) as f64
                    - 0.5
            })
            .collect()
    }

    #[test]
    fn products_of_awkward_sizes_match_the_definition() {
        for &m in &[0, 1, 2, 7, 97, 193] {
            for &n in &[0, 1, 3, 17, 33] {
                for &k in &[0, 1, 5, 31] {
                    let (a, b, c0) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
                    for (ta, tb, acc) in [
                        (false, false, false),
                        (true, false, true),
                        (false, true, true),
                        (true, true, false),
                    ] {
                        let at = |i: usize, l: usize| if ta { a[l * m + i] } else { a[i * k + l] };
                        let bt = |l: usize, j: usize| if tb { b[j * k + l] } else { b[l * n + j] };
                        let ma = if ta { MatRef::new(&a, k, m).t() } else { MatRef::new(&a, m, k) };
                        let mb = if tb { MatRef::new(&b, n, k).t() } else { MatRef::new(&b, k, n) };
                        let mut c = c0.clone();
                        gemm(ma, mb, MatMut::new(&mut c, m, n), acc);
                        for i in 0..m {
                            for j in 0..n {
                                let sum: f64 = (0..k).map(|l| at(i, l) * bt(l, j)).sum();
                                let want = sum + if acc { c0[i * n + j] } else { 0.0 };
                                assert!(
                                    (c[i * n + j] - want).abs() < 1e-12,
                                    "{m}x{k}x{n} at {i},{j}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (m, k, n) = (401, 160, 211);
        let to32 = |v: Vec<f64>| v.into_iter().map(|x| x as f32).collect::<Vec<_>>();
        let (a, b) = (to32(numbers(m * k, 1)), to32(numbers(k * n, 2)));
        let product = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut c = vec![0f32; m * n];
            pool.install(|| {
                gemm(MatRef::new(&a, m, k), MatRef::new(&b, k, n), MatMut::new(&mut c, m, n), false)
            });
            c
        };
        assert_eq!(product(1), product(2));
        assert_eq!(product(1), product(5));
    }

    #[test]
    #[should_panic(expected = "does not fit into 5 elements")]
    fn a_matrix_outside_of_its_slice_is_refused() {
        let _ = MatRef::new(&[0f32; 5], 2, 3);
    }
}
