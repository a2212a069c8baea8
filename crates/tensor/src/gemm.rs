//! Matrix products of strided matrices.

#![allow(unsafe_code)]

mod double;
pub(crate) mod lanes;
mod pack;
mod single;
mod tiles;

use gradus_core::DType;

use crate::Real;

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

    /// Fills C with what a product is added to.
    fn begin(&mut self, start: Start<'_, T>)
    where
        T: Real,
    {
        let stride = self.row_stride.max(self.cols);
        for row in self.data.chunks_mut(stride).take(self.rows) {
            match start {
                Start::Zero => row[..self.cols].fill(T::ZERO),
                Start::Current => {}
                Start::Bias(bias) => row[..self.cols].copy_from_slice(bias),
            }
        }
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

/// What a product is added to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Start<'a, T> {
    /// Nothing: C is overwritten.
    Zero,
    /// What C holds.
    Current,
    /// One element for each column, in every row of C.
    Bias(&'a [T]),
}

/// Nanoseconds of one multiply-add, roughly.
pub(crate) const MULTIPLY_ADD_NS: f64 = 0.012;

/// `C = A B`, added to what `start` says.
///
/// Every element of C sums its products in an order that depends on the inner size alone, so that the result is
/// the same for any number of threads.
///
/// # Panics
/// When the shapes do not fit.
#[track_caller]
pub fn gemm<T: Real>(
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    mut c: MatMut<'_, T>,
    start: Start<'_, T>,
) {
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
    if let Start::Bias(bias) = start {
        assert_eq!(bias.len(), b.cols, "gemm: elements of the bias and columns of C");
    }
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    if a.cols == 0 {
        return c.begin(start);
    }
    match as_f32(a, b, &mut c, start) {
        Some((a, b, c, start)) => single::product(a, b, c, start),
        None => double::product(a, b, c, start),
    }
}

/// The operands as what they are, if that is f32.
#[allow(clippy::type_complexity)]
fn as_f32<'a, T: Real>(
    a: MatRef<'a, T>,
    b: MatRef<'a, T>,
    c: &'a mut MatMut<'_, T>,
    start: Start<'a, T>,
) -> Option<(MatRef<'a, f32>, MatRef<'a, f32>, MatMut<'a, f32>, Start<'a, f32>)> {
    if T::DTYPE != DType::F32 {
        return None;
    }
    // SAFETY: T is f32.
    let cast =
        |x: &'a [T]| unsafe { std::slice::from_raw_parts(x.as_ptr().cast::<f32>(), x.len()) };
    let read = |m: MatRef<'a, T>| MatRef {
        data: cast(m.data),
        rows: m.rows,
        cols: m.cols,
        row_stride: m.row_stride,
        col_stride: m.col_stride,
    };
    let (rows, cols, row_stride) = (c.rows, c.cols, c.row_stride);
    let (ptr, len) = (c.data.as_mut_ptr().cast::<f32>(), c.data.len());
    // SAFETY: T is f32, and C stays borrowed.
    let data = unsafe { std::slice::from_raw_parts_mut(ptr, len) };
    let start = match start {
        Start::Zero => Start::Zero,
        Start::Current => Start::Current,
        Start::Bias(bias) => Start::Bias(cast(bias)),
    };
    Some((read(a), read(b), MatMut { data, rows, cols, row_stride }, start))
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
                        gemm(
                            ma,
                            mb,
                            MatMut::new(&mut c, m, n),
                            if acc { Start::Current } else { Start::Zero },
                        );
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
                gemm(
                    MatRef::new(&a, m, k),
                    MatRef::new(&b, k, n),
                    MatMut::new(&mut c, m, n),
                    Start::Zero,
                )
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
