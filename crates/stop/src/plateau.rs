//! Slowing down when a metric stops improving.

use alloc::vec::Vec;

use gradus_core::{State, StateDict, StateError, StateValue};

use crate::{Criterion, Observation, PlateauRule, ReduceOnPlateauConfig, StopError, Verdict};

/// Watches a metric and cuts learning rates when it stops improving; by one rule it raises them, too, while it improves.
///
/// It owns the rates, one for each group of parameters; a single 1 makes it a factor for a rate that also
/// follows a schedule. An epoch here is one call of [`observe`](Self::observe). An epoch is bad when its metric
/// is not better than the best by more than the threshold; NaN is never better. In the [`Verdict`],
/// `improved` says that the metric is better by that measure, `waiting` is the number of bad epochs, and
/// `reduced` that a rate was cut and `increased` that one was raised; `stop` is never set.
///
/// ```
/// use gradus_stop::{Mode, ReduceOnPlateau, ReduceOnPlateauConfig};
/// let config = ReduceOnPlateauConfig::torch(Mode::Min).with_factor(0.5).with_patience(1);
/// let mut plateau = ReduceOnPlateau::new([0.2], config)?;
/// for loss in [1.0, 0.9, 0.9] {
///     assert!(!plateau.observe(loss).reduced);
/// }
/// assert!(plateau.observe(0.9).reduced); // more bad epochs than the patience
/// assert_eq!(plateau.rates(), [0.1]);
/// # Ok::<(), gradus_stop::StopError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct ReduceOnPlateau {
    config: ReduceOnPlateauConfig,
    rates: Vec<f64>,
    best: f64,
    bad_epochs: u64,
    good_epochs: u64,
    cooldown: u64,
    warmup: u64,
    /// The mean of the metrics collected, which is judged when there are as many as the options say.
    mean: f64,
    collected: u64,
}

impl ReduceOnPlateau {
    /// Starts with these rates, having seen no metric.
    ///
    /// # Errors
    /// [`StopError`] when the factor is not in \[0, 1), a number is not finite or is negative, or there are
    /// several `min_rates` but not as many as rates.
    pub fn new(
        rates: impl Into<Vec<f64>>,
        config: ReduceOnPlateauConfig,
    ) -> Result<Self, StopError> {
        let rates = rates.into();
        config.validate(&rates)?;
        let best = config.mode.worst();
        let (bad_epochs, good_epochs, cooldown, warmup) = (0, 0, 0, 0);
        Ok(Self {
            config,
            rates,
            best,
            bad_epochs,
            good_epochs,
            cooldown,
            warmup,
            mean: 0.0,
            collected: 0,
        })
    }

    /// Takes the metric of one more epoch.
    #[must_use = "rates change only if the caller reads them again"]
    pub fn observe(&mut self, metric: f64) -> Verdict {
        let before = self.collected as f64;
        // In the order of optax.
        let mean = (before * self.mean + metric) / (before + 1.0);
        self.collected += 1;
        if self.collected < self.config.accumulation {
            self.mean = mean;
            return Verdict { waiting: self.bad_epochs, ..Verdict::default() };
        }
        (self.mean, self.collected) = (0.0, 0);
        self.judge_mean(mean)
    }

    fn judge_mean(&mut self, metric: f64) -> Verdict {
        let (patience, cooldown) = (self.config.patience, self.config.cooldown);
        let rests = self.cooldown > 0 || self.warmup > 0;
        if self.config.rule == PlateauRule::Greedy && rests {
            // The warm-up waits for the end of the cooldown.
            let rest = if self.cooldown > 0 { &mut self.cooldown } else { &mut self.warmup };
            *rest -= 1;
            (self.bad_epochs, self.good_epochs) = (0, 0);
            return Verdict::default();
        }
        let improved = self.config.better(metric, self.best);
        if improved {
            self.best = metric;
        }
        let (mut reduced, mut increased) = (false, false);
        match self.config.rule {
            PlateauRule::Torch | PlateauRule::Optax => {
                self.bad_epochs = if improved { 0 } else { self.bad_epochs + 1 };
                if self.cooldown > 0 {
                    self.cooldown -= 1;
                    self.bad_epochs = 0;
                }
                let put_up_with = match self.config.rule {
                    PlateauRule::Torch => patience,
                    _ => patience.saturating_sub(1),
                };
                if self.bad_epochs > put_up_with {
                    reduced = self.reduce();
                    self.cooldown = cooldown;
                    self.bad_epochs = 0;
                }
            }
            PlateauRule::Keras => {
                if self.cooldown > 0 {
                    self.cooldown -= 1;
                    self.bad_epochs = 0;
                }
                if improved {
                    self.bad_epochs = 0;
                } else if self.cooldown == 0 {
                    self.bad_epochs += 1;
                    reduced = self.bad_epochs >= patience && self.reduce();
                }
                if reduced {
                    self.cooldown = cooldown;
                    self.bad_epochs = 0;
                }
            }
            PlateauRule::Greedy => {
                self.bad_epochs = if improved { 0 } else { self.bad_epochs + 1 };
                self.good_epochs = if improved { self.good_epochs + 1 } else { 0 };
                if self.good_epochs > patience {
                    increased = self.increase();
                    self.warmup = self.config.warmup;
                    self.good_epochs = 0;
                } else if self.bad_epochs > patience {
                    reduced = self.reduce();
                    self.cooldown = cooldown;
                    self.bad_epochs = 0;
                }
            }
        }
        Verdict { improved, waiting: self.bad_epochs, reduced, increased, ..Verdict::default() }
    }

    /// Cuts the rates and says whether that changed any of them.
    fn reduce(&mut self) -> bool {
        let mut reduced = false;
        for (i, rate) in self.rates.iter_mut().enumerate() {
            let cut = (*rate * self.config.factor).max(bound(&self.config.min_rates, i, 0.0));
            if *rate - cut > self.config.eps {
                *rate = cut;
                reduced = true;
            }
        }
        reduced
    }

    /// Raises the rates and says whether that changed any of them.
    fn increase(&mut self) -> bool {
        let mut increased = false;
        for (i, rate) in self.rates.iter_mut().enumerate() {
            let raised =
                (*rate / self.config.factor).min(bound(&self.config.max_rates, i, f64::MAX));
            if raised - *rate > self.config.eps {
                *rate = raised;
                increased = true;
            }
        }
        increased
    }

    /// The options.
    #[must_use]
    pub fn config(&self) -> &ReduceOnPlateauConfig {
        &self.config
    }

    /// The rates that the next epoch uses.
    #[must_use]
    pub fn rates(&self) -> &[f64] {
        &self.rates
    }

    /// The best metric, if one was better than the worst there is.
    #[must_use]
    pub fn best(&self) -> Option<f64> {
        (self.best != self.config.mode.worst()).then_some(self.best)
    }

    /// Bad epochs in a row.
    #[must_use]
    pub fn bad_epochs(&self) -> u64 {
        self.bad_epochs
    }

    /// Epochs of the cooldown that are left.
    #[must_use]
    pub fn cooldown(&self) -> u64 {
        self.cooldown
    }
}

/// The number for the rate at `index`: one for all, or one for each.
fn bound(bounds: &[f64], index: usize, none: f64) -> f64 {
    match bounds {
        [] => none,
        [bound] => *bound,
        each => each[index],
    }
}

impl Criterion for ReduceOnPlateau {
    fn judge(&mut self, seen: &Observation) -> Verdict {
        self.observe(seen.metric)
    }
}

/// Entries `rates`, `best`, `bad_epochs` and `cooldown`; `good_epochs` and `warmup` by [`PlateauRule::Greedy`]; `mean`
/// and `collected` where metrics are averaged.
impl State for ReduceOnPlateau {
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("rates", StateValue::F64s(self.rates.clone()));
        state.insert("best", StateValue::F64(self.best));
        state.insert("bad_epochs", StateValue::U64(self.bad_epochs));
        state.insert("cooldown", StateValue::U64(self.cooldown));
        if self.config.rule == PlateauRule::Greedy {
            state.insert("good_epochs", StateValue::U64(self.good_epochs));
            state.insert("warmup", StateValue::U64(self.warmup));
        }
        if self.config.accumulation > 1 {
            state.insert("mean", StateValue::F64(self.mean));
            state.insert("collected", StateValue::U64(self.collected));
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let (rates, best) = (state.f64s("rates")?, state.f64("best")?);
        let (bad_epochs, cooldown) = (state.u64("bad_epochs")?, state.u64("cooldown")?);
        let (good_epochs, warmup) = match self.config.rule {
            PlateauRule::Greedy => (state.u64("good_epochs")?, state.u64("warmup")?),
            _ => (0, 0),
        };
        let (mean, collected) = match self.config.accumulation {
            1 => (0.0, 0),
            _ => (state.f64("mean")?, state.u64("collected")?),
        };
        let (expected, found) = (self.rates.len(), rates.len());
        if found != expected {
            return Err(StateError::WrongLength { name: "rates".into(), expected, found });
        }
        let invalid =
            |name: &str, expected| Err(StateError::Invalid { name: name.into(), expected });
        if !rates.iter().all(|rate| rate.is_finite() && *rate >= 0.0) {
            return invalid("rates", "finite numbers that are not negative");
        }
        if best.is_nan() {
            return invalid("best", "a number");
        }
        if cooldown > self.config.cooldown {
            return invalid("cooldown", "at most the cooldown of the options");
        }
        if warmup > self.config.warmup {
            return invalid("warmup", "at most the warm-up of the options");
        }
        if collected >= self.config.accumulation {
            return invalid("collected", "less than the accumulation of the options");
        }
        (self.rates, self.best) = (rates, best);
        (self.bad_epochs, self.good_epochs) = (bad_epochs, good_epochs);
        (self.cooldown, self.warmup) = (cooldown, warmup);
        (self.mean, self.collected) = (mean, collected);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;
    use crate::Mode;

    const NAN: f64 = f64::NAN;

    /// The first rate and the bad epochs after each metric.
    fn run(config: ReduceOnPlateauConfig, metrics: &[f64]) -> (Vec<f64>, Vec<u64>) {
        let mut plateau = ReduceOnPlateau::new([1.0], config).unwrap();
        let observe = |&metric: &f64| {
            let before = plateau.rates()[0];
            let verdict = plateau.observe(metric);
            assert_eq!(verdict.reduced, plateau.rates()[0] < before);
            assert_eq!((verdict.waiting, verdict.stop), (plateau.bad_epochs(), None));
            (plateau.rates()[0], verdict.waiting)
        };
        metrics.iter().map(observe).unzip()
    }

    fn torch() -> ReduceOnPlateauConfig {
        ReduceOnPlateauConfig::torch(Mode::Min).with_factor(0.5).with_patience(2)
    }

    fn keras() -> ReduceOnPlateauConfig {
        ReduceOnPlateauConfig::keras(Mode::Min).with_factor(0.5).with_patience(2)
    }

    #[test]
    fn a_constant_metric_is_cut_past_the_patience_or_at_it() {
        // One best and three bad ones by PyTorch's rule, one and two by Keras'.
        let (rates, bad) = run(torch(), &[0.5; 7]);
        assert_eq!(rates, [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]);
        assert_eq!(bad, [0, 1, 2, 0, 1, 2, 0]);
        let (rates, bad) = run(keras(), &[0.5; 5]);
        assert_eq!(rates, [1.0, 1.0, 0.5, 0.5, 0.25]);
        assert_eq!(bad, [0, 1, 0, 1, 0]);
        // No patience.
        assert_eq!(run(torch().with_patience(0), &[0.5; 3]).0, [1.0, 0.5, 0.25]);
        assert_eq!(run(keras().with_patience(0), &[0.5; 3]).0, [1.0, 0.5, 0.25]);
    }

    #[test]
    fn the_last_epoch_of_a_cooldown_counts_by_keras_rule_only() {
        let (_, bad) = run(torch().with_cooldown(2), &[0.5; 10]);
        assert_eq!(bad, [0, 1, 2, 0, 0, 0, 1, 2, 0, 0]);
        let (_, bad) = run(keras().with_cooldown(2), &[0.5; 10]);
        assert_eq!(bad, [0, 1, 0, 0, 1, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn optax_cuts_at_the_patience_and_cools_down_as_pytorch_does() {
        let optax = ReduceOnPlateauConfig::optax(Mode::Min).with_factor(0.5).with_patience(2);
        let (rates, bad) = run(optax.clone(), &[0.5; 5]);
        assert_eq!((rates, bad), (vec![1.0, 1.0, 0.5, 0.5, 0.25], vec![0, 1, 0, 1, 0]));
        let (_, bad) = run(optax.clone().with_cooldown(2), &[0.5; 9]);
        assert_eq!(bad, [0, 1, 0, 0, 0, 1, 0, 0, 0]);
        // Means of two: 0.5, 0.4, 0.45, 0.4.
        let mut plateau = ReduceOnPlateau::new([1.0], optax.with_accumulation(2)).unwrap();
        let metrics = [0.6, 0.4, 0.3, 0.5, 0.5, 0.4, 0.4, 0.4];
        let verdicts = metrics.map(|metric| plateau.observe(metric));
        assert_eq!(
            verdicts.map(|v| v.improved),
            [false, true, false, true, false, false, false, false]
        );
        assert_eq!(verdicts.map(|v| v.waiting), [0, 0, 0, 0, 0, 1, 1, 0]);
        assert_eq!(
            verdicts.map(|v| v.reduced),
            [false, false, false, false, false, false, false, true]
        );
    }

    #[test]
    fn matches_optax_with_cooldown_accumulation_and_nan() {
        // reduce_on_plateau(factor=0.5, rtol=1e-2, min_scale=0.1) with (patience, cooldown, accumulation_size)
        let mut metrics = [
            1.41, 0.36, 0.85, 0.58, 0.53, 0.53, 0.12, 0.44, 0.28, 1.09, 0.45, 0.31, 0.3, NAN, 0.11,
            0.23, 0.39, 0.23, 0.46, 0.22,
        ];
        let cuts = |patience, cooldown, accumulation, metrics: &[f64]| {
            let config = ReduceOnPlateauConfig::optax(Mode::Min).with_factor(0.5);
            let config = config.with_threshold(1e-2, crate::ThresholdMode::Relative);
            let config = config.with_patience(patience).with_cooldown(cooldown);
            let config = config.with_accumulation(accumulation).with_min_rates([0.1]);
            let (rates, _) = run(config, metrics);
            let changes = rates.windows(2).enumerate().filter(|(_, pair)| pair[0] != pair[1]);
            changes.map(|(i, pair)| (i + 1, pair[1])).collect::<Vec<_>>()
        };
        let want = [(3, 0.5), (8, 0.25), (13, 0.125), (18, 0.1)];
        assert_eq!(cuts(2, 3, 1, &metrics), want);
        let want = [(9, 0.5), (13, 0.25), (17, 0.125)];
        assert_eq!(cuts(1, 1, 2, &metrics), want);
        metrics[13] = 0.2;
        assert_eq!(cuts(2, 0, 1, &metrics), [(3, 0.5), (5, 0.25), (8, 0.125), (10, 0.1)]);
    }

    #[test]
    fn greedy_raises_while_it_improves_and_rests_after_each_change() {
        let greedy = ReduceOnPlateauConfig::greedy(Mode::Min).with_factor(0.5).with_patience(1);
        let mut plateau =
            ReduceOnPlateau::new([0.125], greedy.clone().with_warmup(1).with_cooldown(2)).unwrap();
        // Two good ones; one of rest, which is not even the best; two good ones; rest; two bad ones; two of rest.
        let metrics = [0.9, 0.8, 0.1, 0.7, 0.6, 0.1, 0.7, 0.7, 0.0, 0.0, 0.5];
        let seen = metrics.map(|metric| (plateau.observe(metric), plateau.rates()[0]));
        let rates = [0.125, 0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25];
        assert_eq!(seen.map(|(_, rate)| rate), rates);
        let at = |which: fn(&Verdict) -> bool| {
            (0..seen.len()).filter(|&i| which(&seen[i].0)).collect::<Vec<_>>()
        };
        assert_eq!((at(|v| v.increased), at(|v| v.reduced)), (vec![1, 4], vec![7]));
        assert_eq!(plateau.best(), Some(0.5));
        // Between 1e-3 and 1.
        let mut plateau = ReduceOnPlateau::new([0.9, 0.001], greedy).unwrap();
        let _ = [0.9, 0.8].map(|metric| plateau.observe(metric));
        assert_eq!(plateau.rates(), [1.0, 0.002]);
        let _ = [0.9; 4].map(|metric| plateau.observe(metric));
        assert_eq!(plateau.rates(), [0.25, 0.001]);
    }

    #[test]
    fn nan_and_infinity_are_bad_epochs() {
        let (_, bad) = run(torch(), &[NAN, f64::INFINITY, 0.5, NAN]);
        assert_eq!(bad, [1, 2, 0, 1]);
        let mut plateau = ReduceOnPlateau::new([1.0], torch()).unwrap();
        assert!(!plateau.observe(NAN).improved);
        assert_eq!(plateau.best(), None);
        assert!(plateau.observe(0.5).improved);
        assert_eq!(plateau.best(), Some(0.5));
    }

    #[test]
    fn each_rate_has_its_floor() {
        let config = torch().with_patience(0).with_min_rates([0.1, 0.3, 2.0]);
        let mut plateau = ReduceOnPlateau::new([1.0, 1.0, 1.0], config).unwrap();
        let rates: Vec<Vec<f64>> = (0..6)
            .map(|_| {
                let _ = plateau.observe(0.5);
                plateau.rates().to_vec()
            })
            .collect();
        assert_eq!(rates[1], [0.5, 0.5, 1.0]);
        assert_eq!(rates[2], [0.25, 0.3, 1.0]);
        assert_eq!(rates[5], [0.1, 0.3, 1.0]);
        // One for all.
        let config = torch().with_patience(0).with_min_rates([0.4]);
        let mut plateau = ReduceOnPlateau::new([1.0, 0.5], config).unwrap();
        assert_eq!([0.5; 4].map(|m| plateau.observe(m).reduced), [false, true, true, false]);
        assert_eq!(plateau.rates(), [0.4, 0.4]);
    }

    #[test]
    fn a_cut_of_no_more_than_eps_is_none() {
        let rate = |config| {
            let mut plateau = ReduceOnPlateau::new([1e-8], config).unwrap();
            let reduced = [0.5; 4].map(|metric| plateau.observe(metric).reduced);
            (reduced[3], plateau.rates()[0])
        };
        assert_eq!(rate(torch()), (false, 1e-8));
        assert_eq!(rate(torch().with_eps(0.0)), (true, 5e-9));
    }

    #[test]
    fn a_cut_that_changes_nothing_starts_a_cooldown_by_torch_rule_only() {
        let cooldown = |config: ReduceOnPlateauConfig| {
            let config = config.with_min_rates([1.0]).with_cooldown(5);
            let mut plateau = ReduceOnPlateau::new([1.0], config).unwrap();
            assert_eq!([0.5; 4].map(|metric| plateau.observe(metric).reduced), [false; 4]);
            (plateau.cooldown(), plateau.bad_epochs())
        };
        assert_eq!(cooldown(torch()), (5, 0));
        assert_eq!(cooldown(keras()), (0, 3));
    }

    #[test]
    fn a_bad_state_changes_nothing() {
        let mut plateau = ReduceOnPlateau::new([0.1], torch().with_cooldown(3)).unwrap();
        for metric in [0.5; 5] {
            let _ = plateau.observe(metric);
        }
        let (before, good) = (plateau.clone(), plateau.save_state());
        for (name, value) in [
            ("rates", StateValue::F64s(vec![0.1, 0.2])),
            ("rates", StateValue::F64s(vec![NAN])),
            ("best", StateValue::F64(NAN)),
            ("bad_epochs", StateValue::F64(0.0)),
            ("cooldown", StateValue::U64(4)),
        ] {
            let mut state = good.clone();
            state.insert(name, value);
            assert!(plateau.load_state(&state).is_err(), "{name}");
            assert_eq!(plateau, before);
        }
    }
}
