//! From one value to another along any shape.

use crate::{
    Schedule, ScheduleError, Shape,
    error::{length, number},
};

/// From `start` to `end` over `steps` along a [`Shape`], then `end`: `end + (start - end) fall(t / steps)`
/// downwards, `start + (end - start) rise(t / steps)` upwards.
///
/// The schedules of one shape have names of their own where they have options of their own: [`Linear`],
/// [`CosineAnnealing`], [`Polynomial`]. This one is for the others, and for a shape that a configuration
/// chooses. REX is `Anneal::new(peak, 0.0, steps, Shape::Rex)`.
///
/// ```
/// use gradus_schedule::{Anneal, Schedule, Shape};
/// let rex = Anneal::new(0.3, 0.0, 10, Shape::Rex)?;
/// assert_eq!([rex.value(0), rex.value(10), rex.value(11)], [0.3, 0.0, 0.0]);
/// assert!((rex.value(5) - 0.2).abs() < 1e-15);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// [`Linear`]: crate::Linear
/// [`CosineAnnealing`]: crate::CosineAnnealing
/// [`Polynomial`]: crate::Polynomial
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Anneal {
    start: f64,
    end: f64,
    steps: u64,
    shape: Shape,
}

impl Anneal {
    /// From `start` at step 0 to `end` at step `steps`.
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, `steps` is 0, or the power of
    /// [`Shape::Power`] is not positive.
    pub fn new(start: f64, end: f64, steps: u64, shape: Shape) -> Result<Self, ScheduleError> {
        Self { start, end, steps, shape }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        number("end", self.end)?;
        length("steps", self.steps)?;
        self.shape.checked()?;
        Ok(self)
    }
}

impl Schedule for Anneal {
    fn value(&self, step: u64) -> f64 {
        let x = if step < self.steps { step as f64 / self.steps as f64 } else { 1.0 };
        self.shape.between(self.start, self.end, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CosineAnnealing, Polynomial, testing::check};

    #[test]
    fn rex_by_hand() {
        // 0.3 (1 - z) / (1/2 + (1 - z)/2)
        let lr = Anneal::new(0.3, 0.0, 4, Shape::Rex).unwrap();
        check(&lr, &[(0, 0.3), (1, 0.3 * 6.0 / 7.0), (2, 0.2), (3, 0.12), (4, 0.0), (5, 0.0)]);
    }

    #[test]
    fn one_minus_sqrt_by_hand() {
        let lr = Anneal::new(1.0, 0.1, 16, Shape::OneMinusSqrt).unwrap();
        check(&lr, &[(0, 1.0), (1, 0.775), (4, 0.55), (9, 0.325), (16, 0.1)]);
    }

    #[test]
    fn agrees_with_the_schedules_of_one_shape() {
        let (cosine, twin) = (
            Anneal::new(0.1, 0.01, 50, Shape::Cosine).unwrap(),
            CosineAnnealing::new(0.1, 0.01, 50).unwrap(),
        );
        let (power, polynomial) = (
            Anneal::new(0.1, 0.01, 50, Shape::Power(1.5)).unwrap(),
            Polynomial::new(0.1, 0.01, 50, 1.5).unwrap(),
        );
        for t in 0..60 {
            check(&cosine, &[(t, twin.value(t))]);
            check(&power, &[(t, polynomial.value(t))]);
        }
    }

    #[test]
    fn bad_arguments_are_refused() {
        assert_eq!(
            Anneal::new(0.1, 0.0, 0, Shape::Rex),
            Err(ScheduleError::ZeroSteps { argument: "steps" })
        );
        assert!(Anneal::new(0.1, f64::NAN, 3, Shape::Rex).is_err());
        assert!(Anneal::new(0.1, 0.0, 3, Shape::Power(0.0)).is_err());
    }
}
