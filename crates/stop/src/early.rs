//! Early stopping.

use gradus_core::{State, StateDict, StateError, StateValue};

use crate::{Criterion, EarlyStoppingConfig, FirstMetric, Observation, Reason, StopError, Verdict};

/// Watches a metric and says when to stop.
///
/// An epoch here is one call of [`observe`](Self::observe), however many steps lie between two of them. Each
/// is judged in this order: epochs before `start_from_epoch` are passed over; then a metric that is not finite
/// (where that is checked), the stopping threshold, the divergence threshold, improvement, patience. All
/// comparisons are strict, so reaching a threshold exactly is not enough. An epoch that is stopped by one of
/// the first three does not become the best one.
///
/// NaN ends training by Lightning's rules. Without `check_finite` it is an epoch without improvement, except
/// as the first metric by Keras' rules ([`FirstMetric::Accepted`]).
///
/// A stop is advice: a caller who goes on observing after it is judged by the same rules.
#[derive(Clone, PartialEq, Debug)]
pub struct EarlyStopping {
    config: EarlyStoppingConfig,
    epochs: u64,
    waiting: u64,
    best: Option<Best>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Best {
    metric: f64,
    epoch: u64,
}

impl EarlyStopping {
    /// A stopper that has seen nothing yet.
    ///
    /// # Errors
    /// [`StopError`] when `min_delta` is negative or a number is not finite.
    pub fn new(config: EarlyStoppingConfig) -> Result<Self, StopError> {
        config.validate()?;
        Ok(Self { config, epochs: 0, waiting: 0, best: None })
    }

    /// Takes the metric of one more epoch.
    #[must_use = "training stops only if the caller obeys the verdict"]
    pub fn observe(&mut self, metric: f64) -> Verdict {
        let config = &self.config;
        let epoch = self.epochs;
        self.epochs += 1;
        let verdict =
            |improved, waiting, stop| Verdict { improved, waiting, stop, ..Verdict::default() };
        if epoch < config.start_from_epoch {
            return verdict(false, 0, None);
        }

        let at_once = if config.check_finite && !metric.is_finite() {
            Some(Reason::NonFiniteMetric)
        } else if config.stopping_threshold.is_some_and(|t| config.mode.better(metric, t)) {
            Some(Reason::StoppingThreshold)
        } else if config.divergence_threshold.is_some_and(|t| config.mode.better(t, metric)) {
            Some(Reason::DivergenceThreshold)
        } else {
            None
        };
        if at_once.is_some() {
            return verdict(false, self.waiting, at_once);
        }

        let accepted = config.first_metric == FirstMetric::Accepted;
        let improved = match self.best {
            Some(best) => config.improves(metric, best.metric),
            None => accepted || config.improves(metric, config.mode.worst()),
        };
        if improved {
            self.best = Some(Best { metric, epoch });
        }
        let counts = improved && config.baseline.is_none_or(|b| config.improves(metric, b));
        self.waiting = if counts { 0 } else { self.waiting + 1 };
        let exempt = counts || (accepted && epoch == 0);
        let exhausted = self.waiting >= config.patience && !exempt;
        verdict(improved, self.waiting, exhausted.then_some(Reason::PatienceExhausted))
    }

    /// The options.
    #[must_use]
    pub fn config(&self) -> &EarlyStoppingConfig {
        &self.config
    }

    /// Epochs observed.
    #[must_use]
    pub fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Epochs since the last one that counted as an improvement.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// The best metric, if one was taken.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        self.best.map(|b| b.metric)
    }

    /// The epoch of the best metric, counted from 0.
    #[must_use]
    pub fn best_epoch(&self) -> Option<u64> {
        self.best.map(|b| b.epoch)
    }
}

impl Criterion for EarlyStopping {
    fn judge(&mut self, seen: &Observation) -> Verdict {
        self.observe(seen.metric)
    }
}

/// Entries `epochs` and `waiting`, and `best` and `best_epoch` as soon as there is a best.
impl State for EarlyStopping {
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("epochs", StateValue::U64(self.epochs));
        state.insert("waiting", StateValue::U64(self.waiting));
        if let Some(best) = self.best {
            state.insert("best", StateValue::F64(best.metric));
            state.insert("best_epoch", StateValue::U64(best.epoch));
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let (epochs, waiting) = (state.u64("epochs")?, state.u64("waiting")?);
        let best = if state.get("best").is_some() || state.get("best_epoch").is_some() {
            Some(Best { metric: state.f64("best")?, epoch: state.u64("best_epoch")? })
        } else {
            None
        };
        let invalid =
            |name: &str, expected| Err(StateError::Invalid { name: name.into(), expected });
        if waiting > epochs {
            return invalid("waiting", "at most as many as epochs");
        }
        if best.is_some_and(|b| b.epoch >= epochs) {
            return invalid("best_epoch", "an epoch before the next one");
        }
        (self.epochs, self.waiting, self.best) = (epochs, waiting, best);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::Mode;

    const NAN: f64 = f64::NAN;

    /// What a run until the stop looks like: stopping epoch and reason, the wait after each epoch.
    fn run(
        config: EarlyStoppingConfig,
        metrics: &[f64],
    ) -> (Option<(u64, Reason)>, Vec<u64>, EarlyStopping) {
        let mut stopper = EarlyStopping::new(config).unwrap();
        let mut waits = Vec::new();
        for &metric in metrics {
            let verdict = stopper.observe(metric);
            waits.push(verdict.waiting);
            assert_eq!(verdict.improved, stopper.best_epoch() == Some(stopper.epochs() - 1));
            if let Some(reason) = verdict.stop {
                return (Some((stopper.epochs() - 1, reason)), waits, stopper);
            }
        }
        (None, waits, stopper)
    }

    const LOSSES: [f64; 10] = [1.0, 0.8, 0.7, 0.7, 0.69, 0.7, 0.71, 0.695, 0.6, 0.7];

    #[test]
    fn patience_runs_out() {
        for config in [
            EarlyStoppingConfig::lightning(Mode::Min),
            EarlyStoppingConfig::keras(Mode::Min).with_patience(3),
        ] {
            let (stop, waits, stopper) = run(config, &LOSSES);
            assert_eq!(stop, Some((7, Reason::PatienceExhausted)));
            assert_eq!(waits, [0, 0, 0, 1, 0, 1, 2, 3]);
            assert_eq!((stopper.best(), stopper.best_epoch()), (Some(0.69), Some(4)));
            // Less than min_delta does not count.
            let (stop, waits, _) = run(config.with_min_delta(0.05), &LOSSES);
            assert_eq!(stop, Some((5, Reason::PatienceExhausted)));
            assert_eq!(waits, [0, 0, 0, 1, 2, 3]);
            // A patience of 0 ends with the first epoch that is no better.
            let (stop, waits, _) = run(config.with_patience(0), &LOSSES);
            assert_eq!((stop, waits.len()), (Some((3, Reason::PatienceExhausted)), 4));
        }
    }

    #[test]
    fn a_constant_metric_stops_after_patience_plus_one_epochs() {
        let (stop, ..) = run(EarlyStoppingConfig::lightning(Mode::Max), &[0.5; 9]);
        assert_eq!(stop, Some((3, Reason::PatienceExhausted)));
    }

    #[test]
    fn keras_restarts_the_patience_only_past_the_baseline() {
        let config = EarlyStoppingConfig::keras(Mode::Min).with_patience(4).with_baseline(0.65);
        let (stop, waits, stopper) = run(config, &LOSSES);
        assert_eq!(stop, Some((3, Reason::PatienceExhausted)));
        assert_eq!(waits, [1, 2, 3, 4]);
        assert_eq!(stopper.best_epoch(), Some(2));
    }

    #[test]
    fn the_epoch_that_stops_may_be_the_best() {
        let config = EarlyStoppingConfig::keras(Mode::Min).with_patience(2).with_baseline(0.1);
        let mut stopper = EarlyStopping::new(config).unwrap();
        let _ = stopper.observe(0.9);
        assert_eq!(
            stopper.observe(0.8),
            Verdict {
                improved: true,
                waiting: 2,
                stop: Some(Reason::PatienceExhausted),
                ..Verdict::default()
            }
        );
    }

    #[test]
    fn keras_never_stops_at_epoch_zero() {
        let config = EarlyStoppingConfig::keras(Mode::Min).with_baseline(0.1);
        assert_eq!(run(config, &[0.9]).0, None);
        assert_eq!(run(config, &[0.9, 0.8]).0, Some((1, Reason::PatienceExhausted)));
        // Lightning does, if it may not stop for the NaN itself.
        let config =
            EarlyStoppingConfig::lightning(Mode::Min).with_patience(0).with_check_finite(false);
        assert_eq!(run(config, &[NAN]).0, Some((0, Reason::PatienceExhausted)));
    }

    #[test]
    fn epochs_before_the_start_are_not_looked_at() {
        let metrics = [0.1, NAN, 0.6, 0.59, 0.62, 0.61, 0.615, 0.62, 0.7];
        let config =
            EarlyStoppingConfig::keras(Mode::Max).with_patience(3).with_start_from_epoch(4);
        for config in [config, config.with_check_finite(true)] {
            let (stop, waits, stopper) = run(config, &metrics);
            assert_eq!(stop, Some((7, Reason::PatienceExhausted)));
            assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 3]);
            assert_eq!(stopper.best_epoch(), Some(4));
        }
    }

    #[test]
    fn nan_has_a_meaning() {
        let lightning = EarlyStoppingConfig::lightning(Mode::Min).with_patience(2);
        let (stop, _, stopper) = run(lightning, &[0.5, NAN, 0.3]);
        assert_eq!(stop, Some((1, Reason::NonFiniteMetric)));
        assert_eq!((stopper.best(), stopper.waiting()), (Some(0.5), 0));
        let (stop, ..) = run(lightning, &[0.5, f64::NEG_INFINITY]);
        assert_eq!(stop, Some((1, Reason::NonFiniteMetric)));
        // Not checked, it is an epoch without improvement.
        let unchecked = lightning.with_check_finite(false);
        let (stop, waits, _) = run(unchecked, &[0.5, NAN, 0.3, 0.4, 0.35]);
        assert_eq!(stop, Some((4, Reason::PatienceExhausted)));
        assert_eq!(waits, [0, 1, 0, 1, 2]);
        assert_eq!(run(unchecked, &[NAN, 0.3]).1, [1, 0]);
        // As Keras' first metric it stays the best.
        let keras = EarlyStoppingConfig::keras(Mode::Min).with_patience(2);
        let (stop, waits, stopper) = run(keras, &[NAN, NAN, 0.5]);
        assert_eq!(stop, Some((2, Reason::PatienceExhausted)));
        assert_eq!(waits, [0, 1, 2]);
        assert!(stopper.best().unwrap().is_nan());
        assert_eq!(stopper.best_epoch(), Some(0));
    }

    #[test]
    fn thresholds_are_strict_and_come_in_order() {
        let config = EarlyStoppingConfig::lightning(Mode::Min);
        let (stop, waits, stopper) =
            run(config.with_divergence_threshold(2.0), &[0.5, 0.6, 2.0, 2.1]);
        // 2.0 is not past the threshold, but the third epoch without improvement would be the patience's.
        assert_eq!(stop, Some((3, Reason::DivergenceThreshold)));
        assert_eq!(waits, [0, 1, 2, 2]);
        assert_eq!(stopper.best(), Some(0.5));

        let (stop, _, stopper) = run(config.with_stopping_threshold(0.7), &[1.0, 0.7, 0.69]);
        assert_eq!(stop, Some((2, Reason::StoppingThreshold)));
        assert_eq!(stopper.best(), Some(0.7), "the epoch that reaches the goal is not compared");

        let max = EarlyStoppingConfig::lightning(Mode::Max);
        let max = max.with_stopping_threshold(0.9).with_divergence_threshold(0.1);
        assert_eq!(run(max, &[0.9, 0.91]).0, Some((1, Reason::StoppingThreshold)));
        assert_eq!(run(max, &[0.1, 0.09]).0, Some((1, Reason::DivergenceThreshold)));
        assert_eq!(run(max, &[f64::INFINITY]).0, Some((0, Reason::NonFiniteMetric)));
    }

    #[test]
    fn a_bad_state_changes_nothing() {
        let (_, _, mut stopper) = run(EarlyStoppingConfig::lightning(Mode::Min), &[0.5, 0.6]);
        let (before, good) = (stopper.clone(), stopper.save_state());
        for (name, value) in [
            ("epochs", StateValue::F64(2.0)),
            ("waiting", StateValue::U64(3)),
            ("best_epoch", StateValue::U64(2)),
            ("best", StateValue::Bool(true)),
        ] {
            let mut state = good.clone();
            state.insert(name, value);
            assert!(stopper.load_state(&state).is_err(), "{name}");
            assert_eq!(stopper, before);
        }
        let mut state = StateDict::new();
        for name in ["epochs", "waiting", "best_epoch"] {
            state.insert(name, good.get(name).unwrap().clone());
        }
        assert_eq!(stopper.load_state(&state), Err(StateError::Missing { name: "best".into() }));
        assert_eq!(stopper, before);
    }
}
