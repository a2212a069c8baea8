//! How batches are normalized, forward and backward.

use gradus_autograd::Tensor;
use gradus_tensor::{Real, Stored};

use super::{
    kernels::{Line, Slope},
    moments::Moments,
    unit::{self, Cut, Extra, Geometry, units},
};

/// How a channel of a batch is normalized: `xhat = (x - mean) scale + shift`, before weight and bias.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fit {
    pub(crate) mean: f64,
    /// One over the deviation, of which the slope of the batch's own statistics is made.
    pub(crate) rstd: f64,
    pub(crate) scale: f64,
    pub(crate) shift: f64,
}

impl Fit {
    /// Plain normalization. Where variance and eps are 0 there is nothing to divide by: the result is 0.
    pub(crate) fn plain(mean: f64, var: f64, eps: f64) -> Self {
        let rstd = reciprocal((var + eps).sqrt());
        Self { mean, rstd, scale: rstd, shift: 0.0 }
    }

    /// The mean in the element type, and what rounding left of it.
    fn split<T: Real>(&self) -> (T, f64) {
        let mean = T::lit(self.mean);
        (mean, self.mean - mean.to_f64())
    }
}

/// `1 / x`, or 0 where `x` is 0.
pub(crate) fn reciprocal(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// Scale and shift of each channel, where there are any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scaling {
    pub(crate) weight: Option<Vec<f64>>,
    pub(crate) bias: Option<Vec<f64>>,
}

impl Scaling {
    fn weight(&self, c: usize) -> f64 {
        self.weight.as_ref().map_or(1.0, |w| w[c])
    }
    fn bias(&self, c: usize) -> f64 {
        self.bias.as_ref().map_or(0.0, |b| b[c])
    }
}

/// All of a normalization but the values.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) geometry: Geometry,
    pub(crate) cuts: Vec<Cut>,
    /// A mask over the places of each shard, or none at all.
    pub(crate) masks: Vec<Tensor>,
    pub(crate) scaling: Scaling,
    /// Whether the statistics are those of each batch, and gradients flow through them.
    pub(crate) own: bool,
}

impl Plan {
    /// How many batches there are.
    pub(crate) fn batches(&self) -> usize {
        self.cuts.last().map_or(0, |cut| cut.batch + 1)
    }

    /// Normalizes `xs` into `y`, one shard after the other. `fit` says how, from a channel and its moments (of nothing
    /// where these are not the batch's own). Returns what it said, batch by batch.
    pub(crate) fn forward<S: Stored>(
        &self,
        xs: &[Tensor],
        fit: impl Fn(usize, &Moments) -> Fit,
        y: &mut [S],
    ) -> Vec<(Moments, Fit)> {
        let (channels, batches) = (self.geometry.channels, self.batches());
        let extra = Extra { masks: &self.masks, dys: &[] };
        let mut units = units(xs, extra, self.geometry, &self.cuts, y);
        let moments = if self.own {
            unit::moments(&mut units, channels, batches)
        } else {
            vec![Moments::default(); channels * batches]
        };
        let fit = |(i, m): (usize, Moments)| (m, fit(i % channels, &m));
        let fits: Vec<(Moments, Fit)> = moments.into_iter().enumerate().map(fit).collect();
        let line = |(i, (_, fit)): (usize, &(Moments, Fit))| self.line(i % channels, fit);
        let lines: Vec<Line<S::Compute>> = fits.iter().enumerate().map(line).collect();
        unit::lines(&mut units, channels, false, &lines);
        fits
    }

    /// Gradients of [`forward`](Self::forward): writes those of `xs` into `dx` unless it is empty, and returns those of
    /// weight and bias, which are right only where they are wanted (`sums`).
    pub(crate) fn backward<S: Stored>(
        &self,
        xs: &[Tensor],
        dys: &[Tensor],
        fits: &[(Moments, Fit)],
        sums: bool,
        dx: &mut [S],
    ) -> (Vec<f64>, Vec<f64>) {
        let channels = self.geometry.channels;
        let extra = Extra { masks: &self.masks, dys };
        let wanted = !dx.is_empty();
        let mut units = units(xs, extra, self.geometry, &self.cuts, dx);
        let mut totals = vec![(0.0, 0.0); fits.len()];
        if self.own || sums {
            let means: Vec<S::Compute> = fits.iter().map(|(_, fit)| fit.split().0).collect();
            totals = unit::sums(&mut units, channels, self.batches(), &means);
            for (total, (_, fit)) in totals.iter_mut().zip(fits) {
                total.1 -= fit.split::<S::Compute>().1 * total.0;
            }
        }
        let numbered = fits.iter().enumerate();
        if wanted && self.own {
            let of = numbered.zip(&totals);
            let slopes: Vec<Slope<S::Compute>> =
                of.map(|((i, fit), &total)| self.slope(i % channels, fit, total)).collect();
            unit::slopes(&mut units, channels, &slopes);
        } else if wanted {
            let lines: Vec<Line<S::Compute>> =
                numbered.map(|(i, (_, fit))| self.through(i % channels, fit)).collect();
            unit::lines(&mut units, channels, true, &lines);
        }
        let (mut dw, mut db) = (vec![0.0; channels], vec![0.0; channels]);
        for (i, ((sum, dot), (_, fit))) in totals.into_iter().zip(fits).enumerate() {
            dw[i % channels] += fit.scale * dot + fit.shift * sum;
            db[i % channels] += sum;
        }
        (dw, db)
    }

    /// `y` of channel `c` as a function of `x`.
    fn line<T: Real>(&self, c: usize, fit: &Fit) -> Line<T> {
        let (mean, rest) = fit.split::<T>();
        let (weight, bias) = (self.scaling.weight(c), self.scaling.bias(c));
        let scale = fit.scale * weight;
        let shift = fit.shift * weight + bias - rest * scale;
        Line { mean, scale: T::lit(scale), shift: T::lit(shift) }
    }

    /// `dx` of channel `c` as a function of `dy`, through constant statistics.
    fn through<T: Real>(&self, c: usize, fit: &Fit) -> Line<T> {
        let scale = T::lit(fit.scale * self.scaling.weight(c));
        Line { mean: T::ZERO, scale, shift: T::ZERO }
    }

    /// `dx` of channel `c` as a function of `x` and `dy`, from the sums of `dy` and of `dy (x - mean)`:
    /// `scale (dy - mean(dy) - (x - mean) rstd^2 mean(dy (x - mean)))`.
    fn slope<T: Real>(
        &self,
        c: usize,
        (moments, fit): &(Moments, Fit),
        (sum, dot): (f64, f64),
    ) -> Slope<T> {
        let (mean, rest) = fit.split::<T>();
        let slope = fit.rstd * fit.rstd * dot / moments.count;
        let shift = sum / moments.count - rest * slope;
        let scale = T::lit(fit.scale * self.scaling.weight(c));
        Slope { mean, scale, shift: T::lit(shift), slope: T::lit(slope) }
    }
}
