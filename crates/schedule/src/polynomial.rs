//! A power of the steps that are left.

use num_traits::Float;

use crate::{
    Schedule, ScheduleError,
    error::{length, number},
};

/// From `start` to `end` by a power of the steps left, then `end`:
/// `(start - end) (1 - min(t, steps) / steps)^power + end`.
///
/// PyTorch's `PolynomialLR(total_iters, power)` (5, 1 by default) is
/// `Polynomial::new(base, 0.0, total_iters, power)`. With a power of 0 the value stays at `start`.
///
/// ```
/// use gradus_schedule::{Polynomial, Schedule};
/// let lr = Polynomial::new(1.0, 0.0, 4, 2.0)?;
/// assert_eq!([lr.value(0), lr.value(1), lr.value(4), lr.value(5)], [1.0, 0.5625, 0.0, 0.0]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Polynomial {
    start: f64,
    end: f64,
    steps: u64,
    power: f64,
}

impl Polynomial {
    /// From `start` at step 0 to `end` at step `steps`.
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, or `steps` is 0.
    pub fn new(start: f64, end: f64, steps: u64, power: f64) -> Result<Self, ScheduleError> {
        Ok(Self {
            start: number("start", start)?,
            end: number("end", end)?,
            steps: length("steps", steps)?,
            power: number("power", power)?,
        })
    }
}

impl Schedule for Polynomial {
    fn value(&self, step: u64) -> f64 {
        let left = (self.steps - step.min(self.steps)) as f64 / self.steps as f64;
        let weight = Float::powf(left, self.power);
        self.start * weight + self.end * (1.0 - weight)
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
    fn power_zero_stays_at_the_start() {
        check(&Polynomial::new(0.3, 0.0, 7, 0.0).unwrap(), &[(0, 0.3), (7, 0.3), (8, 0.3)]);
    }
}
