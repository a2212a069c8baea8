//! A straight line.

use crate::{
    Schedule, ScheduleError, ScheduleExt, Warmup,
    error::{length, number},
    finite::bounded,
};

/// A straight line from `start` to `end` over `steps`, then `end`:
/// `start (1 - x) + end x` with `x = min(t, steps) / steps`.
///
/// PyTorch's `LinearLR(start_factor, end_factor, total_iters)` (1/3, 1, 5 by default) is
/// `Linear::new(base * start_factor, base * end_factor, total_iters)`. Unlike there, `start` may be 0.
///
/// ```
/// use gradus_schedule::{Linear, Schedule};
/// let momentum = Linear::new(0.85, 0.95, 100)?;
/// assert_eq!([momentum.value(0), momentum.value(100), momentum.value(101)], [0.85, 0.95, 0.95]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Linear {
    start: f64,
    end: f64,
    steps: u64,
}

impl Linear {
    /// From `start` at step 0 to `end` at step `steps`.
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, or `steps` is 0.
    pub fn new(start: f64, end: f64, steps: u64) -> Result<Self, ScheduleError> {
        Self { start, end, steps }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        number("end", self.end)?;
        length("steps", self.steps)?;
        Ok(self)
    }
}

impl Schedule for Linear {
    fn value(&self, step: u64) -> f64 {
        let step = step.min(self.steps);
        let n = self.steps as f64;
        bounded(self.start * ((self.steps - step) as f64 / n) + self.end * (step as f64 / n))
    }
}

/// Linear warm-up from 0 to `peak` over `warmup_steps`, then linear to 0 at `total_steps` (D2Z, decay to zero;
/// transformers' `get_linear_schedule_with_warmup`). It holds 0 afterwards.
///
/// ```
/// use gradus_schedule::{Schedule, warmup_linear};
/// let lr = warmup_linear(0.4, 10, 50)?;
/// assert_eq!([lr.value(5), lr.value(10), lr.value(30), lr.value(50)], [0.2, 0.4, 0.2, 0.0]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # Errors
/// [`ScheduleError`] when `peak` is not finite or is negative, or `warmup_steps` is not less than `total_steps`.
///
/// # References
/// Bergsma et al.: Straight to zero: why linearly decaying the learning rate to zero works best for LLMs (2025).
pub fn warmup_linear(
    peak: f64,
    warmup_steps: u64,
    total_steps: u64,
) -> Result<Warmup<Linear>, ScheduleError> {
    if warmup_steps >= total_steps {
        return Err(ScheduleError::WarmupTooLong { warmup_steps, total_steps });
    }
    let decay = Linear::new(number("peak", peak)?, 0.0, total_steps - warmup_steps)?;
    Ok(decay.warmup(warmup_steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check;

    #[test]
    fn matches_pytorch_linear_lr() {
        // LinearLR(base 0.1, 1/3, 1, 5)
        let lr = Linear::new(0.1 / 3.0, 0.1, 5).unwrap();
        check(&lr, &[(0, 0.03333333333333333), (1, 0.04666666666666667), (2, 0.06), (10, 0.1)]);
        // LinearLR(base 0.4, 0.01, 1, 40)
        let lr = Linear::new(0.004, 0.4, 40).unwrap();
        check(&lr, &[(0, 0.004), (1, 0.0139), (2, 0.0238), (10, 0.103), (50, 0.4)]);
        // LinearLR(base 0.2, 1, 0.1, 50): downwards
        let lr = Linear::new(0.2, 0.02, 50).unwrap();
        check(&lr, &[(0, 0.2), (1, 0.1964), (10, 0.164), (50, 0.02)]);
    }

    #[test]
    fn the_golden_numbers_of_pytorch() {
        let lr = Linear::new(1.0 / 3.0, 1.0, 5).unwrap();
        let want = [1.0 / 3.0, 7.0 / 15.0, 0.6, 11.0 / 15.0, 13.0 / 15.0, 1.0, 1.0];
        want.into_iter().enumerate().for_each(|(t, want)| check(&lr, &[(t as u64, want)]));
    }

    #[test]
    fn one_step_is_a_jump() {
        check(&Linear::new(0.0, 1.0, 1).unwrap(), &[(0, 0.0), (1, 1.0), (2, 1.0)]);
    }

    #[test]
    fn zero_steps_are_refused() {
        assert_eq!(Linear::new(0.0, 1.0, 0), Err(ScheduleError::ZeroSteps { argument: "steps" }));
    }

    #[test]
    fn matches_transformers_linear() {
        let lr = warmup_linear(0.1, 10, 50).unwrap();
        check(&lr, &[(0, 0.0), (1, 0.01), (10, 0.1), (11, 0.0975), (49, 0.0025), (51, 0.0)]);
        assert_eq!(
            warmup_linear(0.1, 5, 5),
            Err(ScheduleError::WarmupTooLong { warmup_steps: 5, total_steps: 5 })
        );
    }
}
