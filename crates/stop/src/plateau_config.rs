//! The rules of reducing on a plateau, as numbers.

use alloc::vec::Vec;

use crate::{Mode, StopError, error::in_range};

/// What a threshold is measured in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum ThresholdMode {
    /// A fraction of the best metric: better is below `best (1 - threshold)`, or above `best (1 + threshold)`.
    /// As in PyTorch the best keeps its sign, so that a negative one moves the bound the wrong way, and a
    /// slightly worse metric counts as better: use one of the others for metrics that may be negative.
    Relative,
    /// A fraction of the magnitude of the best metric: better is below `best - abs(best) threshold`, or above
    /// `best + abs(best) threshold`.
    Magnitude,
    /// The metric's own unit: better is below `best - threshold`, or above `best + threshold`.
    Absolute,
}

impl ThresholdMode {
    /// Whether `metric` is better than `best` by more than the threshold; any number is better than an infinite best.
    pub(crate) fn better(self, mode: Mode, metric: f64, best: f64, threshold: f64) -> bool {
        let toward = if mode == Mode::Min { -threshold } else { threshold };
        let bound = match self {
            _ if best == mode.worst() => best,
            Self::Relative => best * (1.0 + toward),
            Self::Magnitude => best + best.abs() * toward,
            Self::Absolute => best + toward,
        };
        mode.better(metric, bound)
    }
}

/// How epochs are counted, where the libraries differ.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum PlateauRule {
    /// The rate is cut when there are more bad epochs in a row than `patience`. None counts during a cooldown,
    /// its last epoch included. A cut that changes nothing starts a cooldown too.
    Torch,
    /// The rate is cut when there are `patience` bad epochs in a row (0 acts like 1). The last epoch of a
    /// cooldown counts. A cut that changes nothing starts no cooldown.
    Keras,
    /// The rate is cut when there are `patience` bad epochs in a row (0 acts like 1), as in Keras; cooldowns are PyTorch's (optax's
    /// `contrib.reduce_on_plateau`).
    Optax,
    /// Rates rise as well: they are divided by the factor when there are more good epochs in a row than `patience`, and
    /// cut when there are more bad ones. Epochs of a cooldown, and of a warm-up after a rise, are not looked at at all
    /// (transformers' `GreedyLR`, without its reset).
    Greedy,
}

/// The options of [`ReduceOnPlateau`](crate::ReduceOnPlateau).
///
/// | field | [`torch`](Self::torch) | [`keras`](Self::keras) | [`optax`](Self::optax) | [`greedy`](Self::greedy) |
/// |---|---|---|---|---|
/// | `factor` | 0.1 | 0.1 | 0.1 | 0.95 |
/// | `patience` | 10 | 10 | 10 | 10 |
/// | `threshold` | 1e-4 | 1e-4 | 1e-4 | 1e-6 |
/// | `threshold_mode` | `Relative` | `Absolute` | `Relative` | `Absolute` |
/// | `cooldown` | 0 | 0 | 0 | 0 |
/// | `min_rates` | none (0) | none (0) | none (0) | 1e-3 |
/// | `eps` | 1e-8 | 0 | 0 | 1e-8 |
/// | `accumulation` | 1 | 1 | 1 | 1 |
/// | `warmup`, `max_rates` | | | | 0, 1 |
/// | `rule` | `Torch` | `Keras` | `Optax` | `Greedy` |
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct ReduceOnPlateauConfig {
    /// Which way is better.
    pub mode: Mode,
    /// What a cut multiplies the rates by; in \[0, 1).
    pub factor: f64,
    /// Bad epochs in a row that are put up with, as [`PlateauRule`] counts them.
    pub patience: u64,
    /// An improvement of this much or less does not count; finite and not negative.
    pub threshold: f64,
    /// What the threshold is measured in.
    pub threshold_mode: ThresholdMode,
    /// Epochs after a cut during which none is bad.
    pub cooldown: u64,
    /// Rates are not cut below this: one for all of them or one for each; none is 0.
    pub min_rates: Vec<f64>,
    /// A rate stays as it is where a cut would change it by this much or less; finite and not negative.
    pub eps: f64,
    /// Metrics that are averaged into one before it is judged, for those of single batches (optax's
    /// `accumulation_size`); at least 1.
    pub accumulation: u64,
    /// Epochs after a rise that are not looked at; by [`PlateauRule::Greedy`] alone.
    pub warmup: u64,
    /// Rates are not raised above this: one for all of them or one for each; none is no bound. By
    /// [`PlateauRule::Greedy`] alone.
    pub max_rates: Vec<f64>,
    /// How epochs are counted.
    pub rule: PlateauRule,
}

impl ReduceOnPlateauConfig {
    /// The rules and defaults of PyTorch's `ReduceLROnPlateau`.
    #[must_use]
    pub fn torch(mode: Mode) -> Self {
        Self {
            mode,
            factor: 0.1,
            patience: 10,
            threshold: 1e-4,
            threshold_mode: ThresholdMode::Relative,
            cooldown: 0,
            min_rates: Vec::new(),
            eps: 1e-8,
            accumulation: 1,
            warmup: 0,
            max_rates: Vec::new(),
            rule: PlateauRule::Torch,
        }
    }

    /// The rules and defaults of optax' `contrib.reduce_on_plateau`, whose only mode is [`Mode::Min`].
    #[must_use]
    pub fn optax(mode: Mode) -> Self {
        Self { eps: 0.0, rule: PlateauRule::Optax, ..Self::torch(mode) }
    }

    /// The rules and defaults of transformers' `GreedyLR`.
    #[must_use]
    pub fn greedy(mode: Mode) -> Self {
        Self {
            factor: 0.95,
            threshold: 1e-6,
            threshold_mode: ThresholdMode::Absolute,
            min_rates: Vec::from([1e-3]),
            max_rates: Vec::from([1.0]),
            rule: PlateauRule::Greedy,
            ..Self::torch(mode)
        }
    }

    /// The rules and defaults of Keras' `ReduceLROnPlateau`.
    #[must_use]
    pub fn keras(mode: Mode) -> Self {
        Self {
            threshold_mode: ThresholdMode::Absolute,
            eps: 0.0,
            rule: PlateauRule::Keras,
            ..Self::torch(mode)
        }
    }

    /// Sets [`factor`](Self::factor).
    #[must_use]
    pub fn with_factor(self, factor: f64) -> Self {
        Self { factor, ..self }
    }

    /// Sets [`patience`](Self::patience).
    #[must_use]
    pub fn with_patience(self, patience: u64) -> Self {
        Self { patience, ..self }
    }

    /// Sets [`threshold`](Self::threshold) and [`threshold_mode`](Self::threshold_mode).
    #[must_use]
    pub fn with_threshold(self, threshold: f64, threshold_mode: ThresholdMode) -> Self {
        Self { threshold, threshold_mode, ..self }
    }

    /// Sets [`cooldown`](Self::cooldown).
    #[must_use]
    pub fn with_cooldown(self, cooldown: u64) -> Self {
        Self { cooldown, ..self }
    }

    /// Sets [`min_rates`](Self::min_rates).
    #[must_use]
    pub fn with_min_rates(self, min_rates: impl Into<Vec<f64>>) -> Self {
        Self { min_rates: min_rates.into(), ..self }
    }

    /// Sets [`eps`](Self::eps).
    #[must_use]
    pub fn with_eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Sets [`accumulation`](Self::accumulation).
    #[must_use]
    pub fn with_accumulation(self, accumulation: u64) -> Self {
        Self { accumulation, ..self }
    }

    /// Sets [`warmup`](Self::warmup).
    #[must_use]
    pub fn with_warmup(self, warmup: u64) -> Self {
        Self { warmup, ..self }
    }

    /// Sets [`max_rates`](Self::max_rates).
    #[must_use]
    pub fn with_max_rates(self, max_rates: impl Into<Vec<f64>>) -> Self {
        Self { max_rates: max_rates.into(), ..self }
    }

    pub(crate) fn validate(&self, rates: &[f64]) -> Result<(), StopError> {
        in_range("factor", self.factor, self.factor < 1.0, "in [0, 1)")?;
        in_range("threshold", self.threshold, true, "finite and not negative")?;
        in_range("eps", self.eps, true, "finite and not negative")?;
        if self.rule == PlateauRule::Greedy && self.factor == 0.0 {
            let (option, value) = ("factor", self.factor);
            return Err(StopError::OutOfRange { option, value, expected: "in (0, 1)" });
        }
        if self.accumulation == 0 {
            return Err(StopError::Zero { option: "accumulation" });
        }
        let (min_rates, max_rates) = (&self.min_rates[..], &self.max_rates[..]);
        for (option, numbers) in
            [("rates", rates), ("min_rates", min_rates), ("max_rates", max_rates)]
        {
            for &number in numbers {
                in_range(option, number, true, "finite and not negative")?;
            }
            if option != "rates" && numbers.len() > 1 && numbers.len() != rates.len() {
                let (rates, bounds) = (rates.len(), numbers.len());
                return Err(StopError::CountMismatch { rates, option, bounds });
            }
        }
        Ok(())
    }

    pub(crate) fn better(&self, metric: f64, best: f64) -> bool {
        self.threshold_mode.better(self.mode, metric, best, self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn improvements_are_strict_and_relative_or_absolute() {
        let better = |config: ReduceOnPlateauConfig, metric| config.better(metric, 2.0);
        let max = ReduceOnPlateauConfig::torch(Mode::Max);
        for (mode, min_bound, max_bound) in [
            (ThresholdMode::Relative, 1.5, 2.5),
            (ThresholdMode::Magnitude, 1.5, 2.5),
            (ThresholdMode::Absolute, 1.75, 2.25),
        ] {
            let (min, max) = (
                ReduceOnPlateauConfig::torch(Mode::Min).with_threshold(0.25, mode),
                max.clone().with_threshold(0.25, mode),
            );
            assert!(!better(min.clone(), min_bound) && better(min, min_bound - 0.01));
            assert!(!better(max.clone(), max_bound) && better(max, max_bound + 0.01));
        }
    }

    #[test]
    fn a_negative_best_turns_the_relative_threshold_around_and_not_that_of_the_magnitude() {
        let better = |mode, metric| {
            let min = ReduceOnPlateauConfig::torch(Mode::Min).with_threshold(0.1, mode);
            min.better(metric, -2.0)
        };
        assert!(better(ThresholdMode::Relative, -1.9));
        assert!(!better(ThresholdMode::Magnitude, -2.1) && better(ThresholdMode::Magnitude, -2.3));
    }

    #[test]
    fn any_number_is_better_than_none_whatever_the_threshold() {
        for mode in [ThresholdMode::Relative, ThresholdMode::Magnitude, ThresholdMode::Absolute] {
            for way in [Mode::Min, Mode::Max] {
                let config = ReduceOnPlateauConfig::torch(way).with_threshold(1.0, mode);
                assert!(config.better(5.0, way.worst()) && !config.better(f64::NAN, way.worst()));
            }
        }
    }

    #[test]
    fn bad_options_are_refused_by_name() {
        let torch = || ReduceOnPlateauConfig::torch(Mode::Min);
        let error = |config: ReduceOnPlateauConfig| config.validate(&[0.1, 0.2]).unwrap_err();
        let expected = "in [0, 1)";
        for value in [1.0, -0.1, f64::INFINITY] {
            let want = StopError::OutOfRange { option: "factor", value, expected };
            assert_eq!(error(torch().with_factor(value)), want);
        }
        assert!(matches!(
            error(torch().with_threshold(f64::NAN, ThresholdMode::Absolute)),
            StopError::OutOfRange { option: "threshold", .. }
        ));
        assert!(matches!(
            error(torch().with_eps(-1.0)),
            StopError::OutOfRange { option: "eps", .. }
        ));
        assert_eq!(
            error(torch().with_min_rates([0.1; 3])),
            StopError::CountMismatch { rates: 2, option: "min_rates", bounds: 3 }
        );
        assert_eq!(
            error(torch().with_max_rates([0.1; 3])),
            StopError::CountMismatch { rates: 2, option: "max_rates", bounds: 3 }
        );
        assert_eq!(error(torch().with_accumulation(0)), StopError::Zero { option: "accumulation" });
        let expected = "in (0, 1)";
        assert_eq!(
            error(ReduceOnPlateauConfig::greedy(Mode::Min).with_factor(0.0)),
            StopError::OutOfRange { option: "factor", value: 0.0, expected }
        );
        assert!(torch().validate(&[f64::NAN]).is_err());
    }
}
