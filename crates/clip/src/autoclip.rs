//! `AutoClip`: a bound that is a percentile of the norms so far.

use alloc::vec::Vec;

use gradus_core::{
    GradientTransform, Parameters, State, StateDict, StateError, StateValue, StepError,
};

use crate::{
    ClipError, ClipReport, NormType, OnNonFinite,
    clip::bound_norm,
    error::check,
    nonfinite::{Guarded, guard, staged},
};

/// Clips the global norm to a percentile of the norms that were seen, the current one among them.
///
/// The percentile is interpolated linearly, as by numpy. Norms that are NaN or infinite do not enter the
/// history. A step costs time in proportion to its length; [`with_window`](Self::with_window) bounds it.
/// [`GradientTransform`] makes it a stage before an optimizer.
///
/// # References
/// Seetharaman, Wichern, Pardo, Le Roux: AutoClip: adaptive gradient clipping for source separation networks
/// (2020); there, percentile 10 over all steps.
///
/// ```
/// use gradus_clip::{AutoClip, GradSlices};
///
/// let mut clip = AutoClip::new(50.0)?;
/// let mut report = None;
/// for norm in [1.0, 2.0, 9.0] {
///     let mut g = vec![norm];
///     report = Some(clip.clip(&mut GradSlices(&mut [g.as_mut_slice().into()]))?);
/// }
/// assert!((report.unwrap().norm_after - 2.0f64).abs() < 1e-6); // the median of the three
/// # Ok::<(), gradus_clip::ClipError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AutoClip {
    percentile: f64,
    window: Option<usize>,
    on_nonfinite: OnNonFinite,
    /// Oldest first.
    history: Vec<f64>,
}

impl AutoClip {
    /// Clips to this percentile of all norms so far.
    ///
    /// # Errors
    /// [`ClipError::OutOfRange`] for a percentile outside `[0, 100]`.
    pub fn new(percentile: f64) -> Result<Self, ClipError> {
        check((0.0..=100.0).contains(&percentile), "percentile", percentile, "[0, 100]")?;
        Ok(Self { percentile, window: None, on_nonfinite: OnNonFinite::Error, history: Vec::new() })
    }

    /// Forgets norms of more than `window` steps ago.
    ///
    /// # Errors
    /// [`ClipError::OutOfRange`] for a window of 0.
    pub fn with_window(mut self, window: usize) -> Result<Self, ClipError> {
        check(window > 0, "window", window as f64, "[1, inf)")?;
        self.window = Some(window);
        Ok(self)
    }

    /// Sets what to do about gradients that are NaN or infinite; an error by default.
    #[must_use]
    pub fn with_on_nonfinite(mut self, on_nonfinite: OnNonFinite) -> Self {
        self.on_nonfinite = on_nonfinite;
        self
    }

    /// Measures, remembers and clips.
    ///
    /// # Errors
    /// With [`OnNonFinite::Error`], [`ClipError::NonFinite`]; gradients and history are unchanged then.
    pub fn clip(&mut self, params: &mut dyn Parameters) -> Result<ClipReport, ClipError> {
        let Guarded { found, skip } = guard(params, NormType::L2, self.on_nonfinite, None)?;
        if skip {
            return Ok(ClipReport::skipped(found));
        }
        if found.norm.is_finite() {
            if self.window == Some(self.history.len()) {
                self.history.remove(0);
            }
            self.history.push(found.norm);
        }
        let bound = self.bound().unwrap_or(f64::INFINITY);
        Ok(bound_norm(params, found, bound))
    }

    /// The percentile of the history; `None` before the first norm.
    fn bound(&self) -> Option<f64> {
        let mut norms = self.history.clone();
        let at = self.percentile / 100.0 * norms.len().checked_sub(1)? as f64;
        let (_, &mut low, above) = norms.select_nth_unstable_by(at as usize, f64::total_cmp);
        let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
        Some(low + (high - low) * (at - (at as usize) as f64))
    }
}

impl State for AutoClip {
    /// `history`: the norms, oldest first.
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("history", StateValue::F64s(self.history.clone()));
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let mut history = state.f64s("history")?;
        if !history.iter().all(|norm| norm.is_finite() && *norm >= 0.0) {
            let expected = "norms (finite, not negative)";
            return Err(StateError::Invalid { name: "history".into(), expected });
        }
        let surplus = history.len().saturating_sub(self.window.unwrap_or(usize::MAX));
        history.drain(..surplus);
        self.history = history;
        Ok(())
    }
}

impl GradientTransform for AutoClip {
    fn step(&mut self, _lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        let report = self.clip(params)?;
        staged(report.skip, report.worst, report.nonfinite)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::GradSlices;

    fn feed(clip: &mut AutoClip, norm: f64) -> Result<ClipReport, ClipError> {
        clip.clip(&mut GradSlices(&mut [vec![norm].as_mut_slice().into()]))
    }

    #[test]
    fn percentiles_are_interpolated() {
        let mut clip = AutoClip::new(30.0).unwrap();
        for norm in [4.0, 1.0, 3.0] {
            feed(&mut clip, norm).unwrap();
        }
        // Sorted 1, 3, 4, 7; position 0.9.
        let report = feed(&mut clip, 7.0).unwrap();
        assert!(report.clipped);
        assert!((report.norm_after - 2.8).abs() < 1e-5, "{report:?}");
    }

    #[test]
    fn the_window_forgets_and_nan_is_not_remembered() {
        let mut clip = AutoClip::new(100.0).unwrap().with_window(2).unwrap();
        for norm in [100.0, 1.0, 2.0] {
            feed(&mut clip, norm).unwrap();
        }
        assert!(feed(&mut clip, f64::NAN).is_err());
        assert_eq!(clip.save_state().f64s("history"), Ok(vec![1.0, 2.0]));
        let mut clip = clip.with_on_nonfinite(OnNonFinite::Skip);
        assert!(feed(&mut clip, f64::INFINITY).unwrap().skip);
        assert_eq!(clip.bound(), Some(2.0));
    }

    #[test]
    fn bad_input_is_an_error() {
        for percentile in [-1.0, 100.5, f64::NAN] {
            assert!(matches!(AutoClip::new(percentile), Err(ClipError::OutOfRange { .. })));
        }
        let mut clip = AutoClip::new(10.0).unwrap();
        assert!(clip.clone().with_window(0).is_err());
        let mut state = StateDict::new();
        state.insert("history", StateValue::F64s(vec![f64::NAN]));
        assert!(matches!(clip.load_state(&state), Err(StateError::Invalid { .. })));
    }
}
