//! Several criteria as one.

use alloc::{boxed::Box, string::String, vec::Vec};

use gradus_core::{State, StateDict, StateError};

use crate::{Criterion, Observation, Reason, StopError, Verdict};

/// Criteria of which any may end training; says which did.
///
/// All of them see every observation, so that each remembers the whole run. The verdict is [`Verdict::or`] of all: the
/// reason is that of the first in order that has one.
///
/// ```
/// use std::time::Duration;
///
/// use gradus_stop::{
///     AnyOf, Budget, Criterion, EarlyStopping, EarlyStoppingConfig, Mode, Observation, Reason,
/// };
/// let patience = EarlyStopping::new(EarlyStoppingConfig::lightning(Mode::Min))?;
/// let mut any = AnyOf::new()
///     .with("patience", patience)?
///     .with("time", Budget::new().with_time(Duration::from_secs(100))?)?;
/// let minute = Observation::new(0.5).with_elapsed(Duration::from_secs(60));
/// assert_eq!([any.judge(&minute).stop, any.judge(&minute).stop], [None, Some(Reason::TimeBudget)]);
/// assert_eq!(any.fired().collect::<Vec<_>>(), [("time", Reason::TimeBudget)]);
/// # Ok::<(), gradus_stop::StopError>(())
/// ```
#[derive(Debug, Default)]
pub struct AnyOf {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    name: String,
    criterion: Box<dyn Criterion>,
    /// The last one.
    verdict: Verdict,
}

impl AnyOf {
    /// No criterion yet: never ends anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a criterion under a name of its own.
    ///
    /// # Errors
    /// [`StopError::DuplicateName`] when one before it has this name.
    pub fn with(
        mut self,
        name: impl Into<String>,
        criterion: impl Criterion + 'static,
    ) -> Result<Self, StopError> {
        let name = name.into();
        if self.parts.iter().any(|part| part.name == name) {
            return Err(StopError::DuplicateName { index: self.parts.len() });
        }
        let criterion = Box::new(criterion);
        self.parts.push(Part { name, criterion, verdict: Verdict::default() });
        Ok(self)
    }

    /// What each said last, by name, in the order in which they were added.
    pub fn verdicts(&self) -> impl Iterator<Item = (&str, Verdict)> {
        self.parts.iter().map(|part| (part.name.as_str(), part.verdict))
    }

    /// Those that wanted the end at the last observation, with their reasons.
    pub fn fired(&self) -> impl Iterator<Item = (&str, Reason)> {
        self.verdicts().filter_map(|(name, verdict)| verdict.stop.map(|reason| (name, reason)))
    }
}

impl Criterion for AnyOf {
    fn judge(&mut self, seen: &Observation) -> Verdict {
        let judge = |part: &mut Part| {
            part.verdict = part.criterion.judge(seen);
            part.verdict
        };
        self.parts.iter_mut().map(judge).fold(Verdict::default(), Verdict::or)
    }
}

/// The entries of each criterion under its name. What they said last is not kept.
impl State for AnyOf {
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        for part in &self.parts {
            state.insert_all(&part.name, part.criterion.save_state());
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let before = self.save_state();
        for i in 0..self.parts.len() {
            let Part { name, criterion, .. } = &mut self.parts[i];
            if let Err(error) = criterion.load_state(&state.sub(name)) {
                for part in &mut self.parts[..i] {
                    // It was saved by the same criterion a moment ago.
                    part.criterion.load_state(&before.sub(&part.name))?;
                }
                return Err(error);
            }
        }
        self.parts.iter_mut().for_each(|part| part.verdict = Verdict::default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gradus_core::StateValue;

    use super::*;
    use crate::{Budget, EarlyStopping, EarlyStoppingConfig, Mode};

    fn any() -> AnyOf {
        let stopper = |patience| {
            EarlyStopping::new(EarlyStoppingConfig::lightning(Mode::Min).with_patience(patience))
        };
        AnyOf::new()
            .with("slow", stopper(3).unwrap())
            .and_then(|any| any.with("quick", stopper(2).unwrap()))
            .and_then(|any| any.with("steps", Budget::new().with_steps(40).unwrap()))
            .unwrap()
    }

    #[test]
    fn all_see_everything_and_the_first_reason_counts() {
        let mut any = any();
        let seen = Observation::new(0.5).with_steps(10);
        let verdicts: Vec<Verdict> = (0..4).map(|_| any.judge(&seen)).collect();
        assert_eq!(verdicts.iter().map(|v| v.waiting).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(verdicts[0].improved && !verdicts[1].improved);
        let stops: Vec<_> = verdicts.iter().map(|v| v.stop).collect();
        let patience = Some(Reason::PatienceExhausted);
        assert_eq!(stops, [None, None, patience, patience]);
        let fired: Vec<_> = any.fired().map(|(name, _)| name).collect();
        assert_eq!(fired, ["slow", "quick", "steps"]);
        assert_eq!(any.verdicts().last().unwrap().1.stop, Some(Reason::StepBudget));
        assert_eq!(AnyOf::new().judge(&seen), Verdict::default());
    }

    #[test]
    fn states_are_kept_apart_and_a_bad_one_changes_nothing() {
        let mut whole = any();
        let seen = |metric| Observation::new(metric).with_steps(7);
        let _ = [0.5, 0.4].map(|metric| whole.judge(&seen(metric)));
        let saved = whole.save_state();
        let mut resumed = any();
        resumed.load_state(&saved).unwrap();
        assert_eq!(resumed.save_state(), saved);
        for name in ["slow.epochs", "quick.waiting", "steps.steps"] {
            let mut bad = any().save_state();
            bad.insert(name, StateValue::Text("none".into()));
            assert!(resumed.load_state(&bad).is_err(), "{name}");
            assert_eq!(resumed.save_state(), saved);
        }
        for metric in [0.6, 0.5, 0.45, 0.3] {
            assert_eq!(resumed.judge(&seen(metric)), whole.judge(&seen(metric)));
        }
    }

    #[test]
    fn a_name_is_given_once() {
        let error = any().with("quick", Budget::new()).unwrap_err();
        assert_eq!(error, StopError::DuplicateName { index: 3 });
    }
}
