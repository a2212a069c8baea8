//! Plain loops, compiled once per instruction set.
//!
//! A [`Kernel`] is ordinary safe Rust; [`run`] calls a copy of it that was compiled for the widest vectors
//! of this machine. Nothing but the compiler's own vectoriser is at work, and Rust never fuses `a * b + c`
//! by itself, so every copy computes the same bits as the portable one.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

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

/// The widest level of this machine.
#[must_use]
pub fn detected() -> Level {
    #[cfg(target_arch = "x86_64")]
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
/// use gradus_tensor::{Real, kernel};
///
/// kernel! {
///     /// y += a x
///     fn axpy['a, T: Real]['a, T](a: T, x: &'a [T], y: &'a mut [T]) -> () {
///         for (y, &x) in y.iter_mut().zip(x) {
///             *y = *y + a * x;
///         }
///     }
/// }
/// let mut y = [1.0, 2.0];
/// axpy(2.0, &[10.0, 20.0], &mut y);
/// assert_eq!(y, [21.0, 42.0]);
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
