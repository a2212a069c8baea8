use gradus_autograd::{Buffer, DType, Layer, Param, ParamKind, Tape, Tensor, Var, module};

use super::{
    BatchNormConfig, BatchStats,
    op::{Call, given_fits},
    plan::Fit,
    running::{blend, next_weight, reset},
};
use crate::NormError;

/// Batch normalization of `[N, C]`, `[N, C, L]`, `[N, C, H, W]`, ...: PyTorch's `BatchNorm1d`, `2d` and `3d` in one.
///
/// On a training tape it uses the batch's statistics and moves the running ones (with the unbiased variance, as
/// PyTorch does); on any other it uses the running ones. A channel whose batch statistics are not finite leaves its
/// running ones alone.
///
/// ```
/// use gradus_autograd::{Layer, Module, Tape, Tensor};
/// use gradus_norm::BatchNorm;
///
/// let norm = BatchNorm::new(1);
/// let x = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0], &[4, 1]);
/// let y = norm.forward(&Tape::training(0, 0).constant(x));
/// assert!((y.value().to_vec::<f32>()[3] - 1.34164).abs() < 1e-4);
/// assert_eq!(norm.snapshot().get("running_mean").unwrap().to_vec::<f32>(), [0.25]);
/// ```
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: Option<Param>,
    bias: Option<Param>,
    running_mean: Option<Buffer>,
    running_var: Option<Buffer>,
    num_batches_tracked: Option<Buffer>,
    config: BatchNormConfig,
    frozen: bool,
}
module!(BatchNorm { weight, bias, running_mean, running_var, num_batches_tracked });

impl BatchNorm {
    /// For `channels` channels, with PyTorch's defaults: eps 1e-5, momentum 0.1 of the new, affine, tracked; in f32.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self::build(channels, BatchNormConfig::default())
    }

    /// For `channels` channels, with options.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] for an eps that is negative or not finite, a momentum outside of [0, 1], or a virtual
    /// batch size of 0.
    pub fn with_config(channels: usize, config: BatchNormConfig) -> Result<Self, NormError> {
        config.check()?;
        Ok(Self::build(channels, config))
    }

    fn build(channels: usize, config: BatchNormConfig) -> Self {
        let full = |value| Tensor::full(&[channels], value, DType::F32);
        let param = |value| config.affine.then(|| Param::new(full(value), ParamKind::Norm));
        let buffer = |value| config.track_running_stats.then(|| Buffer::new(full(value)));
        let count = config.track_running_stats.then(|| Buffer::new(Tensor::scalar(0i64)));
        Self {
            weight: param(1.0),
            bias: param(0.0),
            running_mean: buffer(0.0),
            running_var: buffer(1.0),
            num_batches_tracked: count,
            config,
            frozen: false,
        }
    }

    /// Freezes the running statistics (`true`) or lets them move again (`false`). Frozen, training normalizes by them
    /// too, as constants; scale and shift still train, unless they are frozen as any parameter is.
    ///
    /// # Errors
    /// [`NormError::NoRunningStats`] when the layer keeps none.
    pub fn set_frozen(&mut self, frozen: bool) -> Result<(), NormError> {
        self.running()?;
        self.frozen = frozen;
        Ok(())
    }

    /// Whether the running statistics are frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Forgets all batches: mean 0, variance 1, count 0. Nothing where none are kept.
    pub fn reset_running_stats(&self) {
        for (buffer, value) in
            [(&self.running_mean, 0.0), (&self.running_var, 1.0), (&self.num_batches_tracked, 0.0)]
        {
            if let Some(buffer) = buffer {
                reset(buffer, value);
            }
        }
    }

    fn running(&self) -> Result<(Tensor, Tensor), NormError> {
        match (&self.running_mean, &self.running_var) {
            (Some(mean), Some(var)) => Ok((mean.get(), var.get())),
            _ => Err(NormError::NoRunningStats),
        }
    }

    /// `y = x scale + shift` of each channel in evaluation, in f64.
    ///
    /// # Errors
    /// [`NormError::NoRunningStats`] when the layer keeps none, [`NormError::OutOfRange`] for a running variance
    /// below 0.
    pub(crate) fn inference(&self) -> Result<Vec<(f64, f64)>, NormError> {
        let (mean, var) = self.running()?;
        let number = |p: &Option<Param>, c: usize, default: f64| {
            p.as_ref().map_or(default, |p| p.value().narrow(0, c, 1).to_dtype(DType::F64).item())
        };
        let line = |(c, fit): (usize, Fit)| {
            let scale = fit.scale * number(&self.weight, c, 1.0);
            (scale, number(&self.bias, c, 0.0) - fit.mean * scale)
        };
        let fits = given_fits(&mean, &var, self.config.eps)?;
        Ok(fits.into_iter().enumerate().map(line).collect())
    }

    /// As [`forward`](Layer::forward), with an error where that panics over the batch or the statistics.
    ///
    /// # Errors
    /// [`NormError::BatchTooSmall`] when the batch's statistics are asked for and a channel has one value only;
    /// [`NormError::OutOfRange`] for a running variance below 0. The running statistics have not changed then.
    ///
    /// # Panics
    /// When `x` is not `[N, C, ...]` with this layer's number of channels.
    #[track_caller]
    pub fn try_forward(&self, x: &Var) -> Result<Var, NormError> {
        let shards = [x];
        let call = Call::new("batch_norm", &shards).ghosts(self.config.virtual_batch_size);
        Ok(self.run(call)?.swap_remove(0))
    }

    /// As [`try_forward`](Self::try_forward), on valid positions only: those where `mask` `[N, ...]` (u8) is not 0. The
    /// others are 0 in the result and move no statistic (see [`masked_batch_norm`](crate::masked_batch_norm)).
    ///
    /// # Errors
    /// As [`try_forward`](Self::try_forward), where only valid values count.
    ///
    /// # Panics
    /// As [`try_forward`](Self::try_forward), and when the mask has another shape or type.
    #[track_caller]
    pub fn forward_masked(&self, x: &Var, mask: &Tensor) -> Result<Var, NormError> {
        let (shards, masks) = ([x], [mask.clone()]);
        let call = Call::new("masked_batch_norm", &shards).masked(&masks);
        Ok(self.run(call.ghosts(self.config.virtual_batch_size))?.swap_remove(0))
    }

    /// As [`try_forward`](Self::try_forward), on a batch that lies in several shards, one a worker: statistics are those
    /// of all of them together, and move once (see [`sync_batch_norm`](crate::sync_batch_norm)). Ghost batches are not
    /// made.
    ///
    /// # Errors
    /// As [`try_forward`](Self::try_forward), where the values of all shards count.
    ///
    /// # Panics
    /// As [`try_forward`](Self::try_forward), and when there is no shard or shards do not fit each other.
    #[track_caller]
    pub fn forward_shards(&self, shards: &[&Var]) -> Result<Vec<Var>, NormError> {
        self.run(Call::new("sync_batch_norm", shards))
    }

    #[track_caller]
    fn run(&self, call: Call<'_>) -> Result<Vec<Var>, NormError> {
        let tape = call.tape().clone();
        let watch = |p: &Option<Param>| p.as_ref().map(|p| tape.watch(p));
        let (w, b) = (watch(&self.weight), watch(&self.bias));
        let call = call.affine(w.as_ref(), b.as_ref());
        let moving = (tape.is_training() || tape.is_calibrating()) && !self.frozen;
        let eps = self.config.eps;
        match self.running() {
            Ok((mean, var)) if !moving => Ok(call.with_given(&given_fits(&mean, &var, eps)?)),
            _ => {
                let (ys, stats) = call.with_batch(|_, m| Fit::plain(m.mean, m.var(), eps))?;
                if moving {
                    stats.iter().for_each(|batch| self.track(batch, &tape));
                }
                Ok(ys)
            }
        }
    }

    fn track(&self, batch: &BatchStats, tape: &Tape) {
        let (Some(mean), Some(var), Some(count)) =
            (&self.running_mean, &self.running_var, &self.num_batches_tracked)
        else {
            return;
        };
        let weight = next_weight(count, self.config.momentum, tape);
        if batch.count > 0 {
            let unbiased = |c| batch.unbiased_var(c).unwrap_or_default();
            let spread =
                |c| if self.config.unbiased_running_var { unbiased(c) } else { batch.var(c) };
            blend(mean, weight, |c| batch.lasting(c, batch.mean[c]));
            blend(var, weight, |c| batch.lasting(c, spread(c)));
        }
    }
}

impl Layer for BatchNorm {
    /// # Panics
    /// When `x` is not `[N, C, ...]` with this layer's number of channels, or a training batch has one value per
    /// channel (see [`BatchNorm::try_forward`]).
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        self.try_forward(x).unwrap_or_else(|e| panic!("{e}"))
    }
}
