//! A constant ratio from step to step.

use crate::{
    Schedule, ScheduleError,
    error::{length, number, positive},
    finite::decay,
};

/// `start * gamma^(t / period)`, with a period of 1 by default (PyTorch's `ExponentialLR`).
///
/// With `gamma` above 1 the value grows, up to the largest finite number at most. optax's
/// `exponential_decay(init, transition_steps, rate)` is
/// `ExponentialDecay::new(init, rate)?.with_period(transition_steps)?`; its staircase is a
/// [`StepDecay`](crate::StepDecay), its `transition_begin` [`delay`](crate::ScheduleExt::delay), its
/// `end_value` [`clamp`](crate::ScheduleExt::clamp).
///
/// ```
/// use gradus_schedule::{ExponentialDecay, Schedule};
/// assert_eq!(ExponentialDecay::new(0.8, 0.5)?.value(2), 0.2);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct ExponentialDecay {
    start: f64,
    gamma: f64,
    #[cfg_attr(feature = "serde", serde(default = "crate::checked::one"))]
    period: u64,
}

impl ExponentialDecay {
    /// `start` at step 0, `gamma` times the last value at each further step.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when a number is not finite or is negative.
    pub fn new(start: f64, gamma: f64) -> Result<Self, ScheduleError> {
        Self { start, gamma, period: 1 }.checked()
    }

    /// `start` at step 0, `end` at step `steps`, and on at the same ratio: a straight line on a logarithmic scale, such
    /// as a learning-rate range test walks along. [`ending`](crate::ScheduleExt::ending) holds it at the end.
    ///
    /// ```
    /// use gradus_schedule::{ExponentialDecay, Schedule};
    /// let lr = ExponentialDecay::through(1e-4, 1.0, 100)?;
    /// assert!((lr.value(50) - 1e-2).abs() < 1e-15 && (lr.value(100) - 1.0).abs() < 1e-15);
    /// # Ok::<(), gradus_schedule::ScheduleError>(())
    /// ```
    ///
    /// # Errors
    /// [`ScheduleError`] when a number or the ratio of both is not positive and finite, or `steps` is 0.
    pub fn through(start: f64, end: f64, steps: u64) -> Result<Self, ScheduleError> {
        let ratio = positive("end", end)? / positive("start", start)?;
        Self { start, gamma: positive("end / start", ratio)?, period: steps }.checked()
    }

    /// Takes so many steps for one factor of `gamma`.
    ///
    /// # Errors
    /// [`ScheduleError::ZeroSteps`] when there are none.
    pub fn with_period(self, period: u64) -> Result<Self, ScheduleError> {
        Self { period, ..self }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        number("gamma", self.gamma)?;
        length("period", self.period)?;
        Ok(self)
    }
}

impl Schedule for ExponentialDecay {
    fn value(&self, step: u64) -> f64 {
        decay(self.start, self.gamma, step as f64 / self.period as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScheduleExt, StepDecay, testing::check};

    #[test]
    fn matches_pytorch_exponential_lr() {
        let lr = ExponentialDecay::new(0.1, 0.95).unwrap();
        check(&lr, &[(0, 0.1), (1, 0.095), (10, 0.05987369392383786), (50, 0.007694497527671311)]);
        let lr = ExponentialDecay::new(0.1, 1.02).unwrap();
        check(&lr, &[(1, 0.102), (10, 0.12189944199947574), (50, 0.2691588029073608)]);
    }

    #[test]
    fn matches_optax_exponential_decay() {
        // init 0.1, transition_steps 10, decay_rate 0.5
        let lr = ExponentialDecay::new(0.1, 0.5).unwrap().with_period(10).unwrap();
        check(&lr, &[(1, 0.09330329915368074), (10, 0.05), (31, 0.011662912394210093)]);
        // init 0.1, transition_steps 5, decay_rate 0.7, end_value 0.02
        let lr = ExponentialDecay::new(0.1, 0.7).unwrap().with_period(5).unwrap();
        let lr = lr.clamp(0.02, f64::MAX).unwrap();
        check(&lr, &[(1, 0.09311499150948377), (17, 0.02973947763827253), (23, 0.02), (60, 0.02)]);
        // init 0.1, transition_steps 10, decay_rate 0.5, staircase, transition_begin 5
        let lr = StepDecay::new(0.1, 10, 0.5).unwrap().delay(5);
        check(&lr, &[(0, 0.1), (14, 0.1), (15, 0.05), (24, 0.05), (25, 0.025)]);
        let lr = ExponentialDecay::new(0.1, 0.5).unwrap();
        assert_eq!(lr.with_period(0), Err(ScheduleError::ZeroSteps { argument: "period" }));
    }

    #[test]
    fn two_points_make_a_ratio() {
        let lr = ExponentialDecay::through(1e-8, 1.0, 8).unwrap();
        check(&lr, &[(0, 1e-8), (3, 1e-5), (7, 0.1), (8, 1.0), (9, 10.0)]);
        for (start, end) in [(0.0, 1.0), (1.0, 0.0), (1e300, 1e-300), (f64::NAN, 1.0)] {
            assert!(ExponentialDecay::through(start, end, 3).is_err(), "{start} {end}");
        }
        assert!(ExponentialDecay::through(1.0, 0.5, 0).is_err());
    }

    #[test]
    fn the_extremes_stay_finite() {
        check(&ExponentialDecay::new(0.0, 2.0).unwrap(), &[(0, 0.0), (u64::MAX, 0.0)]);
        check(&ExponentialDecay::new(3.0, 2.0).unwrap(), &[(u64::MAX, f64::MAX)]);
        check(&ExponentialDecay::new(3.0, 0.0).unwrap(), &[(0, 3.0), (1, 0.0)]);
        check(&ExponentialDecay::new(3.0, 1.0).unwrap(), &[(u64::MAX, 3.0)]);
    }
}
