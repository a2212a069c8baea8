//! Schedules from a closure: its values, or its values as factors from step to step.

use core::fmt;

use crate::{Schedule, ScheduleError, error::number};

/// The schedule that a closure is; see [`from_fn`].
#[derive(Clone, Copy)]
pub struct FromFn<F> {
    function: F,
}

/// Makes a schedule of a function of the step.
///
/// PyTorch's `LambdaLR(f)` is `from_fn(f).scale(base)`. Nothing checks what the function returns.
///
/// ```
/// use gradus_schedule::{Schedule, ScheduleExt, from_fn};
/// let lr = from_fn(|step| 1.0 / (1.0 + step as f64)).scale(0.1)?;
/// assert_eq!(lr.value(1), 0.05);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
pub fn from_fn<F: Fn(u64) -> f64>(function: F) -> FromFn<F> {
    FromFn { function }
}

impl<F: Fn(u64) -> f64> Schedule for FromFn<F> {
    fn value(&self, step: u64) -> f64 {
        (self.function)(step)
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").finish_non_exhaustive()
    }
}

/// The schedule whose ratios a closure gives; see [`multiplicative`].
#[derive(Clone, Copy)]
pub struct Multiplicative<F> {
    start: f64,
    factor: F,
}

/// `start` at step 0, and `factor(t)` times the last value at each further step `t` (PyTorch's
/// `MultiplicativeLR`).
///
/// A value costs as many calls of `factor` as it has steps behind it: where the product has a closed form,
/// [`from_fn`] is better. Nothing checks what `factor` returns.
///
/// ```
/// use gradus_schedule::{Schedule, multiplicative};
/// let lr = multiplicative(0.5, |step| 1.0 / step as f64)?;
/// assert_eq!([lr.value(0), lr.value(1), lr.value(2)], [0.5, 0.5, 0.25]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # Errors
/// [`ScheduleError::InvalidNumber`] when `start` is not finite or is negative.
pub fn multiplicative<F: Fn(u64) -> f64>(
    start: f64,
    factor: F,
) -> Result<Multiplicative<F>, ScheduleError> {
    Ok(Multiplicative { start: number("start", start)?, factor })
}

impl<F: Fn(u64) -> f64> Schedule for Multiplicative<F> {
    fn value(&self, step: u64) -> f64 {
        (1..=step).fold(self.start, |value, t| value * (self.factor)(t))
    }
}

impl<F> fmt::Debug for Multiplicative<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multiplicative").field("start", &self.start).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScheduleExt, testing::check};

    #[test]
    fn matches_pytorch_lambda_lr() {
        let lr = from_fn(|t| f64::min(1.0, (t + 1) as f64 / 20.0)).scale(0.1).unwrap();
        check(&lr, &[(0, 0.005), (1, 0.01), (10, 0.055), (50, 0.1)]);
        let lr = from_fn(|t| 1.0 / (1.0 + 0.1 * t as f64)).scale(0.1).unwrap();
        check(&lr, &[(0, 0.1), (1, 0.09090909090909091), (50, 0.016666666666666666)]);
    }

    #[test]
    fn matches_pytorch_multiplicative_lr() {
        let lr = multiplicative(0.5, |t| 1.0 / (1.0 + 0.01 * t as f64)).unwrap();
        check(&lr, &[(0, 0.5), (1, 0.49504950495049505), (2, 0.5 / 1.01 / 1.02)]);
        assert!(multiplicative(-0.5, |_| 1.0).is_err());
    }
}
