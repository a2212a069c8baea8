//! Averages of any length, made after the training of two power function averages.

use alloc::{vec, vec::Vec};

use num_traits::Float;

use crate::{
    Average, AverageError, OptimError,
    error::{non_negative, positive},
};

/// The weights that an average over a training up to `time` gives to the parameters at `t <= time`: in proportion
/// to `t^gamma`.
///
/// An [`Ema`](crate::Ema) with [`EmaDecay::power`](crate::EmaDecay::power) has this profile after `time` updates.
/// Keep clones of two such averages (Karras et al.: gammas 16.97 and 6.94, relative widths 0.05 and 0.1) now and
/// then during the training; any average up to a stored time, of another width too, is then close to a weighted sum
/// of them: [`synthesize`](Self::synthesize). The more are stored the closer: for smooth parameters and widths between
/// the stored ones some 1e-3 with 8 pairs, 1e-5 with 32.
///
/// The relative width is the standard deviation of the profile over its time,
/// `sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3))`. Gamma 0 is the equal average.
///
/// # References
/// Karras, Aittala, Lehtinen, Hellsten, Aila, Laine: Analyzing and improving the training dynamics of diffusion
/// models (2023, arXiv:2312.02696), section 3 and appendix C.
///
/// ```
/// use gradus_core::VecParam;
/// use gradus_optim::{Ema, EmaConfig, EmaDecay, PowerProfile};
///
/// let gammas = [6.94, 16.97];
/// let mut ema = Ema::new(EmaConfig::new([EmaDecay::power(gammas[0])?, EmaDecay::power(gammas[1])?]))?;
/// let mut params = vec![VecParam::new("w", &[1], vec![0.0f64])];
/// let mut stored = Vec::new();
/// for t in 1..=1000u32 {
///     params[0].value[0] = f64::from(t) / 1000.0;
///     ema.update(&mut params)?;
///     if t % 50 == 0 {
///         for (i, &gamma) in gammas.iter().enumerate() {
///             stored.push((PowerProfile::new(gamma, t.into())?, ema.average(i).clone()));
///         }
///     }
/// }
/// let stored: Vec<_> = stored.iter().map(|(profile, average)| (*profile, average)).collect();
/// let wide = PowerProfile::from_sigma_rel(0.15, 1000.0)?;
/// wide.synthesize(&stored)?.copy_to(&mut params)?;
/// let mean = (wide.gamma() + 1.0) / (wide.gamma() + 2.0);
/// assert!((params[0].value[0] - mean).abs() < 1e-3);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PowerProfile {
    gamma: f64,
    time: f64,
}

impl PowerProfile {
    /// The profile of this exponent after `time` updates.
    ///
    /// # Errors
    /// [`OptimError`] for a gamma that is negative or not finite, or a time that is not positive and finite.
    pub fn new(gamma: f64, time: f64) -> Result<Self, OptimError> {
        non_negative("gamma", gamma)?;
        positive("time", time)?;
        Ok(Self { gamma, time })
    }

    /// The profile of this relative width.
    ///
    /// # Errors
    /// [`OptimError`] for a width outside `(0, 1/sqrt(12)]`, the upper end being the equal average, or a time that
    /// is not positive and finite.
    pub fn from_sigma_rel(sigma_rel: f64, time: f64) -> Result<Self, OptimError> {
        let widest = Self { gamma: 0.0, time }.sigma_rel();
        if !(sigma_rel > 0.0 && sigma_rel <= widest) {
            let range = "(0, 1/sqrt(12)]";
            return Err(OptimError::OutOfRange { name: "sigma_rel", value: sigma_rel, range });
        }
        // The width falls with gamma, and is below 1 / (gamma + 2).
        let (mut low, mut high) = (0.0, 1.0 / sigma_rel);
        for _ in 0..200 {
            let gamma = 0.5 * (low + high);
            if (Self { gamma, time }).sigma_rel() >= sigma_rel {
                low = gamma;
            } else {
                high = gamma;
            }
        }
        Self::new(low, time)
    }

    /// The exponent.
    #[must_use]
    pub fn gamma(&self) -> f64 {
        self.gamma
    }

    /// Number of updates.
    #[must_use]
    pub fn time(&self) -> f64 {
        self.time
    }

    /// The relative width.
    #[must_use]
    pub fn sigma_rel(&self) -> f64 {
        let gamma = self.gamma;
        Float::sqrt(gamma + 1.0) / ((gamma + 2.0) * Float::sqrt(gamma + 3.0))
    }

    /// The average of this profile, from stored averages and their profiles: the weighted sum whose profile is the
    /// nearest in least squares.
    ///
    /// # Errors
    /// As [`weights`](Self::weights) and [`Average::weighted_sum`].
    pub fn synthesize(&self, stored: &[(Self, &Average)]) -> Result<Average, AverageError> {
        let profiles: Vec<_> = stored.iter().map(|&(profile, _)| profile).collect();
        let weights = self.weights(&profiles)?;
        let terms = weights.into_iter().zip(stored).map(|(w, &(_, average))| (w, average));
        Average::weighted_sum(&terms.collect::<Vec<_>>())
    }

    /// The weights of stored profiles in the sum of them that is nearest to this one in least squares (appendix C,
    /// algorithm 3).
    ///
    /// # Errors
    /// [`AverageError::Profiles`] when there is none, or when one of them is, to the precision of f64, a sum of
    /// others.
    pub fn weights(&self, stored: &[Self]) -> Result<Vec<f64>, AverageError> {
        // Scaled to norm 1, so that a pivot says how far a profile is from those before it.
        let norms: Vec<f64> = stored.iter().map(|p| Float::sqrt(p.dot(p))).collect();
        let rows = stored.iter().zip(&norms).map(|(p, norm)| {
            let row = stored.iter().zip(&norms).map(|(q, other)| p.dot(q) / (norm * other));
            row.chain([p.dot(self) / norm]).collect()
        });
        let count = stored.len();
        let solution = solve(rows.collect()).ok_or(AverageError::Profiles { count })?;
        Ok(solution.iter().zip(&norms).map(|(x, norm)| x / norm).collect())
    }

    /// The integral of the product of two profiles, each of which integrates to 1.
    fn dot(&self, other: &Self) -> f64 {
        let (short, long) = if self.time < other.time { (self, other) } else { (other, self) };
        (short.gamma + 1.0) * (long.gamma + 1.0) * Float::powf(short.time / long.time, long.gamma)
            / ((short.gamma + long.gamma + 1.0) * long.time)
    }
}

/// Solves `A x = b` by elimination with row pivots; row `i` is `A_i1 .. A_in b_i`. None if A is singular or empty.
fn solve(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = rows.len();
    if n == 0 {
        return None;
    }
    for k in 0..n {
        let size = |row: &Vec<f64>| Float::abs(row[k]);
        let pivot = (k..n).max_by(|&i, &j| size(&rows[i]).total_cmp(&size(&rows[j])))?;
        rows.swap(k, pivot);
        let (done, below) = rows.split_at_mut(k + 1);
        let row = &done[k];
        let distance = Float::abs(row[k]);
        if distance.is_nan() || distance <= f64::EPSILON {
            return None;
        }
        for other in below {
            let factor = other[k] / row[k];
            other.iter_mut().zip(row).skip(k).for_each(|(x, y)| *x -= factor * y);
        }
    }
    let mut x = vec![0.0; n];
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| rows[k][j] * x[j]).sum();
        x[k] = (rows[k][n] - known) / rows[k][k];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(got: f64, want: f64, limit: f64) {
        assert!((got - want).abs() <= limit, "{got} is not {want}");
    }

    #[test]
    fn widths_and_exponents_are_those_of_the_paper() {
        let gamma = |sigma| PowerProfile::from_sigma_rel(sigma, 1.0).unwrap().gamma();
        near(gamma(0.05), 16.97, 5e-3);
        near(gamma(0.1), 6.94, 5e-3);
        near(PowerProfile::new(0.0, 5.0).unwrap().sigma_rel(), 1.0 / 12f64.sqrt(), 1e-15);
        near(PowerProfile::new(gamma(0.17), 1.0).unwrap().sigma_rel(), 0.17, 1e-14);
        near(gamma(PowerProfile::new(0.0, 1.0).unwrap().sigma_rel()), 0.0, 1e-15);
        for bad in [0.0, -1.0, 0.3, f64::NAN] {
            assert!(PowerProfile::from_sigma_rel(bad, 1.0).is_err(), "{bad}");
        }
        assert!(PowerProfile::from_sigma_rel(0.1, 0.0).is_err());
        assert!(PowerProfile::new(-1.0, 1.0).is_err());
    }

    #[test]
    fn a_stored_profile_is_found_again() {
        let p = |gamma, time| PowerProfile::new(gamma, time).unwrap();
        let stored = [p(6.94, 512.0), p(16.97, 512.0), p(6.94, 1024.0), p(16.97, 1024.0)];
        let weights = stored[2].weights(&stored).unwrap();
        for (got, want) in weights.iter().zip([0.0, 0.0, 1.0, 0.0]) {
            near(*got, want, 1e-12);
        }
    }

    /// numpy on the paper's algorithm 3: two gammas stored at 256, 512 and 1024.
    #[test]
    fn the_weights_are_those_of_the_paper() {
        let stored: Vec<_> = [256.0, 512.0, 1024.0]
            .into_iter()
            .flat_map(|t| [6.94, 16.97].map(|gamma| PowerProfile::new(gamma, t).unwrap()))
            .collect();
        let want = [
            0.001_873_485_512_567,
            -0.000_542_040_000_401,
            0.044_069_856_535_827,
            -0.012_731_449_353_453,
            1.148_118_156_146_471,
            -0.299_897_542_614_677,
        ];
        let target = PowerProfile::from_sigma_rel(0.15, 1024.0).unwrap();
        for (got, want) in target.weights(&stored).unwrap().into_iter().zip(want) {
            near(got, want, 1e-12);
        }
    }

    #[test]
    fn profiles_that_decide_nothing_are_refused() {
        let p = PowerProfile::new(3.0, 7.0).unwrap();
        assert_eq!(p.weights(&[]), Err(AverageError::Profiles { count: 0 }));
        assert_eq!(p.weights(&[p, p]), Err(AverageError::Profiles { count: 2 }));
    }
}
