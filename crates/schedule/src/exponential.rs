//! A constant ratio from step to step.

use num_traits::Float;

use crate::{Schedule, ScheduleError, error::number};

/// `start * gamma^t` (PyTorch's `ExponentialLR`).
///
/// With `gamma` above 1 the value grows, up to the largest finite number at most.
///
/// ```
/// use gradus_schedule::{ExponentialDecay, Schedule};
/// assert_eq!(ExponentialDecay::new(0.8, 0.5)?.value(2), 0.2);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ExponentialDecay {
    start: f64,
    gamma: f64,
}

impl ExponentialDecay {
    /// `start` at step 0, `gamma` times the last value at each further step.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when a number is not finite or is negative.
    pub fn new(start: f64, gamma: f64) -> Result<Self, ScheduleError> {
        Ok(Self { start: number("start", start)?, gamma: number("gamma", gamma)? })
    }
}

impl Schedule for ExponentialDecay {
    fn value(&self, step: u64) -> f64 {
        decay(self.start, self.gamma, step)
    }
}

/// `start * gamma^times`, finite for all finite arguments.
pub(crate) fn decay(start: f64, gamma: f64, times: u64) -> f64 {
    // The power may overflow, and 0 times infinity is NaN: hence a bound on each factor.
    (start * Float::powf(gamma, times as f64).min(f64::MAX)).min(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check;

    #[test]
    fn matches_pytorch_exponential_lr() {
        let lr = ExponentialDecay::new(0.1, 0.95).unwrap();
        check(&lr, &[(0, 0.1), (1, 0.095), (10, 0.05987369392383786), (50, 0.007694497527671311)]);
        let lr = ExponentialDecay::new(0.1, 1.02).unwrap();
        check(&lr, &[(1, 0.102), (10, 0.12189944199947574), (50, 0.2691588029073608)]);
    }

    #[test]
    fn the_extremes_stay_finite() {
        check(&ExponentialDecay::new(0.0, 2.0).unwrap(), &[(0, 0.0), (u64::MAX, 0.0)]);
        check(&ExponentialDecay::new(3.0, 2.0).unwrap(), &[(u64::MAX, f64::MAX)]);
        check(&ExponentialDecay::new(3.0, 0.0).unwrap(), &[(0, 3.0), (1, 0.0)]);
        check(&ExponentialDecay::new(3.0, 1.0).unwrap(), &[(u64::MAX, 3.0)]);
    }
}
