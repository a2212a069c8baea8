//! Stairs: the value is multiplied at certain steps and constant between them.

use alloc::vec::Vec;

use crate::{
    Schedule, ScheduleError,
    error::{length, number},
    finite::decay,
};

/// `start * gamma^floor(t / step_size)` (PyTorch's `StepLR`, where `gamma` is 0.1 by default).
///
/// ```
/// use gradus_schedule::{Schedule, StepDecay};
/// let lr = StepDecay::new(1.0, 30, 0.5)?;
/// assert_eq!([lr.value(29), lr.value(30), lr.value(60)], [1.0, 0.5, 0.25]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct StepDecay {
    start: f64,
    step_size: u64,
    gamma: f64,
}

impl StepDecay {
    /// Times `gamma` every `step_size` steps.
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, or `step_size` is 0.
    pub fn new(start: f64, step_size: u64, gamma: f64) -> Result<Self, ScheduleError> {
        Self { start, step_size, gamma }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        number("gamma", self.gamma)?;
        length("step_size", self.step_size)?;
        Ok(self)
    }
}

impl Schedule for StepDecay {
    fn value(&self, step: u64) -> f64 {
        decay(self.start, self.gamma, (step / self.step_size) as f64)
    }
}

/// `start * gamma^(number of milestones <= t)` (PyTorch's `MultiStepLR`, where `gamma` is 0.1 by default).
///
/// The milestones may come in any order; one that is listed twice counts twice.
///
/// ```
/// use gradus_schedule::{MultiStepDecay, Schedule};
/// let lr = MultiStepDecay::new(1.0, [30, 80], 0.5)?;
/// assert_eq!([lr.value(29), lr.value(30), lr.value(80)], [1.0, 0.5, 0.25]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct MultiStepDecay {
    start: f64,
    milestones: Vec<u64>,
    gamma: f64,
}

impl MultiStepDecay {
    /// Times `gamma` at each milestone.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when a number is not finite or is negative.
    pub fn new(
        start: f64,
        milestones: impl Into<Vec<u64>>,
        gamma: f64,
    ) -> Result<Self, ScheduleError> {
        Self { start, milestones: milestones.into(), gamma }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(mut self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        number("gamma", self.gamma)?;
        self.milestones.sort_unstable();
        Ok(self)
    }
}

impl Schedule for MultiStepDecay {
    fn value(&self, step: u64) -> f64 {
        let passed = self.milestones.partition_point(|&m| m <= step);
        decay(self.start, self.gamma, passed as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check;

    #[test]
    fn matches_pytorch_step_lr() {
        let lr = StepDecay::new(0.1, 10, 0.1).unwrap();
        check(&lr, &[(0, 0.1), (9, 0.1), (10, 0.01), (20, 0.001), (49, 1e-5), (50, 1e-6)]);
        let lr = StepDecay::new(0.02, 7, 0.5).unwrap();
        check(&lr, &[(6, 0.02), (7, 0.01), (13, 0.01), (14, 0.005), (60, 0.000078125)]);
        let lr = StepDecay::new(1.0, 1, 0.97).unwrap();
        check(&lr, &[(3, 0.912673), (50, 0.21806537534740741)]);
    }

    #[test]
    fn the_golden_numbers_of_pytorch() {
        let lr = StepDecay::new(0.05, 30, 0.1).unwrap();
        check(&lr, &[(0, 0.05), (29, 0.05), (30, 0.005), (59, 0.005), (60, 0.0005), (89, 0.0005)]);
    }

    #[test]
    fn matches_pytorch_multi_step_lr() {
        let lr = MultiStepDecay::new(0.1, [5, 6, 30, 59], 0.5).unwrap();
        check(&lr, &[(4, 0.1), (5, 0.05), (6, 0.025), (29, 0.025), (30, 0.0125), (59, 0.00625)]);
    }

    #[test]
    fn milestones_are_a_multiset_in_any_order() {
        let lr = MultiStepDecay::new(1.0, [30, 10, 10], 0.5).unwrap();
        check(&lr, &[(9, 1.0), (10, 0.25), (29, 0.25), (30, 0.125)]);
        check(&MultiStepDecay::new(1.0, [], 0.5).unwrap(), &[(0, 1.0), (99, 1.0)]);
        check(&MultiStepDecay::new(1.0, [0], 0.5).unwrap(), &[(0, 0.5)]);
    }

    #[test]
    fn a_step_size_of_zero_is_refused() {
        assert_eq!(
            StepDecay::new(0.1, 0, 0.1),
            Err(ScheduleError::ZeroSteps { argument: "step_size" })
        );
    }
}
