//! Leaving out updates whose gradients are not finite, but not for ever.

use alloc::string::String;

use gradus_core::{
    GradientTransform, Parameters, State, StateDict, StateError, StateValue, StepError,
};

use crate::{ClipError, GradNorm, NormType, global_norm};

/// Counts updates that are left out, and refuses to leave out too many in a row.
///
/// For a loop of one's own: `limit.note(report.skip)?` after each clip with [`OnNonFinite::Skip`]. One bad batch is
/// bad luck, ten in a row are a run that will not recover: weights that are NaN make every gradient NaN.
///
/// ```
/// use gradus_clip::{ClipError, SkipLimit};
/// let mut limit = SkipLimit::new(2);
/// for skipped in [true, false, true, true] {
///     limit.note(skipped)?;
/// }
/// assert_eq!((limit.consecutive(), limit.total()), (2, 3));
/// assert_eq!(limit.note(true), Err(ClipError::TooManySkips { consecutive: 3 }));
/// # Ok::<(), ClipError>(())
/// ```
///
/// [`OnNonFinite::Skip`]: crate::OnNonFinite::Skip
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SkipLimit {
    max_consecutive: u64,
    consecutive: u64,
    total: u64,
}

impl SkipLimit {
    /// Puts up with so many skipped updates in a row; with 0 none may be skipped.
    #[must_use]
    pub fn new(max_consecutive: u64) -> Self {
        Self { max_consecutive, consecutive: 0, total: 0 }
    }

    /// Takes note of one more update, done or left out.
    ///
    /// # Errors
    /// [`ClipError::TooManySkips`] when this is one more in a row than allowed. It has been counted then.
    pub fn note(&mut self, skipped: bool) -> Result<(), ClipError> {
        if !skipped {
            self.consecutive = 0;
            return Ok(());
        }
        self.consecutive = self.consecutive.saturating_add(1);
        self.total = self.total.saturating_add(1);
        if self.consecutive > self.max_consecutive {
            return Err(ClipError::TooManySkips { consecutive: self.consecutive });
        }
        Ok(())
    }

    /// Updates left out since the last one that was done.
    #[must_use]
    pub fn consecutive(&self) -> u64 {
        self.consecutive
    }

    /// Updates left out in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

/// Entries `consecutive` and `total`.
impl State for SkipLimit {
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("consecutive", StateValue::U64(self.consecutive));
        state.insert("total", StateValue::U64(self.total));
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let (consecutive, total) = (state.u64("consecutive")?, state.u64("total")?);
        if consecutive > total {
            let expected = "at most the total";
            return Err(StateError::Invalid { name: "consecutive".into(), expected });
        }
        (self.consecutive, self.total) = (consecutive, total);
        Ok(())
    }
}

/// A transform whose steps are left out where a gradient is NaN or infinite: the parameters and the transform's own
/// state stay as they are, as if there had been no batch.
///
/// optax's `apply_if_finite`, with one difference: after too many in a row that one gives up and applies what is not
/// finite; here the step is an error ([`StepError::NonFiniteGradient`]).
///
/// ```
/// use gradus_clip::{ClipNorm, SkipNonFinite};
/// use gradus_core::{GradientTransform, VecParam};
///
/// let mut clip = SkipNonFinite::new(ClipNorm::new(1.0), 5);
/// let mut params = vec![VecParam::new("w", &[1], vec![0.0f32]).with_grad(vec![f32::NAN])];
/// clip.step(0.1, &mut params)?;
/// assert_eq!((clip.skipped(), clip.limit().total()), (true, 1));
/// # Ok::<(), gradus_core::StepError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
#[doc(alias = "apply_if_finite")]
pub struct SkipNonFinite<T> {
    transform: T,
    limit: SkipLimit,
    skipped: bool,
}

impl<T: GradientTransform> SkipNonFinite<T> {
    /// Leaves out at most so many steps of `transform` in a row.
    pub fn new(transform: T, max_consecutive: u64) -> Self {
        Self { transform, limit: SkipLimit::new(max_consecutive), skipped: false }
    }

    /// Whether the last step was left out: then the schedule of the learning rate should not advance either.
    #[must_use]
    pub fn skipped(&self) -> bool {
        self.skipped
    }

    /// The counters.
    #[must_use]
    pub fn limit(&self) -> &SkipLimit {
        &self.limit
    }

    /// The transform.
    #[must_use]
    pub fn transform(&self) -> &T {
        &self.transform
    }
}

impl<T: GradientTransform> GradientTransform for SkipNonFinite<T> {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        // The largest element is the cheapest norm.
        let GradNorm { nonfinite, worst, .. } = global_norm(params, NormType::Inf)?;
        self.skipped = nonfinite > 0;
        match self.limit.note(self.skipped) {
            Ok(()) if self.skipped => Ok(()),
            Ok(()) => self.transform.step(lr, params),
            Err(_) => Err(StepError::NonFiniteGradient {
                name: worst.unwrap_or_else(String::new),
                count: nonfinite,
            }),
        }
    }
}

/// The entries of the transform under `transform`, the counters under `limit`.
impl<T: GradientTransform> State for SkipNonFinite<T> {
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert_all("limit", self.limit.save_state());
        state.insert_all("transform", self.transform.save_state());
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let mut limit = self.limit;
        limit.load_state(&state.sub("limit"))?;
        self.transform.load_state(&state.sub("transform"))?;
        self.limit = limit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::VecParam;

    use super::*;
    use crate::AutoClip;

    fn param(grad: f32) -> Vec<VecParam> {
        vec![VecParam::new("w", &[1], vec![0.0]).with_grad(vec![grad])]
    }

    #[test]
    fn a_skipped_step_leaves_the_transform_alone_and_too_many_are_an_error() {
        let mut clip = SkipNonFinite::new(AutoClip::new(50.0).unwrap(), 2);
        let history = |clip: &SkipNonFinite<AutoClip>| clip.transform().save_state();
        clip.step(0.1, &mut param(2.0)).unwrap();
        let before = history(&clip);
        for _ in 0..2 {
            let mut p = param(f32::NAN);
            clip.step(0.1, &mut p).unwrap();
            assert!(clip.skipped() && p[0].grad.as_ref().unwrap()[0].is_nan());
        }
        let error = clip.step(0.1, &mut param(f32::INFINITY)).unwrap_err();
        assert_eq!(error, StepError::NonFiniteGradient { name: "w".into(), count: 1 });
        assert_eq!(history(&clip), before);
        clip.step(0.1, &mut param(3.0)).unwrap();
        assert_eq!(
            (clip.skipped(), clip.limit().consecutive(), clip.limit().total()),
            (false, 0, 3)
        );
        assert_ne!(history(&clip), before);
    }

    #[test]
    fn counters_come_back_and_a_bad_state_changes_nothing() {
        let mut clip = SkipNonFinite::new(AutoClip::new(50.0).unwrap(), 9);
        for grad in [1.0, f32::NAN, f32::NAN] {
            clip.step(0.1, &mut param(grad)).unwrap();
        }
        let saved = clip.save_state();
        let mut other = SkipNonFinite::new(AutoClip::new(50.0).unwrap(), 9);
        other.load_state(&saved).unwrap();
        assert_eq!((other.limit(), other.save_state()), (clip.limit(), saved.clone()));
        for name in ["limit.consecutive", "transform.history"] {
            let mut bad = saved.clone();
            bad.insert(name, StateValue::U64(7));
            assert!(other.load_state(&bad).is_err(), "{name}");
            assert_eq!(other.save_state(), saved);
        }
    }

    #[test]
    fn no_skip_may_be_allowed_at_all() {
        let mut limit = SkipLimit::new(0);
        assert_eq!(limit.note(false), Ok(()));
        assert_eq!(limit.note(true), Err(ClipError::TooManySkips { consecutive: 1 }));
    }
}
