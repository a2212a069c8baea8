//! `ZClip`: a bound from the mean and the deviation of the norms so far.

use alloc::vec::Vec;

use gradus_core::{
    GradientTransform, Parameters, State, StateDict, StateError, StateValue, StepError,
};
use num_traits::Float;

use crate::{
    ClipError, ClipReport, NormType, OnNonFinite,
    clip::bound_norm,
    error::check,
    nonfinite::{Guarded, guard, staged},
};

/// What a norm that stands out is clipped to in [`ZClip`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum ZClipScale {
    /// `mean + z_threshold^2 std / z`: the further out, the closer to the mean.
    #[default]
    Adaptive,
    /// The mean.
    Mean,
    /// `mean + z_threshold std`, the least norm that stands out (the authors' percentile mode).
    Threshold,
}

/// Hyper-parameters of [`ZClip`], with the defaults of its authors.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct ZClipConfig {
    /// Decay of the running mean and variance; 0.97.
    pub alpha: f64,
    /// Deviations above the mean from which on a norm is clipped; 2.5.
    pub z_threshold: f64,
    /// Bound of the norm in every case; 1, `None` for none.
    pub max_norm: Option<f64>,
    /// Added to the standard deviation; 1e-6.
    pub eps: f64,
    /// Steps whose plain mean and variance the running ones start from; 25.
    pub warmup_steps: usize,
    /// What a norm that stands out is clipped to; [`ZClipScale::Adaptive`].
    pub scale: ZClipScale,
    /// What is clipped to by [`ZClipScale::Adaptive`] is this many times as much; in (0, 1], 1.
    pub clip_factor: f64,
    /// Whether norms that stand out enter mean and variance, as what they were clipped to; true. The authors'
    /// `skip_update_on_spike` is the opposite.
    pub learn_from_spikes: bool,
    /// What to do about gradients that are NaN or infinite; an error.
    pub on_nonfinite: OnNonFinite,
}

impl Default for ZClipConfig {
    fn default() -> Self {
        Self {
            alpha: 0.97,
            z_threshold: 2.5,
            max_norm: Some(1.0),
            eps: 1e-6,
            warmup_steps: 25,
            scale: ZClipScale::Adaptive,
            clip_factor: 1.0,
            learn_from_spikes: true,
            on_nonfinite: OnNonFinite::Error,
        }
    }
}

impl ZClipConfig {
    /// The authors' defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the decay of mean and variance.
    #[must_use]
    pub fn with_alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Sets from how many deviations on a norm is clipped.
    #[must_use]
    pub fn with_z_threshold(mut self, z_threshold: f64) -> Self {
        self.z_threshold = z_threshold;
        self
    }

    /// Sets the bound in every case.
    #[must_use]
    pub fn with_max_norm(mut self, max_norm: Option<f64>) -> Self {
        self.max_norm = max_norm;
        self
    }

    /// Sets the length of the warm-up.
    #[must_use]
    pub fn with_warmup_steps(mut self, warmup_steps: usize) -> Self {
        self.warmup_steps = warmup_steps;
        self
    }

    /// Sets what a norm that stands out is clipped to.
    #[must_use]
    pub fn with_scale(mut self, scale: ZClipScale) -> Self {
        self.scale = scale;
        self
    }

    /// Sets the factor of what is clipped to.
    #[must_use]
    pub fn with_clip_factor(mut self, clip_factor: f64) -> Self {
        self.clip_factor = clip_factor;
        self
    }

    /// Sets whether norms that stand out enter mean and variance.
    #[must_use]
    pub fn with_learn_from_spikes(mut self, learn_from_spikes: bool) -> Self {
        self.learn_from_spikes = learn_from_spikes;
        self
    }

    /// Sets what to do about gradients that are NaN or infinite.
    #[must_use]
    pub fn with_on_nonfinite(mut self, on_nonfinite: OnNonFinite) -> Self {
        self.on_nonfinite = on_nonfinite;
        self
    }
}

/// Clips global norms that stand out from the ones before, by their z-score.
///
/// With the norm `n`, the running `mean` and variance `var`, `std = sqrt(var)`:
///
/// ```text
/// z = (n - mean) / (std + eps)
/// n' = z > z_threshold ? clip_factor (mean + z_threshold^2 std / z) : n        (or others, see ZClipScale)
/// clip to min(n', max_norm)
/// mean = alpha mean + (1 - alpha) n',  var = alpha var + (1 - alpha) (n' - mean)^2
/// ```
///
/// The first `warmup_steps` norms are clipped to `max_norm` only; `mean` and `var` start from theirs. Norms
/// that are NaN or infinite do not enter. [`GradientTransform`] makes it a stage before an optimizer.
///
/// # References
/// Kumar, Owen, Chowdhury, Güra: ZClip: adaptive spike mitigation for LLM pre-training (2025).
///
/// ```
/// use gradus_clip::{GradSlices, ZClip, ZClipConfig};
///
/// let mut clip = ZClip::new(ZClipConfig::new().with_warmup_steps(2).with_max_norm(None))?;
/// let mut norms = Vec::new();
/// for norm in [0.5, 1.5, 3.0f64] {
///     let mut g = vec![norm];
///     norms.push(clip.clip(&mut GradSlices(&mut [g.as_mut_slice().into()]))?.norm_after);
/// }
/// assert_eq!(norms[..2], [0.5, 1.5]);
/// assert!((norms[2] - 1.78125).abs() < 1e-5); // mean 1, std 0.5: z = 4
/// # Ok::<(), gradus_clip::ClipError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ZClip {
    config: ZClipConfig,
    /// Norms of the warm-up; empty after it.
    warmup: Vec<f64>,
    /// Mean and variance, after the warm-up.
    moments: Option<(f64, f64)>,
}

impl ZClip {
    /// A clip that has seen nothing yet.
    ///
    /// # Errors
    /// [`ClipError::OutOfRange`] for an alpha outside `[0, 1)`, a threshold or eps that is not above 0, a factor
    /// outside `(0, 1]`, or no warm-up at all; [`ClipError::Bound`] for a `max_norm` that is NaN or negative.
    pub fn new(config: ZClipConfig) -> Result<Self, ClipError> {
        let ZClipConfig { alpha, z_threshold, max_norm, eps, warmup_steps, clip_factor, .. } =
            config;
        let positive = |x: f64| x > 0.0 && x.is_finite();
        check((0.0..1.0).contains(&alpha), "alpha", alpha, "[0, 1)")?;
        check(positive(z_threshold), "z_threshold", z_threshold, "(0, inf)")?;
        check(positive(eps), "eps", eps, "(0, inf)")?;
        check(positive(clip_factor) && clip_factor <= 1.0, "clip_factor", clip_factor, "(0, 1]")?;
        check(warmup_steps > 0, "warmup_steps", 0.0, "[1, inf)")?;
        crate::error::check_bound(max_norm.unwrap_or(0.0))?;
        Ok(Self { config, warmup: Vec::new(), moments: None })
    }

    /// Measures, remembers and clips.
    ///
    /// # Errors
    /// With [`OnNonFinite::Error`], [`ClipError::NonFinite`]; gradients and statistics are unchanged then.
    pub fn clip(&mut self, params: &mut dyn Parameters) -> Result<ClipReport, ClipError> {
        let policy = self.config.on_nonfinite;
        let Guarded { found, skip } = guard(params, NormType::L2, policy, None)?;
        if skip {
            return Ok(ClipReport::skipped(found));
        }
        let allowed = if found.norm.is_finite() { self.observe(found.norm) } else { found.norm };
        // A norm that does not stand out is not touched, not even by the 1e-6 of the coefficient.
        let allowed = if allowed < found.norm { allowed } else { f64::INFINITY };
        let bound = self.config.max_norm.map_or(allowed, |max| max.min(allowed));
        Ok(bound_norm(params, found, bound))
    }

    /// Takes a norm in and says what it may be.
    fn observe(&mut self, norm: f64) -> f64 {
        let ZClipConfig { alpha, z_threshold, eps, warmup_steps, scale, clip_factor, .. } =
            self.config;
        let Some((mean, var)) = self.moments else {
            self.warmup.push(norm);
            if self.warmup.len() >= warmup_steps {
                let n = self.warmup.len() as f64;
                let mean = self.warmup.iter().sum::<f64>() / n;
                let var = self.warmup.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
                self.moments = Some((mean, var));
                self.warmup.clear();
            }
            return norm;
        };
        let std = Float::sqrt(var);
        let z = (norm - mean) / (std + eps);
        let least = mean + z_threshold * std;
        let stands_out =
            if scale == ZClipScale::Threshold { norm > least } else { z > z_threshold };
        let allowed = match scale {
            _ if !stands_out => norm,
            ZClipScale::Adaptive => clip_factor * (mean + z_threshold * z_threshold * std / z),
            ZClipScale::Mean => mean,
            ZClipScale::Threshold => least,
        };
        if stands_out && !self.config.learn_from_spikes {
            return allowed;
        }
        let mean = alpha * mean + (1.0 - alpha) * allowed;
        let var = alpha * var + (1.0 - alpha) * (allowed - mean) * (allowed - mean);
        self.moments = Some((mean, var));
        allowed
    }
}

impl State for ZClip {
    /// `warmup`: the norms of the warm-up; `mean` and `var` after it.
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("warmup", StateValue::F64s(self.warmup.clone()));
        if let Some((mean, var)) = self.moments {
            state.insert("mean", StateValue::F64(mean));
            state.insert("var", StateValue::F64(var));
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let warmup = state.f64s("warmup")?;
        let moments = match state.get("mean") {
            Some(_) => Some((state.f64("mean")?, state.f64("var")?)),
            None => None,
        };
        let ok = |x: f64| x >= 0.0 && x.is_finite();
        let invalid = |name: &str| StateError::Invalid {
            name: name.into(),
            expected: "numbers that are finite and not negative",
        };
        if !warmup.iter().all(|&x| ok(x)) {
            return Err(invalid("warmup"));
        }
        if !moments.is_none_or(|(mean, var)| ok(mean) && ok(var)) {
            return Err(invalid("mean"));
        }
        (self.warmup, self.moments) = (warmup, moments);
        Ok(())
    }
}

impl GradientTransform for ZClip {
    fn step(&mut self, _lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        let report = self.clip(params)?;
        staged(report.skip, report.worst, report.nonfinite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mean: f64, var: f64, scale: ZClipScale) -> ZClip {
        let mut clip = ZClip::new(ZClipConfig::new().with_scale(scale)).unwrap();
        clip.moments = Some((mean, var));
        clip
    }

    #[test]
    fn what_stands_out_is_drawn_in_and_enters_as_clipped() {
        let mut clip = at(1.0, 0.25, ZClipScale::Adaptive);
        let allowed = clip.observe(3.0);
        assert!((allowed - 1.78125).abs() < 2e-6, "{allowed}");
        let (mean, var) = clip.moments.unwrap();
        assert!((mean - (0.97 + 0.03 * allowed)).abs() < 1e-15);
        assert!((var - (0.97 * 0.25 + 0.03 * (allowed - mean).powi(2))).abs() < 1e-15);
        assert_eq!(at(1.0, 0.25, ZClipScale::Mean).observe(3.0), 1.0);
        assert_eq!(at(1.0, 0.25, ZClipScale::Mean).observe(2.2), 2.2);
        assert_eq!(at(1.0, 0.25, ZClipScale::Mean).observe(0.0), 0.0);
    }

    #[test]
    fn the_least_norm_that_stands_out_may_be_the_bound() {
        let mut clip = at(1.0, 0.25, ZClipScale::Threshold);
        assert_eq!([clip.clone().observe(2.24), clip.observe(3.0)], [2.24, 2.25]);
    }

    #[test]
    fn what_is_clipped_to_may_be_less_and_need_not_be_learned_from() {
        let config = ZClipConfig::new().with_clip_factor(0.5).with_learn_from_spikes(false);
        let mut clip = ZClip::new(config).unwrap();
        clip.moments = Some((1.0, 0.25));
        assert!((clip.observe(3.0) - 0.890_625).abs() < 1e-5);
        assert_eq!(clip.moments, Some((1.0, 0.25)));
        assert_eq!(clip.observe(1.5), 1.5);
        assert_ne!(clip.moments, Some((1.0, 0.25)));
        for bad in [0.0, 1.5, f64::NAN] {
            assert!(ZClip::new(config.with_clip_factor(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn norms_that_never_change_are_never_clipped() {
        let mut clip = at(1.0, 0.0, ZClipScale::Adaptive);
        assert_eq!(clip.observe(1.0), 1.0);
        assert_eq!(clip.moments, Some((1.0, 0.0)));
    }

    #[test]
    fn bad_input_is_an_error() {
        let config = ZClipConfig::new();
        for bad in [
            config.with_alpha(1.0),
            config.with_z_threshold(0.0),
            config.with_max_norm(Some(f64::NAN)),
            config.with_warmup_steps(0),
        ] {
            assert!(ZClip::new(bad).is_err(), "{bad:?}");
        }
        let mut state = StateDict::new();
        state.insert("warmup", StateValue::F64s(Vec::new()));
        state.insert("mean", StateValue::F64(1.0));
        let mut clip = ZClip::new(config).unwrap();
        assert!(matches!(clip.load_state(&state), Err(StateError::Missing { .. })));
    }
}
