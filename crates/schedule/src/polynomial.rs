//! A power of the steps that are left.

use num_traits::Float;

use crate::{
    Schedule, ScheduleError,
    error::{length, number},
    finite::mix,
};

/// From `start` to `end` by a power of the steps left, then `end`:
/// `(start - end) (1 - min(t, steps) / steps)^power + end`.
///
/// PyTorch's `PolynomialLR(total_iters, power)` (5, 1 by default) is
/// `Polynomial::new(base, 0.0, total_iters, power)`, Keras' `PolynomialDecay` is this too. With a power of 0 the value stays at `start`.
///
/// ```
/// use gradus_schedule::{Polynomial, Schedule};
/// let lr = Polynomial::new(1.0, 0.0, 4, 2.0)?;
/// assert_eq!([lr.value(0), lr.value(1), lr.value(4), lr.value(5)], [1.0, 0.5625, 0.0, 0.0]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Polynomial {
    start: f64,
    end: f64,
    steps: u64,
    power: f64,
    #[cfg_attr(feature = "serde", serde(default))]
    cycle: bool,
}

impl Polynomial {
    /// From `start` at step 0 to `end` at step `steps`.
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, or `steps` is 0.
    pub fn new(start: f64, end: f64, steps: u64, power: f64) -> Result<Self, ScheduleError> {
        Self { start, end, steps, power, cycle: false }.checked()
    }

    /// Whether to go on after the end is reached, as if the steps had been twice as many from the beginning, then
    /// three times and so on (Keras' `PolynomialDecay(cycle=True)`): a saw whose teeth start lower and get longer.
    #[must_use]
    pub fn with_cycle(self, cycle: bool) -> Self {
        Self { cycle, ..self }
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        number("end", self.end)?;
        number("power", self.power)?;
        length("steps", self.steps)?;
        Ok(self)
    }
}

impl Schedule for Polynomial {
    fn value(&self, step: u64) -> f64 {
        let lengths = if self.cycle { step.div_ceil(self.steps).max(1) } else { 1 };
        let steps = u128::from(self.steps) * u128::from(lengths);
        let left = steps.saturating_sub(step.into()) as f64 / steps as f64;
        mix(self.start, self.end, Float::powf(left, self.power))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check;

    #[test]
    fn matches_pytorch_polynomial_lr() {
        // base, total_iters, power: 0.1, 50, 1
        let lr = Polynomial::new(0.1, 0.0, 50, 1.0).unwrap();
        check(&lr, &[(0, 0.1), (1, 0.098), (10, 0.08), (49, 0.002), (50, 0.0), (60, 0.0)]);
        // 0.1, 40, 2
        let lr = Polynomial::new(0.1, 0.0, 40, 2.0).unwrap();
        check(&lr, &[(1, 0.0950625), (2, 0.09025), (10, 0.05625), (50, 0.0)]);
        // 0.1, 55, 0.5
        let lr = Polynomial::new(0.1, 0.0, 55, 0.5).unwrap();
        check(
            &lr,
            &[(1, 0.09908673886137247), (2, 0.09816498172140428), (50, 0.030151134457776365)],
        );
    }

    #[test]
    fn the_end_value_is_reached_exactly() {
        check(&Polynomial::new(0.3, 0.1, 7, 1.7).unwrap(), &[(0, 0.3), (7, 0.1), (8, 0.1)]);
    }

    #[test]
    fn the_golden_numbers_of_pytorch() {
        let lr = Polynomial::new(1.0, 0.0, 4, 2.0).unwrap();
        check(&lr, &[(0, 1.0), (1, 0.5625), (2, 0.25), (3, 0.0625), (4, 0.0), (5, 0.0)]);
    }

    #[test]
    fn a_cycle_stretches_to_the_next_multiple_as_in_keras() {
        let lr = Polynomial::new(1.0, 0.2, 4, 2.0).unwrap().with_cycle(true);
        let of = |left: f64| 0.8 * left * left + 0.2;
        check(&lr, &[(0, 1.0), (3, of(0.25)), (4, 0.2), (5, of(0.375)), (8, 0.2), (9, of(0.25))]);
        let longest = Polynomial::new(1.0, 0.5, u64::MAX - 1, 1.0).unwrap().with_cycle(true);
        check(&longest, &[(0, 1.0), (u64::MAX - 1, 0.5), (u64::MAX, 0.75)]);
    }

    #[test]
    fn power_zero_stays_at_the_start() {
        check(&Polynomial::new(0.3, 0.0, 7, 0.0).unwrap(), &[(0, 0.3), (7, 0.3), (8, 0.3)]);
    }
}
