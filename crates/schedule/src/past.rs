//! What comes after the last step.

use crate::{Schedule, ScheduleError, error::length};

/// What a schedule does after its last step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Past {
    /// Stays at the end value.
    #[default]
    Hold,
    /// Goes back to the start the way it came, and so on with a period of twice the steps.
    Periodic,
    /// Starts over at the step where the end value would be due, and so on with a period of the steps.
    Restart,
}

impl Past {
    /// The step within `0..=steps` whose value `step` has. As an integer, so that nothing is lost far out.
    pub(crate) fn fold(self, step: u64, steps: u64) -> u64 {
        match self {
            Self::Hold => step.min(steps),
            Self::Periodic if (step / steps).is_multiple_of(2) => step % steps,
            Self::Periodic => steps - step % steps,
            Self::Restart => step % steps,
        }
    }
}

/// The first steps of another schedule, and what [`Past`] says afterwards. Made by
/// [`ScheduleExt::ending`](crate::ScheduleExt::ending).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Ending<S> {
    schedule: S,
    steps: u64,
    past: Past,
}

impl<S: Schedule> Ending<S> {
    pub(crate) fn new(schedule: S, steps: u64, past: Past) -> Result<Self, ScheduleError> {
        Self { schedule, steps, past }.checked()
    }

    /// The value, or an error after the last step: for a run that must not be longer than its schedule (PyTorch's
    /// `OneCycleLR` refuses too).
    ///
    /// ```
    /// use gradus_schedule::{Linear, Past, ScheduleError, ScheduleExt};
    /// let lr = Linear::new(0.4, 0.0, 4)?.ending(4, Past::Hold)?;
    /// assert_eq!(lr.value_within(4), Ok(0.0));
    /// assert_eq!(lr.value_within(5), Err(ScheduleError::PastTheEnd { step: 5, steps: 4 }));
    /// # Ok::<(), ScheduleError>(())
    /// ```
    ///
    /// # Errors
    /// [`ScheduleError::PastTheEnd`] when `step` is greater than the number of steps.
    pub fn value_within(&self, step: u64) -> Result<f64, ScheduleError> {
        if step > self.steps {
            return Err(ScheduleError::PastTheEnd { step, steps: self.steps });
        }
        Ok(self.schedule.value(step))
    }
}

impl<S> Ending<S> {
    /// Itself, if it has steps.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        length("steps", self.steps)?;
        Ok(self)
    }
}

impl<S: Schedule> Schedule for Ending<S> {
    fn value(&self, step: u64) -> f64 {
        self.schedule.value(self.past.fold(step, self.steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExponentialDecay, ScheduleExt, testing::check};

    #[test]
    fn three_ways_to_go_on() {
        let lr = ExponentialDecay::new(1.0, 0.5).unwrap();
        let ending = |past| lr.ending(2, past).unwrap();
        check(&ending(Past::Hold), &[(0, 1.0), (1, 0.5), (2, 0.25), (3, 0.25), (u64::MAX, 0.25)]);
        let (periodic, restart) = (ending(Past::Periodic), ending(Past::Restart));
        check(&periodic, &[(1, 0.5), (2, 0.25), (3, 0.5), (4, 1.0), (5, 0.5), (6, 0.25)]);
        check(&restart, &[(1, 0.5), (2, 1.0), (3, 0.5), (4, 1.0), (u64::MAX, 0.5)]);
        assert_eq!(lr.ending(0, Past::Hold), Err(ScheduleError::ZeroSteps { argument: "steps" }));
    }
}
