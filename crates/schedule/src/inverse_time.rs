//! One over the step.

use num_traits::Float;

use crate::{
    Schedule, ScheduleError,
    error::{length, number},
};

/// `start / (1 + rate t / period)`, with a period of 1 by default (Keras' `InverseTimeDecay`, whose `decay_steps` is the
/// period).
///
/// ```
/// use gradus_schedule::{InverseTime, Schedule};
/// let lr = InverseTime::new(0.4, 1.0)?.with_period(10)?;
/// assert_eq!([lr.value(0), lr.value(10), lr.value(30)], [0.4, 0.2, 0.1]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct InverseTime {
    start: f64,
    rate: f64,
    #[cfg_attr(feature = "serde", serde(default = "crate::checked::one"))]
    period: u64,
    #[cfg_attr(feature = "serde", serde(default))]
    staircase: bool,
}

impl InverseTime {
    /// `start` at step 0, half of it after `1 / rate` periods.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when a number is not finite or is negative.
    pub fn new(start: f64, rate: f64) -> Result<Self, ScheduleError> {
        Self { start, rate, period: 1, staircase: false }.checked()
    }

    /// Counts time in so many steps.
    ///
    /// # Errors
    /// [`ScheduleError::ZeroSteps`] when there are none.
    pub fn with_period(self, period: u64) -> Result<Self, ScheduleError> {
        Self { period, ..self }.checked()
    }

    /// Whether only whole periods count.
    #[must_use]
    pub fn with_staircase(self, staircase: bool) -> Self {
        Self { staircase, ..self }
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        number("rate", self.rate)?;
        length("period", self.period)?;
        Ok(self)
    }
}

impl Schedule for InverseTime {
    fn value(&self, step: u64) -> f64 {
        let periods = match self.staircase {
            true => (step / self.period) as f64,
            false => step as f64 / self.period as f64,
        };
        self.start / (1.0 + self.rate * periods)
    }
}

/// `min(max, scale n^-exponent)` with `n` tokens behind: `n = t tokens_per_step` (the power scheduler).
///
/// The same rate fits a run of any length, since it depends on the tokens seen so far alone. `scale` holds the batch size
/// as a factor there. The paper warms up before and cools down at the end:
/// `power.warmup(w).with_delay(false).cooldown(at, n)`.
///
/// ```
/// use gradus_schedule::{PowerLaw, Schedule};
/// let lr = PowerLaw::new(0.02, 0.4, 0.5)?.with_tokens_per_step(100)?;
/// assert_eq!([lr.value(0), lr.value(4)], [0.02, 0.02]);
/// assert!((lr.value(16) - 0.01).abs() < 1e-15);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # References
/// Shen et al.: Power scheduler: a batch size and token number agnostic learning rate scheduler (2024).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct PowerLaw {
    max: f64,
    scale: f64,
    exponent: f64,
    #[cfg_attr(feature = "serde", serde(default = "crate::checked::one"))]
    tokens_per_step: u64,
}

impl PowerLaw {
    /// `max` until the power of the number of tokens is lower.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when a number is not finite or is negative.
    pub fn new(max: f64, scale: f64, exponent: f64) -> Result<Self, ScheduleError> {
        Self { max, scale, exponent, tokens_per_step: 1 }.checked()
    }

    /// Counts so many tokens a step; 1 by default.
    ///
    /// # Errors
    /// [`ScheduleError::ZeroSteps`] when there are none.
    pub fn with_tokens_per_step(self, tokens_per_step: u64) -> Result<Self, ScheduleError> {
        Self { tokens_per_step, ..self }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("max", self.max)?;
        number("scale", self.scale)?;
        number("exponent", self.exponent)?;
        length("tokens_per_step", self.tokens_per_step)?;
        Ok(self)
    }
}

impl Schedule for PowerLaw {
    fn value(&self, step: u64) -> f64 {
        let tokens = step as f64 * self.tokens_per_step as f64;
        // Infinite at step 0, and 0 times infinity is NaN.
        let power = Float::powf(tokens, -self.exponent).min(f64::MAX);
        self.max.min(self.scale * power)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScheduleExt, testing::check};

    #[test]
    fn matches_keras_inverse_time_decay() {
        // InverseTimeDecay(0.1, decay_steps 10, decay_rate 0.5): 0.1 / (1 + 0.5 t / 10)
        let lr = InverseTime::new(0.1, 0.5).unwrap().with_period(10).unwrap();
        check(&lr, &[(0, 0.1), (5, 0.08), (10, 0.1 / 1.5), (30, 0.04)]);
        let stairs = lr.with_staircase(true);
        check(&stairs, &[(0, 0.1), (9, 0.1), (10, 0.1 / 1.5), (19, 0.1 / 1.5), (30, 0.04)]);
        assert!(InverseTime::new(0.1, -1.0).is_err() && lr.with_period(0).is_err());
    }

    #[test]
    fn a_power_law_has_a_ceiling_and_no_end() {
        let lr = PowerLaw::new(0.01, 4.0, 0.51).unwrap().with_tokens_per_step(1 << 20).unwrap();
        check(&lr, &[(0, 0.01), (1_000, 4.0 * (1000.0 * 1_048_576.0_f64).powf(-0.51))]);
        let run = lr.warmup(10).with_delay(false).cooldown(900, 100);
        check(&run, &[(0, 0.0), (10, lr.value(10)), (900, lr.value(900)), (1000, 0.0)]);
        check(&PowerLaw::new(0.3, 0.0, 1.0).unwrap(), &[(0, 0.0), (5, 0.0)]);
        check(&PowerLaw::new(0.3, 1.0, 0.0).unwrap(), &[(0, 0.3), (u64::MAX, 0.3)]);
        assert!(PowerLaw::new(f64::NAN, 1.0, 1.0).is_err());
        assert!(lr.with_tokens_per_step(0).is_err());
    }
}
