//! The product in f64, which serves gradient checks: `matrixmultiply`.

use super::{MULTIPLY_ADD_NS, MatMut, MatRef, Start};
use crate::{Real, par};

/// Fewest rows of a block that one thread computes: each block packs B anew.
const MIN_ROWS: usize = 32;

/// `C = A B` added to `start`; nothing is empty.
///
/// # Panics
/// When `T` is not f64.
pub(super) fn product<T: Real>(
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    mut c: MatMut<'_, T>,
    start: Start<'_, T>,
) {
    assert_eq!(T::DTYPE, gradus_core::DType::F64, "gemm: elements are f32 or f64");
    c.begin(start);
    let accumulate = start != Start::Zero;
    let (m, n, stride) = (a.rows, b.cols, c.row_stride);
    let row_ns = 2.0 * (n * a.cols) as f64 * MULTIPLY_ADD_NS;
    // The order of the sums is that of the inner size, so this cut may follow the pool and change no bit.
    let rows = m.div_ceil(rayon::current_num_threads()).next_multiple_of(16).max(MIN_ROWS);
    if m <= rows || !par::worth_it(m, row_ns) {
        return block(a, b, c, accumulate);
    }
    // The last row may end before its stride does, so blocks are cut by hand.
    let mut rest = &mut c.data[..(m - 1) * stride + n];
    rayon::scope(|s| {
        for first in (0..m).step_by(rows) {
            let rows = rows.min(m - first);
            let (mine, later) = rest.split_at_mut((rows * stride).min(rest.len()));
            rest = later;
            let a = MatRef { data: &a.data[first * a.row_stride..], rows, ..a };
            let c = MatMut { data: mine, rows, cols: n, row_stride: stride };
            s.spawn(move |_| block(a, b, c, accumulate));
        }
    });
}

fn block<T: Real>(a: MatRef<'_, T>, b: MatRef<'_, T>, c: MatMut<'_, T>, accumulate: bool) {
    // SAFETY: T is f64 (checked above); MatRef and MatMut checked at construction that every element lies inside
    // its slice; C is borrowed mutably and its rows do not overlap.
    unsafe {
        matrixmultiply::dgemm(
            a.rows,
            a.cols,
            b.cols,
            1.0,
            a.data.as_ptr().cast(),
            a.row_stride as isize,
            a.col_stride as isize,
            b.data.as_ptr().cast(),
            b.row_stride as isize,
            b.col_stride as isize,
            if accumulate { 1.0 } else { 0.0 },
            c.data.as_mut_ptr().cast(),
            c.row_stride as isize,
            1,
        );
    }
}
