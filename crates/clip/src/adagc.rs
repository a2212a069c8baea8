//! `AdaGC`: a bound for every tensor, from its own norms so far.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use gradus_core::{
    GradientTransform, Parameters, State, StateDict, StateError, StateValue, StepError,
};

use crate::{
    ClipError, GradNorm, NormType, OnNonFinite, ParamClipReport,
    clip::{coefficient, scale},
    error::{check, check_bound},
    nonfinite::{Guarded, guard, staged},
};

/// Hyper-parameters of [`AdaGc`], with the paper's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct AdaGcConfig {
    /// Bound of a tensor's norm as a multiple of its running norm; 1.05.
    pub relative: f64,
    /// Bound of the global norm during the warm-up; 1.
    pub absolute: f64,
    /// Decay of the running norms; 0.98.
    pub beta: f64,
    /// Steps of the warm-up; 100.
    pub warmup_steps: u64,
    /// What to do about gradients that are NaN or infinite; an error.
    pub on_nonfinite: OnNonFinite,
}

impl Default for AdaGcConfig {
    fn default() -> Self {
        Self {
            relative: 1.05,
            absolute: 1.0,
            beta: 0.98,
            warmup_steps: 100,
            on_nonfinite: OnNonFinite::Error,
        }
    }
}

impl AdaGcConfig {
    /// The paper's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the bound as a multiple of the running norm.
    #[must_use]
    pub fn with_relative(mut self, relative: f64) -> Self {
        self.relative = relative;
        self
    }

    /// Sets the bound of the global norm during the warm-up.
    #[must_use]
    pub fn with_absolute(mut self, absolute: f64) -> Self {
        self.absolute = absolute;
        self
    }

    /// Sets the decay of the running norms.
    #[must_use]
    pub fn with_beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// Sets the length of the warm-up.
    #[must_use]
    pub fn with_warmup_steps(mut self, warmup_steps: u64) -> Self {
        self.warmup_steps = warmup_steps;
        self
    }

    /// Sets what to do about gradients that are NaN or infinite.
    #[must_use]
    pub fn with_on_nonfinite(mut self, on_nonfinite: OnNonFinite) -> Self {
        self.on_nonfinite = on_nonfinite;
        self
    }
}

/// Clips the norm of each tensor to a multiple of the running mean of that tensor's clipped norms.
///
/// For a tensor of norm `n` with running norm `r`:
///
/// ```text
/// during the warm-up: clip the global norm to `absolute`;  r = min(r, n after clipping)
/// then: n' = min(n, relative r);  r = beta r + (1 - beta) n'
/// ```
///
/// A tensor without a running norm, or with one of 0 (it has had no gradient but zeros, and would never
/// move again), is not clipped and starts from its norm. Norms that are NaN or infinite do not enter.
/// [`GradientTransform`] makes it a stage before an optimizer.
///
/// # References
/// Wang, Li, Chen, Wu, Yang, Yu, Wang: AdaGC: improving training stability for large language model
/// pretraining (2025).
///
/// ```
/// use gradus_clip::{AdaGc, AdaGcConfig, GradSlices};
///
/// let mut clip = AdaGc::new(AdaGcConfig::new().with_warmup_steps(1).with_absolute(10.0))?;
/// let mut g = vec![2.0f64];
/// clip.clip(&mut GradSlices(&mut [g.as_mut_slice().into()]))?;
/// g[0] = 50.0;
/// clip.clip(&mut GradSlices(&mut [g.as_mut_slice().into()]))?;
/// assert!((g[0] - 2.1).abs() < 1e-6);
/// # Ok::<(), gradus_clip::ClipError>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "AdaGC")]
pub struct AdaGc {
    config: AdaGcConfig,
    step: u64,
    running: BTreeMap<String, f64>,
}

impl AdaGc {
    /// A clip that has seen nothing yet.
    ///
    /// # Errors
    /// [`ClipError::Bound`] for a bound that is NaN or negative, [`ClipError::OutOfRange`] for a beta outside
    /// `[0, 1)`.
    pub fn new(config: AdaGcConfig) -> Result<Self, ClipError> {
        check_bound(config.relative)?;
        check_bound(config.absolute)?;
        check((0.0..1.0).contains(&config.beta), "beta", config.beta, "[0, 1)")?;
        Ok(Self { config, step: 0, running: BTreeMap::new() })
    }

    /// Measures, remembers and clips.
    ///
    /// # Errors
    /// With [`OnNonFinite::Error`], [`ClipError::NonFinite`]; gradients and statistics are unchanged then.
    pub fn clip(&mut self, params: &mut dyn Parameters) -> Result<ParamClipReport, ClipError> {
        let AdaGcConfig { relative, absolute, beta, warmup_steps, on_nonfinite } = self.config;
        let mut norms = Vec::new();
        let Guarded { found, skip } = guard(params, NormType::L2, on_nonfinite, Some(&mut norms))?;
        let GradNorm { norm: global, nonfinite, worst, .. } = found;
        let mut report = ParamClipReport { norms, clipped: 0, nonfinite, worst, skip };
        if skip {
            return Ok(report);
        }
        let warm = self.step >= warmup_steps;
        let common = coefficient(global, absolute);
        let mut norms = report.norms.iter();
        params.visit(&mut |p| {
            let Some(grad) = p.grad else { return };
            let Some(&norm) = norms.next() else { return };
            let known = self.running.get(p.name).copied().filter(|&r| r > 0.0);
            let factor = match known {
                _ if !warm => common,
                Some(r) => coefficient(norm, relative * r),
                None => 1.0,
            };
            let after = norm * factor;
            if after.is_finite() {
                let running = match known {
                    None => after,
                    Some(r) if warm => beta * r + (1.0 - beta) * after,
                    Some(r) => r.min(after),
                };
                match self.running.get_mut(p.name) {
                    Some(r) => *r = running,
                    None => drop(self.running.insert(p.name.to_string(), running)),
                }
            }
            if factor != 1.0 {
                scale(grad, factor);
                report.clipped += 1;
            }
        });
        self.step += 1;
        Ok(report)
    }
}

impl State for AdaGc {
    /// `step`, and `norm.NAME` for each tensor.
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("step", StateValue::U64(self.step));
        for (name, &norm) in &self.running {
            state.insert(format!("norm.{name}"), StateValue::F64(norm));
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let step = state.u64("step")?;
        let norms = state.sub("norm");
        let mut running = BTreeMap::new();
        for (name, _) in norms.iter() {
            let norm = norms.f64(name)?;
            if !(norm >= 0.0 && norm.is_finite()) {
                let expected = "a norm (finite, not negative)";
                return Err(StateError::Invalid { name: name.into(), expected });
            }
            running.insert(name.to_string(), norm);
        }
        (self.step, self.running) = (step, running);
        Ok(())
    }
}

impl GradientTransform for AdaGc {
    fn step(&mut self, _lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        let report = self.clip(params)?;
        staged(report.skip, report.worst, report.nonfinite)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::VecParam;

    use super::*;

    fn feed(clip: &mut AdaGc, a: f64, b: f64) -> [f64; 2] {
        let param = |name: &str, g| VecParam::new(name, &[1], vec![0.0]).with_grad(vec![g]);
        let mut params = vec![param("a", a), param("b", b)];
        clip.clip(&mut params).unwrap();
        [0, 1].map(|i| params[i].grad.as_ref().unwrap()[0])
    }

    #[test]
    fn every_tensor_has_its_own_bound() {
        let config = AdaGcConfig::new().with_warmup_steps(2).with_absolute(5.0).with_beta(0.5);
        let mut clip = AdaGc::new(config.with_relative(2.0)).unwrap();
        feed(&mut clip, 6.0, 8.0); // clipped to 3, 4
        feed(&mut clip, 3.5, 1.0);
        assert!((clip.running["a"] - 3.0).abs() < 1e-6 && clip.running["b"] == 1.0);
        let [a, b] = feed(&mut clip, 4.0, 100.0);
        assert!(a == 4.0 && (b - 2.0).abs() < 1e-6, "{a} {b}");
        assert!((clip.running["a"] - 3.5).abs() < 1e-6 && (clip.running["b"] - 1.5).abs() < 1e-6);
    }

    #[test]
    fn a_tensor_that_had_only_zeros_can_still_move() {
        let config = AdaGcConfig::new().with_warmup_steps(1);
        let mut clip = AdaGc::new(config).unwrap();
        feed(&mut clip, 0.0, 0.5);
        assert_eq!(feed(&mut clip, 7.0, 0.5), [7.0, 0.5]);
        assert_eq!(clip.running["a"], 7.0);
    }

    #[test]
    fn state_that_is_none_is_refused() {
        let mut clip = AdaGc::new(AdaGcConfig::new()).unwrap();
        feed(&mut clip, 0.5, 0.5);
        let mut state = clip.save_state();
        state.insert("norm.a", StateValue::F64(f64::NAN));
        assert!(matches!(clip.load_state(&state), Err(StateError::Invalid { .. })));
        assert_eq!(clip.running["a"], 0.5);
        assert!(AdaGc::new(AdaGcConfig::new().with_beta(1.0)).is_err());
        assert!(AdaGc::new(AdaGcConfig::new().with_relative(-1.0)).is_err());
    }
}
