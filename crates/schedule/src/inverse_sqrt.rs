//! One over the root of the step.

use num_traits::Float;

use crate::{
    Schedule, ScheduleError,
    error::{length, number},
};

/// `start / sqrt(1 + t / timescale)`.
///
/// transformers' `get_inverse_sqrt_schedule(warmup, timescale)` is
/// `InverseSqrt::new(base, timescale)?.warmup(warmup)`; there the timescale is the warm-up's length by
/// default, which makes the tail the same as [`Noam`]'s.
///
/// ```
/// use gradus_schedule::{InverseSqrt, Schedule};
/// let lr = InverseSqrt::new(0.4, 10)?;
/// assert_eq!([lr.value(0), lr.value(30)], [0.4, 0.2]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct InverseSqrt {
    start: f64,
    timescale: u64,
}

impl InverseSqrt {
    /// `start` at step 0, half of it after three times the timescale.
    ///
    /// # Errors
    /// [`ScheduleError`] when `start` is not finite or is negative, or `timescale` is 0.
    pub fn new(start: f64, timescale: u64) -> Result<Self, ScheduleError> {
        Self { start, timescale }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        length("timescale", self.timescale)?;
        Ok(self)
    }
}

impl Schedule for InverseSqrt {
    fn value(&self, step: u64) -> f64 {
        self.start / Float::sqrt(1.0 + step as f64 / self.timescale as f64)
    }
}

/// The transformer's schedule: `d_model^-0.5 min(s^-0.5, s warmup_steps^-1.5)`, `s = t + 1`.
///
/// It rises linearly to `(d_model * warmup_steps)^-0.5` and falls with the inverse root of the step. The paper
/// has a model width of 512 and 4000 steps. Another height is [`scale`](crate::ScheduleExt::scale)'s.
///
/// ```
/// use gradus_schedule::{Noam, Schedule};
/// let lr = Noam::new(512, 4000)?;
/// assert!((lr.value(3999) - 6.987_712e-4).abs() < 1e-9);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # References
/// Vaswani et al.: Attention is all you need (2017).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Noam {
    d_model: u64,
    warmup_steps: u64,
}

impl Noam {
    /// For a model of this width.
    ///
    /// # Errors
    /// [`ScheduleError::ZeroSteps`] when the width or the warm-up is 0.
    pub fn new(d_model: u64, warmup_steps: u64) -> Result<Self, ScheduleError> {
        Self { d_model, warmup_steps }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        length("d_model", self.d_model)?;
        length("warmup_steps", self.warmup_steps)?;
        Ok(self)
    }
}

impl Schedule for Noam {
    fn value(&self, step: u64) -> f64 {
        let (s, warmup) = (step as f64 + 1.0, self.warmup_steps as f64);
        let rising = s / (warmup * Float::sqrt(warmup));
        (1.0 / Float::sqrt(s)).min(rising) / Float::sqrt(self.d_model as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScheduleExt, testing::check};

    #[test]
    fn matches_transformers_inverse_sqrt() {
        let lr = InverseSqrt::new(0.1, 10).unwrap().warmup(10);
        check(&lr, &[(0, 0.0), (1, 0.01), (10, 0.1), (17, 0.07669649888473705), (40, 0.05)]);
        let lr = InverseSqrt::new(1.0, 50).unwrap().warmup(8);
        check(&lr, &[(10, 0.9805806756909201), (50, 0.7372097807744856)]);
    }

    #[test]
    fn noam_rises_and_falls() {
        let lr = Noam::new(512, 4000).unwrap();
        for (step, want) in [(0, 1.746928e-7), (3999, 6.987712e-4), (7999, 4.941059e-4)] {
            assert!((lr.value(step) / want - 1.0).abs() < 1e-6, "step {step}");
        }
        let tail = InverseSqrt::new(lr.value(3999), 4000).unwrap();
        check(&lr, &[(9999, tail.value(6000)), (1_000_000, tail.value(996_001))]);
    }

    #[test]
    fn zeros_are_refused() {
        for error in [Noam::new(0, 10).unwrap_err(), Noam::new(10, 0).unwrap_err()] {
            assert!(matches!(error, ScheduleError::ZeroSteps { .. }));
        }
        assert!(InverseSqrt::new(0.1, 0).is_err() && InverseSqrt::new(f64::NAN, 5).is_err());
    }
}
