//! The numbers that tensors and parameters are made of.

use core::fmt;

use half::{bf16, f16};

/// The type of a tensor's elements, known at run time.
///
/// Public tensors carry no type parameter for it; an operation matches on it once, at its border.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of an f32.
    BF16,
    /// IEEE 754 binary32, the default.
    F32,
    /// IEEE 754 binary64, for gradient checks and statistics.
    F64,
    /// Signed 64-bit integers: indices, labels, tokens.
    I64,
    /// Bytes: masks (0 or 1) and raw images.
    U8,
}

impl DType {
    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Whether this is one of the four floating-point types.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// The type in which arithmetic on elements of this type happens: f32 for the 16-bit floats, which are storage.
    #[must_use]
    pub const fn compute(self) -> Self {
        match self {
            Self::F16 | Self::BF16 => Self::F32,
            other => other,
        }
    }

    /// The type of what operands of these two types give: the wider one, f32 for f16 and bf16 (neither holds the other).
    /// Of a float and an integer it is the float.
    #[must_use]
    pub const fn promote(self, other: Self) -> Self {
        match (self, other) {
            (Self::F64, _) | (_, Self::F64) => Self::F64,
            (Self::F32, _) | (_, Self::F32) => Self::F32,
            (Self::F16, Self::BF16) | (Self::BF16, Self::F16) => Self::F32,
            (Self::F16 | Self::BF16, _) => self,
            (_, Self::F16 | Self::BF16) => other,
            (Self::I64, _) | (_, Self::I64) => Self::I64,
            (Self::U8, Self::U8) => Self::U8,
        }
    }

    /// The name as Rust and PyTorch users write it: `f32`, `bf16`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I64 => "i64",
            Self::U8 => "u8",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that a tensor can hold. Sealed: every bit pattern of such a type is a valid value.
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + PartialOrd + fmt::Debug + Send + Sync + 'static
{
    /// The run-time name of this type.
    const DTYPE: DType;
}

/// A floating-point [`Element`], with conversions that round to nearest even.
pub trait FloatElement: Element + num_traits::Float {
    /// Rounds an f64 to this type.
    fn from_f64(value: f64) -> Self;
    /// Rounds an f32 to this type (exact for f64).
    fn from_f32(value: f32) -> Self;
    /// Widens to f64, exactly.
    fn to_f64(self) -> f64;
    /// Converts to f32: exact for 16-bit types, rounded for f64.
    fn to_f32(self) -> f32;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => {$(
        impl sealed::Sealed for $t {}
        impl Element for $t {
            const DTYPE: DType = DType::$d;
        }
    )*};
}
elements!(f16 => F16, bf16 => BF16, f32 => F32, f64 => F64, i64 => I64, u8 => U8);

macro_rules! native_float {
    ($t:ty) => {
        impl FloatElement for $t {
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                value as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
        }
    };
}
native_float!(f32);
native_float!(f64);

macro_rules! half_float {
    ($t:ty) => {
        impl FloatElement for $t {
            #[inline]
            fn from_f64(value: f64) -> Self {
                <$t>::from_f64(value)
            }
            #[inline]
            fn from_f32(value: f32) -> Self {
                <$t>::from_f32(value)
            }
            #[inline]
            fn to_f64(self) -> f64 {
                <$t>::to_f64(self)
            }
            #[inline]
            fn to_f32(self) -> f32 {
                <$t>::to_f32(self)
            }
        }
    };
}
half_float!(f16);
half_float!(bf16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_match_the_rust_types() {
        fn check<T: Element>() {
            assert_eq!(T::DTYPE.size(), size_of::<T>(), "{}", T::DTYPE);
        }
        check::<f16>();
        check::<bf16>();
        check::<f32>();
        check::<f64>();
        check::<i64>();
        check::<u8>();
    }

    #[test]
    fn halves_round_to_nearest_even() {
        // 1 + 2^-8 lies halfway between the bf16 neighbours 1 and 1 + 2^-7: the even one wins.
        assert_eq!(<bf16 as FloatElement>::from_f32(1.0 + 1.0 / 256.0).to_f32(), 1.0);
        assert_eq!(<bf16 as FloatElement>::from_f32(1.0 + 3.0 / 256.0).to_f32(), 1.0 + 4.0 / 256.0);
        assert_eq!(<f16 as FloatElement>::from_f64(65520.0), f16::INFINITY);
    }
}
