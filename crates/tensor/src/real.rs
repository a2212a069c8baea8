//! Elementary functions that vectorise.
//!
//! The f32 versions are branch-free polynomials, so that a loop over them becomes vector code; they stay
//! within a few units in the last place. Their products and sums are fused (`mul_add`): one instruction where there
//! is one for it, a call of the platform's exact `fmaf` where there is none, and the same bits either way. The f64
//! versions serve gradient checks and call the platform.

use gradus_core::FloatElement;

/// A float that kernels compute in: f32 or f64. Sixteen-bit floats are storage; cast them first.
pub trait Real:
    FloatElement + Default + std::ops::AddAssign + std::ops::MulAssign + std::iter::Sum
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// A literal.
    fn lit(x: f64) -> Self;
    /// `e^x`; overflows to infinity, underflows to 0 (f32: subnormal results are flushed).
    fn exp_(self) -> Self;
    /// `e^x` for `x <= 0` in fewer instructions; NaN stays.
    fn exp_neg_(self) -> Self;
    /// Natural logarithm; negative infinity at 0, NaN below.
    fn ln_(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh_(self) -> Self;
    /// The error function.
    fn erf_(self) -> Self;
    /// `ln(1 + x)` for `x >= 0`.
    fn ln_1p_(self) -> Self;
    /// The distribution function and the density of the standard normal.
    fn normal_(self) -> (Self, Self);
    /// `1 / (1 + e^-x)`.
    #[inline(always)]
    fn sigmoid_(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp_())
    }
    /// The larger of two; NaN if either is NaN.
    #[inline(always)]
    fn max_nan(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }
    /// The smaller of two; NaN if either is NaN.
    #[inline(always)]
    fn min_nan(self, other: Self) -> Self {
        if self < other || self.is_nan() { self } else { other }
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    #[inline(always)]
    fn lit(x: f64) -> Self {
        x
    }
    fn exp_(self) -> Self {
        self.exp()
    }
    fn exp_neg_(self) -> Self {
        self.exp()
    }
    fn ln_(self) -> Self {
        self.ln()
    }
    fn tanh_(self) -> Self {
        self.tanh()
    }
    fn erf_(self) -> Self {
        libm::erf(self)
    }
    fn ln_1p_(self) -> Self {
        self.ln_1p()
    }
    fn normal_(self) -> (Self, Self) {
        use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
        let density = 0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI * (-0.5 * self * self).exp();
        (0.5 * libm::erfc(-self * FRAC_1_SQRT_2), density)
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    #[inline(always)]
    fn lit(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn exp_(self) -> Self {
        exp(self)
    }
    #[inline(always)]
    fn exp_neg_(self) -> Self {
        exp_neg(self)
    }
    #[inline(always)]
    fn ln_(self) -> Self {
        ln(self)
    }
    #[inline(always)]
    fn tanh_(self) -> Self {
        tanh(self)
    }
    #[inline(always)]
    fn erf_(self) -> Self {
        erf(self)
    }
    #[inline(always)]
    fn ln_1p_(self) -> Self {
        ln_1p(self)
    }
    #[inline(always)]
    fn normal_(self) -> (Self, Self) {
        normal(self)
    }
}

/// Picks without a branch.
#[inline(always)]
fn select(cond: bool, a: f32, b: f32) -> f32 {
    if cond { a } else { b }
}

/// The polynomial with these coefficients, highest power first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut p = coefficients[0];
    for c in &coefficients[1..] {
        p = p.mul_add(x, *c);
    }
    p
}

/// Adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low mantissa bits.
const MAGIC: f32 = 12_582_912.0;

/// `x = n ln 2 + r` with an integral `n` and `|r| <= ln 2 / 2`; returns `n` as the low bits of a float, more by `bias`,
/// and `e^r`. What comes of an `x` outside of [-88, 89] means nothing.
#[inline(always)]
fn exp_parts(x: f32, bias: f32) -> (f32, f32) {
    let t = x.mul_add(std::f32::consts::LOG2_E, MAGIC + bias);
    let n = t - (MAGIC + bias);
    // ln 2 in two parts: n * HI is exact.
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    // Minimax of relative error 3e-9.
    let e = polynomial(
        r,
        [1.381_454e-3, 8.368_745e-3, 4.166_839e-2, 0.166_665_2, 0.499_999_93, 1.0, 1.0],
    );
    (t, e)
}

#[inline(always)]
fn exp(x: f32) -> f32 {
    let (t, e) = exp_parts(x, 0.0);
    // Added to the exponent, so that 2^128, which is no f32, is none on the way either.
    let n = t.to_bits().wrapping_sub(MAGIC.to_bits());
    let y = f32::from_bits(e.to_bits().wrapping_add(n << 23));
    let y = select(x < -87.336_54, 0.0, y);
    // Infinity above, and NaN stays.
    select(x <= 88.722_83, y, x + f32::INFINITY)
}

#[inline(always)]
fn exp_neg(x: f32) -> f32 {
    // With the bias of exponents in it, the integer makes a float by a shift alone. A product with it keeps NaN.
    let (t, e) = exp_parts(x, 127.0);
    let y = e * f32::from_bits(t.to_bits() << 23);
    select(x < -87.336_54, 0.0, y)
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    // Small: an odd polynomial (Cephes). Large: 1 - 2 / (e^2|x| + 1).
    let a = x.abs();
    let s = x * x;
    let p = polynomial(
        s,
        [-5.704_988_7e-3, 2.063_908_7e-2, -5.373_971_4e-2, 1.333_144_3e-1, -3.333_328e-1],
    );
    let small = (p * s).mul_add(x, x);
    let e = exp(a + a);
    let large = (1.0 - 2.0 / (e + 1.0)).copysign(x);
    select(a < 0.625, small, select(x.is_nan(), x, large))
}

#[inline(always)]
fn ln(x: f32) -> f32 {
    // Subnormals are scaled up first.
    let tiny = x < f32::MIN_POSITIVE;
    let v = select(tiny, x * 8_388_608.0, x);
    let shift = select(tiny, 23.0, 0.0);
    let bits = v.to_bits();
    // The mantissa, brought into [sqrt(1/2), sqrt(2)).
    let e = (bits.wrapping_sub(0x3F35_04F3) as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub((e << 23) as u32));
    let f = m - 1.0;
    let n = e as f32 - shift;
    let z = f * f;
    let p = polynomial(
        f,
        [
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    );
    let y = z.mul_add(-0.5, n.mul_add(-2.121_944_4e-4, p * f * z));
    let y = n.mul_add(0.693_359_4, f + y);
    let y = select(x == f32::INFINITY, x, y);
    let y = select(x == 0.0, f32::NEG_INFINITY, y);
    select(x < 0.0 || x.is_nan(), f32::NAN, y)
}

#[inline(always)]
fn ln_1p(x: f32) -> f32 {
    // Kahan: ln(u) x / (u - 1) with u = 1 + x corrects for the rounding of u.
    let u = 1.0 + x;
    let d = u - 1.0;
    let y = ln(u) * (x / select(d == 0.0, 1.0, d));
    select(d == 0.0, x, select(x == f32::INFINITY, x, y))
}

#[inline(always)]
fn erf(x: f32) -> f32 {
    // |x| < 1: x P(x^2), the Taylor series to x^19. Above: 1 - erfc.
    let a = x.abs();
    let s = x * x;
    let p = polynomial(
        s,
        [
            -1.636_584_4e-7,
            1.646_211_4e-6,
            -1.492_565e-5,
            1.205_533_4e-4,
            -8.548_327e-4,
            5.223_977_6e-3,
            -2.686_617e-2,
            1.128_379_2e-1,
            -3.761_263_9e-1,
            std::f32::consts::FRAC_2_SQRT_PI,
        ],
    );
    let small = p * x;
    let large = (1.0 - erfc_large(a)).copysign(x);
    select(a < 1.0, small, select(x.is_nan(), x, large))
}

/// `erfc(a)` for `a >= 1`, relative error about 1e-7: a Chebyshev fit in 1 / (1 + a/2) (Press et al. 1992).
#[inline(always)]
fn erfc_large(a: f32) -> f32 {
    let t = 2.0 / (2.0 + a);
    let p = polynomial(
        t,
        [
            0.170_872_77,
            -0.822_152_2,
            1.488_515_9,
            -1.135_204,
            0.278_868_1,
            -0.186_288_06,
            0.096_784_18,
            0.374_091_96,
            1.000_023_7,
            -1.265_512_2,
        ],
    );
    // Negative for all `a`.
    t * exp_neg(a.mul_add(-a, p))
}

#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    // Phi(-|x|) = e^(-x^2 / 2) t P(t) with t = 1 / (1 + 0.3 |x| / sqrt 2): P interpolates at Chebyshev nodes over
    // |x| < 13.4, where e^(-x^2 / 2) vanishes, with a relative error of 3e-8.
    let t = 1.0 / x.abs().mul_add(0.212_132_04, 1.0);
    let e = exp_neg(-0.5 * x * x);
    let p = polynomial(
        t,
        [
            -0.065_246_41,
            0.245_285_8,
            -0.261_657_33,
            0.280_623_1,
            -0.052_356_07,
            0.109_783_56,
            0.073_522_71,
            0.085_457_08,
            0.084_587_55,
        ],
    );
    let tail = e * (p * t);
    (select(x > 0.0, 1.0 - tail, tail), e * 0.398_942_3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares f32 with f64 over a grid and at special values; `rel` or `abs` has to hold.
    fn check(
        name: &str,
        f: fn(f32) -> f32,
        exact: fn(f64) -> f64,
        (lo, hi): (f32, f32),
        rel: f64,
        abs: f64,
    ) {
        let n = 200_001;
        for i in 0..n {
            let x = lo + (hi - lo) * (i as f32 / (n - 1) as f32);
            let (got, want) = (f64::from(f(x)), exact(f64::from(x)));
            let err = (got - want).abs();
            assert!(err <= rel * want.abs() || err <= abs, "{name}({x}) = {got}, want {want}");
        }
        assert!(f(f32::NAN).is_nan(), "{name}(NaN)");
    }

    #[test]
    fn f32_functions_are_near_the_exact_ones() {
        check("exp", exp, f64::exp, (-87.3, 88.7), 3e-7, 0.0);
        check("exp below 0", exp_neg, f64::exp, (-87.3, 0.0), 3e-7, 0.0);
        check("tanh", tanh, f64::tanh, (-12.0, 12.0), 3e-7, 0.0);
        check("erf", erf, libm::erf, (-5.0, 5.0), 6e-7, 0.0);
        check("ln", ln, f64::ln, (1e-30, 1e3), 2e-7, 1e-7);
        check("ln near 1", ln, f64::ln, (0.5, 2.0), 3e-7, 3e-8);
        check("ln_1p", ln_1p, f64::ln_1p, (0.0, 10.0), 4e-7, 0.0);
        check("ln_1p small", ln_1p, f64::ln_1p, (0.0, 1e-4), 3e-7, 0.0);
        let exact = |x: f64| x.normal_().0;
        check("normal", |x| x.normal_().0, exact, (-2.0, 9.0), 5e-7, 0.0);
        // Far out, the rounding of the square shows.
        check("normal tail", |x| x.normal_().0, exact, (-12.0, -2.0), 5e-6, 0.0);
        check("normal density", |x| x.normal_().1, |x| x.normal_().1, (-5.0, 5.0), 1e-6, 0.0);
        check("sigmoid", Real::sigmoid_, |x| 1.0 / (1.0 + (-x).exp()), (-80.0, 80.0), 4e-7, 0.0);
    }

    #[test]
    fn special_values() {
        let inf = f32::INFINITY;
        assert_eq!((exp(inf), exp(-inf), exp(0.0), exp(89.0)), (inf, 0.0, 1.0, inf));
        assert_eq!((exp(88.8), exp(1e30), exp(-88.0), exp(-1e30)), (inf, inf, 0.0, 0.0));
        assert_eq!((exp_neg(-inf), exp_neg(-0.0), exp_neg(-88.0)), (0.0, 1.0, 0.0));
        for bits in [0x7F80_0001, 0x7FFF_FFFF, 0xFF80_0123] {
            let nan = f32::from_bits(bits);
            assert!(
                exp(nan).is_nan() && exp_neg(nan).is_nan() && nan.normal_().0.is_nan(),
                "{bits:x}"
            );
        }
        assert_eq!((tanh(inf), tanh(-inf), tanh(0.0)), (1.0, -1.0, 0.0));
        assert_eq!((erf(inf), erf(-inf), erf(0.0)), (1.0, -1.0, 0.0));
        assert_eq!((ln(inf), ln(0.0), ln(1.0)), (inf, -inf, 0.0));
        assert!(ln(-1.0).is_nan() && ln(-inf).is_nan());
        assert!((f64::from(ln(1e-40)) - f64::from(1e-40f32).ln()).abs() < 1e-4);
        assert_eq!(
            (inf.normal_(), (-inf).normal_(), 0f32.normal_().0),
            ((1.0, 0.0), (0.0, 0.0), 0.5)
        );
        assert_eq!((inf.sigmoid_(), (-inf).sigmoid_(), ln_1p(inf)), (1.0, 0.0, inf));
    }

    #[test]
    fn maxima_keep_nan() {
        assert!(1f32.max_nan(f32::NAN).is_nan() && f32::NAN.max_nan(1.0).is_nan());
        assert!(1f32.min_nan(f32::NAN).is_nan() && f32::NAN.min_nan(1.0).is_nan());
        assert_eq!((1f32.max_nan(2.0), 1f32.min_nan(2.0)), (2.0, 1.0));
    }
}
