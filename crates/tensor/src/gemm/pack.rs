//! Copies of operands in the order in which tiles read them.

use gradus_core::bf16;

use super::{MatRef, tiles::Isa};

/// Elements behind a packed tile of A that packing may write.
pub(super) const SLACK: usize = 16;

/// Packs rows `first..first + rows` and inner positions `from..from + k` of A: `out[l * rows + r]`.
/// `out` is [`SLACK`] elements longer than that.
#[inline]
pub(super) fn pack_a<I: Isa>(
    a: MatRef<'_, f32>,
    [first, rows]: [usize; 2],
    [from, k]: [usize; 2],
    out: &mut [f32],
) {
    let source = &a.data[first * a.row_stride + from * a.col_stride..];
    if a.row_stride == 1 && I::VECTOR == 16 {
        wide::copy(source, a.col_stride, rows, k, out, rows);
    } else if a.col_stride == 1 && I::VECTOR == 16 {
        wide::transpose(source, a.row_stride, rows, k, out, rows);
    } else {
        copy(source, [a.col_stride, a.row_stride], [k, rows], out, rows);
    }
}

/// Packs columns `first..first + cols` and inner positions `from..from + k` of B: `out[l * WIDTH + j]`, with zeros
/// for columns from `cols` on.
#[inline]
pub(super) fn pack_b<I: Isa>(
    b: MatRef<'_, f32>,
    [first, cols]: [usize; 2],
    [from, k]: [usize; 2],
    out: &mut [f32],
) {
    let source = &b.data[from * b.row_stride + first * b.col_stride..];
    let out = &mut out[..k * I::WIDTH];
    if I::VECTOR < 16 || (b.row_stride != 1 && b.col_stride != 1) {
        if cols < I::WIDTH {
            out.fill(0.0);
        }
        return copy(source, [b.row_stride, b.col_stride], [k, cols], out, I::WIDTH);
    }
    if b.col_stride == 1 {
        return wide::copy_panel(source, b.row_stride, cols, k, out);
    }
    for j in (0..I::WIDTH).step_by(16) {
        let (source, out) = (&source[(j * b.col_stride).min(source.len())..], &mut out[j..]);
        let cols = cols.saturating_sub(j).min(16);
        wide::transpose(source, b.col_stride, cols, k, out, I::WIDTH);
    }
}

/// `out[l * out_stride + r] = source[l * strides[0] + r * strides[1]]` for `l < sizes[0]`, `r < sizes[1]`.
fn copy(
    source: &[f32],
    strides: [usize; 2],
    sizes: [usize; 2],
    out: &mut [f32],
    out_stride: usize,
) {
    for (l, out) in out.chunks_mut(out_stride).enumerate().take(sizes[0]) {
        let source = &source[l * strides[0]..];
        if strides[1] == 1 {
            out[..sizes[1]].copy_from_slice(&source[..sizes[1]]);
        } else {
            // A stride may be 0: an operand that was broadcast.
            for (r, o) in out.iter_mut().enumerate().take(sizes[1]) {
                *o = source[r * strides[1]];
            }
        }
    }
}

/// Pairs of bf16 as words: `out[l * out_stride + r]` holds `source[r * strides[0] + 2 l * strides[1]]` and its neighbour
/// along the inner dimension, for `2 l < k` and at most 16 `r < lanes`; beyond `lanes` it may write zeros, as
/// [`wide::copy`] does, with the same need for room.
pub(super) fn pairs(
    source: &[bf16],
    strides: [usize; 2],
    lanes: usize,
    k: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    let whole = k / 2;
    if lanes == 0
        || whole == 0
        || (strides[0] != 1 && (strides[1] != 1 || !strides[0].is_multiple_of(2)))
    {
        one_by_one(source, strides, lanes, [0, k], out, out_stride);
    } else if strides[0] == 1 {
        wide::interleave(source, strides[1], lanes, whole, out, out_stride);
        one_by_one(source, strides, lanes, [2 * whole, k], out, out_stride);
    } else {
        wide::transpose_pairs(source, strides[0], lanes, whole, out, out_stride);
        one_by_one(source, strides, lanes, [2 * whole, k], out, out_stride);
    }
}

/// [`pairs`] from inner position `from`, which is even, to `k`, with zeros up to 16 lanes or `out_stride`.
fn one_by_one(
    source: &[bf16],
    strides: [usize; 2],
    lanes: usize,
    [from, k]: [usize; 2],
    out: &mut [f32],
    out_stride: usize,
) {
    let at = |r: usize, l: usize| u32::from(source[r * strides[0] + l * strides[1]].to_bits());
    for l in (from..k).step_by(2) {
        let out = &mut out[l / 2 * out_stride..];
        for (r, out) in out.iter_mut().enumerate().take(out_stride.min(16)) {
            let second = if r < lanes && l + 1 < k { at(r, l + 1) } else { 0 };
            let first = if r < lanes { at(r, l) } else { 0 };
            *out = f32::from_bits(first | second << 16);
        }
    }
}

/// Copies in vectors of 16, for [`Isa`]s that have them.
pub(super) mod wide {
    use gradus_core::bf16;

    /// `out[l * out_stride + r] = source[l * stride + r]` for `l < k` and at most 16 `r < rows`; beyond `rows` it
    /// writes zeros, 16 elements for each `l` together, in order: so `out_stride` may be less than 16, but there has
    /// to be room behind the last.
    ///
    /// # Panics
    /// When an element of `source` does not exist, or there is no room in `out`.
    pub(super) fn copy(
        source: &[f32],
        stride: usize,
        rows: usize,
        k: usize,
        out: &mut [f32],
        out_stride: usize,
    ) {
        assert!(rows == 0 || (k - 1) * stride + rows <= source.len());
        assert!(rows <= 16 && (k - 1) * out_stride + 16 <= out.len());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an Isa with vectors of 16 was chosen by what the machine has; the sizes were just checked.
        unsafe {
            x86::copy(source.as_ptr(), stride, rows, k, out.as_mut_ptr(), out_stride);
        }
    }

    /// `out[l * 32 + r] = source[l * stride + r]` for `l < k` and `r < cols <= 32`, and zeros for the other `r < 32`.
    /// Both vectors of a row together: rows may be so far apart that a line does not stay until a second walk.
    ///
    /// # Panics
    /// As [`copy`].
    pub(super) fn copy_panel(
        source: &[f32],
        stride: usize,
        cols: usize,
        k: usize,
        out: &mut [f32],
    ) {
        assert!(cols == 0 || (k - 1) * stride + cols <= source.len());
        assert!(cols <= 32 && k * 32 <= out.len());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        unsafe {
            x86::copy_panel(source.as_ptr(), stride, cols, k, out.as_mut_ptr());
        }
    }

    /// `out[l * out_stride + r] = source[r * stride + l]`, otherwise as [`copy`].
    ///
    /// # Panics
    /// As [`copy`].
    pub(in super::super) fn transpose(
        source: &[f32],
        stride: usize,
        rows: usize,
        k: usize,
        out: &mut [f32],
        out_stride: usize,
    ) {
        assert!(rows == 0 || (rows - 1) * stride + k <= source.len());
        assert!(rows <= 16 && (k - 1) * out_stride + 16 <= out.len());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        unsafe {
            x86::transpose(source.as_ptr(), stride, rows, k, out.as_mut_ptr(), out_stride);
        }
    }

    /// `out[l * out_stride + r]` holds `source[2 l * stride + r]` and `source[(2 l + 1) * stride + r]` for `l < n`,
    /// otherwise as [`copy`].
    ///
    /// # Panics
    /// As [`copy`].
    pub(super) fn interleave(
        source: &[bf16],
        stride: usize,
        rows: usize,
        n: usize,
        out: &mut [f32],
        out_stride: usize,
    ) {
        assert!(rows == 0 || (2 * n - 1) * stride + rows <= source.len());
        assert!(rows <= 16 && (n - 1) * out_stride + 16 <= out.len());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; who multiplies bf16 has AVX-512 BW and VL too.
        unsafe {
            x86::interleave(source.as_ptr().cast(), stride, rows, n, out.as_mut_ptr(), out_stride);
        }
    }

    /// `out[l * out_stride + r]` holds `source[r * stride + 2 l]` and its neighbour for `l < n`, otherwise as [`copy`].
    ///
    /// # Panics
    /// As [`copy`], and when `stride` is odd.
    pub(super) fn transpose_pairs(
        source: &[bf16],
        stride: usize,
        rows: usize,
        n: usize,
        out: &mut [f32],
        out_stride: usize,
    ) {
        assert!(rows == 0 || (rows - 1) * stride + 2 * n <= source.len());
        assert!(rows <= 16 && (n - 1) * out_stride + 16 <= out.len() && stride.is_multiple_of(2));
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; loads need no alignment.
        unsafe {
            x86::transpose(
                source.as_ptr().cast(),
                stride / 2,
                rows,
                n,
                out.as_mut_ptr(),
                out_stride,
            );
        }
    }

    #[cfg(target_arch = "x86_64")]
    pub(in super::super) mod x86 {
        use std::arch::x86_64::{
            __m512, __mmask16, _mm256_maskz_loadu_epi16, _mm512_castpd_ps, _mm512_castps_pd,
            _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_loadu_ps, _mm512_mask_storeu_ps,
            _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_setzero_ps, _mm512_shuffle_f32x4,
            _mm512_slli_epi32, _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps,
            _mm512_unpacklo_pd, _mm512_unpacklo_ps,
        };

        /// # Safety
        /// The machine has AVX-512 F; `rows <= 16` elements are readable at every multiple of `stride` below
        /// `k * stride`, and 16 writable at those of `out_stride`.
        #[target_feature(enable = "avx512f")]
        pub(super) unsafe fn copy(
            source: *const f32,
            stride: usize,
            rows: usize,
            k: usize,
            out: *mut f32,
            out_stride: usize,
        ) {
            let mask = first_lanes(rows);
            for l in 0..k {
                // SAFETY: masked lanes are not read; the caller vouches for the others and for the room.
                unsafe {
                    let x = _mm512_maskz_loadu_ps(mask, source.wrapping_add(l * stride));
                    _mm512_storeu_ps(out.add(l * out_stride), x);
                }
            }
        }

        /// # Safety
        /// The machine has AVX-512 F; `cols <= 32` elements are readable at every multiple of `stride` below
        /// `k * stride`, and `k * 32` are writable.
        #[target_feature(enable = "avx512f")]
        pub(super) unsafe fn copy_panel(
            source: *const f32,
            stride: usize,
            cols: usize,
            k: usize,
            out: *mut f32,
        ) {
            let masks = [first_lanes(cols.min(16)), first_lanes(cols.saturating_sub(16))];
            for l in 0..k {
                // SAFETY: masked lanes are not read; the caller vouches for the others and for the room.
                unsafe {
                    let row = source.wrapping_add(l * stride);
                    let x = _mm512_maskz_loadu_ps(masks[0], row);
                    let y = _mm512_maskz_loadu_ps(masks[1], row.wrapping_add(16));
                    _mm512_storeu_ps(out.add(l * 32), x);
                    _mm512_storeu_ps(out.add(l * 32 + 16), y);
                }
            }
        }

        /// Blocks of 16 x 16 in registers.
        ///
        /// # Safety
        /// The machine has AVX-512 F; `rows <= 16` rows of `k` elements are readable, and 16 elements are writable
        /// at every multiple of `out_stride` below `k * out_stride`.
        #[target_feature(enable = "avx512f")]
        pub(super) unsafe fn transpose(
            source: *const f32,
            stride: usize,
            rows: usize,
            k: usize,
            out: *mut f32,
            out_stride: usize,
        ) {
            for l in (0..k).step_by(16) {
                let n = (k - l).min(16);
                let mask = first_lanes(n);
                // Constant bounds, so that all of the block stays in registers.
                let mut block = [_mm512_setzero_ps(); 16];
                for (r, row) in block.iter_mut().enumerate() {
                    let (r, mask) = if r < rows { (r, mask) } else { (0, 0) };
                    // SAFETY: row r has n more elements from l on; masked lanes are not read.
                    *row = unsafe { _mm512_maskz_loadu_ps(mask, source.add(r * stride + l)) };
                }
                let block = transposed(block);
                if n == 16 {
                    for (i, &row) in block.iter().enumerate() {
                        // SAFETY: the caller left room for 16 elements at every position.
                        unsafe { _mm512_storeu_ps(out.add((l + i) * out_stride), row) };
                    }
                } else {
                    for (i, &row) in block.iter().enumerate().take(n) {
                        // SAFETY: as above.
                        unsafe { _mm512_storeu_ps(out.add((l + i) * out_stride), row) };
                    }
                }
            }
        }

        /// # Safety
        /// The machine has AVX-512 F, BW and VL; `rows <= 16` elements are readable at every multiple of `stride` below
        /// `2 n * stride`, and 16 words writable at those of `out_stride` below `n * out_stride`.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        pub(super) unsafe fn interleave(
            source: *const i16,
            stride: usize,
            rows: usize,
            n: usize,
            out: *mut f32,
            out_stride: usize,
        ) {
            let mask = first_lanes(rows);
            for l in 0..n {
                // SAFETY: masked lanes are not read; the caller vouches for the others and for the room.
                unsafe {
                    let at = source.wrapping_add(2 * l * stride);
                    let low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, at));
                    let high = _mm256_maskz_loadu_epi16(mask, at.wrapping_add(stride));
                    let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
                    let words = _mm512_castsi512_ps(_mm512_or_si512(low, high));
                    _mm512_storeu_ps(out.add(l * out_stride), words);
                }
            }
        }

        /// The way back: `out[r * stride + l] = source[l * 16 + r]` for `l < k` and `r < rows <= 16`; nothing else
        /// is written.
        ///
        /// # Safety
        /// The machine has AVX-512 F; the elements of `source` are readable, those of `out` writable.
        #[target_feature(enable = "avx512f")]
        pub(in super::super::super) unsafe fn untranspose(
            source: *const f32,
            k: usize,
            rows: usize,
            out: *mut f32,
            stride: usize,
        ) {
            for l in (0..k).step_by(16) {
                let n = (k - l).min(16);
                let mut block = [_mm512_setzero_ps(); 16];
                for (i, row) in block.iter_mut().enumerate() {
                    if i < n {
                        // SAFETY: the caller vouches for 16 elements of each of k rows.
                        *row = unsafe { _mm512_loadu_ps(source.add((l + i) * 16)) };
                    }
                }
                let mask = first_lanes(n);
                for (r, &row) in transposed(block).iter().enumerate() {
                    if r < rows {
                        // SAFETY: the caller vouches for n elements from l on; masked lanes are not written.
                        unsafe { _mm512_mask_storeu_ps(out.add(r * stride + l), mask, row) };
                    }
                }
            }
        }

        fn first_lanes(n: usize) -> __mmask16 {
            ((1u32 << n) - 1) as __mmask16
        }

        #[inline]
        #[target_feature(enable = "avx512f")]
        fn transposed(x: [__m512; 16]) -> [__m512; 16] {
            // Pairs of rows, then pairs of pairs: inside the 128-bit lanes.
            let mut t = x;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
            }
            // u[4 q + c]: lane p holds column 4 p + c of rows 4 q .. 4 q + 4.
            let mut u = t;
            for q in 0..4 {
                for c in 0..2 {
                    let (a, b) =
                        (_mm512_castps_pd(t[4 * q + c]), _mm512_castps_pd(t[4 * q + 2 + c]));
                    u[4 * q + 2 * c] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    u[4 * q + 2 * c + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            // Then whole lanes: a 4 x 4 transpose of them for each c.
            let mut y = u;
            for c in 0..4 {
                let (even, odd) = (
                    [
                        _mm512_shuffle_f32x4::<0x88>(u[c], u[4 + c]),
                        _mm512_shuffle_f32x4::<0x88>(u[8 + c], u[12 + c]),
                    ],
                    [
                        _mm512_shuffle_f32x4::<0xDD>(u[c], u[4 + c]),
                        _mm512_shuffle_f32x4::<0xDD>(u[8 + c], u[12 + c]),
                    ],
                );
                y[c] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
                y[4 + c] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
                y[8 + c] = _mm512_shuffle_f32x4::<0xDD>(even[0], even[1]);
                y[12 + c] = _mm512_shuffle_f32x4::<0xDD>(odd[0], odd[1]);
            }
            y
        }
    }
}
