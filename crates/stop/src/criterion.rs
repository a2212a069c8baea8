//! What all criteria have in common.

use core::{fmt, time::Duration};

use gradus_core::State;

use crate::Verdict;

/// What is known at the end of an epoch, or whenever criteria are asked.
///
/// Steps, tokens and time are those since the observation before, not since the beginning: so a resumed run needs no
/// correction, and nothing here reads a clock.
///
/// ```
/// use std::time::Duration;
///
/// use gradus_stop::Observation;
/// let seen = Observation::new(0.31).with_train_error(0.25).with_steps(500);
/// let seen = seen.with_elapsed(Duration::from_secs(42));
/// assert_eq!((seen.metric, seen.train_error, seen.steps), (0.31, Some(0.25), 500));
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct Observation {
    /// The metric watched: a validation loss as a rule.
    pub metric: f64,
    /// The mean training error of the epoch, which some criteria compare it with.
    pub train_error: Option<f64>,
    /// Optimizer steps since the last observation.
    pub steps: u64,
    /// Tokens, or samples, since the last observation.
    pub tokens: u64,
    /// Time since the last observation.
    pub elapsed: Duration,
}

impl Observation {
    /// A metric, and nothing else.
    #[must_use]
    pub fn new(metric: f64) -> Self {
        Self { metric, train_error: None, steps: 0, tokens: 0, elapsed: Duration::ZERO }
    }

    /// Sets [`train_error`](Self::train_error).
    #[must_use]
    pub fn with_train_error(self, train_error: impl Into<Option<f64>>) -> Self {
        Self { train_error: train_error.into(), ..self }
    }

    /// Sets [`steps`](Self::steps).
    #[must_use]
    pub fn with_steps(self, steps: u64) -> Self {
        Self { steps, ..self }
    }

    /// Sets [`tokens`](Self::tokens).
    #[must_use]
    pub fn with_tokens(self, tokens: u64) -> Self {
        Self { tokens, ..self }
    }

    /// Sets [`elapsed`](Self::elapsed).
    #[must_use]
    pub fn with_elapsed(self, elapsed: Duration) -> Self {
        Self { elapsed, ..self }
    }
}

/// A rule that judges a run as it goes on. Its memory is [`State`]: a restored one goes on as if uninterrupted.
///
/// A stop is advice: a caller who goes on after it is judged by the same rules.
pub trait Criterion: State + fmt::Debug {
    /// Takes one more observation.
    #[must_use = "training stops only if the caller obeys the verdict"]
    fn judge(&mut self, seen: &Observation) -> Verdict;
}
