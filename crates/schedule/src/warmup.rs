//! A ramp before another schedule.

use crate::{Schedule, ScheduleError, Shape, error::number, finite::bounded};

/// A ramp up to another schedule, then that schedule.
///
/// Made by [`ScheduleExt::warmup`](crate::ScheduleExt::warmup).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Warmup<S> {
    schedule: S,
    steps: u64,
    #[cfg_attr(feature = "serde", serde(default))]
    start_factor: f64,
    #[cfg_attr(feature = "serde", serde(default))]
    shape: Shape,
    #[cfg_attr(feature = "serde", serde(default = "yes"))]
    delay: bool,
}

/// What `delay` is where nothing is said.
#[cfg(feature = "serde")]
fn yes() -> bool {
    true
}

impl<S: Schedule> Warmup<S> {
    pub(crate) fn new(schedule: S, steps: u64) -> Self {
        Self { schedule, steps, start_factor: 0.0, shape: Shape::Linear, delay: true }
    }

    /// Starts at this fraction of the value that the ramp leads to instead of at 0 (PyTorch's `LinearLR`: 1/3).
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when the factor is not finite or is negative.
    pub fn with_start_factor(self, start_factor: f64) -> Result<Self, ScheduleError> {
        Self { start_factor, ..self }.checked()
    }

    /// Rises along this shape instead of a straight line.
    ///
    /// # Errors
    /// [`ScheduleError::OutOfRange`] when a number of the shape makes no sense.
    pub fn with_shape(self, shape: Shape) -> Result<Self, ScheduleError> {
        Self { shape, ..self }.checked()
    }

    /// Whether the ramp delays the schedule (the default; timm's `warmup_prefix=True`) or covers its first steps:
    /// then it leads to the value that the schedule has at the end of the ramp, which goes on from there.
    ///
    /// ```
    /// use gradus_schedule::{Linear, Schedule, ScheduleExt};
    /// let line = Linear::new(1.0, 0.0, 10)?;
    /// let (delayed, covered) = (line.warmup(2), line.warmup(2).with_delay(false));
    /// assert_eq!([1, 2, 7, 12].map(|t| delayed.value(t)), [0.5, 1.0, 0.5, 0.0]);
    /// assert_eq!([1, 2, 7, 12].map(|t| covered.value(t)), [0.4, 0.8, 0.3, 0.0]);
    /// # Ok::<(), gradus_schedule::ScheduleError>(())
    /// ```
    #[must_use]
    pub fn with_delay(self, delay: bool) -> Self {
        Self { delay, ..self }
    }
}

impl<S> Warmup<S> {
    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start_factor", self.start_factor)?;
        self.shape.checked()?;
        Ok(self)
    }
}

impl<S: Schedule> Schedule for Warmup<S> {
    fn value(&self, step: u64) -> f64 {
        if step >= self.steps {
            return self.schedule.value(if self.delay { step - self.steps } else { step });
        }
        let top = self.schedule.value(if self.delay { 0 } else { self.steps });
        let done = self.shape.rise(step as f64 / self.steps as f64);
        bounded(top * bounded(self.start_factor * (1.0 - done) + done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Constant, ScheduleExt, WarmRestarts, testing::check};

    #[test]
    fn warm_up_of_no_steps_is_no_warm_up() {
        let lr = Constant::new(0.3).unwrap().warmup(0);
        check(&lr, &[(0, 0.3), (1, 0.3)]);
        check(&lr.with_delay(false), &[(0, 0.3), (1, 0.3)]);
    }

    #[test]
    fn a_shaped_warm_up_meets_both_ends() {
        let lr = Constant::new(1.0).unwrap().warmup(4).with_shape(Shape::Cosine).unwrap();
        check(&lr, &[(0, 0.0), (1, 0.1464466094067262), (2, 0.5), (4, 1.0)]);
        assert!(lr.with_shape(Shape::Power(0.0)).is_err());
    }

    #[test]
    fn matches_timm_tanh_with_and_without_prefix() {
        // TanhLRScheduler(t_initial 10, lr_min 0.01, warmup_t 3, warmup_lr_init 0), base 1
        let tanh = WarmRestarts::new(1.0, 0.01, 10).unwrap().with_cycles(1).unwrap();
        let tanh = tanh.with_shape(Shape::TANH).unwrap();
        let formula = |t: f64| 0.01 + 0.99 / (1.0 + (20.0 * t / 10.0 - 14.0_f64).exp());
        let (prefix, covered) = (tanh.warmup(3), tanh.warmup(3).with_delay(false));
        check(
            &prefix,
            &[(1, 1.0 / 3.0), (3, 1.0), (9, formula(6.0)), (12, formula(9.0)), (13, 0.01)],
        );
        let top = formula(3.0);
        check(&covered, &[(1, top / 3.0), (3, top), (9, formula(9.0)), (10, 0.01), (13, 0.01)]);
    }

    #[test]
    fn bad_factors_are_refused() {
        assert_eq!(
            Constant::new(0.3).unwrap().warmup(3).with_start_factor(f64::INFINITY),
            Err(ScheduleError::InvalidNumber { argument: "start_factor", value: f64::INFINITY })
        );
    }
}
