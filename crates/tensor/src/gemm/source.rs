//! What operands are made of, and how they become the words that tiles read.

use gradus_core::bf16;

use super::{MatRef, pack, tiles::Isa};

/// Elements of the operands of a product. Packed, the inner dimension is one of *words* of 32 bits.
pub(super) trait Source: Copy + Send + Sync {
    /// An element in memory.
    type Element: Copy + Send + Sync;
    /// Elements of the inner dimension that share a word.
    const IN_WORD: usize;

    /// The words of A as they lie in memory, if they do.
    fn words(a: MatRef<'_, Self::Element>) -> Option<MatRef<'_, f32>>;

    /// As [`pack::pack_a`], with inner positions in elements and results in words.
    fn pack_a<I: Isa>(
        a: MatRef<'_, Self::Element>,
        rows: [usize; 2],
        inner: [usize; 2],
        out: &mut [f32],
    );

    /// As [`pack::pack_b`], with inner positions in elements and results in words.
    fn pack_b<I: Isa>(
        b: MatRef<'_, Self::Element>,
        cols: [usize; 2],
        inner: [usize; 2],
        out: &mut [f32],
    );
}

/// f32: an element is a word.
#[derive(Clone, Copy)]
pub(super) struct Single;

impl Source for Single {
    type Element = f32;
    const IN_WORD: usize = 1;

    #[inline]
    fn words(a: MatRef<'_, f32>) -> Option<MatRef<'_, f32>> {
        Some(a)
    }

    #[inline]
    fn pack_a<I: Isa>(a: MatRef<'_, f32>, rows: [usize; 2], inner: [usize; 2], out: &mut [f32]) {
        pack::pack_a::<I>(a, rows, inner, out);
    }

    #[inline]
    fn pack_b<I: Isa>(b: MatRef<'_, f32>, cols: [usize; 2], inner: [usize; 2], out: &mut [f32]) {
        pack::pack_b::<I>(b, cols, inner, out);
    }
}

/// bf16, two of them to a word: neighbours of the inner dimension, the first in the lower half. A last one alone has a
/// zero beside it.
#[derive(Clone, Copy)]
pub(super) struct Pairs;

impl Source for Pairs {
    type Element = bf16;
    const IN_WORD: usize = 2;

    fn words(_: MatRef<'_, bf16>) -> Option<MatRef<'_, f32>> {
        None
    }

    #[inline]
    fn pack_a<I: Isa>(
        a: MatRef<'_, bf16>,
        [first, rows]: [usize; 2],
        [from, k]: [usize; 2],
        out: &mut [f32],
    ) {
        let source = &a.data[first * a.row_stride + from * a.col_stride..];
        pack::pairs(source, [a.row_stride, a.col_stride], rows, k, out, rows);
    }

    #[inline]
    fn pack_b<I: Isa>(
        b: MatRef<'_, bf16>,
        [first, cols]: [usize; 2],
        [from, k]: [usize; 2],
        out: &mut [f32],
    ) {
        let source = &b.data[from * b.row_stride + first * b.col_stride..];
        let out = &mut out[..k.div_ceil(2) * I::WIDTH];
        for j in (0..I::WIDTH).step_by(16) {
            let source = &source[(j * b.col_stride).min(source.len())..];
            let cols = cols.saturating_sub(j).min(16);
            let strides = [b.col_stride, b.row_stride];
            pack::pairs(source, strides, cols, k, &mut out[j..], I::WIDTH);
        }
    }
}
