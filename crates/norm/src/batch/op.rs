//! Batch normalization as an operation on a tape: one forward and one closed-form backward for all its forms.

use std::ops::Range;

use gradus_autograd::{DType, Tape, Tensor, Var};
use gradus_tensor::with_float;

use super::{
    moments::{BatchStats, Moments},
    plan::{Fit, Plan, Scaling},
    unit::{Cut, Geometry},
};
use crate::{NormError, error::check_eps};

/// What is normalized together.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) name: &'static str,
    /// `[N, C, ...]` each.
    pub(crate) shards: &'a [&'a Var],
    /// `[N, ...]` for each shard, or none at all.
    pub(crate) masks: &'a [Tensor],
    pub(crate) weight: Option<&'a Var>,
    pub(crate) bias: Option<&'a Var>,
    /// Samples of a ghost batch.
    pub(crate) virtual_batch_size: Option<usize>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(name: &'static str, shards: &'a [&'a Var]) -> Self {
        Self { name, shards, masks: &[], weight: None, bias: None, virtual_batch_size: None }
    }

    pub(crate) fn affine(mut self, weight: Option<&'a Var>, bias: Option<&'a Var>) -> Self {
        (self.weight, self.bias) = (weight, bias);
        self
    }

    pub(crate) fn masked(mut self, masks: &'a [Tensor]) -> Self {
        self.masks = masks;
        self
    }

    pub(crate) fn ghosts(mut self, virtual_batch_size: Option<usize>) -> Self {
        self.virtual_batch_size = virtual_batch_size;
        self
    }

    #[track_caller]
    fn first(&self) -> &'a Var {
        self.shards.first().unwrap_or_else(|| panic!("{}: no shards", self.name))
    }

    /// The tape of the input.
    #[track_caller]
    pub(crate) fn tape(&self) -> &'a Tape {
        self.first().tape()
    }

    #[track_caller]
    fn check(&self) -> Geometry {
        let (name, first) = (self.name, self.first());
        let geometry = Geometry::of(name, first.shape());
        for x in self.shards {
            assert!(
                x.shape().len() == first.shape().len() && x.shape()[1..] == first.shape()[1..],
                "{name}: shards of shapes {:?} and {:?}",
                first.shape(),
                x.shape()
            );
            assert_eq!(x.dtype(), first.dtype(), "{name}: types of shards");
        }
        for (x, mask) in self.shards.iter().zip(self.masks) {
            let places = [&x.shape()[..1], &x.shape()[2..]].concat();
            assert_eq!(mask.shape(), places, "{name}: a mask for input of shape {:?}", x.shape());
        }
        for p in [self.weight, self.bias].into_iter().flatten() {
            self.check_channels(p.value(), geometry);
        }
        geometry
    }

    #[track_caller]
    fn check_channels(&self, of_channels: &Tensor, geometry: Geometry) {
        assert_eq!(
            of_channels.shape(),
            [geometry.channels],
            "{}: a parameter or statistic for input of shape {:?}",
            self.name,
            self.shards[0].shape()
        );
    }

    fn cuts(&self) -> Vec<Cut> {
        let n = |x: &&Var| x.shape()[0];
        let shard = |(shard, x)| Cut { shard, samples: 0..n(x), batch: 0 };
        match self.virtual_batch_size {
            None => self.shards.iter().enumerate().map(shard).collect(),
            Some(size) => ghosts(n(&self.shards[0]), size)
                .enumerate()
                .map(|(batch, samples)| Cut { shard: 0, samples, batch })
                .collect(),
        }
    }

    /// Normalizes with the statistics of each batch; `fit` makes of a channel and its moments how.
    ///
    /// Returns the result of each shard and the statistics of each batch.
    ///
    /// # Errors
    /// [`NormError::BatchTooSmall`] when a batch has one value a channel.
    #[track_caller]
    pub(crate) fn with_batch(
        self,
        fit: impl Fn(usize, &Moments) -> Fit,
    ) -> Result<(Vec<Var>, Vec<BatchStats>), NormError> {
        let geometry = self.check();
        let cuts = self.cuts();
        self.check_counts(&cuts, geometry)?;
        Ok(self.run(geometry, cuts, true, fit))
    }

    /// Normalizes with given statistics, through which no gradient flows.
    #[track_caller]
    pub(crate) fn with_given(self, fits: &[Fit]) -> Vec<Var> {
        let geometry = self.check();
        assert_eq!(fits.len(), geometry.channels, "{}: channels of given statistics", self.name);
        let call = self.ghosts(None);
        let cuts = call.cuts();
        call.run(geometry, cuts, false, |c, _| fits[c]).0
    }

    fn check_counts(&self, cuts: &[Cut], geometry: Geometry) -> Result<(), NormError> {
        let batches = cuts.last().map_or(0, |cut| cut.batch + 1);
        let mut counts = vec![0; batches];
        for cut in cuts {
            let Range { start, end } = cut.samples;
            counts[cut.batch] += match self.masks.get(cut.shard) {
                None => (end - start) * geometry.spatial,
                Some(mask) => mask
                    .narrow(0, start, end - start)
                    .to_vec::<u8>()
                    .iter()
                    .filter(|&&m| m != 0)
                    .count(),
            };
        }
        if geometry.channels > 0 && counts.contains(&1) {
            let mut shape = self.shards[0].shape().to_vec();
            shape[0] = self.shards.iter().map(|x| x.shape()[0]).sum();
            return Err(NormError::BatchTooSmall { shape });
        }
        Ok(())
    }

    #[track_caller]
    fn run(
        &self,
        geometry: Geometry,
        cuts: Vec<Cut>,
        own: bool,
        fit: impl Fn(usize, &Moments) -> Fit,
    ) -> (Vec<Var>, Vec<BatchStats>) {
        let shards: Vec<_> = self.shards.iter().map(|x| Var::autocast(self.name, [x])).collect();
        let shards: Vec<&Var> = shards.iter().map(|[x]| &**x).collect();
        let dtype = shards[0].dtype();
        let numbers = |v: &Var| v.value().to_dtype(DType::F64).to_vec::<f64>();
        let plan = Plan {
            geometry,
            cuts,
            masks: self.masks.iter().map(Tensor::contiguous).collect(),
            scaling: Scaling { weight: self.weight.map(numbers), bias: self.bias.map(numbers) },
            own,
        };
        let xs: Vec<Tensor> = shards.iter().map(|x| x.value().contiguous()).collect();
        let sizes: Vec<usize> = xs.iter().map(|x| x.shape()[0]).collect();
        // All shards lie one after the other in one result.
        let mut whole = xs[0].shape().to_vec();
        whole[0] = sizes.iter().sum();
        let split = move |whole: Tensor| split(&whole, &sizes);
        let mut fits = Vec::new();
        let y = with_float!(self.name, dtype, S => Tensor::build::<S>(&whole, |y| {
            fits = plan.forward(&xs, fit, y);
        }));
        let channels = geometry.channels;
        let stats = |batch| BatchStats::collect(&fits[batch * channels..(batch + 1) * channels]);
        let stats = (0..plan.batches()).map(stats).collect();
        let params: Vec<&Var> = [self.weight, self.bias].into_iter().flatten().collect();
        let types: Vec<DType> = params.iter().map(|p| p.dtype()).collect();
        let inputs: Vec<&Var> = shards.into_iter().chain(params).collect();
        let n = xs.len();
        let (weight_at, bias_at) = (self.weight.map(|_| n), self.bias.map(|_| inputs.len() - 1));
        let outputs = split(y);
        let ys = Var::op_multi(self.name, &inputs, outputs, move |grads, sink| {
            let zeros = |x: &Tensor| Tensor::zeros(x.shape(), dtype);
            let dy = |(g, x): (&Option<Tensor>, &Tensor)| {
                g.as_ref().map_or_else(|| zeros(x), Tensor::contiguous)
            };
            let dys: Vec<Tensor> = grads.iter().zip(&xs).map(dy).collect();
            let of_params = [weight_at, bias_at].map(|at| at.filter(|&i| sink.needs(i)));
            let sums = of_params.iter().any(Option::is_some);
            let of_x = (0..n).any(|i| sink.needs(i));
            let mut of_channels = (Vec::new(), Vec::new());
            let dx = with_float!("batch_norm", dtype, S => {
                let mut go = |dx: &mut [S]| of_channels = plan.backward(&xs, &dys, &fits, sums, dx);
                if of_x { Some(Tensor::build::<S>(&whole, go)) } else { go(&mut []); None }
            });
            for (at, grad) in of_params.into_iter().zip([of_channels.0, of_channels.1]) {
                if let Some(at) = at {
                    sink.add(at, Tensor::from_slice(&grad, &[channels]).to_dtype(types[at - n]));
                }
            }
            for (i, dx) in dx.into_iter().flat_map(split).enumerate() {
                sink.add(i, dx);
            }
        });
        (ys, stats)
    }
}

/// Cuts a result into those of the shards.
fn split(whole: &Tensor, sizes: &[usize]) -> Vec<Tensor> {
    if let [_] = sizes {
        return vec![whole.clone()];
    }
    let mut at = 0;
    let part = |&n: &usize| {
        at += n;
        whole.narrow(0, at - n, n)
    };
    sizes.iter().map(part).collect()
}

/// Cuts `n` samples into as few parts of at most `size` as there can be, whose sizes differ by one at most: the last
/// part is never much smaller than the others. One empty part where there are no samples.
fn ghosts(n: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = n.div_ceil(size).max(1);
    (0..parts).map(move |i| n * i / parts..n * (i + 1) / parts)
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` for each channel.
///
/// With `given` statistics (mean, variance; evaluation) these are constants; without, they are the batch's own,
/// with the biased variance, gradients flow through them, and they are returned. A channel whose variance and eps are
/// both 0 becomes `bias`. Inputs in f16 and bf16 are computed in f32, and only the result is rounded; statistics are
/// merged in f64 whatever the type.
///
/// # Shapes
/// `x` `[N, C, ...]`; statistics, `weight` and `bias` `[C]`; result as `x`.
///
/// # Errors
/// [`NormError::BatchTooSmall`] when a channel has one value only and the batch's own statistics are asked for. An
/// empty batch is none, and has mean and variance 0. [`NormError::OutOfRange`] for an eps that is negative or not finite,
/// or a given variance below 0.
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
    let shards = [x];
    one(Call::new("batch_norm", &shards).affine(weight, bias), given, eps)
}

/// As [`batch_norm`], with the statistics of valid positions only: those where `mask` is not 0.
///
/// At the others the result is 0, whatever the input is there (NaN too), and no gradient flows: padding stays padding.
/// With no valid position at all there is nothing to normalize, and the statistics have count 0.
///
/// # Shapes
/// `x` `[N, C, ...]`; `mask` `[N, ...]` of u8; all else as for [`batch_norm`].
///
/// # Errors
/// As [`batch_norm`], where only valid values count.
///
/// # Panics
/// As [`batch_norm`], and when the mask has another shape or type.
#[track_caller]
pub fn masked_batch_norm(
    x: &Var,
    mask: &Tensor,
    weight: Option<&Var>,
    bias: Option<&Var>,
    given: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<(Var, Option<BatchStats>), NormError> {
    let (shards, masks) = ([x], [mask.clone()]);
    one(Call::new("masked_batch_norm", &shards).affine(weight, bias).masked(&masks), given, eps)
}

#[track_caller]
fn one(
    call: Call<'_>,
    given: Option<(&Tensor, &Tensor)>,
    eps: f64,
) -> Result<(Var, Option<BatchStats>), NormError> {
    check_eps(eps)?;
    let (mut y, stats) = match given {
        Some((mean, var)) => {
            let geometry = call.check();
            for t in [mean, var] {
                call.check_channels(t, geometry);
            }
            (call.with_given(&given_fits(mean, var, eps)?), None)
        }
        None => {
            let (y, stats) = call.with_batch(|_, m| Fit::plain(m.mean, m.var(), eps))?;
            (y, stats.into_iter().next())
        }
    };
    Ok((y.swap_remove(0), stats))
}

/// How given statistics normalize.
pub(crate) fn given_fits(mean: &Tensor, var: &Tensor, eps: f64) -> Result<Vec<Fit>, NormError> {
    let numbers = |t: &Tensor| t.to_dtype(DType::F64).to_vec::<f64>();
    let fit = |(mean, var): (f64, f64)| {
        if var < 0.0 {
            return Err(NormError::OutOfRange { name: "variance", value: var, range: "[0, inf)" });
        }
        Ok(Fit::plain(mean, var, eps))
    };
    numbers(mean).into_iter().zip(numbers(var)).map(fit).collect()
}

/// As [`batch_norm`] by its own statistics, on ghost batches: parts of the batch that are normalized each by itself, as
/// if they were on different machines. Small batches regularize, and a large one keeps their effect.
///
/// The batch is cut into as few ghost batches of at most `virtual_batch_size` samples as there can be, whose sizes
/// differ by one at most: 65 samples by 64 are 33 and 32, not 64 and 1. Returns the statistics of each, in order.
///
/// # Shapes
/// As for [`batch_norm`].
///
/// # Errors
/// [`NormError::BatchTooSmall`] when a ghost batch has one value per channel, [`NormError::OutOfRange`] for a virtual
/// batch size of 0 or an eps that is negative or not finite.
///
/// # Panics
/// As [`batch_norm`].
///
/// # References
/// Hoffer, Hubara, Soudry: Train longer, generalize better (2017), arXiv:1705.08741, algorithm 1.
#[track_caller]
pub fn ghost_batch_norm(
    x: &Var,
    weight: Option<&Var>,
    bias: Option<&Var>,
    virtual_batch_size: usize,
    eps: f64,
) -> Result<(Var, Vec<BatchStats>), NormError> {
    check_eps(eps)?;
    let (shards, size) = ([x], check_virtual_batch_size(virtual_batch_size)?);
    let call = Call::new("ghost_batch_norm", &shards).affine(weight, bias).ghosts(Some(size));
    let (mut y, stats) = call.with_batch(|_, m| Fit::plain(m.mean, m.var(), eps))?;
    Ok((y.swap_remove(0), stats))
}

pub(crate) fn check_virtual_batch_size(size: usize) -> Result<usize, NormError> {
    match size {
        0 => {
            Err(NormError::OutOfRange { name: "virtual_batch_size", value: 0.0, range: "[1, inf)" })
        }
        _ => Ok(size),
    }
}

/// Synchronized batch normalization: `shards` of any sizes, one a worker, are normalized by the statistics of all of
/// them together, forward and backward. Equals [`batch_norm`] of the concatenation.
///
/// Workers that do not share a tape exchange the same numbers: [`BatchStats`] of each shard, merged, on the way forward.
///
/// # Shapes
/// Shards `[N_i, C, ...]`, all alike but for `N_i`; `weight` and `bias` `[C]`; results as the shards.
///
/// # Errors
/// [`NormError::BatchTooSmall`] when all shards together have one value per channel (one shard may), and
/// [`NormError::OutOfRange`] for an eps that is negative or not finite.
///
/// # Panics
/// When there is no shard, or shapes or types do not fit.
///
/// # References
/// PyTorch's `SyncBatchNorm`.
#[track_caller]
pub fn sync_batch_norm(
    shards: &[&Var],
    weight: Option<&Var>,
    bias: Option<&Var>,
    eps: f64,
) -> Result<(Vec<Var>, BatchStats), NormError> {
    check_eps(eps)?;
    let call = Call::new("sync_batch_norm", shards).affine(weight, bias);
    let (ys, mut stats) = call.with_batch(|_, m| Fit::plain(m.mean, m.var(), eps))?;
    Ok((ys, stats.swap_remove(0)))
}
