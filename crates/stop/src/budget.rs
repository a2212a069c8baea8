//! Stopping when something is used up.

use core::time::Duration;

use gradus_core::{State, StateDict, StateError, StateValue};

use crate::{Criterion, Observation, Reason, StopError, Verdict};

/// Ends training when it has had its steps, its tokens (or samples) or its time.
///
/// It is told what was spent since the last time and reads no clock. What was spent before a restart counts: the state
/// holds it. Without any limit it never ends anything. Steps are looked at first, then tokens, then time; reaching a limit
/// exactly uses it up.
///
/// ```
/// use std::time::Duration;
///
/// use gradus_stop::{Budget, Reason};
/// let mut budget = Budget::new().with_steps(1000)?.with_time(Duration::from_secs(3600))?;
/// let verdict = budget.spend(400, 0, Duration::from_secs(1800));
/// assert_eq!((verdict.stop, budget.steps_left()), (None, Some(600)));
/// assert_eq!(budget.spend(400, 0, Duration::from_secs(1800)).stop, Some(Reason::TimeBudget));
/// # Ok::<(), gradus_stop::StopError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    max_steps: Option<u64>,
    max_tokens: Option<u64>,
    max_time: Option<Duration>,
    steps: u64,
    tokens: u64,
    time: Duration,
}

impl Budget {
    /// No limit yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows so many steps.
    ///
    /// # Errors
    /// [`StopError::Zero`] when there are none.
    pub fn with_steps(self, steps: u64) -> Result<Self, StopError> {
        positive("steps", steps > 0)?;
        Ok(Self { max_steps: Some(steps), ..self })
    }

    /// Allows so many tokens, or samples.
    ///
    /// # Errors
    /// [`StopError::Zero`] when there are none.
    pub fn with_tokens(self, tokens: u64) -> Result<Self, StopError> {
        positive("tokens", tokens > 0)?;
        Ok(Self { max_tokens: Some(tokens), ..self })
    }

    /// Allows so much time.
    ///
    /// # Errors
    /// [`StopError::Zero`] when there is none.
    pub fn with_time(self, time: Duration) -> Result<Self, StopError> {
        positive("time", !time.is_zero())?;
        Ok(Self { max_time: Some(time), ..self })
    }

    /// Takes off what was spent since the last call.
    #[must_use = "training stops only if the caller obeys the verdict"]
    pub fn spend(&mut self, steps: u64, tokens: u64, time: Duration) -> Verdict {
        self.steps = self.steps.saturating_add(steps);
        self.tokens = self.tokens.saturating_add(tokens);
        self.time = self.time.saturating_add(time);
        let stop = if self.steps_left() == Some(0) {
            Some(Reason::StepBudget)
        } else if self.tokens_left() == Some(0) {
            Some(Reason::TokenBudget)
        } else if self.time_left() == Some(Duration::ZERO) {
            Some(Reason::TimeBudget)
        } else {
            None
        };
        Verdict { stop, ..Verdict::default() }
    }

    /// Steps that are left, if they are limited.
    #[must_use]
    pub fn steps_left(&self) -> Option<u64> {
        self.max_steps.map(|max| max.saturating_sub(self.steps))
    }

    /// Tokens that are left, if they are limited.
    #[must_use]
    pub fn tokens_left(&self) -> Option<u64> {
        self.max_tokens.map(|max| max.saturating_sub(self.tokens))
    }

    /// Time that is left, if it is limited.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.max_time.map(|max| max.saturating_sub(self.time))
    }

    /// Time spent so far, before restarts too.
    #[must_use]
    pub fn time_spent(&self) -> Duration {
        self.time
    }
}

fn positive(option: &'static str, is: bool) -> Result<(), StopError> {
    if is { Ok(()) } else { Err(StopError::Zero { option }) }
}

impl Criterion for Budget {
    fn judge(&mut self, seen: &Observation) -> Verdict {
        self.spend(seen.steps, seen.tokens, seen.elapsed)
    }
}

/// Entries `steps`, `tokens`, and the time as `seconds` and `nanoseconds`.
impl State for Budget {
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("steps", StateValue::U64(self.steps));
        state.insert("tokens", StateValue::U64(self.tokens));
        state.insert("seconds", StateValue::U64(self.time.as_secs()));
        state.insert("nanoseconds", StateValue::U64(self.time.subsec_nanos().into()));
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let (steps, tokens) = (state.u64("steps")?, state.u64("tokens")?);
        let (seconds, nanoseconds) = (state.u64("seconds")?, state.u64("nanoseconds")?);
        if nanoseconds >= 1_000_000_000 {
            let expected = "less than a second";
            return Err(StateError::Invalid { name: "nanoseconds".into(), expected });
        }
        self.time = Duration::new(seconds, nanoseconds as u32);
        (self.steps, self.tokens) = (steps, tokens);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_limit_ends_training_when_it_is_reached() {
        let all = Budget::new().with_steps(10).unwrap().with_tokens(100).unwrap();
        let all = all.with_time(5 * SECOND).unwrap();
        let spend = |steps, tokens, time| {
            let mut budget = all;
            budget.spend(steps, tokens, time).stop
        };
        assert_eq!(spend(9, 99, 4 * SECOND), None);
        assert_eq!(spend(10, 99, 4 * SECOND), Some(Reason::StepBudget));
        assert_eq!(spend(9, 100, 4 * SECOND), Some(Reason::TokenBudget));
        assert_eq!(spend(9, 99, 5 * SECOND), Some(Reason::TimeBudget));
        assert_eq!(spend(u64::MAX, u64::MAX, Duration::MAX), Some(Reason::StepBudget));
        let mut none = Budget::new();
        assert_eq!(none.spend(u64::MAX, u64::MAX, Duration::MAX).stop, None);
        assert_eq!((none.steps_left(), none.time_left()), (None, None));
    }

    #[test]
    fn what_was_spent_before_a_restart_counts() {
        let limit = || Budget::new().with_time(10 * SECOND).unwrap();
        let mut first = limit();
        assert_eq!(first.spend(3, 5, Duration::from_millis(6500)).stop, None);
        let mut second = limit();
        second.load_state(&first.save_state()).unwrap();
        assert_eq!(second, first);
        assert_eq!(second.time_left(), Some(Duration::from_millis(3500)));
        assert_eq!(second.spend(1, 1, 4 * SECOND).stop, Some(Reason::TimeBudget));
        assert_eq!(second.time_spent(), Duration::from_millis(10_500));
        let mut bad = first.save_state();
        bad.insert("nanoseconds", StateValue::U64(1_000_000_000));
        assert!(first.load_state(&bad).is_err());
        assert_eq!(first.time_spent(), Duration::from_millis(6500));
    }

    #[test]
    fn nothing_is_no_budget() {
        assert_eq!(Budget::new().with_steps(0), Err(StopError::Zero { option: "steps" }));
        assert_eq!(Budget::new().with_tokens(0), Err(StopError::Zero { option: "tokens" }));
        assert!(Budget::new().with_time(Duration::ZERO).is_err());
    }
}
