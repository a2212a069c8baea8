//! Schedules made of others: a ramp before, a delay, bounds, a factor, a product.

use crate::{
    Schedule, ScheduleError, Shape,
    error::{length, number},
};

/// A ramp up to another schedule's first value, then that schedule from its own step 0.
///
/// Made by [`ScheduleExt::warmup`](crate::ScheduleExt::warmup).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Warmup<S> {
    schedule: S,
    steps: u64,
    start_factor: f64,
    shape: Shape,
}

impl<S: Schedule> Warmup<S> {
    pub(crate) fn new(schedule: S, steps: u64) -> Self {
        Self { schedule, steps, start_factor: 0.0, shape: Shape::Linear }
    }

    /// Starts at this fraction of the schedule's first value instead of at 0 (PyTorch's `LinearLR`: 1/3).
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when the factor is not finite or is negative.
    pub fn with_start_factor(self, start_factor: f64) -> Result<Self, ScheduleError> {
        Ok(Self { start_factor: number("start_factor", start_factor)?, ..self })
    }

    /// Rises along this shape instead of a straight line.
    ///
    /// # Errors
    /// [`ScheduleError::OutOfRange`] when the power of [`Shape::Power`] is not positive.
    pub fn with_shape(self, shape: Shape) -> Result<Self, ScheduleError> {
        Ok(Self { shape: shape.checked()?, ..self })
    }
}

impl<S: Schedule> Schedule for Warmup<S> {
    fn value(&self, step: u64) -> f64 {
        if step >= self.steps {
            return self.schedule.value(step - self.steps);
        }
        let done = self.shape.rise(step as f64 / self.steps as f64);
        self.schedule.value(0) * (self.start_factor * (1.0 - done) + done)
    }
}

/// Another schedule that starts later. Made by [`ScheduleExt::delay`](crate::ScheduleExt::delay).
#[derive(Clone, Copy, PartialEq, Debug)]
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
pub struct Every<S> {
    schedule: S,
    steps: u64,
}

impl<S: Schedule> Every<S> {
    pub(crate) fn new(schedule: S, steps: u64) -> Result<Self, ScheduleError> {
        Ok(Self { schedule, steps: length("steps", steps)? })
    }
}

impl<S: Schedule> Schedule for Every<S> {
    fn value(&self, step: u64) -> f64 {
        self.schedule.value(step / self.steps)
    }
}

/// Another schedule kept within bounds. Made by [`ScheduleExt::clamp`](crate::ScheduleExt::clamp).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Clamped<S> {
    schedule: S,
    min: f64,
    max: f64,
}

impl<S: Schedule> Clamped<S> {
    pub(crate) fn new(schedule: S, min: f64, max: f64) -> Result<Self, ScheduleError> {
        let (min, max) = (number("min", min)?, number("max", max)?);
        if min > max {
            let expected = "at most max";
            return Err(ScheduleError::OutOfRange { argument: "min", value: min, expected });
        }
        Ok(Self { schedule, min, max })
    }
}

impl<S: Schedule> Schedule for Clamped<S> {
    fn value(&self, step: u64) -> f64 {
        self.schedule.value(step).clamp(self.min, self.max)
    }
}

/// Another schedule times a constant. Made by [`ScheduleExt::scale`](crate::ScheduleExt::scale).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scaled<S> {
    schedule: S,
    factor: f64,
}

impl<S: Schedule> Scaled<S> {
    pub(crate) fn new(schedule: S, factor: f64) -> Result<Self, ScheduleError> {
        Ok(Self { schedule, factor: number("factor", factor)? })
    }
}

impl<S: Schedule> Schedule for Scaled<S> {
    fn value(&self, step: u64) -> f64 {
        self.schedule.value(step) * self.factor
    }
}

/// The product of two schedules, step by step. Made by [`ScheduleExt::times`](crate::ScheduleExt::times).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Times<A, B> {
    left: A,
    right: B,
}

impl<A: Schedule, B: Schedule> Times<A, B> {
    pub(crate) fn new(left: A, right: B) -> Self {
        Self { left, right }
    }
}

impl<A: Schedule, B: Schedule> Schedule for Times<A, B> {
    fn value(&self, step: u64) -> f64 {
        self.left.value(step) * self.right.value(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Constant, ExponentialDecay, Linear, MultiStepDecay, ScheduleExt, StepDecay, testing::check,
    };

    #[test]
    fn matches_pytorch_chained_scheduler() {
        // base 0.1; LinearLR(0.1 -> 1, 20) and ExponentialLR(0.95)
        let lr = Linear::new(0.1, 1.0, 20).unwrap();
        let lr = lr.times(ExponentialDecay::new(0.1, 0.95).unwrap());
        check(&lr, &[(0, 0.01), (1, 0.013775), (2, 0.0171475), (10, 0.032930531658110836)]);
        check(&lr, &[(50, 0.007694497527671326)]);
        // base 0.1; LinearLR(0.25 -> 1, 10), StepLR(15, 0.5), MultiStepLR([40], 0.1)
        let lr = Linear::new(0.25, 1.0, 10)
            .unwrap()
            .times(StepDecay::new(1.0, 15, 0.5).unwrap())
            .times(MultiStepDecay::new(1.0, [40], 0.1).unwrap())
            .scale(0.1)
            .unwrap();
        check(&lr, &[(0, 0.025), (10, 0.1), (15, 0.05), (40, 0.0025), (45, 0.00125)]);
    }

    #[test]
    fn warm_up_of_no_steps_is_no_warm_up() {
        let lr = Constant::new(0.3).unwrap().warmup(0);
        check(&lr, &[(0, 0.3), (1, 0.3)]);
    }

    #[test]
    fn delayed_slowed_down_and_bounded() {
        let line = Linear::new(0.1, 0.0, 10).unwrap();
        check(&line.delay(5), &[(0, 0.1), (5, 0.1), (6, 0.09), (15, 0.0)]);
        check(&line.every(5).unwrap(), &[(0, 0.1), (4, 0.1), (5, 0.09), (49, 0.01), (50, 0.0)]);
        check(&line.clamp(0.02, 0.07).unwrap(), &[(0, 0.07), (3, 0.07), (5, 0.05), (9, 0.02)]);
        assert_eq!(line.every(0), Err(ScheduleError::ZeroSteps { argument: "steps" }));
        let expected = "at most max";
        assert_eq!(
            line.clamp(0.3, 0.2),
            Err(ScheduleError::OutOfRange { argument: "min", value: 0.3, expected })
        );
        assert!(line.clamp(f64::NAN, 0.2).is_err() && line.clamp(0.0, f64::INFINITY).is_err());
    }

    #[test]
    fn a_shaped_warm_up_meets_both_ends() {
        let lr = Constant::new(1.0).unwrap().warmup(4).with_shape(Shape::Cosine).unwrap();
        check(&lr, &[(0, 0.0), (1, 0.1464466094067262), (2, 0.5), (4, 1.0)]);
        assert!(lr.with_shape(Shape::Power(0.0)).is_err());
    }

    #[test]
    fn bad_factors_are_refused() {
        let lr = Constant::new(0.3).unwrap();
        let invalid = |argument, value| Err(ScheduleError::InvalidNumber { argument, value });
        assert_eq!(lr.scale(-1.0), invalid("factor", -1.0));
        assert_eq!(
            lr.warmup(3).with_start_factor(f64::INFINITY),
            Err(ScheduleError::InvalidNumber { argument: "start_factor", value: f64::INFINITY })
        );
    }
}
