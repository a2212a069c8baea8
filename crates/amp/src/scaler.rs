//! The number that a loss is multiplied by, so that small gradients do not vanish in half precision.

use gradus_core::{Parameters, State, StateDict, StateError, StateValue};

use crate::{
    AmpError,
    step::{Finite, Iteration, Outcome},
};

/// How a dynamic scale moves; the defaults are those of PyTorch's `GradScaler`.
///
/// Micikevicius et al., Mixed precision training (2018), arXiv:1710.03740.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct DynamicScale {
    /// The scale at the beginning; 65536.
    pub init_scale: f32,
    /// What the scale is multiplied by after `growth_interval` good iterations in a row; 2.
    pub growth_factor: f64,
    /// What it is multiplied by after an iteration with a gradient that is NaN or infinite; 0.5.
    pub backoff_factor: f64,
    /// Good iterations in a row before it grows; 2000.
    pub growth_interval: u32,
    /// Bad iterations since the scale last grew that it takes until it backs off, and all after these do; 1: the first
    /// one does. Megatron-LM's hysteresis, against single bad batches.
    pub hysteresis: u32,
    /// The scale never backs off below this; the smallest normal f32 (PyTorch has no bound and reaches 0).
    pub min_scale: f32,
    /// The scale never grows beyond this; the largest f32, as in PyTorch.
    pub max_scale: f32,
}

impl Default for DynamicScale {
    fn default() -> Self {
        Self {
            init_scale: 65536.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            hysteresis: 1,
            min_scale: f32::MIN_POSITIVE,
            max_scale: f32::MAX,
        }
    }
}

impl DynamicScale {
    /// With this scale at the beginning.
    #[must_use]
    pub fn with_init_scale(mut self, init_scale: f32) -> Self {
        self.init_scale = init_scale;
        self
    }

    /// With these factors.
    #[must_use]
    pub fn with_factors(mut self, growth: f64, backoff: f64) -> Self {
        (self.growth_factor, self.backoff_factor) = (growth, backoff);
        self
    }

    /// With so many good iterations before the scale grows.
    #[must_use]
    pub fn with_growth_interval(mut self, interval: u32) -> Self {
        self.growth_interval = interval;
        self
    }

    /// With so many bad iterations before the scale backs off.
    #[must_use]
    pub fn with_hysteresis(mut self, hysteresis: u32) -> Self {
        self.hysteresis = hysteresis;
        self
    }

    /// With these bounds of the scale.
    #[must_use]
    pub fn with_bounds(mut self, min: f32, max: f32) -> Self {
        (self.min_scale, self.max_scale) = (min, max);
        self
    }

    fn check(self) -> Result<Self, AmpError> {
        let positive = |x: f32| x > 0.0 && x.is_finite();
        for (fits, name, value, range) in [
            (positive(self.min_scale), "min_scale", f64::from(self.min_scale), "a number > 0"),
            (
                self.max_scale >= self.min_scale && positive(self.max_scale),
                "max_scale",
                f64::from(self.max_scale),
                "finite and at least min_scale",
            ),
            (
                self.init_scale >= self.min_scale && self.init_scale <= self.max_scale,
                "init_scale",
                f64::from(self.init_scale),
                "between min_scale and max_scale",
            ),
            (
                self.growth_factor > 1.0 && self.growth_factor.is_finite(),
                "growth_factor",
                self.growth_factor,
                "a number > 1",
            ),
            (
                self.backoff_factor > 0.0 && self.backoff_factor < 1.0,
                "backoff_factor",
                self.backoff_factor,
                "in (0, 1)",
            ),
            (
                self.growth_interval > 0,
                "growth_interval",
                f64::from(self.growth_interval),
                "at least 1",
            ),
            (self.hysteresis > 0, "hysteresis", f64::from(self.hysteresis), "at least 1"),
        ] {
            if !fits {
                return Err(AmpError::OutOfRange { name, value, range });
            }
        }
        Ok(self)
    }
}

/// Who decides about the scale.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    None,
    Constant,
    Dynamic(DynamicScale),
}

/// Keeps small gradients alive in half precision: the loss is multiplied by a scale, so that gradients are, and these
/// are divided by it before anything else looks at them. A scale that is too large makes gradients infinite; such an
/// iteration is skipped, and the scale backs off.
///
/// The rules and defaults are those of PyTorch's `GradScaler`; see [`DynamicScale`] for what goes beyond. bf16 has the
/// exponents of f32 and needs no scale.
///
/// It knows no tensor: gradients are a [`Parameters`] walk. See [`Iteration`] for loops with several optimizers.
///
/// ```
/// use gradus_amp::{AmpError, LossScaler, Outcome};
/// use gradus_core::VecParam;
///
/// let mut scaler = LossScaler::dynamic();
/// let mut params = vec![VecParam::new("w", &[2], vec![1.0f32, 1.0])];
/// for gradient in [[1.0f32, 2.0], [f32::INFINITY, 0.0]] {
///     // The gradients of `loss * scaler.scale()`.
///     params[0].grad = Some(gradient.map(|g| g * scaler.scale()).to_vec());
///     let outcome = scaler.step(&mut params, |finite| {
///         // Clip here, then step: `finite` holds true gradients.
///         finite.step(|params| params.visit(&mut |_| ()));
///         Ok::<_, AmpError>(())
///     })?;
///     match outcome {
///         Outcome::Stepped { .. } => assert_eq!(params[0].grad, Some(vec![1.0, 2.0])),
///         // The learning rate's schedule does not advance here.
///         Outcome::Skipped { scale, .. } => assert_eq!((scale.before, scale.after), (65536.0, 32768.0)),
///     }
/// }
/// # Ok::<(), AmpError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[doc(alias = "GradScaler")]
pub struct LossScaler {
    kind: Kind,
    scale: f32,
    /// Good iterations since the scale last moved.
    growth_tracker: u32,
    /// Bad iterations that the scale still puts up with.
    hysteresis: u32,
    skipped: u64,
}

/// What an iteration did to the scale.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScaleUpdate {
    /// The scale of the iteration.
    pub before: f32,
    /// That of the next.
    pub after: f32,
    /// Whether it should have backed off and could not, because it is at its lowest. What overflows at every scale
    /// is not a matter of the scale: look for a loss or a weight that is NaN or infinite.
    pub at_floor: bool,
}

impl LossScaler {
    /// No scale: gradients stay as they are and every step is done, as with PyTorch's `enabled=False`.
    #[must_use]
    pub fn none() -> Self {
        Self { kind: Kind::None, scale: 1.0, growth_tracker: 0, hysteresis: 0, skipped: 0 }
    }

    /// Always this scale; iterations with gradients that are not finite are skipped.
    ///
    /// # Errors
    /// [`AmpError::OutOfRange`] unless the scale is a number above 0.
    pub fn constant(scale: f32) -> Result<Self, AmpError> {
        check_scale(scale)?;
        Ok(Self { kind: Kind::Constant, scale, ..Self::none() })
    }

    /// A scale that finds its size, as PyTorch's does by default.
    #[must_use]
    pub fn dynamic() -> Self {
        let config = DynamicScale::default();
        let (scale, hysteresis) = (config.init_scale, config.hysteresis);
        Self { kind: Kind::Dynamic(config), scale, hysteresis, ..Self::none() }
    }

    /// A scale that moves like this.
    ///
    /// # Errors
    /// [`AmpError::OutOfRange`] for a factor, an interval, a bound or a scale that makes no sense.
    pub fn with_config(config: DynamicScale) -> Result<Self, AmpError> {
        let config = config.check()?;
        let (scale, hysteresis) = (config.init_scale, config.hysteresis);
        Ok(Self { kind: Kind::Dynamic(config), scale, hysteresis, ..Self::none() })
    }

    /// What to multiply the loss by.
    #[must_use]
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Whether there is a scale at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.kind != Kind::None
    }

    /// Good iterations since the scale last moved; `None` where it never moves.
    #[must_use]
    pub fn growth_tracker(&self) -> Option<u32> {
        matches!(self.kind, Kind::Dynamic(_)).then_some(self.growth_tracker)
    }

    /// Iterations in which a step was left out.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Sets the scale; the count of good iterations goes on. Without a scale it does nothing.
    ///
    /// # Errors
    /// [`AmpError::OutOfRange`] unless it is a number above 0.
    pub fn set_scale(&mut self, scale: f32) -> Result<(), AmpError> {
        check_scale(scale)?;
        if self.is_enabled() {
            self.scale = scale;
        }
        Ok(())
    }

    /// Begins an iteration; needed where several optimizers share the loss, otherwise [`step`](Self::step) is all.
    pub fn begin(&mut self) -> Iteration<'_> {
        Iteration::new(self)
    }

    /// One iteration with one optimizer: divides the gradients by the scale, looks for what is not finite, and unless
    /// it finds such calls `update`, which clips and steps. Then the scale moves.
    ///
    /// # Errors
    /// [`AmpError::HalfGradient`] for a gradient in f16, and what `update` returns. The scale has not moved then; after
    /// an error of `update` the gradients are divided.
    pub fn step<P: Parameters, R, E: From<AmpError>>(
        &mut self,
        scaled: P,
        update: impl FnOnce(Finite<P>) -> Result<R, E>,
    ) -> Result<Outcome<R>, E> {
        let mut iteration = self.begin();
        Ok(match iteration.unscale(scaled)?.check() {
            Ok(finite) => {
                let result = update(finite)?;
                Outcome::Stepped { result, scale: iteration.end()? }
            }
            Err(skipped) => Outcome::Skipped { skipped, scale: iteration.end()? },
        })
    }

    /// Moves the scale after an iteration that did or did not find something.
    pub(crate) fn update(&mut self, found: bool) -> ScaleUpdate {
        let before = self.scale;
        let mut at_floor = false;
        self.skipped += u64::from(found);
        if let Kind::Dynamic(config) = self.kind {
            if found {
                self.growth_tracker = 0;
                self.hysteresis = self.hysteresis.saturating_sub(1);
                if self.hysteresis == 0 {
                    let lower = (f64::from(before) * config.backoff_factor) as f32;
                    // A scale that was set by hand may be below the floor already.
                    self.scale = lower.max(config.min_scale).min(before);
                    at_floor = self.scale >= before;
                }
            } else {
                self.growth_tracker += 1;
                if self.growth_tracker >= config.growth_interval {
                    self.growth_tracker = 0;
                    self.hysteresis = config.hysteresis;
                    let higher = (f64::from(before) * config.growth_factor) as f32;
                    if higher.is_finite() {
                        self.scale = higher.min(config.max_scale).max(before);
                    }
                }
            }
        }
        ScaleUpdate { before, after: self.scale, at_floor }
    }
}

fn check_scale(value: f32) -> Result<(), AmpError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(AmpError::OutOfRange { name: "scale", value: value.into(), range: "a number > 0" })
}

/// Entries `scale`, `growth_tracker`, `hysteresis` and `skipped`.
impl State for LossScaler {
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("scale", StateValue::F64(self.scale.into()));
        state.insert("growth_tracker", StateValue::U64(self.growth_tracker.into()));
        state.insert("hysteresis", StateValue::U64(self.hysteresis.into()));
        state.insert("skipped", StateValue::U64(self.skipped));
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let invalid = |name: &str, expected| StateError::Invalid { name: name.into(), expected };
        let count = |name: &str| {
            u32::try_from(state.u64(name)?).map_err(|_| invalid(name, "a count of 32 bits"))
        };
        let scale = state.f64("scale")?;
        if check_scale(scale as f32).is_err() || f64::from(scale as f32) != scale {
            return Err(invalid("scale", "an f32 above 0"));
        }
        let (growth_tracker, hysteresis) = (count("growth_tracker")?, count("hysteresis")?);
        let skipped = state.u64("skipped")?;
        if let Kind::Dynamic(config) = self.kind {
            if growth_tracker >= config.growth_interval {
                return Err(invalid("growth_tracker", "less than the growth interval"));
            }
            if hysteresis > config.hysteresis {
                return Err(invalid("hysteresis", "at most that of the configuration"));
            }
        }
        *self = Self { kind: self.kind, scale: scale as f32, growth_tracker, hysteresis, skipped };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn scales(scaler: &mut LossScaler, found: &[bool]) -> Vec<f32> {
        found.iter().map(|&found| scaler.update(found).after).collect()
    }

    #[test]
    fn the_rules_of_grad_scaler() {
        let mut scaler = LossScaler::dynamic();
        assert_eq!(scaler.update(true).after, 32768.0);
        assert!((0..1999).all(|_| scaler.update(false).after == 32768.0));
        assert_eq!(scaler.growth_tracker(), Some(1999));
        assert_eq!(scaler.update(false).after, 65536.0);
        assert_eq!(scaler.growth_tracker(), Some(0));
        for _ in 0..17 {
            scaler.update(true);
        }
        assert_eq!((scaler.scale(), scaler.skipped()), (0.5, 18));
    }

    #[test]
    fn a_scale_does_not_grow_beyond_f32() {
        let config =
            DynamicScale::default().with_init_scale(2f32.powi(127)).with_growth_interval(1);
        let mut scaler = LossScaler::with_config(config).unwrap();
        assert_eq!(scales(&mut scaler, &[false, false]), [2f32.powi(127); 2]);
        assert_eq!(scaler.growth_tracker(), Some(0));
    }

    #[test]
    fn the_bounds_hold_and_the_floor_is_reported() {
        let config = DynamicScale::default()
            .with_init_scale(4.0)
            .with_bounds(1.0, 6.0)
            .with_growth_interval(1);
        let mut scaler = LossScaler::with_config(config).unwrap();
        assert_eq!(scales(&mut scaler, &[false, false]), [6.0, 6.0]);
        assert_eq!(scales(&mut scaler, &[true, true]), [3.0, 1.5]);
        let update = scaler.update(true);
        assert_eq!((update.after, update.at_floor), (1.0, false));
        let update = scaler.update(true);
        assert_eq!((update.before, update.after, update.at_floor), (1.0, 1.0, true));
        // By hand it may be anything; the floor does not lift it.
        scaler.set_scale(0.25).unwrap();
        let update = scaler.update(true);
        assert_eq!((update.after, update.at_floor), (0.25, true));
        assert_eq!(scaler.update(false).after, 0.5);
    }

    #[test]
    fn hysteresis_forgives_until_the_scale_grows_again() {
        let config = DynamicScale::default()
            .with_init_scale(64.0)
            .with_hysteresis(3)
            .with_growth_interval(2);
        let mut scaler = LossScaler::with_config(config).unwrap();
        assert_eq!(scales(&mut scaler, &[true, false, true]), [64.0; 3]);
        assert_eq!(scales(&mut scaler, &[true, true]), [32.0, 16.0]);
        assert_eq!(scales(&mut scaler, &[false, false]), [16.0, 32.0]);
        assert_eq!(scales(&mut scaler, &[true, true, true]), [32.0, 32.0, 16.0]);
    }

    #[test]
    fn configurations_that_make_no_sense_are_refused() {
        let d = DynamicScale::default;
        for (config, wrong) in [
            (d().with_init_scale(0.0), "init_scale"),
            (d().with_init_scale(f32::NAN), "init_scale"),
            (d().with_factors(1.0, 0.5), "growth_factor"),
            (d().with_factors(f64::NAN, 0.5), "growth_factor"),
            (d().with_factors(2.0, 1.0), "backoff_factor"),
            (d().with_factors(2.0, 0.0), "backoff_factor"),
            (d().with_growth_interval(0), "growth_interval"),
            (d().with_hysteresis(0), "hysteresis"),
            (d().with_bounds(0.0, 1.0), "min_scale"),
            (d().with_bounds(2.0, 1.0), "max_scale"),
            (d().with_bounds(1.0, f32::INFINITY), "max_scale"),
        ] {
            let Err(AmpError::OutOfRange { name, .. }) = LossScaler::with_config(config) else {
                panic!("{config:?} was accepted")
            };
            assert_eq!(name, wrong);
        }
        assert!(LossScaler::constant(-1.0).is_err() && LossScaler::constant(1.0).is_ok());
    }

    #[test]
    fn a_restored_scaler_goes_on_as_the_old_one() {
        let config = DynamicScale::default().with_growth_interval(5).with_hysteresis(2);
        let found = |i: u32| i % 7 == 3 || i % 11 == 4;
        let mut whole = LossScaler::with_config(config).unwrap();
        let mut restored = LossScaler::with_config(config).unwrap();
        for i in 0..200 {
            assert_eq!(whole.update(found(i)), restored.update(found(i)));
            let mut next = LossScaler::with_config(config).unwrap();
            next.load_state(&restored.save_state()).unwrap();
            restored = next;
        }
        assert_eq!(whole, restored);
    }

    #[test]
    fn a_state_that_makes_no_sense_changes_nothing() {
        let mut scaler = LossScaler::dynamic();
        let before = scaler.clone();
        for (name, value) in [
            ("scale", StateValue::F64(0.0)),
            ("scale", StateValue::F64(f64::NAN)),
            ("scale", StateValue::F64(0.1)),
            ("growth_tracker", StateValue::U64(2000)),
            ("growth_tracker", StateValue::U64(u64::MAX)),
            ("hysteresis", StateValue::U64(2)),
            ("skipped", StateValue::Bool(true)),
        ] {
            let mut state = scaler.save_state();
            state.insert(name, value);
            assert!(scaler.load_state(&state).is_err(), "{name}");
            assert_eq!(scaler, before);
        }
    }
}
