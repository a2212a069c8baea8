//! Products of 16-bit operands, with sums in f32.
//!
//! Where the machine multiplies bf16 (AVX512-BF16) it does: two products are added to a sum in one instruction, which
//! takes subnormal numbers as 0 and rounds as the machine does, so that bits depend on it in the last places.
//! Everywhere else, and for f16, operands are widened, which is exact, and multiplied in f32: the copies are
//! read where they lie, so that this costs less than widening while packing would.

#[cfg(target_arch = "x86_64")]
use gradus_core::bf16;
#[cfg(target_arch = "x86_64")]
use gradus_kernel::simd::{Level, multiplies_bf16};

use super::{MatMut, MatRef, Start, single};
#[cfg(target_arch = "x86_64")]
use super::{
    source::Pairs,
    tiles::{Avx512Bf16, Avx512Bf16Narrow},
};
use crate::{
    buffer::{Buffer, floats, scratch},
    par,
    short::Short,
};

/// Nanoseconds that rounding takes an element, roughly.
const ROUND_NS: f64 = 0.1;
/// Nanoseconds that widening takes an element, roughly.
const WIDEN_NS: f64 = 0.1;
/// Rows of A and of sums that exist in f32 at a time. B is packed once for each so many rows, which costs little.
const ROWS: usize = 512;
/// Elements of B that exist in f32 at a time, unless a block of its rows has more.
const WIDENED: usize = 1 << 20;

/// `C = A B` added to `start`; nothing is empty.
pub(super) fn product<T: Short>(
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: MatMut<'_, f32>,
    start: Start<'_, f32>,
) {
    #[cfg(target_arch = "x86_64")]
    if multiplies_bf16()
        && let (Some(a), Some(b)) = (a.cast::<bf16>(), b.cast())
    {
        return single::run::<_, Pairs>(Avx512Bf16, Level::Avx512, a, b, c, start);
    }
    // Some rows of A, and some of B, at a time: their widened copies stay small.
    let MatMut { data, rows, cols, row_stride } = c;
    let stride = row_stride.max(cols);
    let inner = (WIDENED / cols / single::BLOCK).max(1) * single::BLOCK;
    for from in (0..b.rows).step_by(inner) {
        let b = part(b, from, inner);
        let wide_b = widened(b);
        let start = if from == 0 { start } else { Start::Current };
        for (first, out) in (0..rows).step_by(ROWS).zip(data.chunks_mut(ROWS * stride)) {
            let a = part(part(a, first, ROWS).t(), from, inner).t();
            let wide_a = widened(a);
            let c = MatMut { data: out, rows: a.rows, cols, row_stride };
            single::product(view(&wide_a, a), view(&wide_b, b), c, start);
        }
    }
}

/// At most `count` rows, from `first` on.
fn part<T>(a: MatRef<'_, T>, first: usize, count: usize) -> MatRef<'_, T> {
    MatRef { data: &a.data[first * a.row_stride..], rows: count.min(a.rows - first), ..a }
}

/// Fills C with what a product is added to.
pub(super) fn fill<T: Short>(c: &mut MatMut<'_, T>, start: Start<'_, f32>) {
    let row = match start {
        Start::Bias(bias) => bias.to_vec(),
        _ => vec![0.0; c.cols],
    };
    let stride = c.row_stride.max(c.cols);
    for out in c.data.chunks_mut(stride).take(c.rows) {
        T::narrow(&row, &mut out[..c.cols]);
    }
}

/// As [`product`], with sums that are rounded to a C of the same type, which is not added to.
pub(super) fn product_narrow<T: Short>(
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    mut c: MatMut<'_, T>,
    start: Start<'_, f32>,
) {
    // Sums of one block are complete where they are stored.
    #[cfg(target_arch = "x86_64")]
    if multiplies_bf16()
        && a.cols.div_ceil(2) <= single::BLOCK
        && let (Some(a), Some(b), Some(c)) = (a.cast::<bf16>(), b.cast(), c.cast())
    {
        return single::run::<_, Pairs>(Avx512Bf16Narrow, Level::Avx512, a, b, c, start);
    }
    let MatMut { data, rows, cols, row_stride } = c;
    let stride = row_stride.max(cols);
    for (first, out) in (0..rows).step_by(ROWS).zip(data.chunks_mut(ROWS * stride)) {
        let a = part(a, first, ROWS);
        let mut sums = scratch(a.rows * cols);
        product(a, b, MatMut::new(floats(&mut sums), a.rows, cols), start);
        round(floats(&mut sums), cols, out, stride);
    }
}

/// Rounds rows of sums into rows that lie `stride` apart.
fn round<T: Short>(sums: &[f32], cols: usize, out: &mut [T], stride: usize) {
    let row = |i: usize| &sums[i * cols..(i + 1) * cols];
    // The last row may end before its stride does.
    let last = sums.len() / cols - 1;
    let (most, rest) = out.split_at_mut(last * stride);
    par::for_each_mut(most, stride, ROUND_NS * cols as f64, |first, out| {
        for (i, out) in (first..).zip(out.chunks_exact_mut(stride)) {
            T::narrow(row(i), &mut out[..cols]);
        }
    });
    T::narrow(row(last), &mut rest[..cols]);
}

/// A matrix in f32: row by row, or column by column where it lies so.
fn widened<T: Short>(a: MatRef<'_, T>) -> Buffer {
    if a.row_stride == 1 && a.col_stride != 1 {
        return widened(a.t());
    }
    let mut buf = scratch(a.rows * a.cols);
    let ns = WIDEN_NS * a.cols as f64;
    par::for_each_mut(floats(&mut buf), a.cols, ns, |first, out| {
        for (i, out) in (first..).zip(out.chunks_exact_mut(a.cols)) {
            let row = &a.data[i * a.row_stride..];
            if a.col_stride == 1 {
                T::widen(&row[..a.cols], out);
            } else {
                for (out, x) in out.iter_mut().zip(row.iter().step_by(a.col_stride.max(1))) {
                    T::widen(&[*x], std::slice::from_mut(out));
                }
                if a.col_stride == 0 {
                    let x = out[0];
                    out.fill(x);
                }
            }
        }
    });
    buf
}

/// What [`widened`] made of this matrix.
fn view<'a, T>(wide: &'a Buffer, a: MatRef<'_, T>) -> MatRef<'a, f32> {
    let data = wide.as_slice::<f32>().expect("widened to f32");
    if a.row_stride == 1 && a.col_stride != 1 {
        MatRef::new(data, a.cols, a.rows).t()
    } else {
        MatRef::new(data, a.rows, a.cols)
    }
}
