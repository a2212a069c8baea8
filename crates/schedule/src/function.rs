//! A schedule from a closure.

use core::fmt;

use crate::Schedule;

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
}
