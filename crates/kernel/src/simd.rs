//! Plain loops, compiled once per instruction set.
//!
//! A [`Kernel`] is ordinary safe Rust; [`run`] calls a copy of it that was compiled for the widest vectors
//! of this machine. Nothing but the compiler's own vectoriser is at work, and Rust never fuses `a * b + c`
//! by itself, so every copy computes the same bits as the portable one. What asks for `a.mul_add(b, c)` gets one
//! rounding in every copy: an instruction from AVX2 on, a call of the platform's `fma` in the portable one.

#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// A loop to be compiled for several instruction sets. Mark `run` and all that it calls `#[inline(always)]`:
/// only what is inlined is recompiled. [`kernel!`](crate::kernel) writes the boilerplate.
pub trait Kernel {
    /// What the loop returns.
    type Output;
    /// The loop.
    fn run(self) -> Self::Output;
}

/// Instruction sets that kernels are compiled for, narrowest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// What the target guarantees (SSE2 on x86-64).
    Portable = 1,
    /// AVX2, FMA, F16C, BMI.
    Avx2 = 2,
    /// AVX-512 F, BW, CD, DQ, VL.
    Avx512 = 3,
}

static LEVEL: AtomicU8 = AtomicU8::new(0);

/// The widest level of this machine; without the feature `std` nobody looks, and it is the portable one.
#[must_use]
pub fn detected() -> Level {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    {
        use std::arch::is_x86_feature_detected as has;
        let v3 = has!("avx2")
            && has!("fma")
            && has!("f16c")
            && has!("bmi1")
            && has!("bmi2")
            && has!("lzcnt");
        let v4 = has!("avx512f")
            && has!("avx512bw")
            && has!("avx512cd")
            && has!("avx512dq")
            && has!("avx512vl");
        if v3 && v4 {
            return Level::Avx512;
        }
        if v3 {
            return Level::Avx2;
        }
    }
    Level::Portable
}

/// The level that kernels run at.
#[inline]
#[must_use]
pub fn level() -> Level {
    match LEVEL.load(Relaxed) {
        1 => Level::Portable,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => {
            let level = detected();
            LEVEL.store(level as u8, Relaxed);
            level
        }
    }
}

/// Whether kernels may multiply bf16: the machine has AVX512-BF16, and they run at the level that it goes with.
#[must_use]
pub fn multiplies_bf16() -> bool {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if level() == Level::Avx512 {
        return std::arch::is_x86_feature_detected!("avx512bf16");
    }
    false
}

/// Makes the whole process run at `level`, or at the widest one below it that the machine has; returns what it
/// is now. For tests that compare the paths: results do not change, only speed does.
pub fn force(level: Level) -> Level {
    let level = level.min(detected());
    LEVEL.store(level as u8, Relaxed);
    level
}

/// Runs a kernel, compiled for the widest vectors of this machine.
#[inline]
pub fn run<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt")]
        fn v3<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        #[target_feature(
            enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,f16c,bmi1,bmi2,lzcnt"
        )]
        fn v4<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        match level() {
            // SAFETY: `detected` found all of these features, and `force` cannot go beyond it.
            Level::Avx512 => return unsafe { v4(kernel) },
            // SAFETY: as above.
            Level::Avx2 => return unsafe { v3(kernel) },
            Level::Portable => {}
        }
    }
    kernel.run()
}

/// Defines a function whose body is compiled for several instruction sets and chosen at run time.
///
/// Generic parameters are written twice, with and without their bounds; references need named lifetimes.
///
/// ```
/// use gradus_kernel::kernel;
///
/// kernel! {
///     /// The sum of a row.
///     fn total['a, T: Copy + std::iter::Sum]['a, T](x: &'a [T]) -> T {
///         x.iter().copied().sum()
///     }
/// }
/// assert_eq!(total(&[1.5, 2.5]), 4.0);
/// ```
#[macro_export]
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident[$($gen:tt)*][$($use:tt)*]($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$($gen)*>($($arg: $ty),*) -> $ret {
            struct Args<$($gen)*> { $($arg: $ty),* }
            impl<$($gen)*> $crate::simd::Kernel for Args<$($use)*> {
                type Output = $ret;
                #[inline(always)]
                fn run(self) -> $ret {
                    let Args { $($arg),* } = self;
                    $body
                }
            }
            $crate::simd::run(Args::<$($use)*> { $($arg),* })
        }
    };
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use std::vec::Vec;

    use super::*;

    kernel! {
        fn scaled['a]['a](x: &'a [f32], by: f32) -> Vec<f32> {
            x.iter().map(|&x| x * by + 1.0).collect()
        }
    }

    #[test]
    fn every_level_computes_the_same_bits() {
        let x: Vec<f32> = (0..1003).map(|i| (i as f32).sin()).collect();
        let widest = detected();
        let mut results = Vec::new();
        for wanted in [Level::Portable, Level::Avx2, Level::Avx512] {
            assert_eq!(force(wanted), wanted.min(widest));
            assert_eq!(level(), wanted.min(widest));
            results.push(scaled(&x, 0.3));
        }
        force(widest);
        assert!(results.iter().all(|r| *r == results[0]));
    }
}
