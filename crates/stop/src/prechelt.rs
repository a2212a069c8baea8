//! Prechelt's criteria: how far the error is above its best, and whether training still gains.

use alloc::vec::Vec;

use gradus_core::{State, StateDict, StateError, StateValue};

use crate::{Criterion, Observation, Reason, StopError, Verdict, error::in_range};

/// Which of the criteria of [`Prechelt`] is asked, with its numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum PrecheltRule {
    /// `GL_alpha`: stops as soon as the generalization loss is above `alpha`.
    GeneralizationLoss {
        /// Per cent above the best error; 1 to 5 in the paper.
        alpha: f64,
    },
    /// `PQ_alpha`: stops at the end of a strip when the generalization loss is more than `alpha` times the training
    /// progress of the strip.
    ProgressQuotient {
        /// The quotient; 0.5 to 3 in the paper.
        alpha: f64,
        /// Epochs of a strip; 5 in the paper.
        strip: u64,
    },
    /// `UP_s`: stops when the error at the end of a strip was above that of the strip before, so many times in a row.
    SuccessiveIncreases {
        /// The number of increases; 2 to 8 in the paper.
        increases: u64,
        /// Epochs of a strip; 5 in the paper.
        strip: u64,
    },
}

/// Stops when the validation error has risen too far, has risen too far for what training still gains, or has risen too
/// often. With the error `e`, its best so far and the training errors `t` of a strip:
///
/// ```text
/// generalization loss  GL = 100 (e / best - 1)
/// training progress    P  = 1000 (mean(t) / min(t) - 1)
/// ```
///
/// The differences are taken relative to the magnitude of the best, so that errors may be negative (a log-likelihood); a
/// best of 0 is infinitely far below anything above it. An error that is NaN or infinite ends training
/// ([`Reason::NonFiniteMetric`]) and enters nothing. A strip in which a training error is missing, NaN or infinite has no
/// progress to compare with, and `PQ` does not stop at its end. `improved` in the [`Verdict`] says that the error is the
/// lowest so far; `waiting` counts the epochs since.
///
/// ```
/// use gradus_stop::{Prechelt, PrecheltRule, Reason};
/// let mut gl = Prechelt::new(PrecheltRule::GeneralizationLoss { alpha: 5.0 })?;
/// let stops = [1.0, 0.8, 0.83, 0.85].map(|error| gl.observe(error, None).stop);
/// assert_eq!(stops, [None, None, None, Some(Reason::GeneralizationLoss)]); // 3.75 %, 6.25 %
/// # Ok::<(), gradus_stop::StopError>(())
/// ```
///
/// # References
/// Prechelt: Early stopping - but when? (1998).
#[derive(Clone, PartialEq, Debug)]
pub struct Prechelt {
    rule: PrecheltRule,
    epochs: u64,
    best: Option<(f64, u64)>,
    /// The training errors of the strip so far; NaN where there is none.
    strip: Vec<f64>,
    /// The error at the end of the strip before.
    previous: Option<f64>,
    increases: u64,
}

impl Prechelt {
    /// A criterion that has seen nothing yet.
    ///
    /// # Errors
    /// [`StopError`] when `alpha` is not finite or is negative, or another number is 0.
    pub fn new(rule: PrecheltRule) -> Result<Self, StopError> {
        let positive = |option, number: u64| match number {
            0 => Err(StopError::Zero { option }),
            _ => Ok(()),
        };
        match rule {
            PrecheltRule::GeneralizationLoss { alpha } => {
                in_range("alpha", alpha, true, "finite and not negative")?;
            }
            PrecheltRule::ProgressQuotient { alpha, strip } => {
                in_range("alpha", alpha, true, "finite and not negative")?;
                positive("strip", strip)?;
            }
            PrecheltRule::SuccessiveIncreases { increases, strip } => {
                positive("increases", increases)?;
                positive("strip", strip)?;
            }
        }
        let (best, previous) = (None, None);
        Ok(Self { rule, epochs: 0, best, strip: Vec::new(), previous, increases: 0 })
    }

    /// Takes the validation error and, for `PQ`, the training error of one more epoch.
    #[must_use = "training stops only if the caller obeys the verdict"]
    pub fn observe(&mut self, error: f64, train_error: impl Into<Option<f64>>) -> Verdict {
        let epoch = self.epochs;
        self.epochs += 1;
        let finite = error.is_finite();
        let improved = finite && self.best.is_none_or(|(best, _)| error < best);
        if improved {
            self.best = Some((error, epoch));
        }
        // By the rules that follow nothing is above a NaN.
        let error = if finite { error } else { f64::NAN };
        let loss = self.best.map_or(0.0, |(best, _)| 100.0 * above(error, best));
        let reason = match self.rule {
            PrecheltRule::GeneralizationLoss { alpha } => {
                (loss > alpha).then_some(Reason::GeneralizationLoss)
            }
            PrecheltRule::ProgressQuotient { alpha, strip } => {
                self.strip.push(train_error.into().unwrap_or(f64::NAN));
                let ends = self.strip.len() as u64 >= strip;
                let enough = ends && loss > alpha * progress(&self.strip);
                if ends {
                    self.strip.clear();
                }
                enough.then_some(Reason::ProgressQuotient)
            }
            PrecheltRule::SuccessiveIncreases { increases, strip } => {
                if self.epochs.is_multiple_of(strip) && finite {
                    let rose = self.previous.is_some_and(|previous| error > previous);
                    self.increases = if rose { self.increases + 1 } else { 0 };
                    self.previous = Some(error);
                }
                (self.increases >= increases).then_some(Reason::SuccessiveIncreases)
            }
        };
        let waiting = self.best.map_or(self.epochs, |(_, best)| epoch - best);
        let stop = if finite { reason } else { Some(Reason::NonFiniteMetric) };
        Verdict { improved, waiting, stop, ..Verdict::default() }
    }

    /// The rule.
    #[must_use]
    pub fn rule(&self) -> PrecheltRule {
        self.rule
    }

    /// The lowest error, if there was one.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.best.map(|(error, _)| error)
    }

    /// The epoch of the lowest error, counted from 0.
    #[must_use]
    pub fn best_epoch(&self) -> Option<u64> {
        self.best.map(|(_, epoch)| epoch)
    }
}

/// How far `a` is above `b`, relative to `b`.
fn above(a: f64, b: f64) -> f64 {
    // 0 / 0 is no distance.
    if a == b { 0.0 } else { (a - b) / b.abs() }
}

/// The training progress of a strip; NaN if a number in it is.
fn progress(strip: &[f64]) -> f64 {
    if !strip.iter().all(|error| error.is_finite()) {
        return f64::NAN;
    }
    let mean = strip.iter().map(|error| error / strip.len() as f64).sum();
    1000.0 * above(mean, strip.iter().copied().fold(f64::INFINITY, f64::min)).max(0.0)
}

impl Criterion for Prechelt {
    fn judge(&mut self, seen: &Observation) -> Verdict {
        self.observe(seen.metric, seen.train_error)
    }
}

/// Entries `epochs`, `strip` and `increases`, `best` and `best_epoch` as soon as there is a best, `previous` after the
/// first strip.
impl State for Prechelt {
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("epochs", StateValue::U64(self.epochs));
        state.insert("strip", StateValue::F64s(self.strip.clone()));
        state.insert("increases", StateValue::U64(self.increases));
        if let Some((best, epoch)) = self.best {
            state.insert("best", StateValue::F64(best));
            state.insert("best_epoch", StateValue::U64(epoch));
        }
        if let Some(previous) = self.previous {
            state.insert("previous", StateValue::F64(previous));
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let (epochs, increases) = (state.u64("epochs")?, state.u64("increases")?);
        let strip = state.f64s("strip")?;
        let best = match state.get("best").or(state.get("best_epoch")) {
            Some(_) => Some((state.f64("best")?, state.u64("best_epoch")?)),
            None => None,
        };
        let previous = state.get("previous").map(|_| state.f64("previous")).transpose()?;
        let invalid =
            |name: &str, expected| Err(StateError::Invalid { name: name.into(), expected });
        if best.is_some_and(|(best, epoch)| !best.is_finite() || epoch >= epochs) {
            return invalid("best", "a finite number, of an epoch before the next one");
        }
        if previous.is_some_and(|previous| !previous.is_finite()) {
            return invalid("previous", "a finite number");
        }
        if increases > epochs {
            return invalid("increases", "at most as many as epochs");
        }
        let in_strip = match self.rule {
            PrecheltRule::ProgressQuotient { strip, .. } => epochs % strip,
            _ => 0,
        };
        if strip.len() as u64 != in_strip {
            return invalid("strip", "the training errors since the last strip ended");
        }
        (self.epochs, self.increases, self.strip) = (epochs, increases, strip);
        (self.best, self.previous) = (best, previous);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops(rule: PrecheltRule, errors: &[f64], train: &[f64]) -> Vec<u64> {
        let mut criterion = Prechelt::new(rule).unwrap();
        let mut found = Vec::new();
        for (i, &error) in errors.iter().enumerate() {
            if criterion.observe(error, train.get(i).copied()).stop.is_some() {
                found.push(i as u64);
            }
        }
        found
    }

    const NAN: f64 = f64::NAN;

    #[test]
    fn generalization_loss_is_strictly_above_alpha() {
        let gl = |alpha| PrecheltRule::GeneralizationLoss { alpha };
        let errors = [2.0, 1.0, 1.5, 0.9, 1.5];
        assert_eq!(stops(gl(50.0), &errors, &[]), [4]); // 50 % is not more than 50 %
        assert_eq!(stops(gl(49.0), &errors, &[]), [2, 4]);
        // Of negative errors too, and from 0.
        assert_eq!(stops(gl(10.0), &[-1.0, -2.0, -1.9, -1.7], &[]), [3]);
        assert_eq!(stops(gl(1e9), &[0.0, 0.0, 1e-9], &[]), [2]);
    }

    #[test]
    fn the_quotient_asks_at_the_end_of_a_strip_and_spares_what_still_learns() {
        let pq = PrecheltRule::ProgressQuotient { alpha: 1.0, strip: 2 };
        let errors = [1.0, 1.1, 1.1, 1.1]; // GL = 10
        // P = 1000 (1.25 / 1 - 1) = 250, then 1000 (1.005 / 1 - 1) = 5.
        assert_eq!(stops(pq, &errors, &[1.5, 1.0, 1.01, 1.0]), [3]);
        // Without any progress any loss is too much, but no loss is not.
        assert_eq!(stops(pq, &errors, &[1.0; 4]), [1, 3]);
        assert_eq!(stops(pq, &[1.0; 4], &[1.0; 4]), []);
        // Without training errors there is nothing to compare with.
        assert_eq!(stops(pq, &errors, &[]), []);
        assert_eq!(stops(pq, &errors, &[1.0, NAN, 1.0, 1.0]), [3]);
        assert_eq!(stops(pq, &errors, &[0.0, 0.0, 0.0, 1.0]), [1]);
    }

    #[test]
    fn successive_increases_are_counted_from_strip_to_strip() {
        let up = |increases| PrecheltRule::SuccessiveIncreases { increases, strip: 2 };
        let errors = [0.9, 1.0, 9.0, 1.1, 0.1, 1.2, 0.0, 1.0, 0.0, 1.1];
        assert_eq!(stops(up(1), &errors, &[]), [3, 4, 5, 6, 9]);
        assert_eq!(stops(up(2), &errors, &[]), [5, 6]);
        assert_eq!(stops(up(3), &errors, &[]), []);
    }

    #[test]
    fn what_is_not_finite_ends_training_and_enters_nothing() {
        for rule in [
            PrecheltRule::GeneralizationLoss { alpha: 5.0 },
            PrecheltRule::ProgressQuotient { alpha: 1.0, strip: 1 },
            PrecheltRule::SuccessiveIncreases { increases: 1, strip: 1 },
        ] {
            let mut criterion = Prechelt::new(rule).unwrap();
            for bad in [NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let verdict = criterion.observe(bad, 1.0);
                assert_eq!(
                    (verdict.stop, verdict.improved),
                    (Some(Reason::NonFiniteMetric), false)
                );
            }
            assert_eq!(criterion.best(), None);
            assert!(criterion.observe(1.0, 1.0).improved);
            assert_eq!(criterion.observe(NAN, 1.0).waiting, 1);
            assert_eq!((criterion.best(), criterion.best_epoch()), (Some(1.0), Some(3)));
        }
    }

    #[test]
    fn bad_options_and_bad_states_are_refused() {
        for bad in [
            PrecheltRule::GeneralizationLoss { alpha: -1.0 },
            PrecheltRule::ProgressQuotient { alpha: NAN, strip: 5 },
            PrecheltRule::ProgressQuotient { alpha: 1.0, strip: 0 },
            PrecheltRule::SuccessiveIncreases { increases: 0, strip: 5 },
            PrecheltRule::SuccessiveIncreases { increases: 2, strip: 0 },
        ] {
            assert!(Prechelt::new(bad).is_err(), "{bad:?}");
        }
        let rule = PrecheltRule::ProgressQuotient { alpha: 1.0, strip: 5 };
        let mut criterion = Prechelt::new(rule).unwrap();
        let _ = [1.0, 0.9].map(|error| criterion.observe(error, 1.0));
        let (before, good) = (criterion.clone(), criterion.save_state());
        for (name, value) in [
            ("best", StateValue::F64(NAN)),
            ("best_epoch", StateValue::U64(2)),
            ("previous", StateValue::F64(NAN)),
            ("increases", StateValue::U64(3)),
            ("strip", StateValue::F64s([1.0].into())),
            ("epochs", StateValue::F64(2.0)),
        ] {
            let mut bad = good.clone();
            bad.insert(name, value);
            assert!(criterion.load_state(&bad).is_err(), "{name}");
            assert_eq!(criterion, before);
        }
    }
}
