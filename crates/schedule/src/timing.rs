//! Another schedule later or slower.

use crate::{Schedule, ScheduleError, error::length, finite::mix};

/// Another schedule that starts later. Made by [`ScheduleExt::delay`](crate::ScheduleExt::delay).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Delayed<S> {
    schedule: S,
    steps: u64,
}

impl<S: Schedule> Delayed<S> {
    pub(crate) fn new(schedule: S, steps: u64) -> Self {
        Self { schedule, steps }
    }
}

impl<S: Schedule> Schedule for Delayed<S> {
    fn value(&self, step: u64) -> f64 {
        self.schedule.value(step.saturating_sub(self.steps))
    }
}

/// Another schedule that advances once in so many steps. Made by
/// [`ScheduleExt::every`](crate::ScheduleExt::every).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Every<S> {
    schedule: S,
    steps: u64,
}

impl<S: Schedule> Every<S> {
    pub(crate) fn new(schedule: S, steps: u64) -> Result<Self, ScheduleError> {
        Self { schedule, steps }.checked()
    }
}

impl<S> Every<S> {
    /// Itself, if it has steps.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        length("steps", self.steps)?;
        Ok(self)
    }
}

impl<S: Schedule> Schedule for Every<S> {
    fn value(&self, step: u64) -> f64 {
        self.schedule.value(step / self.steps)
    }
}

/// Another schedule, counted in epochs, at the batch's part of its epoch. Made by
/// [`ScheduleExt::at_epoch`](crate::ScheduleExt::at_epoch).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct AtEpoch<S> {
    schedule: S,
    steps_per_epoch: u64,
}

impl<S: Schedule> AtEpoch<S> {
    pub(crate) fn new(schedule: S, steps_per_epoch: u64) -> Result<Self, ScheduleError> {
        Self { schedule, steps_per_epoch }.checked()
    }
}

impl<S> AtEpoch<S> {
    /// Itself, if an epoch has steps.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        length("steps_per_epoch", self.steps_per_epoch)?;
        Ok(self)
    }
}

impl<S: Schedule> Schedule for AtEpoch<S> {
    fn value(&self, step: u64) -> f64 {
        let (epoch, batch) = (step / self.steps_per_epoch, step % self.steps_per_epoch);
        let now = self.schedule.value(epoch);
        if batch == 0 {
            return now;
        }
        // With several steps an epoch there is an epoch after this one.
        let next = self.schedule.value(epoch + 1);
        mix(next, now, batch as f64 / self.steps_per_epoch as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Linear, ScheduleExt, StepDecay, testing::check};

    #[test]
    fn delayed_and_slowed_down() {
        let line = Linear::new(0.1, 0.0, 10).unwrap();
        check(&line.delay(5), &[(0, 0.1), (5, 0.1), (6, 0.09), (15, 0.0)]);
        check(&line.every(5).unwrap(), &[(0, 0.1), (4, 0.1), (5, 0.09), (49, 0.01), (50, 0.0)]);
        assert_eq!(line.every(0), Err(ScheduleError::ZeroSteps { argument: "steps" }));
    }

    #[test]
    fn between_two_epochs_on_a_straight_line() {
        let stairs = StepDecay::new(1.0, 1, 0.5).unwrap().at_epoch(4).unwrap();
        check(&stairs, &[(0, 1.0), (1, 0.875), (3, 0.625), (4, 0.5), (6, 0.375), (8, 0.25)]);
        let one = Linear::new(1.0, 0.0, 10).unwrap().at_epoch(1).unwrap();
        check(&one, &[(0, 1.0), (3, 0.7), (u64::MAX, 0.0)]);
        let argument = "steps_per_epoch";
        assert_eq!(one.at_epoch(0), Err(ScheduleError::ZeroSteps { argument }));
    }
}
