//! A criterion that sees a smoothed metric.

use alloc::vec::Vec;

use gradus_core::{State, StateDict, StateError, StateValue};

use crate::{Criterion, Observation, StopError, Verdict, error::in_range};

/// How a metric is smoothed.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Smoothing {
    /// An exponential moving average, `a = decay a + (1 - decay) metric`, divided by `1 - decay^n` so that it does not
    /// start from 0. `decay` is in \[0, 1).
    Ema {
        /// The weight of the past.
        decay: f64,
    },
    /// The mean of the last metrics.
    Mean {
        /// How many.
        window: u64,
    },
    /// The median of the last metrics; of an even number, the mean of the two in the middle.
    Median {
        /// How many.
        window: u64,
    },
}

/// A criterion that judges the smoothed metric instead of the metric of one epoch, which may be lucky.
///
/// A metric that is NaN or infinite is handed on as it is, so that the criterion can do what it does about it, and does
/// not enter what is remembered. While there are fewer metrics than the window holds, those that there are count.
///
/// ```
/// use gradus_stop::{
///     Criterion, EarlyStopping, EarlyStoppingConfig, Mode, Observation, Smoothed, Smoothing,
/// };
/// let config = EarlyStoppingConfig::lightning(Mode::Min).with_patience(1);
/// let smoothing = Smoothing::Median { window: 3 };
/// let mut stopper = Smoothed::new(EarlyStopping::new(config)?, smoothing)?;
/// for loss in [0.9, 0.7, 0.8, 0.6, 0.5] {
///     assert_eq!(stopper.judge(&Observation::new(loss)).stop, None); // 0.9 0.8 0.8 ..
///     # if loss == 0.7 { break }
/// }
/// assert_eq!(stopper.value(), Some(0.8));
/// # Ok::<(), gradus_stop::StopError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Smoothed<C> {
    criterion: C,
    smoothing: Smoothing,
    /// The last metrics, oldest first; for a moving average that, as it started from 0.
    memory: Vec<f64>,
    /// The weight that 0 still has in a moving average.
    past: f64,
}

impl<C: Criterion> Smoothed<C> {
    /// Smooths what `criterion` sees.
    ///
    /// # Errors
    /// [`StopError`] when the decay is not in \[0, 1) or a window is 0.
    pub fn new(criterion: C, smoothing: Smoothing) -> Result<Self, StopError> {
        match smoothing {
            Smoothing::Ema { decay } => in_range("decay", decay, decay < 1.0, "in [0, 1)")?,
            Smoothing::Mean { window: 0 } | Smoothing::Median { window: 0 } => {
                return Err(StopError::Zero { option: "window" });
            }
            _ => {}
        }
        Ok(Self { criterion, smoothing, memory: Vec::new(), past: 1.0 })
    }

    /// The criterion.
    #[must_use]
    pub fn criterion(&self) -> &C {
        &self.criterion
    }

    /// The smoothed metric, as soon as there was a finite one.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        let (&last, n) = (self.memory.last()?, self.memory.len());
        Some(match self.smoothing {
            Smoothing::Ema { .. } => last / (1.0 - self.past),
            Smoothing::Mean { .. } => self.memory.iter().map(|x| x / n as f64).sum(),
            Smoothing::Median { .. } => {
                let mut sorted = self.memory.clone();
                sorted.sort_by(f64::total_cmp);
                sorted[(n - 1) / 2] / 2.0 + sorted[n / 2] / 2.0
            }
        })
    }

    fn remember(&mut self, metric: f64) {
        match self.smoothing {
            Smoothing::Ema { decay } => {
                let before = self.memory.pop().unwrap_or(0.0);
                self.memory.push(decay * before + (1.0 - decay) * metric);
                self.past *= decay;
            }
            Smoothing::Mean { window } | Smoothing::Median { window } => {
                if self.memory.len() as u64 >= window {
                    self.memory.remove(0);
                }
                self.memory.push(metric);
            }
        }
    }

    /// The most that can be remembered.
    fn room(&self) -> u64 {
        match self.smoothing {
            Smoothing::Ema { .. } => 1,
            Smoothing::Mean { window } | Smoothing::Median { window } => window,
        }
    }
}

impl<C: Criterion> Criterion for Smoothed<C> {
    fn judge(&mut self, seen: &Observation) -> Verdict {
        let mut seen = *seen;
        if seen.metric.is_finite() {
            self.remember(seen.metric);
            seen.metric = self.value().unwrap_or(seen.metric);
        }
        self.criterion.judge(&seen)
    }
}

/// Entries `memory` and `past`, and those of the criterion under `criterion`.
impl<C: Criterion> State for Smoothed<C> {
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("memory", StateValue::F64s(self.memory.clone()));
        state.insert("past", StateValue::F64(self.past));
        state.insert_all("criterion", self.criterion.save_state());
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let (memory, past) = (state.f64s("memory")?, state.f64("past")?);
        let invalid =
            |name: &str, expected| Err(StateError::Invalid { name: name.into(), expected });
        if memory.len() as u64 > self.room() || !memory.iter().all(|x| x.is_finite()) {
            return invalid("memory", "finite numbers, and no more than there is room for");
        }
        let average = matches!(self.smoothing, Smoothing::Ema { .. });
        if !(0.0..=1.0).contains(&past) || (past < 1.0) != (average && !memory.is_empty()) {
            return invalid("past", "a weight in [0, 1], below 1 where there is a moving average");
        }
        self.criterion.load_state(&state.sub("criterion"))?;
        (self.memory, self.past) = (memory, past);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EarlyStopping, EarlyStoppingConfig, Mode, Reason};

    fn smoothed(smoothing: Smoothing) -> Smoothed<EarlyStopping> {
        let config = EarlyStoppingConfig::lightning(Mode::Min).with_patience(2);
        Smoothed::new(EarlyStopping::new(config).unwrap(), smoothing).unwrap()
    }

    fn values(smoothing: Smoothing, metrics: &[f64]) -> Vec<f64> {
        let mut s = smoothed(smoothing);
        let observe = |&metric: &f64| {
            let _ = s.judge(&Observation::new(metric));
            s.value().unwrap()
        };
        metrics.iter().map(observe).collect()
    }

    #[track_caller]
    fn close(got: &[f64], want: &[f64]) {
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-15), "{got:?} {want:?}");
    }

    #[test]
    fn averages_and_medians_by_hand() {
        let metrics = [4.0, 1.0, 3.0, 8.0];
        close(&values(Smoothing::Mean { window: 3 }, &metrics), &[4.0, 2.5, 8.0 / 3.0, 4.0]);
        close(&values(Smoothing::Median { window: 3 }, &metrics), &[4.0, 2.5, 3.0, 3.0]);
        close(&values(Smoothing::Median { window: 1 }, &metrics), &metrics);
        // (2, 1.5, 2.25, 5.125) / (1/2, 3/4, 7/8, 15/16)
        let want = [4.0, 2.0, 18.0 / 7.0, 82.0 / 15.0];
        close(&values(Smoothing::Ema { decay: 0.5 }, &metrics), &want);
        close(&values(Smoothing::Ema { decay: 0.0 }, &metrics), &metrics);
    }

    #[test]
    fn a_lucky_epoch_does_not_count() {
        // Without smoothing the third one is the best and nothing later is.
        let mut s = smoothed(Smoothing::Median { window: 3 });
        let stops = [0.9, 0.8, 0.1, 0.7, 0.6, 0.5].map(|m| s.judge(&Observation::new(m)).stop);
        assert_eq!(stops, [None; 6]);
        assert_eq!((s.criterion().best(), s.criterion().best_epoch()), (Some(0.6), Some(4)));
    }

    #[test]
    fn what_is_not_finite_is_handed_on_and_not_remembered() {
        for smoothing in [Smoothing::Mean { window: 3 }, Smoothing::Ema { decay: 0.9 }] {
            let mut s = smoothed(smoothing);
            let nan = Observation::new(f64::NAN);
            assert_eq!(s.judge(&nan).stop, Some(Reason::NonFiniteMetric));
            assert_eq!(s.value(), None);
            let _ = s.judge(&Observation::new(0.5));
            assert_eq!(s.judge(&nan).stop, Some(Reason::NonFiniteMetric));
            assert!((s.value().unwrap() - 0.5).abs() < 1e-15);
        }
    }

    #[test]
    fn extreme_metrics_stay_finite() {
        for smoothing in [Smoothing::Mean { window: 2 }, Smoothing::Median { window: 2 }] {
            assert_eq!(values(smoothing, &[f64::MAX; 3]), [f64::MAX; 3]);
        }
    }

    #[test]
    fn bad_options_and_bad_states_are_refused() {
        let stopper = || smoothed(Smoothing::Mean { window: 2 }).criterion;
        assert_eq!(
            Smoothed::new(stopper(), Smoothing::Mean { window: 0 }),
            Err(StopError::Zero { option: "window" })
        );
        for decay in [1.0, -0.1, f64::NAN] {
            assert!(Smoothed::new(stopper(), Smoothing::Ema { decay }).is_err(), "{decay}");
        }
        let mut s = smoothed(Smoothing::Mean { window: 2 });
        let _ = s.judge(&Observation::new(0.5));
        let (before, good) = (s.clone(), s.save_state());
        for (name, value) in [
            ("memory", StateValue::F64s([f64::NAN].into())),
            ("memory", StateValue::F64s([1.0; 3].into())),
            ("past", StateValue::F64(f64::NAN)),
            ("past", StateValue::F64(0.5)),
            ("criterion.epochs", StateValue::Bool(true)),
        ] {
            let mut bad = good.clone();
            bad.insert(name, value);
            assert!(s.load_state(&bad).is_err(), "{name}");
            assert_eq!(s, before);
        }
    }
}
