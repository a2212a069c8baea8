//! Layer normalization.

use gradus_autograd::{Layer, Param, Var, module};

use crate::{
    NormError,
    affine::{param, watch},
    error::check_eps,
    rows::{self, Center},
};

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` over the last dimensions, with the biased variance.
///
/// 16-bit inputs are normalized in f32 and rounded once; the parameters may be f32 then.
///
/// # Shapes
/// `x` `[.., normalized_shape]`, `weight` and `bias` `normalized_shape`, result as `x`.
///
/// # Panics
/// When the last dimensions of `x` are not `normalized_shape` (one at least), a parameter has another shape, or eps
/// is negative or not finite.
///
/// # References
/// Ba, Kiros, Hinton: Layer normalization (2016), arXiv:1607.06450.
#[must_use]
#[track_caller]
pub fn layer_norm(
    x: &Var,
    normalized_shape: &[usize],
    weight: Option<&Var>,
    bias: Option<&Var>,
    eps: f64,
) -> Var {
    rows::normalize("layer_norm", x, normalized_shape, weight, bias, eps, Center::Mean)
}

/// Options of a [`LayerNorm`] layer; the defaults are PyTorch's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayerNormConfig {
    /// Added to the variance inside the root; 1e-5.
    pub eps: f64,
    /// Whether there is a learned scale; yes.
    pub affine: bool,
    /// Whether the scale comes with a learned shift; yes.
    pub bias: bool,
}

impl Default for LayerNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, affine: true, bias: true }
    }
}

impl LayerNormConfig {
    /// With this eps.
    #[must_use]
    pub fn with_eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// With or without scale and shift.
    #[must_use]
    pub fn with_affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    /// With or without the shift.
    #[must_use]
    pub fn with_bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }
}

/// Layer normalization with a learned scale and shift: [`layer_norm`] as a layer.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Option<Param>,
    bias: Option<Param>,
    normalized_shape: Vec<usize>,
    eps: f64,
}
module!(LayerNorm { weight, bias });

impl LayerNorm {
    /// Normalizes the last `normalized_shape.len()` dimensions; eps 1e-5, weight ones, bias zeros, in f32.
    #[must_use]
    pub fn new(normalized_shape: &[usize]) -> Self {
        Self::build(normalized_shape, LayerNormConfig::default())
    }

    /// As [`new`](Self::new), with options.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] for an eps that is negative or not finite.
    pub fn with_config(
        normalized_shape: &[usize],
        config: LayerNormConfig,
    ) -> Result<Self, NormError> {
        check_eps(config.eps)?;
        Ok(Self::build(normalized_shape, config))
    }

    fn build(normalized_shape: &[usize], config: LayerNormConfig) -> Self {
        Self {
            weight: config.affine.then(|| param(normalized_shape, 1.0)),
            bias: (config.affine && config.bias).then(|| param(normalized_shape, 0.0)),
            normalized_shape: normalized_shape.to_vec(),
            eps: config.eps,
        }
    }
}

impl Layer for LayerNorm {
    /// # Panics
    /// When the last dimensions of `x` are not those that this layer normalizes.
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        let (w, b) = (watch(x, &self.weight), watch(x, &self.bias));
        layer_norm(x, &self.normalized_shape, w.as_ref(), b.as_ref(), self.eps)
    }
}
