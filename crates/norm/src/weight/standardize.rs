use gradus_autograd::{Param, ParamKind, Tape, Tensor, Var, module};

use crate::{NormError, batch_norm, error::check_eps};

/// `w = (weight - mean) / sqrt(var + eps) gain scale` for each output, with mean and biased variance over all that leads
/// to it: convolutions whose outputs need no batch to be normalized.
///
/// # Shapes
/// `weight` `[out, in, ...]`; `gain` `[out, 1, ...]`, of as many dimensions; result as `weight`.
///
/// # Errors
/// [`NormError::OutOfRange`] for an output with fewer than two inputs (`fan_in`), an eps that is negative or not finite, or
/// a scale that is not finite.
///
/// # Panics
/// When `weight` has fewer than two dimensions, or `gain` another shape.
///
/// # References
/// Qiao et al.: Weight standardization (2019), arXiv:1903.10520. timm's `StdConv2d` (no gain, scale 1, eps 1e-6) and
/// `ScaledStdConv2d` (gain, scale `gamma fan_in^-1/2`; Brock et al. 2021, arXiv:2101.08692).
#[track_caller]
pub fn weight_standardization(
    weight: &Var,
    gain: Option<&Var>,
    scale: f64,
    eps: f64,
) -> Result<Var, NormError> {
    let shape = weight.shape();
    assert!(
        shape.len() >= 2,
        "weight_standardization: expected [out, in, ...], got shape {shape:?}"
    );
    check_eps(eps)?;
    if !scale.is_finite() {
        return Err(NormError::OutOfRange { name: "scale", value: scale, range: "(-inf, inf)" });
    }
    let (out, fan_in) = (shape[0] as isize, fan_in(shape)?);
    if let Some(gain) = gain {
        assert_eq!(
            gain.shape(),
            gain_shape(shape),
            "weight_standardization: a gain for a weight of shape {shape:?}"
        );
    }
    let gain = match gain {
        Some(gain) => gain.reshape(&[out]).mul_scalar(scale),
        None => weight.constant(Tensor::full(&shape[..1], scale, weight.dtype())),
    };
    // Each output is a channel of a batch of one.
    let channels = weight.reshape(&[1, out, fan_in as isize]);
    let (w, _) = batch_norm(&channels, Some(&gain), None, None, eps)?;
    Ok(w.reshape(&shape.iter().map(|&n| n as isize).collect::<Vec<_>>()))
}

fn fan_in(shape: &[usize]) -> Result<usize, NormError> {
    match shape[1..].iter().product() {
        n @ (0 | 1) => {
            Err(NormError::OutOfRange { name: "fan_in", value: n as f64, range: "[2, inf)" })
        }
        n => Ok(n),
    }
}

fn gain_shape(shape: &[usize]) -> Vec<usize> {
    let mut gain = vec![1; shape.len()];
    gain[0] = shape[0];
    gain
}

/// A weight that is used standardized (see [`weight_standardization`]).
///
/// ```
/// use gradus_autograd::{Tape, Tensor};
/// use gradus_norm::WeightStandardization;
///
/// let layer = WeightStandardization::new(Tensor::from_slice(&[1f32, 3.0], &[1, 2]))?;
/// let w = layer.weight(&Tape::evaluation()).into_value().to_vec::<f32>();
/// assert!((w[0] + 1.0).abs() < 1e-5 && (w[1] - 1.0).abs() < 1e-5);
/// # Ok::<(), gradus_norm::NormError>(())
/// ```
#[derive(Clone, Debug)]
pub struct WeightStandardization {
    weight: Param,
    gain: Option<Param>,
    scale: f64,
    eps: f64,
}
module!(WeightStandardization { weight, gain });

impl WeightStandardization {
    /// timm's `StdConv2d`: no gain, eps 1e-6.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] for an output with fewer than two inputs.
    ///
    /// # Panics
    /// When `weight` has fewer than two dimensions.
    #[track_caller]
    pub fn new(weight: Tensor) -> Result<Self, NormError> {
        let shape = weight.shape();
        assert!(
            shape.len() >= 2,
            "WeightStandardization: expected [out, in, ...], got shape {shape:?}"
        );
        fan_in(shape)?;
        Ok(Self {
            weight: Param::new(weight, ParamKind::Weight),
            gain: None,
            scale: 1.0,
            eps: 1e-6,
        })
    }

    /// timm's `ScaledStdConv2d`: a learned gain for each output, which starts at 1, and a scale of
    /// `gamma fan_in^-1/2`, so that variance is kept; `gamma` makes up for the activation before (1 for none).
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] for an output with fewer than two inputs, or a gamma that is not finite.
    ///
    /// # Panics
    /// When `weight` has fewer than two dimensions.
    #[track_caller]
    pub fn scaled(weight: Tensor, gamma: f64) -> Result<Self, NormError> {
        if !gamma.is_finite() {
            return Err(NormError::OutOfRange {
                name: "gamma",
                value: gamma,
                range: "(-inf, inf)",
            });
        }
        let mut this = Self::new(weight)?;
        let weight = this.weight.value();
        let gain = Tensor::ones(&gain_shape(weight.shape()), weight.dtype());
        this.scale = gamma / (fan_in(weight.shape())? as f64).sqrt();
        this.gain = Some(Param::new(gain, ParamKind::Norm));
        Ok(this)
    }

    /// With another eps, which stands inside the root.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] when it is negative or not finite.
    pub fn with_eps(mut self, eps: f64) -> Result<Self, NormError> {
        self.eps = check_eps(eps)?;
        Ok(self)
    }

    /// The standardized weight, on a tape.
    ///
    /// # Panics
    /// Never on the weight of a layer that could be made: its shape and numbers are checked there.
    #[must_use]
    #[track_caller]
    pub fn weight(&self, tape: &Tape) -> Var {
        let gain = self.gain.as_ref().map(|g| tape.watch(g));
        weight_standardization(&tape.watch(&self.weight), gain.as_ref(), self.scale, self.eps)
            .expect("shape, eps and scale were checked")
    }
}
