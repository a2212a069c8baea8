//! Batches whose loss stands out.

use alloc::vec::Vec;

use gradus_core::{State, StateDict, StateError, StateValue};

use crate::{Criterion, Mode, Observation, Reason, StopError, Verdict, error::in_range};

/// The options of [`SpikeDetector`], with Lightning's defaults.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
#[non_exhaustive]
pub struct SpikeConfig {
    /// Which way is better.
    pub mode: Mode,
    /// Losses that the running mean is over; 10.
    pub window: u64,
    /// Batches at the beginning that cannot be spikes; 1.
    pub warmup: u64,
    /// Distance from the mean, as a multiple of it, from which on a loss is a spike; 2.
    pub rtol: f64,
    /// Distance from the mean from which on a loss is a spike; 0. Both have to be reached.
    pub atol: f64,
    /// Whether a loss that is NaN or infinite is a spike whatever came before; true.
    pub finite_only: bool,
    /// Spikes in a row that are put up with; the next one ends training. None by default: never.
    pub max_consecutive: Option<u64>,
}

impl SpikeConfig {
    /// Lightning's defaults.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            window: 10,
            warmup: 1,
            rtol: 2.0,
            atol: 0.0,
            finite_only: true,
            max_consecutive: None,
        }
    }

    /// Sets [`window`](Self::window).
    #[must_use]
    pub fn with_window(self, window: u64) -> Self {
        Self { window, ..self }
    }

    /// Sets [`warmup`](Self::warmup).
    #[must_use]
    pub fn with_warmup(self, warmup: u64) -> Self {
        Self { warmup, ..self }
    }

    /// Sets [`rtol`](Self::rtol).
    #[must_use]
    pub fn with_rtol(self, rtol: f64) -> Self {
        Self { rtol, ..self }
    }

    /// Sets [`atol`](Self::atol).
    #[must_use]
    pub fn with_atol(self, atol: f64) -> Self {
        Self { atol, ..self }
    }

    /// Sets [`finite_only`](Self::finite_only).
    #[must_use]
    pub fn with_finite_only(self, finite_only: bool) -> Self {
        Self { finite_only, ..self }
    }

    /// Sets [`max_consecutive`](Self::max_consecutive).
    #[must_use]
    pub fn with_max_consecutive(self, max_consecutive: impl Into<Option<u64>>) -> Self {
        Self { max_consecutive: max_consecutive.into(), ..self }
    }
}

/// Says which batches have a loss that stands out (Lightning's `SpikeDetection`).
///
/// A loss is a spike when it is worse than the last one that was none, and its distance from the mean of the last ones
/// that were none is at least `atol` and at least `rtol` times that mean. Spikes and what is not finite do not enter the
/// mean. In the [`Verdict`], `spike` says so, `waiting` is the number of spikes in a row; what to do is the caller's:
/// leave the update out, go back to the last checkpoint, skip this batch and the one before, as Lightning does.
///
/// ```
/// use gradus_stop::{Mode, SpikeConfig, SpikeDetector};
/// let mut spikes = SpikeDetector::new(SpikeConfig::new(Mode::Min))?;
/// let found = [2.0, 1.8, 1.9, 7.0, 1.7, f64::NAN].map(|loss| spikes.observe(loss).spike);
/// assert_eq!(found, [false, false, false, true, false, true]);
/// # Ok::<(), gradus_stop::StopError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct SpikeDetector {
    config: SpikeConfig,
    batches: u64,
    consecutive: u64,
    /// The last losses that were no spikes, oldest first.
    losses: Vec<f64>,
}

impl SpikeDetector {
    /// A detector that has seen nothing yet.
    ///
    /// # Errors
    /// [`StopError`] when the window is 0 or a tolerance is not finite or is negative.
    pub fn new(config: SpikeConfig) -> Result<Self, StopError> {
        if config.window == 0 {
            return Err(StopError::Zero { option: "window" });
        }
        in_range("rtol", config.rtol, true, "finite and not negative")?;
        in_range("atol", config.atol, true, "finite and not negative")?;
        Ok(Self { config, batches: 0, consecutive: 0, losses: Vec::new() })
    }

    /// Takes the loss of one more batch.
    #[must_use = "an update is left out only if the caller obeys the verdict"]
    pub fn observe(&mut self, loss: f64) -> Verdict {
        let spike = self.batches >= self.config.warmup && self.stands_out(loss);
        self.batches = self.batches.saturating_add(1);
        self.consecutive = if spike { self.consecutive.saturating_add(1) } else { 0 };
        if !spike && loss.is_finite() {
            if self.losses.len() as u64 >= self.config.window {
                self.losses.remove(0);
            }
            self.losses.push(loss);
        }
        let too_many = self.config.max_consecutive.is_some_and(|max| self.consecutive > max);
        Verdict {
            spike,
            waiting: self.consecutive,
            stop: too_many.then_some(Reason::TooManySpikes),
            ..Verdict::default()
        }
    }

    fn stands_out(&self, loss: f64) -> bool {
        let SpikeConfig { mode, rtol, atol, finite_only, .. } = self.config;
        if finite_only && !loss.is_finite() {
            return true;
        }
        let (Some(&last), Some(mean)) = (self.losses.last(), self.mean()) else { return false };
        let distance = (loss - mean).abs();
        mode.better(last, loss) && distance >= atol && distance >= (rtol * mean).abs()
    }

    /// The mean of the last losses that were no spikes.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let n = self.losses.len() as f64;
        (n > 0.0).then(|| self.losses.iter().map(|loss| loss / n).sum())
    }

    /// The options.
    #[must_use]
    pub fn config(&self) -> &SpikeConfig {
        &self.config
    }
}

/// The metric is the loss of a batch.
impl Criterion for SpikeDetector {
    fn judge(&mut self, seen: &Observation) -> Verdict {
        self.observe(seen.metric)
    }
}

/// Entries `batches`, `consecutive` and `losses`.
impl State for SpikeDetector {
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("batches", StateValue::U64(self.batches));
        state.insert("consecutive", StateValue::U64(self.consecutive));
        state.insert("losses", StateValue::F64s(self.losses.clone()));
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let (batches, consecutive) = (state.u64("batches")?, state.u64("consecutive")?);
        let losses = state.f64s("losses")?;
        let invalid =
            |name: &str, expected| Err(StateError::Invalid { name: name.into(), expected });
        if consecutive > batches {
            return invalid("consecutive", "at most as many as batches");
        }
        let room = self.config.window.min(batches - consecutive);
        if losses.len() as u64 > room || !losses.iter().all(|loss| loss.is_finite()) {
            return invalid("losses", "finite, and at most as many as the window and the batches");
        }
        (self.batches, self.consecutive, self.losses) = (batches, consecutive, losses);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spikes(config: SpikeConfig, losses: &[f64]) -> Vec<bool> {
        let mut detector = SpikeDetector::new(config).unwrap();
        losses.iter().map(|&loss| detector.observe(loss).spike).collect()
    }

    #[test]
    fn both_distances_have_to_be_reached_and_the_loss_be_worse() {
        let min = SpikeConfig::new(Mode::Min);
        // From a mean of 1, the spike begins at 3.
        assert_eq!(spikes(min, &[1.0, 1.0, 2.9]), [false; 3]);
        assert_eq!(spikes(min, &[1.0, 1.0, 3.0]), [false, false, true]);
        assert_eq!(spikes(min.with_atol(2.5), &[1.0, 1.0, 3.0]), [false; 3]);
        assert_eq!(spikes(min.with_atol(2.5), &[1.0, 1.0, 3.5])[2..], [true]);
        // Far from the mean, but better.
        assert_eq!(spikes(min.with_rtol(0.5), &[4.0, 4.0, 1.0, 0.1]), [false; 4]);
        let max = SpikeConfig::new(Mode::Max).with_rtol(0.5);
        assert_eq!(spikes(max, &[0.8, 0.9, 0.2, 0.9, 3.0]), [false, false, true, false, false]);
    }

    #[test]
    fn spikes_do_not_raise_the_mean_and_the_window_forgets() {
        let config = SpikeConfig::new(Mode::Min).with_window(2);
        assert_eq!(spikes(config, &[1.0, 9.0, 9.0, 9.0]), [false, true, true, true]);
        let mut detector = SpikeDetector::new(config).unwrap();
        let _ = [1.0, 2.0, 3.0, 99.0].map(|loss| detector.observe(loss));
        assert_eq!(detector.mean(), Some(2.5));
    }

    #[test]
    fn nan_is_a_spike_unless_told_otherwise_and_never_enters() {
        let config = SpikeConfig::new(Mode::Min);
        assert_eq!(
            spikes(config, &[f64::NAN, f64::NAN, 1.0, f64::INFINITY]),
            [false, true, false, true]
        );
        let lax = config.with_finite_only(false);
        assert_eq!(spikes(lax, &[1.0, f64::NAN, f64::INFINITY, 1.0]), [false, false, true, false]);
        let mut detector = SpikeDetector::new(lax).unwrap();
        let _ = [1.0, f64::NAN].map(|loss| detector.observe(loss));
        assert_eq!(detector.mean(), Some(1.0));
    }

    #[test]
    fn too_many_in_a_row_end_training() {
        let config = SpikeConfig::new(Mode::Min).with_max_consecutive(2);
        let mut detector = SpikeDetector::new(config).unwrap();
        let verdicts = [1.0, 9.0, 9.0, 1.0, 9.0, 9.0, 9.0].map(|loss| detector.observe(loss));
        assert_eq!(verdicts.map(|v| v.waiting), [0, 1, 2, 0, 1, 2, 3]);
        assert!(verdicts[..6].iter().all(|v| v.stop.is_none()));
        assert_eq!(verdicts[6].stop, Some(Reason::TooManySpikes));
    }

    #[test]
    fn bad_options_and_bad_states_are_refused() {
        let config = SpikeConfig::new(Mode::Min);
        for bad in [config.with_window(0), config.with_rtol(-1.0), config.with_atol(f64::NAN)] {
            assert!(SpikeDetector::new(bad).is_err(), "{bad:?}");
        }
        let mut detector = SpikeDetector::new(config.with_window(2)).unwrap();
        let _ = [1.0, 1.0, 9.0].map(|loss| detector.observe(loss));
        let (before, good) = (detector.clone(), detector.save_state());
        for (name, value) in [
            ("consecutive", StateValue::U64(4)),
            ("batches", StateValue::U64(1)),
            ("losses", StateValue::F64s([1.0; 3].into())),
            ("losses", StateValue::F64s([f64::NAN].into())),
        ] {
            let mut bad = good.clone();
            bad.insert(name, value);
            assert!(detector.load_state(&bad).is_err(), "{name}");
            assert_eq!(detector, before);
        }
    }
}
