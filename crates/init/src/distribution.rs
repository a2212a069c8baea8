//! Distributions and how they are drawn from.

use core::f64::consts::PI;

use gradus_core::FloatElement;
use num_traits::Float;
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use crate::InitError;

/// What the elements of a parameter are drawn from, independently.
///
/// Draws are f64 and rounded once to the element type: bounds hold up to that rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Distribution {
    /// Always this value.
    Constant {
        /// The value.
        value: f64,
    },
    /// Uniform in `[low, high)`. Its standard deviation is `(high - low) / sqrt(12)`.
    Uniform {
        /// Lower bound.
        low: f64,
        /// Upper bound.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// Normal, given that it is within `[low, high]`.
    TruncNormal {
        /// Mean before truncation.
        mean: f64,
        /// Standard deviation before truncation.
        std: f64,
        /// Lower bound, an absolute value and not a multiple of `std`.
        low: f64,
        /// Upper bound, likewise.
        high: f64,
    },
}

impl Distribution {
    /// Itself, if its numbers make sense.
    pub(crate) fn check(self) -> Result<Self, InitError> {
        match self {
            Self::Constant { value } => finite("value", value)?,
            Self::Uniform { low, high } => {
                finite("low", low)?;
                finite("high", high)?;
                // Their difference may overflow.
                finite("high - low", high - low)?;
                ordered(low, high)?;
            }
            Self::Normal { mean, std } => {
                finite("mean", mean)?;
                in_range("std", std, std >= 0.0 && std.is_finite(), "[0, inf)")?;
            }
            Self::TruncNormal { mean, std, low, high } => {
                finite("mean", mean)?;
                in_range("std", std, std > 0.0 && std.is_finite(), "(0, inf)")?;
                in_range("low", low, low < f64::INFINITY, "[-inf, inf)")?;
                in_range("high", high, high > f64::NEG_INFINITY, "(-inf, inf]")?;
                ordered(low, high)?;
            }
        }
        Ok(self)
    }

    /// Fills `out` with draws.
    pub(crate) fn fill<T: FloatElement, R: Rng>(self, rng: &mut R, out: &mut [T]) {
        match self {
            Self::Constant { value } => out.fill(T::from_f64(value)),
            Self::Uniform { low, high } => {
                let width = high - low;
                out.fill_with(|| T::from_f64(low + width * rng.random::<f64>()));
            }
            Self::Normal { mean, std } => {
                out.fill_with(|| T::from_f64(mean + std * rng.sample::<f64, _>(StandardNormal)));
            }
            Self::TruncNormal { mean, std, low, high } => {
                let tail = Truncated::new((low - mean) / std, (high - mean) / std);
                out.fill_with(|| {
                    // Rounding of the product must not leave the bounds.
                    T::from_f64((mean + std * tail.sample(rng)).clamp(low, high))
                });
            }
        }
    }
}

fn in_range(
    name: &'static str,
    value: f64,
    ok: bool,
    range: &'static str,
) -> Result<(), InitError> {
    if ok { Ok(()) } else { Err(InitError::OutOfRange { name, value, range }) }
}

fn finite(name: &'static str, value: f64) -> Result<(), InitError> {
    in_range(name, value, value.is_finite(), "(-inf, inf)")
}

fn ordered(low: f64, high: f64) -> Result<(), InitError> {
    if low <= high { Ok(()) } else { Err(InitError::EmptyRange { low, high }) }
}

/// A standard normal given that it is within `[low, high]`, drawn by rejection from the proposal that is
/// accepted most often. No tail is too far out.
///
/// # References
/// Robert: Simulation of truncated normal variables (1995).
struct Truncated {
    proposal: Proposal,
    low: f64,
    high: f64,
    /// Whether low and high are those of the mirror image.
    mirrored: bool,
}

enum Proposal {
    Normal,
    Uniform,
    /// Exponential of this rate, from `low` on.
    Exponential(f64),
}

impl Truncated {
    fn new(low: f64, high: f64) -> Self {
        let mirrored = high < 0.0;
        let (low, high) = if mirrored { (-high, -low) } else { (low, high) };
        let proposal = if low <= 0.0 {
            if high - low > Float::sqrt(2.0 * PI) { Proposal::Normal } else { Proposal::Uniform }
        } else {
            let root = Float::sqrt(low * low + 4.0);
            let rate = (low + root) / 2.0;
            // Robert's bound on the width from which the exponential is the better proposal.
            let wide = 2.0 / (low + root) * Float::exp((low * low - low * root) / 4.0 + 0.5);
            if high - low > wide { Proposal::Exponential(rate) } else { Proposal::Uniform }
        };
        Self { proposal, low, high, mirrored }
    }

    fn sample<R: Rng>(&self, rng: &mut R) -> f64 {
        let x = loop {
            if let Some(x) = self.propose(rng) {
                break x;
            }
        };
        if self.mirrored { -x } else { x }
    }

    /// One draw, if it is accepted.
    fn propose<R: Rng>(&self, rng: &mut R) -> Option<f64> {
        let (x, log_accept) = match self.proposal {
            Proposal::Normal => (rng.sample(StandardNormal), 0.0),
            Proposal::Uniform => {
                let x = self.low + (self.high - self.low) * rng.random::<f64>();
                // Relative to the density where it is highest: at 0, or at `low` where that is above 0.
                let top = self.low.max(0.0);
                (x, (top - x) * (top + x) / 2.0)
            }
            Proposal::Exponential(rate) => {
                let x = self.low - Float::ln(1.0 - rng.random::<f64>()) / rate;
                (x, -(x - rate) * (x - rate) / 2.0)
            }
        };
        let accepted = log_accept == 0.0 || rng.random::<f64>() < Float::exp(log_accept);
        (accepted && self.low <= x && x <= self.high).then_some(x)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn draw(d: Distribution) -> Vec<f64> {
        let mut out = vec![0.0; 100_000];
        d.check().unwrap().fill(&mut ChaCha8Rng::seed_from_u64(3), &mut out);
        out
    }

    fn moments(x: &[f64]) -> (f64, f64) {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        (mean, (x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn truncated_normals_have_their_moments_with_every_proposal() {
        // Mean and deviation in closed form; one line each for the normal, the uniform around 0, the
        // uniform beside 0, the exponential, and the mirror images.
        for (low, high, mean, std) in [
            (-2.0, 2.0, 0.0, 0.879_625_661_034_240),
            (-0.5, 1.0, 0.206_631_218_061_533, 0.415_660_028_252_048),
            (1.0, 1.5, 1.224_338_737_657_779, 0.142_368_996_501_650),
            (3.0, f64::INFINITY, 3.283_098_654_930_434, 0.265_629_792_729_047),
            (-1.5, -1.0, -1.224_338_737_657_779, 0.142_368_996_501_650),
            (f64::NEG_INFINITY, -3.0, -3.283_098_654_930_434, 0.265_629_792_729_047),
        ] {
            let x = draw(Distribution::TruncNormal { mean: 0.0, std: 1.0, low, high });
            assert!(x.iter().all(|x| (low..=high).contains(x)));
            let (m, s) = moments(&x);
            assert!((m - mean).abs() < 4.0 * std / 300.0, "[{low}, {high}]: mean {m}, want {mean}");
            assert!((s / std - 1.0).abs() < 0.015, "[{low}, {high}]: std {s}, want {std}");
        }
    }

    #[test]
    fn far_tails_and_points_are_drawn() {
        let x = draw(Distribution::TruncNormal { mean: 0.0, std: 1.0, low: 40.0, high: 41.0 });
        // So far out the tail is all but exponential of rate 40.
        assert!((moments(&x).0 - 40.025).abs() < 1e-3);
        let x = draw(Distribution::TruncNormal { mean: 0.0, std: 1.0, low: 0.7, high: 0.7 });
        assert!(x.iter().all(|&x| x == 0.7));
    }

    #[test]
    fn numbers_that_make_no_distribution_are_refused() {
        let nan = f64::NAN;
        for d in [
            Distribution::Constant { value: nan },
            Distribution::Uniform { low: nan, high: 1.0 },
            Distribution::Uniform { low: f64::MIN, high: f64::MAX },
            Distribution::Normal { mean: 0.0, std: -1.0 },
            Distribution::Normal { mean: f64::INFINITY, std: 1.0 },
            Distribution::TruncNormal { mean: 0.0, std: 0.0, low: -1.0, high: 1.0 },
            Distribution::TruncNormal { mean: 0.0, std: 1.0, low: nan, high: 1.0 },
        ] {
            assert!(matches!(d.check(), Err(InitError::OutOfRange { .. })), "{d:?}");
        }
        let d = Distribution::Uniform { low: 1.0, high: 0.0 };
        assert_eq!(d.check(), Err(InitError::EmptyRange { low: 1.0, high: 0.0 }));
    }
}
