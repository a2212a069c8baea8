//! The rules of early stopping, as numbers.

use crate::{StopError, ThresholdMode};

/// Which way is better.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Mode {
    /// Smaller: a loss.
    Min,
    /// Larger: an accuracy.
    Max,
}

impl Mode {
    /// Whether `a` is better than `b`, strictly; never so when one is NaN.
    #[must_use]
    pub fn better(self, a: f64, b: f64) -> bool {
        match self {
            Self::Min => a < b,
            Self::Max => a > b,
        }
    }

    /// What every number is better than.
    pub(crate) fn worst(self) -> f64 {
        match self {
            Self::Min => f64::INFINITY,
            Self::Max => f64::NEG_INFINITY,
        }
    }
}

/// What the first metric counts as, where Keras and Lightning differ.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum FirstMetric {
    /// The best so far, whatever it is, and epoch 0 never exhausts the patience (Keras). A first NaN then
    /// stays the best for ever, since nothing is better than NaN.
    Accepted,
    /// Compared with the worst there is, an infinity (Lightning): a first NaN is no improvement.
    Compared,
}

/// The options of [`EarlyStopping`](crate::EarlyStopping).
///
/// | field | [`lightning`](Self::lightning) | [`keras`](Self::keras) |
/// |---|---|---|
/// | `min_delta` | 0 | 0 |
/// | `delta_mode` | `Absolute` | `Absolute` |
/// | `patience` | 3 | 0 |
/// | `check_finite` | true | false |
/// | `first_metric` | `Compared` | `Accepted` |
/// | `start_from_epoch` | 0 | 0 |
/// | `baseline`, `stopping_threshold`, `divergence_threshold` | none | none |
///
/// ```
/// use gradus_stop::{EarlyStoppingConfig, Mode};
/// let config = EarlyStoppingConfig::keras(Mode::Max).with_patience(5).with_baseline(0.9);
/// assert_eq!((config.patience, config.baseline), (5, Some(0.9)));
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct EarlyStoppingConfig {
    /// Which way is better.
    pub mode: Mode,
    /// An improvement of this much or less does not count; finite and not negative.
    pub min_delta: f64,
    /// What `min_delta` is measured in.
    pub delta_mode: ThresholdMode,
    /// Epochs in a row without improvement that end training. 0 acts like 1: the first of them does.
    pub patience: u64,
    /// Epochs before this one, counted from 0, are not looked at, not even for NaN.
    pub start_from_epoch: u64,
    /// An improvement restarts the patience only where it also beats this, by more than `min_delta`.
    pub baseline: Option<f64>,
    /// Whether a metric that is NaN or infinite ends training at once.
    pub check_finite: bool,
    /// A metric strictly better than this ends training at once: the goal is reached.
    pub stopping_threshold: Option<f64>,
    /// A metric strictly worse than this ends training at once.
    pub divergence_threshold: Option<f64>,
    /// What the first metric counts as.
    pub first_metric: FirstMetric,
}

impl EarlyStoppingConfig {
    /// Lightning's rules and defaults.
    #[must_use]
    pub fn lightning(mode: Mode) -> Self {
        Self {
            mode,
            min_delta: 0.0,
            delta_mode: ThresholdMode::Absolute,
            patience: 3,
            start_from_epoch: 0,
            baseline: None,
            check_finite: true,
            stopping_threshold: None,
            divergence_threshold: None,
            first_metric: FirstMetric::Compared,
        }
    }

    /// Keras 3's rules and defaults.
    #[must_use]
    pub fn keras(mode: Mode) -> Self {
        Self {
            patience: 0,
            check_finite: false,
            first_metric: FirstMetric::Accepted,
            ..Self::lightning(mode)
        }
    }

    /// Sets [`min_delta`](Self::min_delta).
    #[must_use]
    pub fn with_min_delta(self, min_delta: f64) -> Self {
        Self { min_delta, ..self }
    }

    /// Sets [`delta_mode`](Self::delta_mode).
    #[must_use]
    pub fn with_delta_mode(self, delta_mode: ThresholdMode) -> Self {
        Self { delta_mode, ..self }
    }

    /// Sets [`patience`](Self::patience).
    #[must_use]
    pub fn with_patience(self, patience: u64) -> Self {
        Self { patience, ..self }
    }

    /// Sets [`start_from_epoch`](Self::start_from_epoch).
    #[must_use]
    pub fn with_start_from_epoch(self, start_from_epoch: u64) -> Self {
        Self { start_from_epoch, ..self }
    }

    /// Sets [`baseline`](Self::baseline).
    #[must_use]
    pub fn with_baseline(self, baseline: impl Into<Option<f64>>) -> Self {
        Self { baseline: baseline.into(), ..self }
    }

    /// Sets [`check_finite`](Self::check_finite).
    #[must_use]
    pub fn with_check_finite(self, check_finite: bool) -> Self {
        Self { check_finite, ..self }
    }

    /// Sets [`stopping_threshold`](Self::stopping_threshold).
    #[must_use]
    pub fn with_stopping_threshold(self, stopping_threshold: impl Into<Option<f64>>) -> Self {
        Self { stopping_threshold: stopping_threshold.into(), ..self }
    }

    /// Sets [`divergence_threshold`](Self::divergence_threshold).
    #[must_use]
    pub fn with_divergence_threshold(self, divergence_threshold: impl Into<Option<f64>>) -> Self {
        Self { divergence_threshold: divergence_threshold.into(), ..self }
    }

    /// Sets [`first_metric`](Self::first_metric).
    #[must_use]
    pub fn with_first_metric(self, first_metric: FirstMetric) -> Self {
        Self { first_metric, ..self }
    }

    pub(crate) fn validate(&self) -> Result<(), StopError> {
        if !(self.min_delta.is_finite() && self.min_delta >= 0.0) {
            return Err(StopError::InvalidMinDelta { value: self.min_delta });
        }
        for (option, value) in [
            ("baseline", self.baseline),
            ("stopping_threshold", self.stopping_threshold),
            ("divergence_threshold", self.divergence_threshold),
        ] {
            if let Some(value) = value.filter(|v| !v.is_finite()) {
                return Err(StopError::NonFinite { option, value });
            }
        }
        Ok(())
    }

    /// Whether `metric` is better than `reference` by more than `min_delta`.
    pub(crate) fn improves(&self, metric: f64, reference: f64) -> bool {
        if self.delta_mode != ThresholdMode::Absolute {
            return self.delta_mode.better(self.mode, metric, reference, self.min_delta);
        }
        // Rounded as Keras and Lightning do.
        let handicapped = match self.mode {
            Mode::Min => metric + self.min_delta,
            Mode::Max => metric - self.min_delta,
        };
        self.mode.better(handicapped, reference)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn bad_numbers_are_refused_by_name() {
        let good = EarlyStoppingConfig::lightning(Mode::Min);
        assert_eq!(good.validate(), Ok(()));
        assert_eq!(
            good.with_min_delta(-0.1).validate(),
            Err(StopError::InvalidMinDelta { value: -0.1 })
        );
        assert!(good.with_min_delta(f64::NAN).validate().is_err());
        assert_eq!(
            good.with_baseline(f64::INFINITY).validate(),
            Err(StopError::NonFinite { option: "baseline", value: f64::INFINITY })
        );
        let error = good.with_divergence_threshold(f64::NAN).validate().unwrap_err();
        assert_eq!(error.to_string(), "divergence_threshold must be finite, got NaN");
        assert!(good.with_stopping_threshold(f64::NAN).validate().is_err());
    }

    #[test]
    fn a_relative_min_delta_is_a_share_of_the_best() {
        for (mode, less, more) in [(Mode::Min, 1.9, 1.79), (Mode::Max, 2.1, 2.21)] {
            let config = EarlyStoppingConfig::lightning(mode).with_min_delta(0.1);
            let config = config.with_delta_mode(ThresholdMode::Magnitude);
            assert!(!config.improves(less, 2.0) && config.improves(more, 2.0));
            assert!(config.improves(9.0, mode.worst()));
        }
        // Of a negative best, too: 10 % of 2 is 0.2.
        let min = EarlyStoppingConfig::lightning(Mode::Min).with_min_delta(0.1);
        let min = min.with_delta_mode(ThresholdMode::Magnitude);
        assert!(!min.improves(-2.1, -2.0) && min.improves(-2.21, -2.0));
    }

    #[test]
    fn an_improvement_of_exactly_min_delta_does_not_count() {
        let min = EarlyStoppingConfig::lightning(Mode::Min).with_min_delta(0.25);
        assert!(!min.improves(0.75, 1.0));
        assert!(min.improves(0.74, 1.0));
        let max = EarlyStoppingConfig::lightning(Mode::Max).with_min_delta(0.25);
        assert!(!max.improves(1.25, 1.0));
        assert!(max.improves(1.26, 1.0));
    }
}
