//! Walks over memory: which samples are normalized together, and how that work is cut.
//!
//! A unit of work is a block of some samples and some neighbouring channels, about as large as the second-level cache
//! takes. Statistics are one walk over all units, whose moments are merged in order; the result is another, which goes
//! backwards: what the first has read last is still in a cache.

use std::ops::Range;

use gradus_autograd::Tensor;
use gradus_tensor::{Stored, par, with_float};

use super::{
    kernels::{self, Line, Slope},
    moments::Moments,
};

/// Values of a channel in one sample from which on loops run along them.
const PLANE: usize = 64;
/// Values in a unit, if there are as many.
const UNIT: usize = 1 << 16;
/// Samples of a unit of columns: enough for the work between the samples to be little.
const ROWS: usize = 256;
/// Values in a row of memory that a unit of columns has at least, if there are as many.
const ROW: usize = 128;

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

    /// Samples and channels of a unit, where `samples` are normalized together.
    fn unit(self, samples: usize) -> (usize, usize) {
        let (sample, spatial) = (self.sample().max(1), self.spatial.max(1));
        let rows = (UNIT / sample).max(if spatial < PLANE { ROWS } else { 1 }).min(samples.max(1));
        let least = if spatial < PLANE { ROW.div_ceil(spatial) } else { 1 };
        (rows, (UNIT / (rows * spatial)).max(least).min(self.channels.max(1)))
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

/// A unit of work: pieces of some samples of a batch, in order.
pub(crate) struct Unit<'a, S> {
    spatial: usize,
    batch: usize,
    channels: Range<usize>,
    xs: Vec<&'a [S]>,
    dys: Vec<&'a [S]>,
    masks: Vec<&'a [u8]>,
    out: Vec<&'a mut [S]>,
}

/// Cuts `xs` and what belongs to them into units, in order of their samples. `out` is as long as all of `xs`, or empty.
pub(crate) fn units<'a, S: Stored>(
    xs: &'a [Tensor],
    extra: Extra<'a>,
    geometry: Geometry,
    cuts: &[Cut],
    out: &'a mut [S],
) -> Vec<Unit<'a, S>> {
    let Geometry { channels, spatial } = geometry;
    let sample = geometry.sample();
    let mut units = Vec::new();
    if sample == 0 {
        return units;
    }
    let mut rows_out = out.chunks_exact_mut(sample);
    for cut in cuts {
        let (rows, block) = geometry.unit(cut.samples.len());
        let width = block * spatial;
        let mut xs = cut.of(xs[cut.shard].as_slice::<S>(), sample).chunks_exact(sample);
        let dys = extra.dys.get(cut.shard).map(|dy| cut.of(dy.as_slice::<S>(), sample));
        let mut dys = dys.map(|dys| dys.chunks_exact(sample));
        let masks = extra.masks.get(cut.shard).map(|m| cut.of(m.as_slice::<u8>(), spatial));
        let mut masks = masks.map(|masks| masks.chunks_exact(spatial));
        while xs.len() > 0 {
            let first = units.len();
            units.extend((0..channels).step_by(block).map(|c| Unit {
                spatial,
                batch: cut.batch,
                channels: c..(c + block).min(channels),
                xs: Vec::with_capacity(rows),
                dys: Vec::with_capacity(if dys.is_some() { rows } else { 0 }),
                masks: Vec::new(),
                out: Vec::with_capacity(rows),
            }));
            for x in xs.by_ref().take(rows) {
                let mut out = rows_out.next().map(|out| out.chunks_mut(width));
                let mut dy = dys.as_mut().and_then(Iterator::next).map(|dy| dy.chunks(width));
                let mask = masks.as_mut().and_then(Iterator::next);
                let hidden = spatial == 1 && mask.is_some_and(|m| m[0] == 0);
                for (unit, x) in units[first..].iter_mut().zip(x.chunks(width)) {
                    let out = out.as_mut().and_then(Iterator::next);
                    let dy = dy.as_mut().and_then(Iterator::next);
                    if hidden {
                        // A whole sample that does not count.
                        out.into_iter().for_each(|out| out.fill(S::default()));
                        continue;
                    }
                    unit.xs.push(x);
                    unit.dys.extend(dy);
                    unit.masks.extend(mask.filter(|_| spatial > 1));
                    unit.out.extend(out);
                }
            }
        }
    }
    units
}

/// Calls `f` with every unit, on several threads where that is worth it, and returns its results in order.
fn each<S: Stored, R: Send>(
    units: &mut [Unit<'_, S>],
    f: impl Fn(&mut Unit<'_, S>) -> R + Sync + Send,
) -> Vec<R> {
    let values = |u: &Unit<'_, S>| u.xs.len() * u.channels.len() * u.spatial;
    let largest = units.iter().map(values).max().unwrap_or(0);
    par::map_chunks(units, 1, largest as f64 * 0.2, |_, units| f(&mut units[0]))
}

/// Walks over all units for numbers of their channels, and merges these in order: one for each channel of each batch.
fn total<S: Stored, R: Clone + Default + Send>(
    units: &mut [Unit<'_, S>],
    channels: usize,
    batches: usize,
    f: impl Fn(&Unit<'_, S>, &mut [R]) + Sync + Send,
    merge: impl Fn(&mut R, R),
) -> Vec<R> {
    let parts = each(units, |unit| {
        let mut out = vec![R::default(); unit.channels.len()];
        f(unit, &mut out);
        out
    });
    let mut total = vec![R::default(); channels * batches];
    for (unit, part) in units.iter().zip(parts) {
        total[unit.place(channels)].iter_mut().zip(part).for_each(|(t, p)| merge(t, p));
    }
    total
}

/// Moments of each channel of each batch.
pub(crate) fn moments<S: Stored>(
    units: &mut [Unit<'_, S>],
    channels: usize,
    batches: usize,
) -> Vec<Moments> {
    let of = |unit: &Unit<'_, S>, out: &mut [Moments]| {
        S::read_all(&unit.xs, |xs| {
            if unit.planes() {
                kernels::plane_moments(xs, &unit.masks, unit.spatial, out);
            } else {
                kernels::column_moments(xs, unit.spatial, out);
            }
        });
    };
    total(units, channels, batches, of, |total, part| total.merge(&part))
}

/// Sums of `dy` and of `dy (x - mean)` over each channel of each batch.
pub(crate) fn sums<S: Stored>(
    units: &mut [Unit<'_, S>],
    channels: usize,
    batches: usize,
    means: &[S::Compute],
) -> Vec<(f64, f64)> {
    let of = |unit: &Unit<'_, S>, out: &mut [(f64, f64)]| {
        let means = &means[unit.place(channels)];
        unit.read_both(|dys, xs| {
            if unit.planes() {
                kernels::plane_sums(dys, xs, &unit.masks, unit.spatial, means, out);
            } else {
                kernels::column_sums(dys, xs, unit.spatial, means, out);
            }
        });
    };
    total(units, channels, batches, of, |total, part| {
        *total = (total.0 + part.0, total.1 + part.1);
    })
}

/// Writes lines of the values, or of the gradients (`of_gradients`).
pub(crate) fn lines<S: Stored>(
    units: &mut [Unit<'_, S>],
    channels: usize,
    of_gradients: bool,
    lines: &[Line<S::Compute>],
) {
    units.reverse();
    each(units, |unit| {
        let lines = &lines[unit.place(channels)];
        let (planes, spatial) = (unit.planes(), unit.spatial);
        let Unit { xs, dys, masks, out, .. } = unit;
        let from = if of_gradients { dys } else { xs };
        S::read_all(from, |from| {
            S::write_all(out, |out| {
                if planes {
                    kernels::plane_lines(from, masks, spatial, lines, out);
                } else {
                    kernels::column_lines(from, spatial, lines, out);
                }
            });
        });
    });
}

/// Writes gradients through the statistics.
pub(crate) fn slopes<S: Stored>(
    units: &mut [Unit<'_, S>],
    channels: usize,
    slopes: &[Slope<S::Compute>],
) {
    units.reverse();
    each(units, |unit| {
        let slopes = &slopes[unit.place(channels)];
        let (planes, spatial) = (unit.planes(), unit.spatial);
        let mut outs = std::mem::take(&mut unit.out);
        unit.read_both(|dys, xs| {
            S::write_all(&mut outs, |out| {
                if planes {
                    kernels::plane_slopes(dys, xs, &unit.masks, spatial, slopes, out);
                } else {
                    kernels::column_slopes(dys, xs, spatial, slopes, out);
                }
            });
        });
    });
}

impl<S: Stored> Unit<'_, S> {
    /// Lends the gradients and the values.
    fn read_both(&self, f: impl FnOnce(&[&[S::Compute]], &[&[S::Compute]])) {
        S::read_all(&self.dys, |dys| S::read_all(&self.xs, |xs| f(dys, xs)));
    }

    /// Whether loops run along the values that a channel has in a sample.
    fn planes(&self) -> bool {
        self.spatial >= PLANE || !self.masks.is_empty()
    }

    /// Where the numbers of its channels stand among those of all channels of all batches.
    fn place(&self, channels: usize) -> Range<usize> {
        let first = self.batch * channels;
        first + self.channels.start..first + self.channels.end
    }
}

/// Moments of each channel.
pub(crate) fn moments_of(x: &Tensor, geometry: Geometry) -> Vec<Moments> {
    let xs = [x.contiguous()];
    let cuts = [Cut { shard: 0, samples: 0..x.shape()[0], batch: 0 }];
    with_float!("BatchStats::of", x.dtype(), S => {
        let mut units = units::<S>(&xs, Extra::default(), geometry, &cuts, &mut []);
        moments(&mut units, geometry.channels, 1)
    })
}
