//! Root mean square normalization.

use gradus_autograd::{DType, Layer, Param, Var, module};

use crate::{
    NormError,
    affine::{param, watch},
    error::check_eps,
    rows::{self, Center},
};

/// `y = x / sqrt(mean(x^2) + eps) * weight` over the last dimensions: layer norm that leaves the mean alone.
///
/// Without an `eps` it is the machine epsilon of the type that is computed in, as in PyTorch: 2^-23 in f32, 2^-52 in
/// f64. 16-bit inputs are normalized in f32 and rounded once.
///
/// # Shapes
/// `x` `[.., normalized_shape]`, `weight` `normalized_shape`, result as `x`.
///
/// # Panics
/// When the last dimensions of `x` are not `normalized_shape` (one at least), the weight has another shape, or eps is
/// negative or not finite.
///
/// # References
/// Zhang, Sennrich: Root mean square layer normalization (2019), arXiv:1910.07467.
#[must_use]
#[track_caller]
pub fn rms_norm(
    x: &Var,
    normalized_shape: &[usize],
    weight: Option<&Var>,
    eps: Option<f64>,
) -> Var {
    let machine = if x.dtype() == DType::F64 { f64::EPSILON } else { f32::EPSILON.into() };
    let eps = eps.unwrap_or(machine);
    rows::normalize("rms_norm", x, normalized_shape, weight, None, eps, Center::Zero)
}

/// Options of an [`RmsNorm`] layer; the defaults are PyTorch's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RmsNormConfig {
    /// Added to the mean square inside the root; none, which is the machine epsilon.
    pub eps: Option<f64>,
    /// Whether there is a learned scale; yes.
    pub affine: bool,
    /// Whether the scale is `1 + weight`, with a weight that starts at 0; no. Weight decay then pulls the scale to 1
    /// and not to 0. See [`RmsNorm::gemma`].
    pub zero_centered: bool,
}

impl Default for RmsNormConfig {
    fn default() -> Self {
        Self { eps: None, affine: true, zero_centered: false }
    }
}

impl RmsNormConfig {
    /// With this eps; `None` is the machine epsilon.
    #[must_use]
    pub fn with_eps(mut self, eps: impl Into<Option<f64>>) -> Self {
        self.eps = eps.into();
        self
    }

    /// With or without the scale.
    #[must_use]
    pub fn with_affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    /// With the scale `1 + weight` or `weight`.
    #[must_use]
    pub fn with_zero_centered(mut self, zero_centered: bool) -> Self {
        self.zero_centered = zero_centered;
        self
    }
}

/// RMS normalization with a learned scale: [`rms_norm`] as a layer.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Option<Param>,
    normalized_shape: Vec<usize>,
    eps: Option<f64>,
    zero_centered: bool,
}
module!(RmsNorm { weight });

impl RmsNorm {
    /// Normalizes the last `normalized_shape.len()` dimensions; eps the machine's, weight ones, in f32.
    #[must_use]
    pub fn new(normalized_shape: &[usize]) -> Self {
        Self::build(normalized_shape, RmsNormConfig::default())
    }

    /// The variant of Gemma: the scale is `1 + weight`, the weight starts at 0, and eps is 1e-6.
    ///
    /// # References
    /// Gemma team: Gemma, open models based on Gemini research and technology (2024), arXiv:2403.08295, and its code.
    #[must_use]
    pub fn gemma(normalized_shape: &[usize]) -> Self {
        let config = RmsNormConfig::default().with_eps(1e-6).with_zero_centered(true);
        Self::build(normalized_shape, config)
    }

    /// As [`new`](Self::new), with options.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] for an eps that is negative or not finite.
    pub fn with_config(
        normalized_shape: &[usize],
        config: RmsNormConfig,
    ) -> Result<Self, NormError> {
        config.eps.map(check_eps).transpose()?;
        Ok(Self::build(normalized_shape, config))
    }

    fn build(normalized_shape: &[usize], config: RmsNormConfig) -> Self {
        let start = if config.zero_centered { 0.0 } else { 1.0 };
        Self {
            weight: config.affine.then(|| param(normalized_shape, start)),
            normalized_shape: normalized_shape.to_vec(),
            eps: config.eps,
            zero_centered: config.zero_centered,
        }
    }
}

impl Layer for RmsNorm {
    /// # Panics
    /// When the last dimensions of `x` are not those that this layer normalizes.
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        let weight = watch(x, &self.weight);
        let scale = if self.zero_centered { weight.map(|w| w.add_scalar(1.0)) } else { weight };
        rms_norm(x, &self.normalized_shape, scale.as_ref(), self.eps)
    }
}
