//! Products of 16-bit operands, with sums in f32.
//!
//! Where the machine multiplies bf16 (AVX512-BF16) it does: two products are added to a sum in one instruction, which
//! takes subnormal numbers as 0 and rounds as the machine does, so that bits depend on it in the last places.
//! Everywhere else, and for f16, operands are widened, which is exact, and multiplied in f32.

use gradus_core::{bf16, f16};
use gradus_kernel::convert::{self, Bf16, F16, Overflow};
use half::slice::HalfFloatSliceExt;

use super::{MatMut, MatRef, Start, single};
use crate::{
    buffer::{Buffer, floats, scratch},
    par,
};

/// Nanoseconds that widening takes an element, roughly.
const WIDEN_NS: f64 = 0.1;

/// A 16-bit float.
pub(super) trait Short: Copy + Send + Sync {
    /// Its slices in f32; both are of one length.
    fn widen(x: &[Self], out: &mut [f32]);
    /// Rounds a slice of f32; both are of one length.
    fn narrow(x: &[f32], out: &mut [Self]);
    /// The product with a C of this type, if there are instructions that round sums as they store them, and if these
    /// are complete then. Nothing is empty. Returns C if not.
    fn multiply_narrow<'c>(
        a: MatRef<'_, Self>,
        b: MatRef<'_, Self>,
        c: MatMut<'c, Self>,
        start: Start<'_, f32>,
    ) -> Option<MatMut<'c, Self>>;
    /// The product by instructions for this type, if there are any; nothing is empty. Returns C if not.
    fn multiply<'c>(
        a: MatRef<'_, Self>,
        b: MatRef<'_, Self>,
        c: MatMut<'c, f32>,
        start: Start<'_, f32>,
    ) -> Option<MatMut<'c, f32>>;
}

impl Short for f16 {
    fn widen(x: &[Self], out: &mut [f32]) {
        convert::widen::<F16>(x.reinterpret_cast(), out);
    }

    fn narrow(x: &[f32], out: &mut [Self]) {
        convert::narrow::<F16>(x, out.reinterpret_cast_mut(), Overflow::Infinite);
    }

    fn multiply_narrow<'c>(
        _: MatRef<'_, Self>,
        _: MatRef<'_, Self>,
        c: MatMut<'c, Self>,
        _: Start<'_, f32>,
    ) -> Option<MatMut<'c, Self>> {
        Some(c)
    }

    fn multiply<'c>(
        _: MatRef<'_, Self>,
        _: MatRef<'_, Self>,
        c: MatMut<'c, f32>,
        _: Start<'_, f32>,
    ) -> Option<MatMut<'c, f32>> {
        Some(c)
    }
}

impl Short for bf16 {
    fn widen(x: &[Self], out: &mut [f32]) {
        convert::widen::<Bf16>(x.reinterpret_cast(), out);
    }

    fn narrow(x: &[f32], out: &mut [Self]) {
        convert::narrow::<Bf16>(x, out.reinterpret_cast_mut(), Overflow::Infinite);
    }

    fn multiply_narrow<'c>(
        a: MatRef<'_, Self>,
        b: MatRef<'_, Self>,
        c: MatMut<'c, Self>,
        start: Start<'_, f32>,
    ) -> Option<MatMut<'c, Self>> {
        #[cfg(target_arch = "x86_64")]
        if a.cols.div_ceil(2) <= single::BLOCK && gradus_kernel::simd::multiplies_bf16() {
            use super::{source::Pairs, tiles::Avx512Bf16Narrow};
            let level = gradus_kernel::simd::Level::Avx512;
            single::run::<_, Pairs>(Avx512Bf16Narrow, level, a, b, c, start);
            return None;
        }
        let _ = (a, b, start);
        Some(c)
    }

    fn multiply<'c>(
        a: MatRef<'_, Self>,
        b: MatRef<'_, Self>,
        c: MatMut<'c, f32>,
        start: Start<'_, f32>,
    ) -> Option<MatMut<'c, f32>> {
        #[cfg(target_arch = "x86_64")]
        if gradus_kernel::simd::multiplies_bf16() {
            use super::{source::Pairs, tiles::Avx512Bf16};
            let level = gradus_kernel::simd::Level::Avx512;
            single::run::<_, Pairs>(Avx512Bf16, level, a, b, c, start);
            return None;
        }
        let _ = (a, b, start);
        Some(c)
    }
}

/// `C = A B` added to `start`; nothing is empty.
pub(super) fn product<T: Short>(
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: MatMut<'_, f32>,
    start: Start<'_, f32>,
) {
    if let Some(c) = T::multiply(a, b, c, start) {
        let (wide_a, wide_b) = (widened(a), widened(b));
        single::product(view(&wide_a, a), view(&wide_b, b), c, start);
    }
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

/// As [`product`], with sums that are rounded to a C of the same type.
pub(super) fn product_narrow<T: Short>(
    a: MatRef<'_, T>,
    b: MatRef<'_, T>,
    c: MatMut<'_, T>,
    start: Start<'_, f32>,
) {
    assert!(start != Start::Current, "a short C is not added to: it would be rounded twice");
    let Some(MatMut { data, rows, cols, row_stride }) = T::multiply_narrow(a, b, c, start) else {
        return;
    };
    let stride = row_stride.max(cols);
    let mut sums = scratch(rows * cols);
    product(a, b, MatMut::new(floats(&mut sums), rows, cols), start);
    let sums: &[f32] = floats(&mut sums);
    let ns = WIDEN_NS * cols as f64;
    // The last row may end before its stride does.
    let (most, last) = data.split_at_mut((rows - 1) * stride);
    par::for_each_mut(most, stride, ns, |first, out| {
        for (i, out) in (first..).zip(out.chunks_exact_mut(stride)) {
            T::narrow(&sums[i * cols..(i + 1) * cols], &mut out[..cols]);
        }
    });
    T::narrow(&sums[(rows - 1) * cols..], &mut last[..cols]);
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
