//! The same value at every step.

use crate::{Schedule, ScheduleError, error::number};

/// `value` at every step.
///
/// PyTorch's `ConstantLR(factor, total_iters)`, a reduced rate for the first steps, is
/// `Constant::new(base * factor)?.then(total_iters, Constant::new(base)?)`.
///
/// ```
/// use gradus_schedule::{Constant, Schedule, ScheduleExt};
/// let lr = Constant::new(0.01)?.then(5, Constant::new(0.1)?);
/// assert_eq!([lr.value(0), lr.value(4), lr.value(5)], [0.01, 0.01, 0.1]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Constant {
    value: f64,
}

impl Constant {
    /// Always `value`.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when `value` is not finite or is negative.
    pub fn new(value: f64) -> Result<Self, ScheduleError> {
        Self { value }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("value", self.value)?;
        Ok(self)
    }
}

impl Schedule for Constant {
    fn value(&self, _step: u64) -> f64 {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScheduleExt, testing::check};

    #[test]
    fn matches_pytorch_constant_lr() {
        // ConstantLR(base 0.1, factor 1/3, total_iters 5)
        let lr = Constant::new(0.1)
            .unwrap()
            .scale(1.0 / 3.0)
            .unwrap()
            .then(5, Constant::new(0.1).unwrap());
        check(&lr, &[(0, 0.03333333333333333), (4, 0.03333333333333333), (5, 0.1), (50, 0.1)]);
        // total_iters 0: the base rate from the start.
        let lr = Constant::new(0.05).unwrap().then(0, Constant::new(0.1).unwrap());
        check(&lr, &[(0, 0.1), (u64::MAX, 0.1)]);
    }
}
