//! Between f32 and shorter floating-point formats: bfloat16, IEEE half precision, and the two 8-bit formats of
//! Micikevicius et al., FP8 formats for deep learning (2022), arXiv:2209.05433.
//!
//! Numbers round to nearest, ties to even, or [by chance](narrow_stochastic); subnormals are kept, so is NaN. A short
//! number is a plain integer here, its *code*; whoever has a type for it converts slices of that.
//!
//! Everything is integer arithmetic and one addition, without a branch, so that loops over it become vector code.

use core::fmt;

mod sealed {
    pub trait Format {}
    pub trait Code {}
}

/// An unsigned integer that holds a code.
pub trait Code: Copy + Default + Eq + fmt::Debug + Send + Sync + sealed::Code + 'static {
    /// The low bits.
    fn from_bits(bits: u32) -> Self;
    /// Its bits.
    fn to_bits(self) -> u32;
}

macro_rules! code {
    ($t:ty) => {
        impl sealed::Code for $t {}
        impl Code for $t {
            #[inline(always)]
            fn from_bits(bits: u32) -> Self {
                bits as $t
            }
            #[inline(always)]
            fn to_bits(self) -> u32 {
                u32::from(self)
            }
        }
    };
}
code!(u8);
code!(u16);

/// A floating-point format that is shorter than f32: a sign, an exponent, a mantissa.
pub trait Format: Copy + sealed::Format + 'static {
    /// What holds a number of it.
    type Code: Code;
    /// Bits of the mantissa.
    const MANTISSA: u32;
    /// What is added to an exponent.
    const BIAS: u32;
    /// Code of the largest finite number.
    const MAX: u32;
    /// Code of what is larger: infinity, or NaN where there is none.
    const OVERFLOW: u32;
}

macro_rules! format {
    ($(#[$doc:meta])* $name:ident, $code:ty, $mantissa:literal, $bias:literal, $max:literal, $overflow:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name;
        impl sealed::Format for $name {}
        impl Format for $name {
            type Code = $code;
            const MANTISSA: u32 = $mantissa;
            const BIAS: u32 = $bias;
            const MAX: u32 = $max;
            const OVERFLOW: u32 = $overflow;
        }
    };
}
format!(
    /// bfloat16: the upper half of an f32.
    Bf16, u16, 7, 127, 0x7F7F, 0x7F80
);
format!(
    /// IEEE 754 binary16, up to 65504.
    F16, u16, 10, 15, 0x7BFF, 0x7C00
);
format!(
    /// 8 bits, 5 of them exponent, up to 57344: binary16 with two bits of mantissa. For gradients.
    E5m2, u8, 2, 15, 0x7B, 0x7C
);
format!(
    /// 8 bits, 4 of them exponent, up to 448, without infinities (`e4m3fn`). For weights and activations.
    E4m3, u8, 3, 7, 0x7E, 0x7F
);

/// What becomes of a number that is too large.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Overflow {
    /// Infinity, as IEEE 754 has it; NaN in [`E4m3`], which has no infinity.
    #[default]
    Infinite,
    /// The largest finite number, for infinity too.
    Saturate,
}

/// Bits of an f32's mantissa.
const MANTISSA: u32 = 23;
const INFINITY: u32 = 0x7F80_0000;

/// Exponent field of the f32 that is the smallest normal number of the format.
#[inline(always)]
const fn smallest_normal<F: Format>() -> u32 {
    128 - F::BIAS
}

/// Puts sign, overflow and NaN right; `code` is that of the absolute value `a`.
#[inline(always)]
fn finish<F: Format>(sign: u32, a: u32, code: u32, overflow: Overflow) -> F::Code {
    let drop = MANTISSA - F::MANTISSA;
    let over = if overflow == Overflow::Saturate { F::MAX } else { F::OVERFLOW };
    let code = if code > F::MAX { over } else { code };
    // Quiet, with what fits of the payload.
    let quiet = 1 << (F::MANTISSA - 1);
    let nan = F::OVERFLOW | quiet | ((a & 0x007F_FFFF) >> drop);
    let code = if a > INFINITY { nan } else { code };
    let sign_at = 8 * size_of::<F::Code>() as u32 - 1;
    F::Code::from_bits(code | sign << sign_at)
}

/// The nearest number of the format; of two equally near the one with an even code.
///
/// ```
/// use gradus_kernel::convert::{Bf16, E4m3, Overflow, encode};
///
/// assert_eq!(encode::<Bf16>(1.0, Overflow::Infinite), 0x3F80);
/// assert_eq!(encode::<E4m3>(1000.0, Overflow::Saturate), 0x7E);
/// ```
#[inline(always)]
#[must_use]
pub fn encode<F: Format>(x: f32, overflow: Overflow) -> F::Code {
    let (sign, a) = (x.to_bits() >> 31, x.to_bits() & 0x7FFF_FFFF);
    let drop = MANTISSA - F::MANTISSA;
    let odd = (a >> drop) & 1;
    let normal =
        (a + (1 << (drop - 1)) - 1 + odd).wrapping_sub((127 - F::BIAS) << MANTISSA) >> drop;
    // The last place of this number is the smallest number of the format: adding it rounds there.
    let magic = f32::from_bits((smallest_normal::<F>() + drop) << MANTISSA);
    let small = (f32::from_bits(a) + magic).to_bits() - magic.to_bits();
    let code = if a < smallest_normal::<F>() << MANTISSA { small } else { normal };
    finish::<F>(sign, a, code, overflow)
}

/// One of the two numbers of the format next to `x`, by the chance that makes `x` the mean: up if `random`, of which
/// every value is equally likely, is small. What the format has stays as it is.
///
/// Updates that are smaller than half the distance of two numbers get lost in rounding to nearest, all of them; here
/// they add up on average. Gupta et al., Deep learning with limited numerical precision (2015), arXiv:1502.02551.
#[inline(always)]
#[must_use]
pub fn encode_stochastic<F: Format>(x: f32, random: u32, overflow: Overflow) -> F::Code {
    let (sign, a) = (x.to_bits() >> 31, x.to_bits() & 0x7FFF_FFFF);
    let field = a >> MANTISSA;
    let exponent = field.max(1);
    let hidden = if field > 0 { 1 << MANTISSA } else { 0 };
    let mantissa = (a & 0x007F_FFFF) | hidden;
    // Places that are dropped; more than 24 of them and nothing but the chance of the smallest number is left.
    let below = smallest_normal::<F>().saturating_sub(exponent);
    let drop = MANTISSA - F::MANTISSA + below;
    let steps = exponent.saturating_sub(smallest_normal::<F>()) << F::MANTISSA;
    let mask = (1u32 << drop.min(31)) - 1;
    let near = (mantissa + (random & mask)) >> drop.min(31);
    let far = u32::from(random < mantissa >> drop.saturating_sub(32).min(31));
    let code = if drop > 31 { far } else { steps + near };
    finish::<F>(sign, a, code, overflow)
}

/// The number that a code stands for, exactly.
///
/// ```
/// use gradus_kernel::convert::{E5m2, decode};
/// assert_eq!(decode::<E5m2>(0x3D), 1.25);
/// ```
#[inline(always)]
#[must_use]
pub fn decode<F: Format>(code: F::Code) -> f32 {
    let sign_at = 8 * size_of::<F::Code>() as u32 - 1;
    let (sign, code) = (code.to_bits() >> sign_at, code.to_bits() & ((1 << sign_at) - 1));
    let bits = code << (MANTISSA - F::MANTISSA);
    // As if the bias were that of f32, then set right; subnormals come out normal.
    let scale = f32::from_bits((254 - F::BIAS) << MANTISSA);
    let finite = (f32::from_bits(bits) * scale).to_bits();
    let value = if code > F::MAX { bits | INFINITY } else { finite };
    f32::from_bits(value | sign << 31)
}

crate::kernel! {
    /// [`encode`] of every element; `out` is as long as `x`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn narrow['a, F: Format]['a, F](x: &'a [f32], out: &'a mut [F::Code], overflow: Overflow) -> () {
        assert_eq!(x.len(), out.len(), "narrow: elements of the source and of the result");
        for (out, &x) in out.iter_mut().zip(x) {
            *out = encode::<F>(x, overflow);
        }
    }
}

crate::kernel! {
    /// [`encode_stochastic`] of every element, with as many random numbers.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn narrow_stochastic['a, F: Format]['a, F](x: &'a [f32], random: &'a [u32], out: &'a mut [F::Code], overflow: Overflow) -> () {
        assert_eq!(x.len(), out.len(), "narrow_stochastic: elements of the source and of the result");
        assert_eq!(x.len(), random.len(), "narrow_stochastic: elements and random numbers");
        for ((out, &x), &random) in out.iter_mut().zip(x).zip(random) {
            *out = encode_stochastic::<F>(x, random, overflow);
        }
    }
}

crate::kernel! {
    /// [`decode`] of every code; `out` is as long as `codes`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn widen['a, F: Format]['a, F](codes: &'a [F::Code], out: &'a mut [f32]) -> () {
        assert_eq!(codes.len(), out.len(), "widen: elements of the source and of the result");
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = decode::<F>(code);
        }
    }
}

#[cfg(test)]
mod tests;
