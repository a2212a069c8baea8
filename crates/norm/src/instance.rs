//! Instance normalization.

use gradus_autograd::{Buffer, DType, Layer, Param, Tensor, Var, module};

use crate::{
    Momentum, NormError,
    affine::{param, watch},
    batch::{blend, next_weight},
    batch_norm,
    error::check_eps,
    planes,
};

/// `y = (x - mean) / sqrt(var + eps) * weight + bias`, with the mean and biased variance of each sample and channel.
///
/// 16-bit inputs are normalized in f32 and rounded once; the parameters may be f32 then.
///
/// # Shapes
/// `x` `[N, C, ...]`, `weight` and `bias` `[C]`, result as `x`.
///
/// # Errors
/// [`NormError::BatchTooSmall`] when a channel of a sample has one value only, [`NormError::OutOfRange`] for an eps
/// that is negative or not finite.
///
/// # Panics
/// When `x` has fewer than two dimensions or a parameter another shape.
///
/// # References
/// Ulyanov, Vedaldi, Lempitsky: Instance normalization (2016), arXiv:1607.08022.
#[track_caller]
pub fn instance_norm(
    x: &Var,
    weight: Option<&Var>,
    bias: Option<&Var>,
    eps: f64,
) -> Result<Var, NormError> {
    check_eps(eps)?;
    Ok(with_stats(x, weight, bias, eps)?.0)
}

/// The result, and mean and biased variance, `[N, C, 2]`.
#[track_caller]
fn with_stats(
    x: &Var,
    weight: Option<&Var>,
    bias: Option<&Var>,
    eps: f64,
) -> Result<(Var, Tensor), NormError> {
    let shape = x.shape();
    assert!(shape.len() >= 2, "instance_norm: expected [N, C, ...], got shape {shape:?}");
    if shape[2..].iter().product::<usize>() == 1 {
        return Err(NormError::BatchTooSmall { shape: shape.to_vec() });
    }
    Ok(planes::normalize("instance_norm", x, shape[1], weight, bias, eps))
}

/// Options of an [`InstanceNorm`] layer; the defaults are PyTorch's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InstanceNormConfig {
    /// Added to the variance inside the root; 1e-5.
    pub eps: f64,
    /// How running statistics move, if there are any; [`Momentum::New`]`(0.1)`.
    pub momentum: Momentum,
    /// Whether there is a learned scale and shift of each channel; no.
    pub affine: bool,
    /// Whether running statistics are kept for evaluation; no. Without, evaluation uses the input's own too.
    pub track_running_stats: bool,
}

impl Default for InstanceNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, momentum: Momentum::New(0.1), affine: false, track_running_stats: false }
    }
}

impl InstanceNormConfig {
    /// With this eps.
    #[must_use]
    pub fn with_eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// With this momentum.
    #[must_use]
    pub fn with_momentum(mut self, momentum: Momentum) -> Self {
        self.momentum = momentum;
        self
    }

    /// With or without scale and shift.
    #[must_use]
    pub fn with_affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    /// With or without running statistics.
    #[must_use]
    pub fn with_track_running_stats(mut self, track: bool) -> Self {
        self.track_running_stats = track;
        self
    }
}

/// Instance normalization of `[N, C, L]`, `[N, C, H, W]`, ...: PyTorch's `InstanceNorm1d`, `2d` and `3d` in one, for
/// batches.
///
/// Without running statistics it is [`instance_norm`] in training and evaluation alike. With them, a training tape moves
/// them towards the average over the batch of the samples' means and unbiased variances, and any other tape normalizes
/// with them. An empty batch counts and moves nothing, and a channel whose statistics are not finite leaves its running
/// ones alone (PyTorch makes both NaN).
#[derive(Clone, Debug)]
pub struct InstanceNorm {
    weight: Option<Param>,
    bias: Option<Param>,
    running_mean: Option<Buffer>,
    running_var: Option<Buffer>,
    num_batches_tracked: Option<Buffer>,
    channels: usize,
    config: InstanceNormConfig,
}
module!(InstanceNorm { weight, bias, running_mean, running_var, num_batches_tracked });

impl InstanceNorm {
    /// For `channels` channels, with PyTorch's defaults: eps 1e-5, neither affine nor tracked.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self::build(channels, InstanceNormConfig::default())
    }

    /// For `channels` channels, with options.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] for an eps that is negative or not finite, or a momentum outside of [0, 1].
    pub fn with_config(channels: usize, config: InstanceNormConfig) -> Result<Self, NormError> {
        check_eps(config.eps)?;
        config.momentum.check()?;
        Ok(Self::build(channels, config))
    }

    fn build(channels: usize, config: InstanceNormConfig) -> Self {
        let param = |value| config.affine.then(|| param(&[channels], value));
        let buffer = |value: Tensor| config.track_running_stats.then(|| Buffer::new(value));
        Self {
            weight: param(1.0),
            bias: param(0.0),
            running_mean: buffer(Tensor::zeros(&[channels], DType::F32)),
            running_var: buffer(Tensor::ones(&[channels], DType::F32)),
            num_batches_tracked: buffer(Tensor::scalar(0i64)),
            channels,
            config,
        }
    }

    /// As [`forward`](Layer::forward), with an error where that panics over the size of the input.
    ///
    /// # Errors
    /// [`NormError::BatchTooSmall`] when the input's own statistics are asked for and a channel of a sample has one
    /// value only; the running statistics have not changed then.
    ///
    /// # Panics
    /// When `x` is not `[N, C, ...]` with this layer's number of channels.
    #[track_caller]
    pub fn try_forward(&self, x: &Var) -> Result<Var, NormError> {
        assert_eq!(
            x.shape().get(1),
            Some(&self.channels),
            "InstanceNorm: channels of an input of shape {:?} (left) and of the layer",
            x.shape()
        );
        let (w, b) = (watch(x, &self.weight), watch(x, &self.bias));
        let (w, b, eps) = (w.as_ref(), b.as_ref(), self.config.eps);
        let (Some(mean), Some(var), Some(count)) =
            (&self.running_mean, &self.running_var, &self.num_batches_tracked)
        else {
            return Ok(with_stats(x, w, b, eps)?.0);
        };
        if !x.tape().is_training() {
            return Ok(batch_norm(x, w, b, Some((&mean.get(), &var.get())), eps)?.0);
        }
        let (y, stats) = with_stats(x, w, b, eps)?;
        let weight = next_weight(count, self.config.momentum, x.tape());
        let samples = x.shape()[0];
        if x.value().numel() > 0 {
            let n = (x.value().numel() / (samples * self.channels)) as f64;
            let average = stats.to_dtype(DType::F64).mean(&[0], false).to_vec::<f64>();
            let pair = |c: usize| -> &[f64] { &average[2 * c..][..2] };
            let lasting = |c, value| pair(c).iter().all(|s| s.is_finite()).then_some(value);
            blend(mean, weight, |c| lasting(c, pair(c)[0]));
            blend(var, weight, |c| lasting(c, pair(c)[1] * n / (n - 1.0)));
        }
        Ok(y)
    }
}

impl Layer for InstanceNorm {
    /// # Panics
    /// When `x` is not `[N, C, ...]` with this layer's number of channels, or one value per channel is all there is
    /// (see [`InstanceNorm::try_forward`]).
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        match self.try_forward(x) {
            Ok(y) => y,
            Err(e) => panic!("instance_norm: {e}"),
        }
    }
}
