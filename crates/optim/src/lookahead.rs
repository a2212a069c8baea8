//! Lookahead: slow weights that follow those of another optimizer.

use gradus_core::{
    FloatElement, GradientTransform, Parameters, State, StateDict, StateError, StepError,
};

use crate::{
    OptimError,
    config::config,
    ema::at_least_one,
    error::at_most_one,
    param::Value,
    pieces::in_pieces,
    rule::{Layout, Rule, Turn, step},
    slots::Slots,
};

config! {
    /// Hyper-parameters of [`Lookahead`].
    pub struct LookaheadConfig;
    /// The values of the paper for ImageNet.
    pub fn new {
        /// Steps of the inner optimizer to one of the slow weights (optax: `sync_period`); 5 (timm: 6).
        k: u64 = 5, with_k;
        /// How far the slow weights go towards the fast ones (optax: `slow_step_size`); 0.5.
        alpha: f64 = 0.5, with_alpha;
    }
}

/// Lookahead around any optimizer: every `k` steps slow weights go a part of the way that the optimizer went, and
/// it goes on from them.
///
/// ```text
/// fast = inner step(fast)
/// every k steps: slow = slow + alpha (fast - slow),  fast = slow
/// ```
///
/// The slow weights start from the parameters before their first step, as in the paper and in optax; timm starts
/// them at the first synchronisation, which therefore changes nothing there. The inner optimizer keeps its momentum
/// (optax: `reset_state=False`). Steps are counted for each parameter, and those in which it is
/// hidden do not count.
/// Slow weights are kept in f32 (f64 for f64 parameters). With `alpha` 1 it is the inner optimizer to the bit.
///
/// # References
/// Zhang, Lucas, Hinton, Ba: Lookahead optimizer: k steps forward, 1 step back (2019, arXiv:1907.08610).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{Lookahead, LookaheadConfig, Sgd, SgdConfig};
///
/// let sgd = Sgd::new(SgdConfig::new())?;
/// let mut rule = Lookahead::new(LookaheadConfig::new().with_k(2), sgd)?;
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![1.0])];
/// rule.step(0.25, &mut params)?;
/// assert_eq!(params[0].value, [0.75]);
/// rule.step(0.25, &mut params)?;
/// assert_eq!(params[0].value, [0.75]); // half of the way from 1 to 0.5
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lookahead<T> {
    config: LookaheadConfig,
    inner: T,
    slots: Slots,
}

impl<T: GradientTransform> Lookahead<T> {
    /// Lookahead around `inner`.
    ///
    /// # Errors
    /// [`OptimError`] when `k` is 0 or `alpha` is outside `[0, 1]`.
    pub fn new(config: LookaheadConfig, inner: T) -> Result<Self, OptimError> {
        Ok(Self { slots: Slots::of(&config)?, config, inner })
    }

    /// The hyper-parameters.
    #[must_use]
    pub fn config(&self) -> &LookaheadConfig {
        &self.config
    }

    /// The optimizer inside.
    #[must_use]
    pub fn inner(&self) -> &T {
        &self.inner
    }
}

/// Before the inner step: where the slow weights start.
struct Start;

impl Layout for Start {
    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(&["slow"])
    }
}

impl Rule for Start {
    fn update<T: Value>(&self, Turn { slot, value, .. }: Turn<'_, T>) {
        // This is no step of the parameter yet.
        slot.step -= 1;
        if slot.step == 0 {
            let [slow] = slot.typed::<T::Work, 1>();
            slow.iter_mut().zip(value).for_each(|(slow, fast)| *slow = fast.load());
        }
    }
}

/// After the inner step.
impl Layout for LookaheadConfig {
    fn check(&self) -> Result<(), OptimError> {
        at_least_one("k", self.k)?;
        at_most_one("alpha", self.alpha)
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Start.fields()
    }
}

impl Rule for LookaheadConfig {
    fn update<T: Value>(&self, Turn { slot, value, .. }: Turn<'_, T>) {
        if !slot.step.is_multiple_of(self.k) {
            return;
        }
        // Written from the fast weights, so that an alpha of 1 gives exactly those.
        let rest = T::Work::from_f64(1.0 - self.alpha);
        let [slow] = slot.typed::<T::Work, 1>();
        in_pieces((slow, value), |(slow, fast): (&mut [T::Work], &mut [T])| {
            for (slow, fast) in slow.iter_mut().zip(fast) {
                let f = fast.load();
                *slow = f - rest * (f - *slow);
                *fast = T::store(*slow);
            }
        });
    }
}

impl<T: GradientTransform> State for Lookahead<T> {
    /// `inner.` and the state of the inner optimizer; `slow.NAME.step` and `slow.NAME.slow` for each parameter.
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert_all("inner", self.inner.save_state());
        state.insert_all("slow", self.slots.save());
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let known = |name: &str| name.starts_with("inner.") || name.starts_with("slow.");
        if let Some((name, _)) = state.iter().find(|(name, _)| !known(name)) {
            let expected = "an entry under inner or slow";
            return Err(StateError::Invalid { name: name.into(), expected });
        }
        let mut slots = self.slots.clone();
        slots.load(&state.sub("slow"))?;
        self.inner.load_state(&state.sub("inner"))?;
        self.slots = slots;
        Ok(())
    }
}

impl<T: GradientTransform> GradientTransform for Lookahead<T> {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        step(&Start, &mut self.slots, lr, params)?;
        self.inner.step(lr, params)?;
        step(&self.config, &mut self.slots, lr, params)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{PresentGradients, StateValue, VecParam, bf16};

    use super::*;
    use crate::{Sgd, SgdConfig};

    fn sgd() -> Sgd {
        Sgd::new(SgdConfig::new().with_momentum(0.9)).unwrap()
    }

    fn half(k: u64) -> Lookahead<Sgd> {
        Lookahead::new(LookaheadConfig::new().with_k(k), sgd()).unwrap()
    }

    #[test]
    fn hyper_parameters_are_checked() {
        let refused = |config| Lookahead::new(config, sgd()).is_err();
        assert!(refused(LookaheadConfig::new().with_k(0)));
        assert!(refused(LookaheadConfig::new().with_alpha(1.5)));
        assert!(refused(LookaheadConfig::new().with_alpha(f64::NAN)));
    }

    /// optax 0.2.8: `lookahead(sgd(0.1, momentum=0.9), sync_period=3, slow_step_size=0.5)` on the gradients 1, 2, .. 7.
    #[test]
    fn the_numbers_are_those_of_optax() {
        let mut rule = half(3);
        let mut params = vec![VecParam::new("w", &[1], vec![1.0f64])];
        let mut history = Vec::new();
        for g in 1..=7 {
            params[0].grad = Some(vec![f64::from(g)]);
            rule.step(0.1, &mut params).unwrap();
            history.push(params[0].value[0]);
        }
        let want = [0.9, 0.61, 0.5245, -0.3804, -1.69481, -1.4766395, -3.7813116];
        for (got, want) in history.iter().zip(want) {
            assert!((got - want).abs() < 1e-12, "{history:?}");
        }
    }

    #[test]
    fn bf16_parameters_have_f32_slow_weights() {
        let mut rule = half(1);
        let mut params = vec![VecParam::new("w", &[1], vec![bf16::ONE]).with_grad(vec![bf16::ONE])];
        // Half of the way to 1 - 2^-8, the neighbour of 1, is no bf16.
        rule.step(0.00390625, &mut params).unwrap();
        assert_eq!(rule.save_state().f32s("slow.w.slow"), Ok(vec![1.0 - 0.001953125]));
        assert_eq!(params[0].value, [bf16::ONE]);
    }

    #[test]
    fn a_refused_first_step_does_not_fix_the_slow_weights() {
        let mut rule = half(1);
        let mut params = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![1.0])];
        assert!(rule.step(f64::NAN, &mut params).is_err());
        params[0].value[0] = 3.0;
        rule.step(1.0, &mut params).unwrap();
        assert_eq!(params[0].value, [2.5]);
    }

    #[test]
    fn a_hidden_parameter_is_left_alone() {
        let mut rule = half(2);
        let mut params = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![1.0])];
        rule.step(0.5, &mut params).unwrap();
        params[0].grad = None;
        let missing = StepError::MissingGradient { names: vec!["w".into()] };
        assert_eq!(rule.step(0.5, &mut params), Err(missing));
        rule.step(0.5, &mut PresentGradients(&mut params)).unwrap();
        assert_eq!(params[0].value, [0.5]);
        params[0].grad = Some(vec![0.0]);
        rule.step(0.5, &mut params).unwrap();
        assert!((params[0].value[0] - 0.525).abs() < 1e-6);
    }

    #[test]
    fn a_state_that_does_not_fit_changes_nothing() {
        let mut rule = half(2);
        let mut params = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![1.0])];
        rule.step(0.5, &mut params).unwrap();
        let good = rule.save_state();
        for entry in ["other", "inner.w.odd", "slow.w.odd", "slow.v.step"] {
            let mut bad = good.clone();
            bad.insert("slow.w.step", StateValue::U64(7));
            bad.insert("inner.w.step", StateValue::U64(7));
            bad.insert(entry, StateValue::U64(1));
            assert!(rule.load_state(&bad).is_err(), "{entry}");
            assert_eq!(rule.save_state(), good);
        }
    }
}
