//! Schedules made of others, value by value: bounds, a factor, a sum, a product, the lower or the higher of two, a
//! function.

use core::fmt;

use crate::{Schedule, ScheduleError, error::number, finite::bounded};

/// Another schedule kept within bounds. Made by [`ScheduleExt::clamp`](crate::ScheduleExt::clamp).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Clamped<S> {
    schedule: S,
    min: f64,
    max: f64,
}

impl<S: Schedule> Clamped<S> {
    pub(crate) fn new(schedule: S, min: f64, max: f64) -> Result<Self, ScheduleError> {
        Self { schedule, min, max }.checked()
    }
}

impl<S> Clamped<S> {
    /// Itself, if the bounds are in order.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        let (min, max) = (number("min", self.min)?, number("max", self.max)?);
        if min > max {
            let expected = "at most max";
            return Err(ScheduleError::OutOfRange { argument: "min", value: min, expected });
        }
        Ok(self)
    }
}

impl<S: Schedule> Schedule for Clamped<S> {
    fn value(&self, step: u64) -> f64 {
        self.schedule.value(step).clamp(self.min, self.max)
    }
}

/// Another schedule times a constant. Made by [`ScheduleExt::scale`](crate::ScheduleExt::scale).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Scaled<S> {
    schedule: S,
    factor: f64,
}

impl<S: Schedule> Scaled<S> {
    pub(crate) fn new(schedule: S, factor: f64) -> Result<Self, ScheduleError> {
        Self { schedule, factor }.checked()
    }
}

impl<S> Scaled<S> {
    /// Itself, if its number makes sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("factor", self.factor)?;
        Ok(self)
    }
}

impl<S: Schedule> Schedule for Scaled<S> {
    fn value(&self, step: u64) -> f64 {
        bounded(self.schedule.value(step) * self.factor)
    }
}

/// Two schedules, step by step, as one.
macro_rules! pair {
    ($(#[$doc:meta])* $name:ident, $value:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Debug)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize, serde::Deserialize),
            serde(deny_unknown_fields)
        )]
        pub struct $name<A, B> {
            left: A,
            right: B,
        }

        impl<A: Schedule, B: Schedule> $name<A, B> {
            pub(crate) fn new(left: A, right: B) -> Self {
                Self { left, right }
            }
        }

        impl<A: Schedule, B: Schedule> Schedule for $name<A, B> {
            fn value(&self, step: u64) -> f64 {
                let value: fn(f64, f64) -> f64 = $value;
                value(self.left.value(step), self.right.value(step))
            }
        }
    };
}

pair!(
    /// The product of two schedules, step by step. Made by [`ScheduleExt::times`](crate::ScheduleExt::times).
    Times,
    |a, b| bounded(a * b)
);
pair!(
    /// The sum of two schedules, step by step. Made by [`ScheduleExt::plus`](crate::ScheduleExt::plus).
    Plus,
    |a, b| bounded(a + b)
);
// Written so that a NaN, which only a closure gives, is not hidden.
pair!(
    /// The lower of two schedules at each step. Made by [`ScheduleExt::min`](crate::ScheduleExt::min).
    Min,
    |a, b| if a < b || a.is_nan() { a } else { b }
);
pair!(
    /// The higher of two schedules at each step. Made by [`ScheduleExt::max`](crate::ScheduleExt::max).
    Max,
    |a, b| if a > b || a.is_nan() { a } else { b }
);

/// A function of another schedule's value. Made by [`ScheduleExt::map`](crate::ScheduleExt::map).
#[derive(Clone, Copy)]
pub struct Map<S, F> {
    schedule: S,
    function: F,
}

impl<S: Schedule, F: Fn(f64) -> f64> Map<S, F> {
    pub(crate) fn new(schedule: S, function: F) -> Self {
        Self { schedule, function }
    }
}

impl<S: Schedule, F: Fn(f64) -> f64> Schedule for Map<S, F> {
    fn value(&self, step: u64) -> f64 {
        (self.function)(self.schedule.value(step))
    }
}

impl<S: fmt::Debug, F> fmt::Debug for Map<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("schedule", &self.schedule).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Constant, ExponentialDecay, Linear, MultiStepDecay, ScheduleExt, StepDecay, from_fn,
        testing::check,
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
    fn bounds_are_kept_and_in_order() {
        let line = Linear::new(0.1, 0.0, 10).unwrap();
        check(&line.clamp(0.02, 0.07).unwrap(), &[(0, 0.07), (3, 0.07), (5, 0.05), (9, 0.02)]);
        let expected = "at most max";
        assert_eq!(
            line.clamp(0.3, 0.2),
            Err(ScheduleError::OutOfRange { argument: "min", value: 0.3, expected })
        );
        assert!(line.clamp(f64::NAN, 0.2).is_err() && line.clamp(0.0, f64::INFINITY).is_err());
    }

    #[test]
    fn two_at_a_time() {
        let (line, flat) = (Linear::new(1.0, 0.0, 10).unwrap(), Constant::new(0.4).unwrap());
        check(&line.plus(flat), &[(0, 1.4), (5, 0.9), (10, 0.4)]);
        check(&line.min(flat), &[(0, 0.4), (5, 0.4), (6, 0.4), (7, 0.3), (10, 0.0)]);
        check(&line.max(flat), &[(0, 1.0), (5, 0.5), (6, 0.4), (7, 0.4), (10, 0.4)]);
        check(&line.map(|x| x * x), &[(0, 1.0), (5, 0.25)]);
        let nan = from_fn(|_| f64::NAN);
        assert!(nan.min(flat).value(0).is_nan() && flat.min(nan).value(0).is_nan());
        assert!(nan.max(flat).value(0).is_nan() && flat.max(nan).value(0).is_nan());
        assert!(nan.times(flat).value(0).is_nan() && nan.plus(flat).value(0).is_nan());
    }

    #[test]
    fn nothing_overflows_into_nan() {
        let huge = Constant::new(f64::MAX).unwrap();
        let zero = Constant::new(0.0).unwrap();
        check(&huge.times(huge), &[(0, f64::MAX)]);
        check(&huge.times(huge).times(zero), &[(0, 0.0)]);
        check(&huge.plus(huge).scale(2.0).unwrap(), &[(0, f64::MAX)]);
        check(&huge.warmup(3).with_start_factor(f64::MAX).unwrap().times(zero), &[(1, 0.0)]);
    }

    #[test]
    fn bad_factors_are_refused() {
        let lr = Constant::new(0.3).unwrap();
        let argument = "factor";
        assert_eq!(lr.scale(-1.0), Err(ScheduleError::InvalidNumber { argument, value: -1.0 }));
    }
}
