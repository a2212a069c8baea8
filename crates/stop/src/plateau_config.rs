//! The rules of reducing on a plateau, as numbers.

use alloc::vec::Vec;

use crate::{Mode, StopError, error::in_range};

/// What a threshold is measured in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ThresholdMode {
    /// A fraction of the best metric: better is below `best (1 - threshold)`, or above `best (1 + threshold)`.
    /// As in PyTorch the best keeps its sign, so that a negative one moves the bound the wrong way, and a
    /// slightly worse metric counts as better: use `Absolute` for metrics that may be negative.
    Relative,
    /// The metric's own unit: better is below `best - threshold`, or above `best + threshold`.
    Absolute,
}

/// How epochs are counted, where PyTorch and Keras differ.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PlateauRule {
    /// The rate is cut when there are more bad epochs in a row than `patience`. None counts during a cooldown,
    /// its last epoch included. A cut that changes nothing starts a cooldown too.
    Torch,
    /// The rate is cut when there are `patience` bad epochs in a row (0 acts like 1). The last epoch of a
    /// cooldown counts. A cut that changes nothing starts no cooldown.
    Keras,
}

/// The options of [`ReduceOnPlateau`](crate::ReduceOnPlateau).
///
/// | field | [`torch`](Self::torch) | [`keras`](Self::keras) |
/// |---|---|---|
/// | `factor` | 0.1 | 0.1 |
/// | `patience` | 10 | 10 |
/// | `threshold` | 1e-4 | 1e-4 |
/// | `threshold_mode` | `Relative` | `Absolute` |
/// | `cooldown` | 0 | 0 |
/// | `min_rates` | none (0) | none (0) |
/// | `eps` | 1e-8 | 0 |
/// | `rule` | `Torch` | `Keras` |
#[derive(Clone, PartialEq, Debug)]
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
            rule: PlateauRule::Torch,
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

    pub(crate) fn validate(&self, rates: &[f64]) -> Result<(), StopError> {
        in_range("factor", self.factor, self.factor < 1.0, "in [0, 1)")?;
        in_range("threshold", self.threshold, true, "finite and not negative")?;
        in_range("eps", self.eps, true, "finite and not negative")?;
        for (option, numbers) in [("rates", rates), ("min_rates", &self.min_rates)] {
            for &number in numbers {
                in_range(option, number, true, "finite and not negative")?;
            }
        }
        let (rates, min_rates) = (rates.len(), self.min_rates.len());
        if min_rates > 1 && min_rates != rates {
            return Err(StopError::CountMismatch { rates, min_rates });
        }
        Ok(())
    }

    pub(crate) fn better(&self, metric: f64, best: f64) -> bool {
        let bound = match (self.threshold_mode, self.mode) {
            (ThresholdMode::Relative, Mode::Min) => best * (1.0 - self.threshold),
            (ThresholdMode::Relative, Mode::Max) => best * (1.0 + self.threshold),
            (ThresholdMode::Absolute, Mode::Min) => best - self.threshold,
            (ThresholdMode::Absolute, Mode::Max) => best + self.threshold,
        };
        self.mode.better(metric, bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn improvements_are_strict_and_relative_or_absolute() {
        let better = |config: ReduceOnPlateauConfig, metric| config.better(metric, 2.0);
        let max = ReduceOnPlateauConfig::torch(Mode::Max);
        for (mode, min_bound, max_bound) in
            [(ThresholdMode::Relative, 1.5, 2.5), (ThresholdMode::Absolute, 1.75, 2.25)]
        {
            let (min, max) = (
                ReduceOnPlateauConfig::torch(Mode::Min).with_threshold(0.25, mode),
                max.clone().with_threshold(0.25, mode),
            );
            assert!(!better(min.clone(), min_bound) && better(min, min_bound - 0.01));
            assert!(!better(max.clone(), max_bound) && better(max, max_bound + 0.01));
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
            StopError::CountMismatch { rates: 2, min_rates: 3 }
        );
        assert!(torch().validate(&[f64::NAN]).is_err());
    }
}
