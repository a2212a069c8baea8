//! The inner loop of the f32 matrix product, once per instruction set.
//!
//! A tile of C, some rows of a few vectors each, stays in registers while its products are summed. Every
//! element sums its products in the order of the inner dimension, whatever the tile and the instruction set;
//! where these have fused multiply-adds, all give the same bits.

use gradus_kernel::simd;

use super::Start;

/// One tile to compute: pointers into the operands and into C.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// `A[r, l]` is `a[r * a_strides[0] + l * a_strides[1]]`; one of the strides is 1.
    pub a: *const f32,
    pub a_strides: [usize; 2],
    /// `B[l, j]` is `b[l * WIDTH + j]`; columns from `cols` on are zero.
    pub b: *const f32,
    /// Inner size.
    pub k: usize,
    /// Elements of the kind that the [`Isa`] writes.
    pub c: *mut f32,
    /// Elements between the rows of C.
    pub c_stride: usize,
    /// Rows, at most [`Isa::ROWS`].
    pub rows: usize,
    /// Columns, at most [`Isa::WIDTH`].
    pub cols: usize,
    /// What the sums are added to; a bias begins at the tile's first column.
    pub start: TileStart,
}

/// As [`Start`], of one tile.
#[derive(Clone, Copy)]
pub(super) enum TileStart {
    Zero,
    Current,
    Bias(*const f32),
}

impl TileStart {
    /// That of the columns from `first` on.
    pub(super) fn of(start: Start<'_, f32>, first: usize) -> Self {
        match start {
            Start::Zero => Self::Zero,
            Start::Current => Self::Current,
            Start::Bias(bias) => Self::Bias(bias[first..].as_ptr()),
        }
    }
}

/// An instruction set: the shape of its tiles, and how to compute one.
pub(super) trait Isa: Copy + Send + Sync {
    /// Most rows of a tile.
    const ROWS: usize;
    /// Columns of a tile.
    const WIDTH: usize;
    /// Elements of a vector.
    const VECTOR: usize;
    /// Elements of C.
    type Out: Copy;

    /// Computes a tile.
    ///
    /// # Safety
    /// The machine has the instruction set; the `rows` x `k` elements of A and `k * WIDTH` of B are readable; the
    /// `rows` x `cols` elements of C (and `cols` of a bias) are valid, and nobody else uses those of C.
    unsafe fn tile(self, tile: &Tile);
}

/// Sums of a tile of plain Rust, which the compiler vectorises as it can.
#[derive(Clone, Copy)]
pub(super) struct Portable {
    /// Whether to fuse multiply-adds, as the other sets do: not where that is no instruction of the machine, and would
    /// be a slow function instead.
    fused: bool,
}

impl Portable {
    pub(super) fn new() -> Self {
        let fused = cfg!(target_arch = "aarch64") || simd::detected() != simd::Level::Portable;
        Self { fused }
    }

    #[inline(always)]
    fn sums<const FUSED: bool>(t: &Tile) -> [[f32; Self::WIDTH]; Self::ROWS] {
        let mut acc = [[0f32; Self::WIDTH]; Self::ROWS];
        for l in 0..t.k {
            // SAFETY: the caller of `tile` vouches for the sizes of the operands.
            let b: &[f32; Self::WIDTH] = unsafe { &*t.b.add(l * Self::WIDTH).cast() };
            for (r, acc) in acc.iter_mut().enumerate().take(t.rows) {
                // SAFETY: as above.
                let a = unsafe { *t.a.add(r * t.a_strides[0] + l * t.a_strides[1]) };
                for (acc, &b) in acc.iter_mut().zip(b) {
                    *acc = if FUSED { a.mul_add(b, *acc) } else { a * b + *acc };
                }
            }
        }
        acc
    }
}

impl Isa for Portable {
    const ROWS: usize = 4;
    const WIDTH: usize = 16;
    const VECTOR: usize = 1;
    type Out = f32;

    #[inline]
    unsafe fn tile(self, t: &Tile) {
        let acc = if self.fused { Self::sums::<true>(t) } else { Self::sums::<false>(t) };
        // SAFETY: the caller vouches for C.
        unsafe {
            for (r, acc) in acc.iter().enumerate().take(t.rows) {
                for (j, &sum) in acc.iter().enumerate().take(t.cols) {
                    let c = t.c.add(r * t.c_stride + j);
                    *c = match t.start {
                        TileStart::Zero => sum,
                        TileStart::Current => *c + sum,
                        TileStart::Bias(bias) => *bias.add(j) + sum,
                    };
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, Avx512Bf16, Avx512Bf16Narrow};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{
        arch::x86_64::{
            __m256bh, __m256i, __m512, __m512bh, __mmask16, _MM_HINT_T0, _mm_prefetch,
            _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
            _mm256_mask_storeu_epi16, _mm256_maskload_ps, _mm256_maskstore_ps, _mm256_set1_ps,
            _mm256_setzero_ps, _mm512_add_ps, _mm512_cvtneps_pbh, _mm512_dpbf16_ps,
            _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
            _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
        },
        mem::transmute,
    };

    use gradus_core::bf16;

    use super::{Isa, Tile, TileStart};

    type Code = unsafe fn(&Tile);

    /// The code for tiles of 1 to 13 rows that are as wide as this one and whose A lies as its does.
    macro_rules! codes {
        ($code:ident, $tile:expr) => {
            match ($tile.cols > 16, $tile.a_strides[0] == 1) {
                (true, true) => codes!($code, 2, false: 1 2 3 4 5 6 7 8 9 10 11 12 13),
                (true, false) => codes!($code, 2, true: 1 2 3 4 5 6 7 8 9 10 11 12 13),
                (false, true) => codes!($code, 1, false: 1 2 3 4 5 6 7 8 9 10 11 12 13),
                (false, false) => codes!($code, 1, true: 1 2 3 4 5 6 7 8 9 10 11 12 13),
            }
        };
        ($code:ident, $vectors:literal, $along:literal: $($rows:literal)*) => {
            const { &[$($code::<$rows, $vectors, $along> as Code),*] }
        };
    }

    /// Tiles of 13 x 32: 26 sums in 32 registers, so that a load of B serves 13 multiply-adds. (With 14 rows read in
    /// place the compiler runs out of registers.)
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512;

    impl Isa for Avx512 {
        const ROWS: usize = 13;
        const WIDTH: usize = 32;
        const VECTOR: usize = 16;
        type Out = f32;

        #[inline]
        unsafe fn tile(self, t: &Tile) {
            // SAFETY: the caller vouches for all of it.
            unsafe { codes!(wide, t)[t.rows - 1](t) }
        }
    }

    /// The same tiles for words of two bf16.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512Bf16;

    impl Isa for Avx512Bf16 {
        const ROWS: usize = Avx512::ROWS;
        const WIDTH: usize = Avx512::WIDTH;
        const VECTOR: usize = Avx512::VECTOR;
        type Out = f32;

        #[inline]
        unsafe fn tile(self, t: &Tile) {
            // SAFETY: the caller vouches for all of it.
            unsafe { codes!(wide_pairs, t)[t.rows - 1](t) }
        }
    }

    /// The same, with a C of bf16, which is never what sums are added to.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512Bf16Narrow;

    impl Isa for Avx512Bf16Narrow {
        const ROWS: usize = Avx512::ROWS;
        const WIDTH: usize = Avx512::WIDTH;
        const VECTOR: usize = Avx512::VECTOR;
        type Out = bf16;

        #[inline]
        unsafe fn tile(self, t: &Tile) {
            // SAFETY: the caller vouches for all of it.
            unsafe { codes!(wide_narrow, t)[t.rows - 1](t) }
        }
    }

    /// The code of a tile in vectors of 16 words, for one kind of multiply-add and of C.
    macro_rules! wide {
        ($name:ident, $features:literal, $multiply_add:ident, $out:ty, $load:ident, $store:ident) => {
            /// `R` rows of `V` vectors. Rows of A are dense if `ALONG`, its columns otherwise.
            ///
            /// # Safety
            /// As [`Isa::tile`], with `R` rows and at most `16 * V` columns.
            #[target_feature(enable = $features)]
            unsafe fn $name<const R: usize, const V: usize, const ALONG: bool>(t: &Tile) {
                // SAFETY: the caller vouches for the sizes of the operands and for C.
                unsafe {
                    let c: *mut $out = t.c.cast();
                    for r in 0..R {
                        for v in 0..V {
                            _mm_prefetch::<_MM_HINT_T0>(c.add(r * t.c_stride + 16 * v).cast());
                        }
                    }
                    let mut acc = [[_mm512_setzero_ps(); V]; R];
                    let ([row_stride, step], mut b) = (t.a_strides, t.b);
                    // A pointer for every three rows: the two behind each are one and two strides away, which an address can say.
                    let mut a = [t.a; 5];
                    if ALONG {
                        for (i, a) in a.iter_mut().enumerate() {
                            *a = t.a.wrapping_add(3 * i * row_stride);
                        }
                    }
                    for _ in 0..t.k {
                        let mut row = [_mm512_setzero_ps(); V];
                        for (v, x) in row.iter_mut().enumerate() {
                            *x = _mm512_loadu_ps(b.add(16 * v));
                        }
                        for (r, acc) in acc.iter_mut().enumerate() {
                            let x = if ALONG {
                                *a[r / 3].add(r % 3 * row_stride)
                            } else {
                                *a[0].add(r)
                            };
                            let x = _mm512_set1_ps(x);
                            for (acc, &b) in acc.iter_mut().zip(&row) {
                                *acc = $multiply_add(x, b, *acc);
                            }
                        }
                        if ALONG {
                            a = a.map(|a| a.wrapping_add(1));
                        } else {
                            a[0] = a[0].wrapping_add(step);
                        }
                        b = b.add(Avx512::WIDTH);
                    }
                    // Columns of the last vector.
                    let last = ALL >> (16 * V - t.cols);
                    for (r, acc) in acc.iter().enumerate() {
                        for (v, &sum) in acc.iter().enumerate() {
                            let c = c.add(r * t.c_stride + 16 * v);
                            let lanes = if v + 1 == V { last } else { ALL };
                            let sum = match t.start {
                                TileStart::Zero => sum,
                                TileStart::Current => _mm512_add_ps($load(lanes, c), sum),
                                TileStart::Bias(bias) => {
                                    _mm512_add_ps(load(lanes, bias.add(16 * v)), sum)
                                }
                            };
                            $store(c, lanes, sum);
                        }
                    }
                }
            }
        };
    }
    wide!(wide, "avx512f", _mm512_fmadd_ps, f32, load, store);
    wide!(wide_pairs, "avx512f,avx512bf16", add_products, f32, load, store);
    wide!(
        wide_narrow,
        "avx512f,avx512bw,avx512vl,avx512bf16",
        add_products,
        bf16,
        load_nothing,
        store_rounded
    );

    /// # Safety
    /// The lanes of the mask are readable.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(lanes: __mmask16, c: *const f32) -> __m512 {
        // SAFETY: the caller vouches for the lanes.
        unsafe { if lanes == ALL { _mm512_loadu_ps(c) } else { _mm512_maskz_loadu_ps(lanes, c) } }
    }

    /// # Safety
    /// The lanes of the mask are writable.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store(c: *mut f32, lanes: __mmask16, sum: __m512) {
        // SAFETY: the caller vouches for the lanes.
        unsafe {
            if lanes == ALL {
                _mm512_storeu_ps(c, sum);
            } else {
                _mm512_mask_storeu_ps(c, lanes, sum);
            }
        }
    }

    /// A short C is not added to.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_nothing(_: __mmask16, _: *const bf16) -> __m512 {
        unreachable!("sums are rounded once, at the end");
    }

    /// Rounded to nearest even; subnormal sums become 0.
    ///
    /// # Safety
    /// The lanes of the mask are writable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn store_rounded(c: *mut bf16, lanes: __mmask16, sum: __m512) {
        // SAFETY: 256 bits without a meaning of their own; the caller vouches for the lanes.
        unsafe {
            let short = transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sum));
            _mm256_mask_storeu_epi16(c.cast(), lanes, short);
        }
    }

    const ALL: __mmask16 = 0xFFFF;

    /// `acc` and the two products of each word's elements.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn add_products(x: __m512, y: __m512, acc: __m512) -> __m512 {
        // SAFETY: both are 512 bits without a meaning of their own.
        let [x, y] = unsafe { [x, y].map(|x| transmute::<__m512, __m512bh>(x)) };
        _mm512_dpbf16_ps(acc, x, y)
    }

    /// Tiles of 6 x 16: 12 sums in 16 registers.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2;

    impl Isa for Avx2 {
        const ROWS: usize = 6;
        const WIDTH: usize = 16;
        const VECTOR: usize = 8;
        type Out = f32;

        #[inline]
        unsafe fn tile(self, t: &Tile) {
            type Code = unsafe fn(&Tile);
            const CODES: [Code; 6] =
                [half::<1>, half::<2>, half::<3>, half::<4>, half::<5>, half::<6>];
            // SAFETY: the caller vouches for all of it.
            unsafe { CODES[t.rows - 1](t) }
        }
    }

    /// `R` rows of two vectors.
    ///
    /// # Safety
    /// As [`Isa::tile`], with `R` rows.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn half<const R: usize>(t: &Tile) {
        /// Eight ones and eight zeros: the mask of `n` lanes begins at `8 - n`.
        const LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: the caller vouches for the sizes of the operands and for C; masks lie within LANES.
        unsafe {
            let mut acc = [[_mm256_setzero_ps(); 2]; R];
            let (mut a, mut b) = (t.a, t.b);
            for _ in 0..t.k {
                let row = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*a.add(r * t.a_strides[0]));
                    acc[0] = _mm256_fmadd_ps(x, row[0], acc[0]);
                    acc[1] = _mm256_fmadd_ps(x, row[1], acc[1]);
                }
                a = a.wrapping_add(t.a_strides[1]);
                b = b.add(Avx2::WIDTH);
            }
            for (v, half) in [0, 8].into_iter().enumerate() {
                if t.cols <= half {
                    break;
                }
                let lanes = (t.cols - half).min(8);
                let mask: __m256i = _mm256_loadu_si256(LANES.as_ptr().add(8 - lanes).cast());
                for (r, acc) in acc.iter().enumerate() {
                    let c = t.c.add(r * t.c_stride + half);
                    let sum = match t.start {
                        TileStart::Zero => acc[v],
                        TileStart::Current => _mm256_add_ps(_mm256_maskload_ps(c, mask), acc[v]),
                        TileStart::Bias(bias) => {
                            _mm256_add_ps(_mm256_maskload_ps(bias.add(half), mask), acc[v])
                        }
                    };
                    _mm256_maskstore_ps(c, mask, sum);
                }
            }
        }
    }
}

/// Calls `$body` with `$isa` the instruction set that [`Level`] names.
macro_rules! with_isa {
    ($level:expr, $isa:ident => $body:expr) => {
        match $level {
            #[cfg(target_arch = "x86_64")]
            gradus_kernel::simd::Level::Avx512 => {
                let $isa = $crate::gemm::tiles::Avx512;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            gradus_kernel::simd::Level::Avx2 => {
                let $isa = $crate::gemm::tiles::Avx2;
                $body
            }
            _ => {
                let $isa = $crate::gemm::tiles::Portable::new();
                $body
            }
        }
    };
}
pub(super) use with_isa;
