//! By how much a nonlinearity shrinks what passes through it.

use num_traits::Float;

use crate::InitError;

/// What stands behind a weight, for the factor that makes up for it.
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
}

impl Nonlinearity {
    /// The nonlinearity of this name in PyTorch: `linear`, `conv1d` to `conv3d`, `conv_transpose1d` to
    /// `conv_transpose3d` (all linear), `sigmoid`, `tanh`, `relu`, `leaky_relu`, `selu`.
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
    /// [`InitError::UnknownNonlinearity`] for any other name.
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

    /// The factor by which weights in front of this are larger, from PyTorch's table.
    ///
    /// 1 for linear and sigmoid, 5/3 for tanh, sqrt 2 for ReLU, `sqrt(2 / (1 + slope^2))` for leaky ReLU,
    /// 3/4 for SELU (a stable, not a self-normalizing choice; self-normalizing nets take gain 1).
    #[must_use]
    pub fn gain(self) -> f64 {
        match self {
            Self::Linear | Self::Sigmoid => 1.0,
            Self::Tanh => 5.0 / 3.0,
            Self::Relu => core::f64::consts::SQRT_2,
            Self::LeakyRelu { negative_slope: s } => Float::sqrt(2.0 / (1.0 + s * s)),
            Self::Selu => 0.75,
        }
    }
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
}
