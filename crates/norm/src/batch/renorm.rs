use gradus_autograd::{Buffer, DType, Layer, Param, ParamKind, Tensor, Var, module};

use super::{
    BatchStats, Momentum,
    moments::Moments,
    op::Call,
    plan::{Fit, reciprocal},
    running::{blend, next_weight, reset},
};
use crate::{NormError, error::check_eps};

/// How far a batch may be corrected towards the running statistics.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct RenormLimits {
    /// The deviation by this factor at most, up or down; from 1.
    pub r_max: f64,
    /// The mean by this many running deviations at most; from 0.
    pub d_max: f64,
}

impl RenormLimits {
    /// No correction at all: plain batch normalization.
    pub const NONE: Self = Self { r_max: 1.0, d_max: 0.0 };

    /// Checks the limits. Infinity is none: the running statistics normalize.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] for an `r_max` below 1, a `d_max` below 0, or a NaN.
    pub fn new(r_max: f64, d_max: f64) -> Result<Self, NormError> {
        if r_max.is_nan() || r_max < 1.0 {
            return Err(NormError::OutOfRange { name: "r_max", value: r_max, range: "[1, inf]" });
        }
        if d_max.is_nan() || d_max < 0.0 {
            return Err(NormError::OutOfRange { name: "d_max", value: d_max, range: "[0, inf]" });
        }
        Ok(Self { r_max, d_max })
    }
}

/// Batch renormalization: batch normalization whose result is corrected, within `limits`, to what the running statistics
/// would give, so that training and evaluation do not drift apart on small or uneven batches.
///
/// `y = ((x - m_B) / s_B r + d) weight + bias` with `s_B = sqrt(var_B + eps)`, `r = s_B / s` within
/// `[1 / r_max, r_max]`, `d = (m_B - m) / s` within `[-d_max, d_max]`. Gradients flow through the batch's statistics;
/// `r` and `d` are constants. Where the running deviation `s` is 0 nothing is corrected.
///
/// # Shapes
/// `x` `[N, C, ...]`; `running_mean` (`m`), `running_std` (`s`), `weight` and `bias` `[C]`; result as `x`.
///
/// # Errors
/// [`NormError::BatchTooSmall`] when a channel has one value only; [`NormError::OutOfRange`] for a running deviation
/// below 0, or an eps that is negative or not finite.
///
/// # Panics
/// When `x` has fewer than two dimensions or a `[C]` tensor another shape.
///
/// # References
/// Ioffe: Batch renormalization (2017), arXiv:1702.03275, algorithm 1.
#[track_caller]
pub fn batch_renorm(
    x: &Var,
    weight: Option<&Var>,
    bias: Option<&Var>,
    running: (&Tensor, &Tensor),
    limits: RenormLimits,
    eps: f64,
) -> Result<(Var, BatchStats), NormError> {
    check_eps(eps)?;
    let running = numbers(running.0, running.1)?;
    let shards = [x];
    let call = Call::new("batch_renorm", &shards).affine(weight, bias);
    let channels = x.shape().get(1).copied();
    assert!(
        channels.is_none_or(|c| c == running.len()),
        "batch_renorm: {} running statistics for input of shape {:?}",
        running.len(),
        x.shape()
    );
    let fit = |c: usize, m: &Moments| {
        let mut fit = Fit::plain(m.mean, m.var(), eps);
        let ((mean, std), deviation) = (running[c], (m.var() + eps).sqrt());
        if std > 0.0 {
            fit.scale *= (deviation / std).clamp(1.0 / limits.r_max, limits.r_max);
            fit.shift = ((m.mean - mean) / std).clamp(-limits.d_max, limits.d_max);
        }
        fit
    };
    let (mut y, mut stats) = call.with_batch(fit)?;
    Ok((y.swap_remove(0), stats.swap_remove(0)))
}

/// Running mean and deviation of each channel.
fn numbers(mean: &Tensor, std: &Tensor) -> Result<Vec<(f64, f64)>, NormError> {
    let numbers = |t: &Tensor| t.to_dtype(DType::F64).to_vec::<f64>();
    let std = numbers(std);
    match std.iter().find(|&&s| s < 0.0) {
        Some(&value) => {
            Err(NormError::OutOfRange { name: "running_std", value, range: "[0, inf)" })
        }
        None => Ok(numbers(mean).into_iter().zip(std).collect()),
    }
}

/// Options of a [`BatchRenorm`] layer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BatchRenormConfig {
    /// How far a batch may be corrected; a factor of 3 and 5 deviations, as in the paper.
    pub limits: RenormLimits,
    /// How the limits grow to that, by the number of batches; they do not.
    pub ramp: Option<RenormRamp>,
    /// Added to the variance inside the root; 1e-5.
    pub eps: f64,
    /// How running statistics move; [`Momentum::New`]`(0.01)`, as in the paper.
    pub momentum: Momentum,
    /// Whether there is a learned scale and shift; yes.
    pub affine: bool,
}

/// Limits that start at none and grow linearly: running statistics mean nothing at first.
///
/// Batches are counted by `num_batches_tracked`, so that a resumed run goes on where it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RenormRamp {
    /// Batches of plain batch normalization; 5,000 in the paper.
    pub hold: u64,
    /// Batches after which `r_max` is reached; 40,000 in the paper.
    pub r_until: u64,
    /// Batches after which `d_max` is reached; 25,000 in the paper.
    pub d_until: u64,
}

impl Default for RenormRamp {
    fn default() -> Self {
        Self::new(5_000, 40_000, 25_000)
    }
}

impl RenormRamp {
    /// A ramp. An end that is not after `hold` is a jump there.
    #[must_use]
    pub fn new(hold: u64, r_until: u64, d_until: u64) -> Self {
        Self { hold, r_until, d_until }
    }

    /// The limits after `batches` batches, of those in the end.
    #[must_use]
    pub fn limits(&self, end: RenormLimits, batches: u64) -> RenormLimits {
        let part = |until: u64| {
            let (done, all) = (batches.saturating_sub(self.hold), until.saturating_sub(self.hold));
            if done >= all && batches >= self.hold { 1.0 } else { done as f64 / all.max(1) as f64 }
        };
        // No part of infinity is nothing.
        let grow = |from: f64, to: f64, part: f64| {
            if part == 0.0 { from } else { from + part * (to - from) }
        };
        RenormLimits {
            r_max: grow(1.0, end.r_max, part(self.r_until)),
            d_max: grow(0.0, end.d_max, part(self.d_until)),
        }
    }
}

impl Default for BatchRenormConfig {
    fn default() -> Self {
        Self {
            limits: RenormLimits { r_max: 3.0, d_max: 5.0 },
            ramp: None,
            eps: 1e-5,
            momentum: Momentum::New(0.01),
            affine: true,
        }
    }
}

impl BatchRenormConfig {
    /// With these limits.
    #[must_use]
    pub fn with_limits(mut self, limits: RenormLimits) -> Self {
        self.limits = limits;
        self
    }

    /// With limits that grow.
    #[must_use]
    pub fn with_ramp(mut self, ramp: RenormRamp) -> Self {
        self.ramp = Some(ramp);
        self
    }

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
}

/// Batch renormalization of `[N, C, ...]` with running mean and deviation (see [`batch_renorm`]).
///
/// On a training tape the batch is corrected by the running statistics before they move; on any other, these normalize:
/// `y = (x - m) / s weight + bias`. As in the paper it is the deviation `sqrt(var + eps)` that is kept, and its start is 1.
#[derive(Clone, Debug)]
pub struct BatchRenorm {
    weight: Option<Param>,
    bias: Option<Param>,
    running_mean: Buffer,
    running_std: Buffer,
    num_batches_tracked: Buffer,
    config: BatchRenormConfig,
}
module!(BatchRenorm { weight, bias, running_mean, running_std, num_batches_tracked });

impl BatchRenorm {
    /// For `channels` channels, in f32.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] for limits that [`RenormLimits::new`] refuses, an eps that is negative or not finite, or
    /// a momentum outside of [0, 1].
    pub fn new(channels: usize, config: BatchRenormConfig) -> Result<Self, NormError> {
        RenormLimits::new(config.limits.r_max, config.limits.d_max)?;
        check_eps(config.eps)?;
        config.momentum.check()?;
        let full = |value| Tensor::full(&[channels], value, DType::F32);
        let param = |value| config.affine.then(|| Param::new(full(value), ParamKind::Norm));
        Ok(Self {
            weight: param(1.0),
            bias: param(0.0),
            running_mean: Buffer::new(full(0.0)),
            running_std: Buffer::new(full(1.0)),
            num_batches_tracked: Buffer::new(Tensor::scalar(0i64)),
            config,
        })
    }

    /// The limits of the next batch.
    #[must_use]
    pub fn limits(&self) -> RenormLimits {
        let batches = self.num_batches_tracked.get().item().max(0.0) as u64;
        self.config.ramp.map_or(self.config.limits, |ramp| ramp.limits(self.config.limits, batches))
    }

    /// Forgets all batches: mean 0, deviation 1, count 0.
    pub fn reset_running_stats(&self) {
        reset(&self.running_mean, 0.0);
        reset(&self.running_std, 1.0);
        reset(&self.num_batches_tracked, 0.0);
    }

    /// As [`forward`](Layer::forward), with an error where that panics over the batch or the statistics.
    ///
    /// # Errors
    /// [`NormError::BatchTooSmall`] when a training batch has one value per channel, [`NormError::OutOfRange`] for a
    /// running deviation below 0; the running statistics have not changed then.
    ///
    /// # Panics
    /// When `x` is not `[N, C, ...]` with this layer's number of channels.
    #[track_caller]
    pub fn try_forward(&self, x: &Var) -> Result<Var, NormError> {
        self.forward_within(x, self.limits())
    }

    /// As [`try_forward`](Self::try_forward), with the limits of this step: for any schedule.
    ///
    /// # Errors
    /// As [`try_forward`](Self::try_forward).
    ///
    /// # Panics
    /// As [`try_forward`](Self::try_forward).
    #[track_caller]
    pub fn forward_within(&self, x: &Var, limits: RenormLimits) -> Result<Var, NormError> {
        let tape = x.tape();
        let watch = |p: &Option<Param>| p.as_ref().map(|p| tape.watch(p));
        let (w, b) = (watch(&self.weight), watch(&self.bias));
        let (mean, std) = (self.running_mean.get(), self.running_std.get());
        if !(tape.is_training() || tape.is_calibrating()) {
            let fit = |(mean, std)| {
                let rstd = reciprocal(std);
                Fit { mean, rstd, scale: rstd, shift: 0.0 }
            };
            let fits: Vec<Fit> = numbers(&mean, &std)?.into_iter().map(fit).collect();
            let shards = [x];
            let call = Call::new("batch_renorm", &shards).affine(w.as_ref(), b.as_ref());
            return Ok(call.with_given(&fits).swap_remove(0));
        }
        // Statistics that are being estimated again correct nothing.
        let limits = if tape.is_calibrating() { RenormLimits::NONE } else { limits };
        let eps = self.config.eps;
        let (y, stats) = batch_renorm(x, w.as_ref(), b.as_ref(), (&mean, &std), limits, eps)?;
        let weight = next_weight(&self.num_batches_tracked, self.config.momentum, tape);
        if stats.count > 0 {
            let std = |c| (stats.var(c) + eps).sqrt();
            blend(&self.running_mean, weight, |c| stats.lasting(c, stats.mean[c]));
            blend(&self.running_std, weight, |c| stats.lasting(c, std(c)));
        }
        Ok(y)
    }
}

impl Layer for BatchRenorm {
    /// # Panics
    /// When `x` is not `[N, C, ...]` with this layer's number of channels, or a training batch has one value per
    /// channel (see [`BatchRenorm::try_forward`]).
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        self.try_forward(x).unwrap_or_else(|e| panic!("{e}"))
    }
}
