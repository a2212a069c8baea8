//! Mean and variance that can be added up.

use gradus_autograd::Tensor;

use super::{
    plan::Fit,
    unit::{Geometry, moments_of},
};

/// How many values there are, their mean, and the sum of their squared distances from it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Moments {
    pub(crate) count: f64,
    pub(crate) mean: f64,
    pub(crate) m2: f64,
}

impl Moments {
    /// Of `count` values around `about`, from the sums of their distances from it and of the squares of these:
    /// what rounding left between `about` and the mean is taken out again.
    #[inline(always)]
    pub(crate) fn around(about: f64, count: f64, sum: f64, squares: f64) -> Self {
        let off = sum / count;
        Self { count, mean: about + off, m2: not_negative(squares - sum * off) }
    }

    /// Takes more values in (Chan, Golub, LeVeque 1979).
    #[inline(always)]
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.count == 0.0 {
            *self = *other;
        } else if other.count > 0.0 {
            let count = self.count + other.count;
            let delta = other.mean - self.mean;
            self.mean += delta * (other.count / count);
            self.m2 += other.m2 + delta * delta * (self.count * (other.count / count));
            self.count = count;
        }
    }

    /// The biased variance; 0 over nothing.
    pub(crate) fn var(&self) -> f64 {
        if self.count > 0.0 { self.m2 / self.count } else { 0.0 }
    }
}

/// A sum of squares that rounding may have made negative; NaN stays.
#[inline(always)]
pub(crate) fn not_negative(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// Statistics of each channel of a batch, in a form that can be merged: how many values a channel has, their mean,
/// and the sum of their squared distances from it.
///
/// Merging is exact up to rounding, for parts of any size, and never takes the difference of two large squares; this is
/// what workers exchange for [`sync_batch_norm`](crate::sync_batch_norm).
///
/// ```
/// use gradus_norm::BatchStats;
/// use gradus_autograd::Tensor;
///
/// let of = |x: &[f64]| BatchStats::of(&Tensor::from_slice(x, &[x.len(), 1]));
/// let mut stats = of(&[1.0, 2.0]);
/// stats.merge(&of(&[3.0]));
/// assert_eq!(stats, of(&[1.0, 2.0, 3.0]));
/// assert_eq!((stats.mean[0], stats.unbiased_var(0)), (2.0, Some(1.0)));
/// ```
///
/// # References
/// Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct BatchStats {
    /// Values per channel.
    pub count: usize,
    /// Mean of each channel; 0 over nothing.
    pub mean: Vec<f64>,
    /// Sum of squared distances from the mean, of each channel.
    pub m2: Vec<f64>,
}

impl BatchStats {
    /// Of a batch `[N, C, ...]` of floats.
    ///
    /// # Panics
    /// When `x` has fewer than two dimensions or holds integers.
    #[must_use]
    #[track_caller]
    pub fn of(x: &Tensor) -> Self {
        let geometry = Geometry::of("BatchStats::of", x.shape());
        Self::new(moments_of(x, geometry).iter())
    }

    /// `value` for a channel whose statistics are finite: a NaN that a batch brings along would stay for ever.
    pub(crate) fn lasting(&self, channel: usize, value: f64) -> Option<f64> {
        (self.mean[channel].is_finite() && self.m2[channel].is_finite()).then_some(value)
    }

    /// What forward says about the channels of a batch.
    pub(crate) fn collect(fits: &[(Moments, Fit)]) -> Self {
        Self::new(fits.iter().map(|(moments, _)| moments))
    }

    fn new<'a>(moments: impl Iterator<Item = &'a Moments> + Clone) -> Self {
        Self {
            count: moments.clone().next().map_or(0, |m| m.count as usize),
            mean: moments.clone().map(|m| m.mean).collect(),
            m2: moments.map(|m| m.m2).collect(),
        }
    }

    /// Takes the values of another part of the batch in.
    ///
    /// # Panics
    /// When the numbers of channels differ.
    #[track_caller]
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.mean.len(), other.mean.len(), "BatchStats::merge: numbers of channels");
        for c in 0..self.mean.len() {
            let mut sum = self.channel(c);
            sum.merge(&other.channel(c));
            (self.mean[c], self.m2[c]) = (sum.mean, sum.m2);
        }
        self.count += other.count;
    }

    fn channel(&self, c: usize) -> Moments {
        Moments { count: self.count as f64, mean: self.mean[c], m2: self.m2[c] }
    }

    /// The biased variance of channel `c`: what normalizes. 0 over nothing.
    ///
    /// # Panics
    /// When there is no such channel.
    #[must_use]
    pub fn var(&self, c: usize) -> f64 {
        self.channel(c).var()
    }

    /// The unbiased variance of channel `c`: what PyTorch keeps. None for fewer than two values.
    ///
    /// # Panics
    /// When there is no such channel.
    #[must_use]
    pub fn unbiased_var(&self, c: usize) -> Option<f64> {
        (self.count > 1).then(|| self.m2[c] / (self.count as f64 - 1.0))
    }
}
