//! The inner loop, written once over a [`Vector`] and compiled for each instruction set.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::{LANES, RowStep, Run};

/// One tile to compute; see [`Lanes`](super::Lanes) for what the numbers mean.
pub(super) struct Tile<'a> {
    pub a: *const f32,
    pub a_step: usize,
    pub b: *const f32,
    pub b_step: usize,
    pub b_vector: usize,
    pub runs: &'a [Run],
    pub c: *mut f32,
    pub c_row: usize,
    pub c_vector: usize,
    /// At most [`Set::ROWS`].
    pub rows: usize,
    /// At most [`Set::VECTORS`].
    pub vectors: usize,
    pub accumulate: bool,
}

/// An instruction set.
pub(super) trait Set: Copy {
    /// Most rows of a tile.
    const ROWS: usize;
    /// Most vectors of a row of a tile.
    const VECTORS: usize;

    /// Computes a tile.
    ///
    /// # Safety
    /// The machine has the instruction set, and all that the tile names can be read, and C written.
    unsafe fn tile(self, tile: &Tile<'_>, a_row: RowStep);
}

/// Sixteen numbers.
trait Vector: Copy {
    /// # Safety
    /// The machine has the instructions, here and below.
    unsafe fn zero() -> Self;
    /// # Safety
    /// 16 elements are readable.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// One element is readable.
    unsafe fn splat(from: *const f32) -> Self;
    /// # Safety
    /// 16 elements are writable.
    unsafe fn store(self, to: *mut f32);
    /// `a * b + self`.
    ///
    /// # Safety
    /// As `zero`.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// # Safety
    /// As `zero`.
    unsafe fn add(self, other: Self) -> Self;
}

/// `R` rows, `STEP` elements of A apart, of `N` vectors.
///
/// # Safety
/// As [`Set::tile`].
#[inline(always)]
unsafe fn compute<V: Vector, const R: usize, const N: usize, const STEP: usize>(t: &Tile<'_>) {
    // SAFETY: the caller vouches for every operand.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if t.accumulate {
            for r in 0..R {
                for v in 0..N {
                    _mm_prefetch::<_MM_HINT_T0>(
                        t.c.wrapping_add(r * t.c_row + v * t.c_vector).cast(),
                    );
                }
            }
        }
        let mut acc = [[V::zero(); N]; R];
        for run in t.runs {
            let (mut a, mut b) = (t.a.add(run.a), t.b.add(run.b));
            for _ in 0..run.len {
                let mut row = [V::zero(); N];
                for (v, x) in row.iter_mut().enumerate() {
                    *x = V::load(b.wrapping_add(v * t.b_vector));
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = V::splat(a.wrapping_add(r * STEP));
                    for (acc, &y) in acc.iter_mut().zip(&row) {
                        *acc = acc.mul_add(x, y);
                    }
                }
                a = a.wrapping_add(t.a_step);
                b = b.wrapping_add(t.b_step);
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (v, &sum) in acc.iter().enumerate() {
                let c = t.c.add(r * t.c_row + v * t.c_vector);
                let sum = if t.accumulate { V::load(c).add(sum) } else { sum };
                sum.store(c);
            }
        }
    }
}

/// Implements [`Set`] for a type: calls `compute` with the numbers of the tile as constants.
macro_rules! set {
    ($(#[$doc:meta])* $set:ident, $vector:ty, $max_rows:literal: $($rows:literal)*, $vectors:literal: $($count:literal)*, $(#[$feature:meta])*) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(in super::super) struct $set;

        impl Set for $set {
            const ROWS: usize = $max_rows;
            const VECTORS: usize = $vectors;

            #[inline]
            unsafe fn tile(self, t: &Tile<'_>, a_row: RowStep) {
                $(#[$feature])*
                unsafe fn code<const R: usize, const N: usize, const STEP: usize>(t: &Tile<'_>) {
                    // SAFETY: the caller vouches for all of it.
                    unsafe { compute::<$vector, R, N, STEP>(t) }
                }
                // SAFETY: as above.
                unsafe {
                    set!(@vectors t a_row [$($count)*] [$($rows)*])
                }
            }
        }
    };
    (@vectors $t:ident $a_row:ident [$($count:literal)*] $rows:tt) => {
        match $t.vectors {
            $($count => set!(@step $t $a_row $count $rows),)*
            _ => unreachable!("more vectors than a tile has"),
        }
    };
    (@step $t:ident $a_row:ident $count:literal $rows:tt) => {
        match $a_row {
            RowStep::Lane => set!(@rows $t $count 1 $rows),
            RowStep::Pixel => set!(@rows $t $count { LANES } $rows),
            RowStep::TwoPixels => set!(@rows $t $count { 2 * LANES } $rows),
        }
    };
    (@rows $t:ident $count:literal $step:tt [$($rows:literal)*]) => {
        match $t.rows {
            $($rows => code::<$rows, $count, $step>($t),)*
            _ => unreachable!("more rows than a tile has"),
        }
    };
}

/// Numbers of plain Rust; fused where the machine has the instruction, as the other sets do.
#[derive(Clone, Copy)]
struct Plain<const FUSED: bool>([f32; LANES]);

impl<const FUSED: bool> Vector for Plain<FUSED> {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for 16 elements, and an array of f32 needs no more alignment than they do.
        Self(unsafe { *from.cast() })
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: the caller vouches for it.
        Self([unsafe { *from }; LANES])
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { *to.cast() = self.0 }
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| {
            if FUSED { a.0[i].mul_add(b.0[i], self.0[i]) } else { a.0[i] * b.0[i] + self.0[i] }
        }))
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
}

set! {
    /// Tiles of 4 x 16 for machines that have fused multiply-adds.
    Portable, Plain<true>, 4: 1 2 3 4, 1: 1,
}
set! {
    /// Tiles of 4 x 16 for machines that have none.
    Unfused, Plain<false>, 4: 1 2 3 4, 1: 1,
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps,
        _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{LANES, RowStep, Set, Tile, Vector, compute};

    impl Vector for __m512 {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the caller has AVX-512 F, here and below.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as above, and the caller vouches for the elements.
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const f32) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_set1_ps(*from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(to, self) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_add_ps(self, other) }
        }
    }

    set! {
        /// Tiles of 14 x 32: 28 sums in 32 registers.
        Avx512, __m512, 14: 1 2 3 4 5 6 7 8 9 10 11 12 13 14, 2: 1 2,
        #[target_feature(enable = "avx512f")]
    }

    /// Two registers of eight.
    #[derive(Clone, Copy)]
    struct Pair([__m256; 2]);

    impl Vector for Pair {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the caller has AVX2 and FMA, here and below.
            unsafe { Self([_mm256_setzero_ps(); 2]) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as above, and the caller vouches for the elements.
            unsafe { Self([_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const f32) -> Self {
            // SAFETY: as above.
            unsafe { Self([_mm256_set1_ps(*from); 2]) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as above.
            unsafe {
                _mm256_storeu_ps(to, self.0[0]);
                _mm256_storeu_ps(to.add(8), self.0[1]);
            }
        }
        #[inline(always)]
        unsafe fn mul_add(self, a: Self, b: Self) -> Self {
            // SAFETY: as above.
            unsafe {
                Self([
                    _mm256_fmadd_ps(a.0[0], b.0[0], self.0[0]),
                    _mm256_fmadd_ps(a.0[1], b.0[1], self.0[1]),
                ])
            }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe {
                Self([_mm256_add_ps(self.0[0], other.0[0]), _mm256_add_ps(self.0[1], other.0[1])])
            }
        }
    }

    set! {
        /// Tiles of 6 x 16: 12 sums in 16 registers.
        Avx2, Pair, 6: 1 2 3 4 5 6, 1: 1,
        #[target_feature(enable = "avx2,fma")]
    }
}

/// Calls `$body` with `$set` the instruction set that `$level` names.
macro_rules! with_set {
    ($level:expr, $set:ident => $body:expr) => {
        match $level {
            #[cfg(target_arch = "x86_64")]
            gradus_kernel::simd::Level::Avx512 => {
                let $set = tiles::Avx512;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            gradus_kernel::simd::Level::Avx2 => {
                let $set = tiles::Avx2;
                $body
            }
            _ if cfg!(target_arch = "aarch64") || simd::detected() != simd::Level::Portable => {
                let $set = tiles::Portable;
                $body
            }
            _ => {
                let $set = tiles::Unfused;
                $body
            }
        }
    };
}
pub(super) use with_set;
