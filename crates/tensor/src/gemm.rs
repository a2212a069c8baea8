//! Matrix products of strided matrices.

#![allow(unsafe_code)]

mod double;
pub(crate) mod lanes;
mod pack;
mod short;
mod single;
mod source;
mod tiles;

use gradus_core::{Element, bf16, f16};

use crate::{Real, short::Short};

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
    check_sizes(&a, &b, &c, start);
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    if a.cols == 0 {
        return c.begin(start);
    }
    if let (Some(a), Some(b), Some(c)) = (a.cast(), b.cast(), c.cast()) {
        single::product(a, b, c, start.as_f32());
    } else {
        double::product(a, b, c, start);
    }
}

#[track_caller]
fn check_sizes<T, C, S>(
    a: &MatRef<'_, T>,
    b: &MatRef<'_, T>,
    c: &MatMut<'_, C>,
    start: Start<'_, S>,
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
    start.check(c.cols);
}

/// What can be multiplied, and the type of the sums.
pub(crate) trait Factor: Element {
    /// Sums, and elements of C.
    type Sum: Real;

    /// As [`gemm`].
    #[track_caller]
    fn gemm(
        a: MatRef<'_, Self>,
        b: MatRef<'_, Self>,
        c: MatMut<'_, Self::Sum>,
        start: Start<'_, Self::Sum>,
    );

    /// The same with sums that are rounded to a C of the factors' type; what that holds is not added to.
    #[track_caller]
    fn gemm_narrow(
        a: MatRef<'_, Self>,
        b: MatRef<'_, Self>,
        c: MatMut<'_, Self>,
        start: Start<'_, Self::Sum>,
    );
}

macro_rules! real_factor {
    ($t:ty) => {
        impl Factor for $t {
            type Sum = $t;

            fn gemm(a: MatRef<'_, $t>, b: MatRef<'_, $t>, c: MatMut<'_, $t>, start: Start<'_, $t>) {
                gemm(a, b, c, start);
            }

            fn gemm_narrow(
                a: MatRef<'_, $t>,
                b: MatRef<'_, $t>,
                c: MatMut<'_, $t>,
                start: Start<'_, $t>,
            ) {
                gemm(a, b, c, start);
            }
        }
    };
}
real_factor!(f32);
real_factor!(f64);

macro_rules! short_factor {
    ($t:ty) => {
        impl Factor for $t {
            type Sum = f32;

            fn gemm(
                a: MatRef<'_, $t>,
                b: MatRef<'_, $t>,
                c: MatMut<'_, f32>,
                start: Start<'_, f32>,
            ) {
                gemm_short(a, b, c, start);
            }

            fn gemm_narrow(
                a: MatRef<'_, $t>,
                b: MatRef<'_, $t>,
                mut c: MatMut<'_, $t>,
                start: Start<'_, f32>,
            ) {
                check_sizes(&a, &b, &c, start);
                assert!(start != Start::Current, "gemm_narrow: C would be rounded twice");
                if c.rows == 0 || c.cols == 0 {
                    return;
                }
                if a.cols == 0 {
                    return short::fill(&mut c, start);
                }
                short::product_narrow(a, b, c, start);
            }
        }
    };
}
short_factor!(f16);
short_factor!(bf16);

/// As [`gemm`], of 16-bit operands with sums in f32.
#[track_caller]
fn gemm_short<T: Short>(
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    mut c: MatMut<'_, f32>,
    start: Start<'_, f32>,
) {
    check_sizes(&a, &b, &c, start);
    if c.rows == 0 || c.cols == 0 {
        return;
    }
    if a.cols == 0 {
        return c.begin(start);
    }
    short::product(a, b, c, start);
}

/// A right operand that is packed once for many products.
#[derive(Debug)]
pub(crate) enum Packed<'a, T> {
    /// Packed.
    Single(single::Panels),
    /// As it is: f64, or nothing.
    Plain(MatRef<'a, T>),
}

impl<'a, T: Real> Packed<'a, T> {
    /// Packs B, by several threads if there is enough of it.
    pub(crate) fn new(b: MatRef<'a, T>) -> Self {
        match b.cast() {
            Some(b) if b.rows > 0 && b.cols > 0 => Self::Single(single::Panels::new(b)),
            _ => Self::Plain(b),
        }
    }
}

/// As [`gemm`], on this thread, with as many of the first rows and columns of a packed B as A and C ask for.
pub(crate) fn gemm_packed<T: Real>(
    a: MatRef<'_, T>,
    b: &Packed<'_, T>,
    mut c: MatMut<'_, T>,
    start: Start<'_, T>,
) {
    match b {
        Packed::Plain(b) => {
            gemm(a, MatRef { rows: a.cols, cols: c.cols, ..*b }, c, start);
        }
        Packed::Single(b) => {
            assert!(c.rows == a.rows && b.holds(a.cols, c.cols), "gemm_packed: sizes");
            start.check(c.cols);
            if c.rows == 0 || c.cols == 0 {
                return;
            }
            if a.cols == 0 {
                return c.begin(start);
            }
            let a = a.cast().expect("B is f32");
            single::product_packed(a, b, c.cast().expect("B is f32"), start.as_f32());
        }
    }
}

/// The slice as what it is, if that is a slice of `U`.
fn cast<T: Element, U: Element>(x: &[T]) -> Option<&[U]> {
    // SAFETY: the names of the types are equal only if the types are.
    (T::DTYPE == U::DTYPE)
        .then(|| unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) })
}

impl<'a, T: Element> MatRef<'a, T> {
    /// As [`cast`].
    fn cast<U: Element>(self) -> Option<MatRef<'a, U>> {
        let Self { data, rows, cols, row_stride, col_stride } = self;
        Some(MatRef { data: cast(data)?, rows, cols, row_stride, col_stride })
    }
}

impl<T: Element> MatMut<'_, T> {
    /// As [`cast`].
    fn cast<U: Element>(&mut self) -> Option<MatMut<'_, U>> {
        let &mut Self { ref mut data, rows, cols, row_stride } = self;
        let (ptr, len) = (data.as_mut_ptr(), data.len());
        // SAFETY: as in `cast`, and the slice stays borrowed.
        let data = (T::DTYPE == U::DTYPE)
            .then(|| unsafe { std::slice::from_raw_parts_mut(ptr.cast(), len) })?;
        Some(MatMut { data, rows, cols, row_stride })
    }
}

impl<T> Start<'_, T> {
    #[track_caller]
    fn check(self, cols: usize) {
        if let Self::Bias(bias) = self {
            assert_eq!(bias.len(), cols, "gemm: elements of the bias and columns of C");
        }
    }
}

impl<'a, T: Real> Start<'a, T> {
    /// As what it is, which is f32.
    fn as_f32(self) -> Start<'a, f32> {
        match self {
            Self::Zero => Start::Zero,
            Self::Current => Start::Current,
            Self::Bias(bias) => Start::Bias(cast(bias).expect("the operands are f32")),
        }
    }
}

#[cfg(test)]
mod tests;
