//! Walks over memory: which samples are normalized together, and how that work is cut.
//!
//! A unit of work is a few neighbouring channels of all samples that are normalized together. One thread takes a unit
//! through both passes, statistics and result, so that the second finds it in the cache; only where a unit is large by
//! itself, threads share it.

use std::ops::Range;

use gradus_autograd::Tensor;
use gradus_tensor::{Real, par, with_real};

use super::{
    kernels::{self, Line, Slope},
    moments::Moments,
};
use crate::affine::compute_type;

/// Values of a channel in one sample from which on loops run along them.
const PLANE: usize = 64;
/// Values in a row of memory that a unit has at least, if there are as many.
const UNIT: usize = 128;
/// Values that one piece of a large unit holds: their sums are merged in order.
const PIECE: usize = 1 << 16;

/// Channels, and values of a channel in one sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) channels: usize,
    pub(crate) spatial: usize,
}

impl Geometry {
    /// Of `[N, C, ...]`.
    #[track_caller]
    pub(crate) fn of(op: &str, shape: &[usize]) -> Self {
        assert!(shape.len() >= 2, "{op}: expected [N, C, ...], got shape {shape:?}");
        Self { channels: shape[1], spatial: shape[2..].iter().product() }
    }

    /// Values in one sample.
    fn sample(self) -> usize {
        self.channels * self.spatial
    }

    /// Channels of a unit.
    fn block(self) -> usize {
        UNIT.div_ceil(self.spatial.max(1))
    }
}

/// Some samples of one shard, and the batch that they are normalized in.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) shard: usize,
    pub(crate) samples: Range<usize>,
    pub(crate) batch: usize,
}

impl Cut {
    fn of<'a, T>(&self, shard: &'a [T], width: usize) -> &'a [T] {
        &shard[self.samples.start * width..self.samples.end * width]
    }
}

/// What belongs to a sample besides its values: the gradient of its result, and a mask over its places.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra<'a> {
    pub(crate) masks: &'a [Tensor],
    pub(crate) dys: &'a [Tensor],
}

/// A unit of work: pieces of all samples of a batch, in order.
pub(crate) struct Unit<'a, T> {
    pub(crate) batch: usize,
    pub(crate) channels: Range<usize>,
    xs: Vec<&'a [T]>,
    dys: Vec<&'a [T]>,
    masks: Vec<&'a [u8]>,
    out: Vec<&'a mut [T]>,
}

/// Cuts `xs` and what belongs to them into units, batch by batch. `out` is as long as all of `xs`, or empty.
pub(crate) fn units<'a, T: Real>(
    xs: &'a [Tensor],
    extra: Extra<'a>,
    geometry: Geometry,
    cuts: &[Cut],
    out: &'a mut [T],
) -> Vec<Unit<'a, T>> {
    let Geometry { channels, spatial } = geometry;
    let (block, sample) = (geometry.block(), geometry.sample());
    let blocks = channels.div_ceil(block);
    let batches = cuts.iter().map(|cut| cut.batch + 1).max().unwrap_or(0);
    let mut sizes = vec![0; batches];
    for cut in cuts {
        sizes[cut.batch] += cut.samples.len();
    }
    let mut units = Vec::with_capacity(batches * blocks);
    for (batch, samples) in sizes.into_iter().enumerate() {
        let list = |wanted: bool| if wanted { samples } else { 0 };
        units.extend((0..blocks).map(|b| Unit {
            batch,
            channels: b * block..((b + 1) * block).min(channels),
            xs: Vec::with_capacity(samples),
            dys: Vec::with_capacity(list(!extra.dys.is_empty())),
            masks: Vec::with_capacity(list(!extra.masks.is_empty())),
            out: Vec::with_capacity(list(!out.is_empty())),
        }));
    }
    if sample == 0 {
        return units;
    }
    let width = block * spatial;
    let mut rows = out.chunks_exact_mut(sample);
    for cut in cuts {
        let x = cut.of(xs[cut.shard].as_slice::<T>(), sample).chunks_exact(sample);
        let mut dys = extra
            .dys
            .get(cut.shard)
            .map(|dy| cut.of(dy.as_slice::<T>(), sample).chunks_exact(sample));
        let mut masks = extra
            .masks
            .get(cut.shard)
            .map(|m| cut.of(m.as_slice::<u8>(), spatial).chunks_exact(spatial));
        for x in x {
            let (mut row, dy, mask) = (
                rows.next().map(|row| row.chunks_mut(width)),
                dys.as_mut().and_then(Iterator::next),
                masks.as_mut().and_then(Iterator::next),
            );
            let mut dy = dy.map(|dy| dy.chunks(width));
            let hidden = spatial == 1 && mask.is_some_and(|m| m[0] == 0);
            for (unit, x) in units[cut.batch * blocks..].iter_mut().zip(x.chunks(width)) {
                let (out, dy) =
                    (row.as_mut().and_then(Iterator::next), dy.as_mut().and_then(Iterator::next));
                if hidden {
                    // A whole sample that does not count.
                    out.into_iter().for_each(|out| out.fill(T::ZERO));
                    continue;
                }
                unit.xs.push(x);
                unit.dys.extend(dy);
                unit.masks.extend(mask.filter(|_| spatial > 1));
                unit.out.extend(out);
            }
        }
    }
    units
}

/// Calls `f` with every unit and returns all that it returns, in order.
pub(crate) fn each<T: Real, R: Send>(
    units: Vec<Unit<'_, T>>,
    geometry: Geometry,
    ns: f64,
    f: impl Fn(&mut Unit<'_, T>) -> Vec<R> + Sync + Send,
) -> Vec<R> {
    let values =
        units.iter().map(|u| u.xs.len() * u.channels.len()).max().unwrap_or(0) * geometry.spatial;
    let mut work: Vec<_> = units.into_iter().map(|unit| (unit, Vec::new())).collect();
    par::for_each_mut(&mut work, 1, values as f64 * ns, |_, work| {
        for (unit, results) in work {
            *results = f(unit);
        }
    });
    work.into_iter().flat_map(|(_, results)| results).collect()
}

impl<T: Real> Unit<'_, T> {
    /// Whether loops run along the values that a channel has in a sample.
    fn planes(&self, spatial: usize) -> bool {
        spatial >= PLANE || !self.masks.is_empty()
    }

    /// Masks of some samples.
    fn masks(&self, samples: Range<usize>) -> &[&[u8]] {
        if self.masks.is_empty() { &[] } else { &self.masks[samples] }
    }

    /// Cuts the samples of a large unit, calls `f` for each part with numbers to add to, one a channel, and merges these
    /// in order.
    fn total<R: Clone + Default + Send>(
        &self,
        spatial: usize,
        f: impl Fn(Range<usize>, &mut [R]) + Sync + Send,
        merge: impl Fn(&mut R, R),
    ) -> Vec<R> {
        let (width, n) = (self.channels.len() * spatial, self.xs.len());
        let mut total = vec![R::default(); self.channels.len()];
        if n == 0 {
            return total;
        }
        let samples = PIECE.div_ceil(width);
        let pieces = par::map(n.div_ceil(samples), (samples * width) as f64 * 0.15, |i| {
            let mut out = vec![R::default(); self.channels.len()];
            f(i * samples..((i + 1) * samples).min(n), &mut out);
            out
        });
        for piece in pieces {
            total.iter_mut().zip(piece).for_each(|(total, part)| merge(total, part));
        }
        total
    }

    /// Moments of each channel.
    pub(crate) fn moments(&self, spatial: usize) -> Vec<Moments> {
        let piece = |range: Range<usize>, out: &mut [Moments]| {
            let xs = &self.xs[range.clone()];
            if self.planes(spatial) {
                kernels::plane_moments(xs, self.masks(range), spatial, out);
            } else {
                kernels::column_moments(xs, spatial, out);
            }
        };
        self.total(spatial, piece, |total, part| total.merge(&part))
    }

    /// Sums of `dy` and of `dy (x - mean)` over each channel.
    pub(crate) fn sums(&self, spatial: usize, means: &[T]) -> Vec<(f64, f64)> {
        let piece = |range: Range<usize>, out: &mut [(f64, f64)]| {
            let (xs, dys) = (&self.xs[range.clone()], &self.dys[range.clone()]);
            if self.planes(spatial) {
                kernels::plane_sums(dys, xs, self.masks(range), spatial, means, out);
            } else {
                kernels::column_sums(dys, xs, spatial, means, out);
            }
        };
        self.total(spatial, piece, |total, part| *total = (total.0 + part.0, total.1 + part.1))
    }

    /// Calls `f` for some samples and where their results belong.
    fn write(
        &mut self,
        spatial: usize,
        f: impl Fn(Range<usize>, &Self, &mut [&mut [T]]) + Sync + Send,
    ) {
        let mut out = std::mem::take(&mut self.out);
        let width = (self.channels.len() * spatial) as f64;
        par::for_each_mut(&mut out, 1, width * 0.15, |first, out| {
            f(first..first + out.len(), self, out)
        });
    }

    /// Writes lines of the values, or of the gradients.
    pub(crate) fn lines(&mut self, spatial: usize, of_gradient: bool, lines: &[Line<T>]) {
        self.write(spatial, |range, unit, ys| {
            let xs = if of_gradient { &unit.dys[range.clone()] } else { &unit.xs[range.clone()] };
            if unit.planes(spatial) {
                kernels::plane_lines(xs, unit.masks(range), spatial, lines, ys);
            } else {
                kernels::column_lines(xs, spatial, lines, ys);
            }
        });
    }

    /// Writes gradients through the statistics.
    pub(crate) fn slopes(&mut self, spatial: usize, slopes: &[Slope<T>]) {
        self.write(spatial, |range, unit, dxs| {
            let (xs, dys) = (&unit.xs[range.clone()], &unit.dys[range.clone()]);
            if unit.planes(spatial) {
                kernels::plane_slopes(dys, xs, unit.masks(range), spatial, slopes, dxs);
            } else {
                kernels::column_slopes(dys, xs, spatial, slopes, dxs);
            }
        });
    }
}

/// Moments of each channel of each batch.
pub(crate) fn moments_of(x: &Tensor, geometry: Geometry, cuts: &[Cut]) -> Vec<Moments> {
    let (dtype, spatial) = (compute_type(x.dtype()), geometry.spatial);
    let xs = [x.contiguous().to_dtype(dtype)];
    with_real!("BatchStats::of", dtype, T => {
        let units = units::<T>(&xs, Extra::default(), geometry, cuts, &mut []);
        each(units, geometry, 0.15, |unit| unit.moments(spatial))
    })
}
