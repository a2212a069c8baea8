//! Batch normalization.

use gradus_autograd::{Buffer, DType, Layer, Param, ParamKind, Tensor, Var, module};
use gradus_tensor::{FloatElement, Real, par, with_real};

use crate::{
    NormError,
    batch_kernels::{self as kernels, Layout},
    error::check_eps,
};

/// How far running statistics move towards a batch's. PyTorch and Keras both call this *momentum* and mean
/// opposite things; here the name says which.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Momentum {
    /// `running += m (batch - running)`: the weight of the new (PyTorch; default 0.1).
    New(f64),
    /// `running = m running + (1 - m) batch`: the weight of the old (Keras, flax).
    Old(f64),
    /// The plain average over all batches (PyTorch's `momentum=None`).
    Cumulative,
}

impl Momentum {
    pub(crate) fn check(self) -> Result<(), NormError> {
        match self {
            Self::New(m) | Self::Old(m) if !(0.0..=1.0).contains(&m) => {
                Err(NormError::OutOfRange { name: "momentum", value: m, range: "[0, 1]" })
            }
            _ => Ok(()),
        }
    }

    /// The weight of batch number `count` (from 1).
    pub(crate) fn weight(self, count: i64) -> f64 {
        match self {
            Self::New(m) => m,
            Self::Old(m) => 1.0 - m,
            Self::Cumulative => 1.0 / count as f64,
        }
    }
}

/// Mean and biased variance of each channel of a batch, and how many values a channel has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BatchStats {
    /// `[C]`.
    pub mean: Tensor,
    /// `[C]`, divided by `count`.
    pub var: Tensor,
    /// Values per channel.
    pub count: usize,
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` for each channel.
///
/// With `given` statistics (mean, variance; evaluation) these are constants; without, they are the batch's own,
/// with the biased variance, gradients flow through them, and they are returned.
///
/// # Shapes
/// `x` `[N, C, ...]`; statistics, `weight` and `bias` `[C]`; result as `x`.
///
/// # Errors
/// [`NormError::BatchTooSmall`] when a channel has one value only and the batch's own statistics are asked for. An
/// empty batch is none, and has mean and variance 0.
///
/// # Panics
/// When `x` has fewer than two dimensions or a `[C]` tensor another shape.
///
/// # References
/// Ioffe, Szegedy: Batch normalization (2015), arXiv:1502.03167.
#[track_caller]
pub fn batch_norm(
    x: &Var,
    weight: Option<&Var>,
    bias: Option<&Var>,
    given: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<(Var, Option<BatchStats>), NormError> {
    let shape = x.shape();
    assert!(shape.len() >= 2, "batch_norm: expected [N, C, ...], got shape {shape:?}");
    let channels = [shape[1]];
    let of_channels = [weight.map(Var::shape), bias.map(Var::shape), given.map(|g| g.0.shape())];
    for s in of_channels.into_iter().flatten().chain(given.map(|g| g.1.shape())) {
        assert_eq!(
            s, channels,
            "batch_norm: a parameter or statistic for input of shape {shape:?}"
        );
    }
    let layout = Layout::of(shape);
    if given.is_none() && layout.count() == 1 {
        return Err(NormError::BatchTooSmall { shape: shape.to_vec() });
    }
    Ok(with_real!("batch_norm", x.dtype(), T => run::<T>(x, weight, bias, given, eps, layout)))
}

fn run<T: Real>(
    x: &Var,
    weight: Option<&Var>,
    bias: Option<&Var>,
    given: Option<(&Tensor, &Tensor)>,
    eps: f64,
    layout: Layout,
) -> (Var, Option<BatchStats>) {
    let dense = x.value().contiguous();
    let (mean, var) = match given {
        Some((mean, var)) => (mean.to_vec::<T>(), var.to_vec::<T>()),
        None => kernels::moments(dense.as_slice::<T>(), layout),
    };
    let stats = given.is_none().then(|| BatchStats {
        mean: Tensor::from_slice(&mean, &[layout.channels]),
        var: Tensor::from_slice(&var, &[layout.channels]),
        count: layout.count(),
    });
    let rstd: Vec<T> = var.iter().map(|&v| T::ONE / (v + T::lit(eps)).sqrt()).collect();
    let ones = vec![T::ONE; layout.channels];
    let w = weight.map_or(ones, |w| w.value().to_vec());
    let b = bias.map_or(vec![T::ZERO; layout.channels], |b| b.value().to_vec());
    let scale: Vec<T> = rstd.iter().zip(&w).map(|(&r, &w)| r * w).collect();
    let y = Tensor::build::<T>(dense.shape(), |y| {
        let x = dense.as_slice::<T>();
        layout.rows_mut(y, |at, c, y| {
            let n = y.len();
            kernels::normalize(&x[at..at + n], c, layout.spatial, &mean, &scale, &b, y);
        });
    });
    let inputs: Vec<&Var> = [Some(x), weight, bias].into_iter().flatten().collect();
    let weight_at = weight.map(|_| 1);
    let bias_at = bias.map(|_| inputs.len() - 1);
    let through_stats = given.is_none();
    let y = Var::op("batch_norm", &inputs, y, move |g, sink| {
        let g = g.contiguous();
        let (dy, x) = (g.as_slice::<T>(), dense.as_slice::<T>());
        let wanted = [weight_at, bias_at].map(|at| at.filter(|&i| sink.needs(i)));
        let (sum, dot) = if through_stats || wanted.iter().any(Option::is_some) {
            kernels::gradient_sums(dy, x, &mean, layout)
        } else {
            (Vec::new(), Vec::new())
        };
        if let Some(at) = wanted[0] {
            let dw: Vec<T> = dot.iter().zip(&rstd).map(|(&d, &r)| d * r).collect();
            sink.add(at, Tensor::from_slice(&dw, &[layout.channels]));
        }
        if let Some(at) = wanted[1] {
            sink.add(at, Tensor::from_slice(&sum, &[layout.channels]));
        }
        if sink.needs(0) {
            // dx = scale (dy - mean(dy) - (x - mean) rstd^2 mean(dy (x - mean))); constants have no means.
            let n = T::lit(layout.count() as f64);
            let zero = vec![T::ZERO; layout.channels];
            let (shift, slope) = if through_stats {
                let shift = sum.iter().map(|&s| s / n).collect();
                (shift, dot.iter().zip(&rstd).map(|(&d, &r)| d * r * r / n).collect())
            } else {
                (zero.clone(), zero)
            };
            let dx = Tensor::build::<T>(dense.shape(), |dx| {
                layout.rows_mut(dx, |at, c, dx| {
                    let r = at..at + dx.len();
                    kernels::backward(
                        &dy[r.clone()],
                        &x[r],
                        c,
                        layout.spatial,
                        &mean,
                        &scale,
                        &shift,
                        &slope,
                        dx,
                    );
                });
            });
            sink.add(0, dx);
        }
    });
    (y, stats)
}

impl Layout {
    /// Cuts a tensor of this layout at multiples of a sample and calls `f(position, first channel, piece)`.
    fn rows_mut<T: Real>(self, out: &mut [T], f: impl Fn(usize, usize, &mut [T]) + Sync + Send) {
        let channels = self.channels.max(1);
        let (width, per_sample) =
            if self.spatial == 1 { (channels, 1) } else { (self.spatial, channels) };
        par::for_each_mut(out, width, width as f64 * 0.3, |row, out| {
            f(row * width, if self.spatial == 1 { 0 } else { row % per_sample }, out);
        });
    }
}

/// Options of a [`BatchNorm`] layer; the defaults are PyTorch's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BatchNormConfig {
    /// Added to the variance inside the root; 1e-5.
    pub eps: f64,
    /// How running statistics move; [`Momentum::New`]`(0.1)`.
    pub momentum: Momentum,
    /// Whether there is a learned scale and shift; yes.
    pub affine: bool,
    /// Whether running statistics are kept for evaluation; yes. Without, evaluation uses the batch's own too.
    pub track_running_stats: bool,
}

impl Default for BatchNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, momentum: Momentum::New(0.1), affine: true, track_running_stats: true }
    }
}

impl BatchNormConfig {
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

/// Batch normalization of `[N, C]`, `[N, C, L]`, `[N, C, H, W]`, ...: PyTorch's `BatchNorm1d`, `2d` and `3d` in one.
///
/// On a training tape it uses the batch's statistics and moves the running ones (with the unbiased variance, as
/// PyTorch does); on any other it uses the running ones.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: Option<Param>,
    bias: Option<Param>,
    running_mean: Option<Buffer>,
    running_var: Option<Buffer>,
    num_batches_tracked: Option<Buffer>,
    config: BatchNormConfig,
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
    /// [`NormError::OutOfRange`] for an eps that is negative or not finite, or a momentum outside of [0, 1].
    pub fn with_config(channels: usize, config: BatchNormConfig) -> Result<Self, NormError> {
        check_eps(config.eps)?;
        config.momentum.check()?;
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
        }
    }

    /// As [`forward`](Layer::forward), with an error where that panics over the size of the batch.
    ///
    /// # Errors
    /// [`NormError::BatchTooSmall`] when the batch's statistics are asked for and a channel has one value only;
    /// the running statistics have not changed then.
    ///
    /// # Panics
    /// When `x` is not `[N, C, ...]` with this layer's number of channels.
    #[track_caller]
    pub fn try_forward(&self, x: &Var) -> Result<Var, NormError> {
        let training = x.tape().is_training();
        let watch = |p: &Option<Param>| p.as_ref().map(|p| x.tape().watch(p));
        let (w, b) = (watch(&self.weight), watch(&self.bias));
        let running = match (&self.running_mean, &self.running_var) {
            (Some(mean), Some(var)) if !training => Some((mean.get(), var.get())),
            _ => None,
        };
        let given = running.as_ref().map(|(m, v)| (m, v));
        let (y, stats) = batch_norm(x, w.as_ref(), b.as_ref(), given, self.config.eps)?;
        if let (true, Some(stats)) = (training, stats) {
            self.track(&stats);
        }
        Ok(y)
    }

    fn track(&self, batch: &BatchStats) {
        let (Some(mean), Some(var), Some(count)) =
            (&self.running_mean, &self.running_var, &self.num_batches_tracked)
        else {
            return;
        };
        let mut weight = 0.0;
        count.update(|n| {
            let n = &mut n.make_mut::<i64>()[0];
            *n += 1;
            weight = self.config.momentum.weight(*n);
        });
        if batch.count == 0 {
            return;
        }
        let unbiased = batch.count as f64 / (batch.count as f64 - 1.0);
        // running += weight (batch - running)
        mean.update(|r| blend(r, &batch.mean, 1.0, weight));
        var.update(|r| blend(r, &batch.var, unbiased, weight));
    }
}

fn blend(running: &mut Tensor, batch: &Tensor, factor: f64, weight: f64) {
    let batch = batch.to_dtype(running.dtype());
    with_real!("batch_norm", running.dtype(), T => {
        for (r, &b) in running.make_mut::<T>().iter_mut().zip(batch.as_slice::<T>()) {
            let (old, new) = (r.to_f64(), b.to_f64() * factor);
            *r = T::lit(old + weight * (new - old));
        }
    });
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
