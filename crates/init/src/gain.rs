//! By how much a nonlinearity shrinks what passes through it.

use core::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use num_traits::Float;

use crate::{InitError, error::in_range, quadrature::mean_square};

/// What stands behind a weight, for the factor that makes up for it.
///
/// Wherever a gain is asked for, a nonlinearity stands for its [`gain`](Self::gain).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Nonlinearity {
    /// Nothing.
    Linear,
    /// The logistic function.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `max(x, 0)`.
    Relu,
    /// `x` above 0, `negative_slope x` below.
    LeakyRelu {
        /// The slope below 0.
        negative_slope: f64,
    },
    /// The scaled exponential linear unit.
    Selu,
    /// `x` above 0, `alpha (e^x - 1)` below.
    Elu {
        /// Minus the limit at minus infinity; 1 as a rule.
        alpha: f64,
    },
    /// `x Phi(x)`.
    Gelu,
    /// The approximation of GELU by a hyperbolic tangent.
    GeluTanh,
    /// `x sigmoid(x)`, also called swish.
    Silu,
    /// `x tanh(ln(1 + e^x))`.
    Mish,
    /// `x min(max(x + 3, 0), 6) / 6`.
    Hardswish,
}

const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

impl Nonlinearity {
    /// The nonlinearity of this name in PyTorch's `calculate_gain`: `linear`, `conv1d` to `conv3d`,
    /// `conv_transpose1d` to `conv_transpose3d` (all linear), `sigmoid`, `tanh`, `relu`, `leaky_relu`, `selu`.
    ///
    /// `param` is the slope of `leaky_relu`, 0.01 without one; the others do without.
    ///
    /// ```
    /// use gradus_init::Nonlinearity;
    /// assert_eq!(Nonlinearity::parse("leaky_relu", Some(1.0))?.gain(), 1.0);
    /// assert!(Nonlinearity::parse("swish9", None).is_err());
    /// # Ok::<(), gradus_init::InitError>(())
    /// ```
    ///
    /// # Errors
    /// [`InitError::UnknownNonlinearity`] for any other name, also for those that PyTorch has no gain for.
    pub fn parse(name: &str, param: Option<f64>) -> Result<Self, InitError> {
        Ok(match name {
            "linear" | "conv1d" | "conv2d" | "conv3d" | "conv_transpose1d" | "conv_transpose2d"
            | "conv_transpose3d" => Self::Linear,
            "sigmoid" => Self::Sigmoid,
            "tanh" => Self::Tanh,
            "relu" => Self::Relu,
            "leaky_relu" => Self::LeakyRelu { negative_slope: param.unwrap_or(0.01) },
            "selu" => Self::Selu,
            _ => return Err(InitError::UnknownNonlinearity { name: name.into() }),
        })
    }

    /// The factor by which weights in front of this are larger: PyTorch's, and where PyTorch has none, the one
    /// that keeps the variance.
    ///
    /// 1 for linear and sigmoid, 5/3 for tanh, sqrt 2 for ReLU, `sqrt(2 / (1 + slope^2))` for leaky ReLU,
    /// 3/4 for SELU (a stable, not a self-normalizing choice; self-normalizing nets take gain 1). The others:
    /// [`variance_gain`](Self::variance_gain). NaN where the slope or alpha makes no sense, which every
    /// scheme refuses.
    #[must_use]
    pub fn gain(self) -> f64 {
        match self {
            Self::Linear | Self::Sigmoid => 1.0,
            Self::Tanh => 5.0 / 3.0,
            Self::Relu => core::f64::consts::SQRT_2,
            Self::LeakyRelu { negative_slope: s } => Float::sqrt(2.0 / (1.0 + s * s)),
            Self::Selu => 0.75,
            _ => self.variance_gain(),
        }
    }

    /// The gain that keeps the variance, `1 / sqrt(E[phi(z)^2])`, as [`gain_of`] computes it: 1.5925 for tanh,
    /// 1.8462 for sigmoid, 1 for SELU.
    #[must_use]
    pub fn variance_gain(self) -> f64 {
        gain_of(|x| self.apply(x)).unwrap_or(f64::NAN)
    }

    /// The function itself.
    #[must_use]
    pub fn apply(self, x: f64) -> f64 {
        let elu = |alpha: f64| if x > 0.0 { x } else { alpha * libm::expm1(x) };
        match self {
            Self::Linear => x,
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => libm::tanh(x),
            Self::Relu => x.max(0.0),
            Self::LeakyRelu { negative_slope } => {
                if x > 0.0 {
                    x
                } else {
                    negative_slope * x
                }
            }
            Self::Selu => SELU_SCALE * elu(SELU_ALPHA),
            Self::Elu { alpha } => elu(alpha),
            Self::Gelu => x * 0.5 * libm::erfc(-x * FRAC_1_SQRT_2),
            Self::GeluTanh => {
                let inner = FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (x + 0.044_715 * x * x * x);
                x * 0.5 * (1.0 + libm::tanh(inner))
            }
            Self::Silu => x * sigmoid(x),
            Self::Mish => x * libm::tanh(x.max(0.0) + libm::log1p(libm::exp(-x.abs()))),
            Self::Hardswish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        }
    }
}

impl From<Nonlinearity> for f64 {
    fn from(nonlinearity: Nonlinearity) -> Self {
        nonlinearity.gain()
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// The gain that keeps the variance through any activation: `1 / sqrt(E[phi(z)^2])` for a standard normal `z`.
///
/// The mean is a quadrature, exact to 1e-12 where `phi` is smooth or has its kinks at multiples of 1/4, and
/// to about 1e-5 with kinks elsewhere.
///
/// ```
/// use gradus_init::{FanMode, Init, gain_of};
///
/// let squared_relu = |x: f64| x.max(0.0).powi(2);
/// let gain = gain_of(squared_relu)?;
/// assert!((gain - (2.0f64 / 3.0).sqrt()).abs() < 1e-12);
/// let init = Init::kaiming_normal(gain, FanMode::FanIn);
/// # Ok::<(), gradus_init::InitError>(())
/// ```
///
/// # Errors
/// [`InitError::OutOfRange`] where that mean is 0 or not finite.
///
/// # References
/// He, Zhang, Ren, Sun: Delving deep into rectifiers (2015), arXiv:1502.01852, for ReLU.
pub fn gain_of(phi: impl Fn(f64) -> f64) -> Result<f64, InitError> {
    let mean = mean_square(phi, 1.0);
    in_range("E[phi(z)^2]", mean, mean > 0.0 && mean.is_finite(), "(0, inf)")?;
    Ok(1.0 / Float::sqrt(mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_are_pytorchs() {
        let gain = |name, param| Nonlinearity::parse(name, param).unwrap().gain();
        assert_eq!(gain("conv_transpose2d", None), 1.0);
        assert_eq!(gain("tanh", Some(9.0)), 5.0 / 3.0);
        assert_eq!(gain("selu", None), 0.75);
        assert!((gain("leaky_relu", None) - 1.414_142_856_997_835_4).abs() < 1e-15);
        assert!((gain("leaky_relu", Some(0.2)) - 1.386_750_490_563_072_8).abs() < 1e-15);
        assert_eq!(gain("leaky_relu", Some(0.0)), gain("relu", None));
    }

    #[test]
    fn names_are_exact() {
        for name in ["", "ReLU", "gelu", "conv4d"] {
            let error = InitError::UnknownNonlinearity { name: name.into() };
            assert_eq!(Nonlinearity::parse(name, None), Err(error));
        }
    }

    #[test]
    fn numeric_gains_are_the_known_ones() {
        use Nonlinearity as N;
        for (nonlinearity, want) in [
            (N::Linear, 1.0),
            (N::Relu, core::f64::consts::SQRT_2),
            (N::LeakyRelu { negative_slope: 0.01 }, 1.414_14),
            (N::Tanh, 1.592_54),
            (N::Sigmoid, 1.846_23),
            (N::Gelu, 1.533_53),
            (N::GeluTanh, 1.533_58),
            (N::Silu, 1.676_53),
            (N::Mish, 1.486_85),
            (N::Elu { alpha: 1.0 }, 1.245_20),
            (N::Selu, 1.0),
            (N::Hardswish, 1.736_66),
        ] {
            let got = nonlinearity.variance_gain();
            assert!((got - want).abs() < 6e-6, "{nonlinearity:?}: {got}");
        }
        assert_eq!(N::Gelu.gain(), N::Gelu.variance_gain());
    }

    #[test]
    fn functions_without_a_second_moment_have_no_gain() {
        for phi in [|_| 0.0, |_| f64::NAN, |x: f64| 1.0 / x.max(0.0)] {
            assert!(matches!(gain_of(phi), Err(InitError::OutOfRange { .. })));
        }
        assert!(Nonlinearity::Elu { alpha: f64::NAN }.gain().is_nan());
    }

    #[test]
    fn activations_are_the_functions_they_are_named_after() {
        // Values of PyTorch at -1 and 2.
        use Nonlinearity as N;
        for (nonlinearity, below, above) in [
            (N::Gelu, -0.158_655_253_931_457, 1.954_499_736_103_642),
            (N::GeluTanh, -0.158_808_009_391_723, 1.954_597_694_087_775),
            (N::Silu, -0.268_941_421_369_995, 1.761_594_155_955_765),
            (N::Mish, -0.303_401_461_374_109, 1.943_958_959_533_995),
            (N::Elu { alpha: 1.0 }, -0.632_120_558_828_558, 2.0),
            (N::Selu, -1.111_330_737_812_563, 2.101_401_974_710_961),
            (N::Hardswish, -1.0 / 3.0, 5.0 / 3.0),
            (N::Sigmoid, 0.268_941_421_369_995, 0.880_797_077_977_882),
            (N::Tanh, -0.761_594_155_955_765, 0.964_027_580_075_817),
        ] {
            let (a, b) = (nonlinearity.apply(-1.0), nonlinearity.apply(2.0));
            assert!(
                (a - below).abs() < 1e-12 && (b - above).abs() < 1e-12,
                "{nonlinearity:?} {a} {b}"
            );
        }
    }
}
