//! One schedule after another.

use alloc::vec::Vec;

use crate::{Schedule, ScheduleError};

/// One schedule, then another. Made by [`ScheduleExt::then`](crate::ScheduleExt::then).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct Then<A, B> {
    first: A,
    at: u64,
    next: B,
}

impl<A: Schedule, B: Schedule> Then<A, B> {
    pub(crate) fn new(first: A, at: u64, next: B) -> Self {
        Self { first, at, next }
    }
}

impl<A: Schedule, B: Schedule> Schedule for Then<A, B> {
    fn value(&self, step: u64) -> f64 {
        match step.checked_sub(self.at) {
            Some(own) => self.next.value(own),
            None => self.first.value(step),
        }
    }
}

/// Schedules one after the other, for a list known only at run time (PyTorch's `SequentialLR`).
///
/// Schedule `i` runs from milestone `i - 1` on and counts its own steps from 0. Where the list is known in
/// the source, [`ScheduleExt::then`](crate::ScheduleExt::then) does without boxes.
///
/// ```
/// use gradus_schedule::{Constant, Linear, Schedule, Sequential};
/// let parts: Vec<Box<dyn Schedule>> =
///     vec![Box::new(Linear::new(0.0, 0.1, 10)?), Box::new(Constant::new(0.1)?)];
/// let lr = Sequential::new(parts, [10])?;
/// assert_eq!([lr.value(5), lr.value(10)], [0.05, 0.1]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Sequential<S> {
    schedules: Vec<S>,
    milestones: Vec<u64>,
}

impl<S: Schedule> Sequential<S> {
    /// Joins the schedules at the milestones, which count from the very beginning.
    ///
    /// # Errors
    /// [`ScheduleError`] unless there is one schedule more than milestones and these increase strictly.
    pub fn new(
        schedules: impl Into<Vec<S>>,
        milestones: impl Into<Vec<u64>>,
    ) -> Result<Self, ScheduleError> {
        Self { schedules: schedules.into(), milestones: milestones.into() }.checked()
    }
}

impl<S> Sequential<S> {
    /// Itself, if the milestones join the schedules.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        let Self { schedules, milestones } = &self;
        if schedules.len() != milestones.len() + 1 {
            return Err(ScheduleError::CountMismatch {
                schedules: schedules.len(),
                milestones: milestones.len(),
            });
        }
        if let Some(i) = milestones.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(ScheduleError::MilestoneOrder {
                index: i + 1,
                previous: milestones[i],
                milestone: milestones[i + 1],
            });
        }
        Ok(self)
    }
}

impl<S: Schedule> Schedule for Sequential<S> {
    fn value(&self, step: u64) -> f64 {
        let current = self.milestones.partition_point(|&m| m <= step);
        let begin = if current == 0 { 0 } else { self.milestones[current - 1] };
        self.schedules[current].value(step - begin)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{boxed::Box, vec};

    use super::*;
    use crate::{Constant, Linear, Polynomial, ScheduleExt, StepDecay, testing::check};

    #[test]
    fn the_golden_numbers_of_pytorch() {
        // SequentialLR([ConstantLR(0.1, 2), ExponentialLR(0.9)], [2]), base 1: a jump to the base at the milestone.
        let lr = Constant::new(0.1).unwrap();
        let lr = lr.then(2, crate::ExponentialDecay::new(1.0, 0.9).unwrap());
        check(&lr, &[(0, 0.1), (1, 0.1), (2, 1.0), (3, 0.9), (4, 0.81)]);
    }

    #[test]
    fn matches_pytorch_sequential_lr() {
        // base 0.2; LinearLR(0.01 -> 1, 10), ConstantLR(1, 30), PolynomialLR(40, 1) at 10 and 40
        let ramp = Linear::new(0.002, 0.2, 10).unwrap();
        let flat = Constant::new(0.2).unwrap();
        let fall = Polynomial::new(0.2, 0.0, 40, 1.0).unwrap();
        let parts: Vec<Box<dyn Schedule>> = vec![Box::new(ramp), Box::new(flat), Box::new(fall)];
        let list = Sequential::new(parts, [10, 40]).unwrap();
        let chain = ramp.then(10, flat).then(40, fall);
        let expected = [(0, 0.002), (1, 0.0218), (9, 0.1802), (10, 0.2), (40, 0.2), (41, 0.195)];
        check(&list, &expected);
        check(&chain, &expected);
        for step in 0..100 {
            assert_eq!(list.value(step), chain.value(step), "step {step}");
        }
        // base 0.1; LinearLR(0.2 -> 1, 5), StepLR(10, 0.5) at 5
        let lr = Linear::new(0.02, 0.1, 5).unwrap().then(5, StepDecay::new(0.1, 10, 0.5).unwrap());
        check(&lr, &[(4, 0.084), (5, 0.1), (14, 0.1), (15, 0.05), (50, 0.00625)]);
    }

    #[test]
    fn one_schedule_needs_no_milestone() {
        let lr = Sequential::new([Constant::new(0.1).unwrap()], []).unwrap();
        check(&lr, &[(0, 0.1), (u64::MAX, 0.1)]);
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let lr = Constant::new(0.1).unwrap();
        assert_eq!(
            Sequential::new([lr, lr], [1, 2]),
            Err(ScheduleError::CountMismatch { schedules: 2, milestones: 2 })
        );
        assert_eq!(
            Sequential::<Constant>::new([], []),
            Err(ScheduleError::CountMismatch { schedules: 0, milestones: 0 })
        );
        assert_eq!(
            Sequential::new([lr, lr, lr], [5, 5]),
            Err(ScheduleError::MilestoneOrder { index: 1, previous: 5, milestone: 5 })
        );
    }
}
