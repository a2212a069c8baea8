//! What a parameter is drawn from.

use gradus_core::{FloatElement, RngStream, hash_name};
use num_traits::Float;

use crate::{
    InitError, Kernel, Sampler,
    error::{in_range, non_negative},
    structured,
    truncated::Truncated,
};

/// What a parameter of a certain shape is drawn from. The first four draw each element by itself.
///
/// Draws are f64 and rounded once to the element type: bounds hold up to that rounding. Random bits are 32 to
/// an element, so that uniform ones are one of 2^32 equally spaced values, and normal ones have the
/// resolution of f32 (their `std` too, where `mean` is 0).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Distribution {
    /// Always this value.
    Constant {
        /// The value.
        value: f64,
    },
    /// Uniform between `low` and `high`. Its standard deviation is `(high - low) / sqrt(12)`.
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
    /// A matrix with orthonormal rows or columns, whichever are fewer, times `gain`; uniform over all such.
    Orthogonal {
        /// Every singular value.
        gain: f64,
        /// Rows.
        rows: usize,
        /// Columns.
        cols: usize,
    },
    /// A matrix with orthonormal columns times `gain` at one tap of a convolution's kernel, 0 elsewhere.
    DeltaOrthogonal {
        /// Every singular value.
        gain: f64,
        /// The weight.
        kernel: Kernel,
        /// The tap.
        centre: usize,
    },
    /// `gain` where output `k` of a group meets input `k` at one tap, 0 elsewhere.
    Dirac {
        /// The value of the ones.
        gain: f64,
        /// The weight.
        kernel: Kernel,
        /// Groups of outputs.
        groups: usize,
        /// The tap.
        centre: usize,
    },
    /// Normal with mean 0, but exactly `zeros` of the weights of each input are 0.
    Sparse {
        /// Standard deviation of the others.
        std: f64,
        /// How many are 0.
        zeros: usize,
        /// The weight.
        kernel: Kernel,
    },
}

impl Distribution {
    /// The mean of the elements.
    #[must_use]
    pub fn mean(self) -> f64 {
        match self {
            Self::Constant { value } => value,
            Self::Uniform { low, high } => low + (high - low) / 2.0,
            Self::Normal { mean, .. } => mean,
            Self::TruncNormal { mean, std, low, high } => {
                mean + std * standard(mean, std, low, high).moments().0
            }
            Self::Dirac { gain, kernel, groups, .. } => gain * ones(kernel, groups),
            Self::Orthogonal { .. } | Self::DeltaOrthogonal { .. } | Self::Sparse { .. } => 0.0,
        }
    }

    /// The mean of the elements' squares: what a fan's worth of them multiplies the second moment of the
    /// inputs by.
    #[must_use]
    pub fn mean_square(self) -> f64 {
        let (mean, std) = (self.mean(), self.std());
        mean * mean + std * std
    }

    /// The standard deviation of the elements.
    #[must_use]
    pub fn std(self) -> f64 {
        match self {
            Self::Constant { .. } => 0.0,
            Self::Uniform { low, high } => (high - low) / Float::sqrt(12.0),
            Self::Normal { std, .. } => std,
            Self::TruncNormal { mean, std, low, high } => {
                let (first, second) = standard(mean, std, low, high).moments();
                std * Float::sqrt((second - first * first).max(0.0))
            }
            Self::Orthogonal { gain, rows, cols } => gain / Float::sqrt(rows.max(cols) as f64),
            Self::DeltaOrthogonal { gain, kernel, .. } => {
                gain / Float::sqrt((kernel.outs * kernel.taps) as f64)
            }
            Self::Dirac { gain, kernel, groups, .. } => {
                let share = ones(kernel, groups);
                gain * Float::sqrt(share * (1.0 - share))
            }
            Self::Sparse { std, zeros, kernel } => {
                std * Float::sqrt(1.0 - zeros as f64 / kernel.outs as f64)
            }
        }
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn check(self) -> Result<Self, InitError> {
        let finite = |name, x: f64| in_range(name, x, x.is_finite(), "(-inf, inf)");
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
                non_negative("std", std)?;
            }
            Self::TruncNormal { mean, std, low, high } => {
                finite("mean", mean)?;
                in_range("std", std, std > 0.0 && std.is_finite(), "(0, inf)")?;
                in_range("low", low, low < f64::INFINITY, "[-inf, inf)")?;
                in_range("high", high, high > f64::NEG_INFINITY, "(-inf, inf]")?;
                ordered(low, high)?;
            }
            Self::Orthogonal { gain, .. }
            | Self::DeltaOrthogonal { gain, .. }
            | Self::Dirac { gain, .. } => non_negative("gain", gain)?,
            Self::Sparse { std, .. } => non_negative("std", std)?,
        }
        Ok(self)
    }

    /// The distribution of the elements times `factor`, which is not negative.
    pub(crate) fn times(mut self, factor: f64) -> Self {
        if factor == 0.0 {
            return Self::Constant { value: 0.0 };
        }
        match &mut self {
            Self::Constant { value: x }
            | Self::Orthogonal { gain: x, .. }
            | Self::DeltaOrthogonal { gain: x, .. }
            | Self::Dirac { gain: x, .. }
            | Self::Sparse { std: x, .. } => *x *= factor,
            Self::Uniform { low: x, high: y } | Self::Normal { mean: x, std: y } => {
                (*x, *y) = (*x * factor, *y * factor);
            }
            Self::TruncNormal { mean, std, low, high } => {
                (*mean, *std) = (*mean * factor, *std * factor);
                (*low, *high) = (*low * factor, *high * factor);
            }
        }
        self
    }

    /// Fills `out`, which has the size that this was made for, with draws.
    pub(crate) fn fill<T: FloatElement>(self, seed: u64, name: &str, out: &mut [T]) {
        if let Some(sampler) = Sampler::new(self, seed, name) {
            return sampler.fill(out);
        }
        let stream = |op| RngStream::new(seed, hash_name(name), op);
        match self {
            Self::Orthogonal { gain, rows, cols } => {
                structured::orthogonal(gain, [rows, cols], stream(0), out);
            }
            Self::DeltaOrthogonal { gain, kernel, centre } => {
                structured::delta_orthogonal(gain, kernel, centre, stream(0), out);
            }
            Self::Dirac { gain, kernel, groups, centre } => {
                structured::dirac(gain, kernel, groups, centre, out);
            }
            Self::Sparse { std, zeros, kernel } => {
                Self::Normal { mean: 0.0, std }.fill(seed, name, out);
                structured::thin_out(zeros, kernel, stream(1), out);
            }
            _ => unreachable!("a sampler draws the others"),
        }
    }
}

fn standard(mean: f64, std: f64, low: f64, high: f64) -> Truncated {
    Truncated::new((low - mean) / std, (high - mean) / std)
}

/// The share of ones.
fn ones(kernel: Kernel, groups: usize) -> f64 {
    (groups * (kernel.outs / groups).min(kernel.ins)) as f64 / kernel.len() as f64
}

fn ordered(low: f64, high: f64) -> Result<(), InitError> {
    if low <= high { Ok(()) } else { Err(InitError::EmptyRange { low, high }) }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    fn draw(d: Distribution) -> Vec<f64> {
        let mut out = vec![0.0; 100_000];
        d.check().unwrap().fill(3, "w", &mut out);
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
            (f64::NEG_INFINITY, f64::INFINITY, 0.0, 1.0),
            (0.0, f64::INFINITY, 0.797_884_560_802_865, 0.602_810_274_989_087),
            (f64::NEG_INFINITY, 0.0, -0.797_884_560_802_865, 0.602_810_274_989_087),
        ] {
            let d = Distribution::TruncNormal { mean: 0.0, std: 1.0, low, high };
            assert!((d.mean() - mean).abs() < 1e-12, "[{low}, {high}]: stated mean {}", d.mean());
            assert!((d.std() - std).abs() < 1e-12, "[{low}, {high}]: stated std {}", d.std());
            let x = draw(d);
            assert!(x.iter().all(|x| (low..=high).contains(x)));
            let (m, s) = moments(&x);
            assert!((m - mean).abs() < 4.0 * std / 300.0, "[{low}, {high}]: mean {m}, want {mean}");
            assert!((s / std - 1.0).abs() < 0.015, "[{low}, {high}]: std {s}, want {std}");
        }
    }

    /// Kolmogorov and Smirnov for a truncated normal, against its distribution function.
    #[test]
    fn truncated_normals_follow_their_distribution_function() {
        let phi = |x: f64| 0.5 * libm::erfc(-x / core::f64::consts::SQRT_2);
        for (low, high) in [(-2.0, 2.0), (-0.25, 3.0), (0.5, 0.9), (1.0, 6.0), (-9.0, -1.5)] {
            let mut x = draw(Distribution::TruncNormal { mean: 0.0, std: 1.0, low, high });
            x.sort_by(f64::total_cmp);
            let n = x.len() as f64;
            let worst = (x.iter().enumerate())
                .map(|(i, &x)| {
                    let below = (phi(x) - phi(low)) / (phi(high) - phi(low));
                    (below - i as f64 / n).abs().max((below - (i + 1) as f64 / n).abs())
                })
                .fold(0.0, f64::max);
            assert!(worst * n.sqrt() < 1.95, "[{low}, {high}]: {worst}");
        }
    }

    #[test]
    fn far_tails_and_points_are_drawn() {
        let d = Distribution::TruncNormal { mean: 0.0, std: 1.0, low: 40.0, high: 41.0 };
        // So far out the tail is all but exponential of rate 40.
        assert!((moments(&draw(d)).0 - 40.025).abs() < 1e-3);
        assert!((d.mean() - 40.025).abs() < 1e-4 && (d.std() - 0.025).abs() < 1e-4);
        let d = Distribution::TruncNormal { mean: 0.0, std: 1.0, low: 0.7, high: 0.7 };
        assert!(draw(d).iter().all(|&x| x == 0.7));
        assert_eq!((d.mean(), d.std()), (0.7, 0.0));
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
            Distribution::Orthogonal { gain: -1.0, rows: 2, cols: 2 },
        ] {
            assert!(matches!(d.check(), Err(InitError::OutOfRange { .. })), "{d:?}");
        }
        let d = Distribution::Uniform { low: 1.0, high: 0.0 };
        assert_eq!(d.check(), Err(InitError::EmptyRange { low: 1.0, high: 0.0 }));
    }
}
