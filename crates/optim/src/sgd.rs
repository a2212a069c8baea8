//! Stochastic gradient descent with momentum.

use gradus_core::{
    FloatElement, GradientTransform, Parameters, State, StateDict, StateError, StepError,
};

use crate::{
    DecayMask, OptimError,
    error::{finite, non_negative},
    param::{Value, check_lr, l2_gradient, try_visit, value_and_grad, with_pair},
    slots::{Slots, Work},
};

/// Hyper-parameters of [`Sgd`], with PyTorch's names and defaults.
///
/// | field | default |
/// |---|---|
/// | `momentum`, `dampening`, `weight_decay` | 0 |
/// | `nesterov`, `maximize` | false |
/// | `decay_mask` | all parameters |
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct SgdConfig {
    /// Share of the old momentum buffer in the new one.
    pub momentum: f64,
    /// The gradient enters the momentum buffer times `1 - dampening`; the first one enters whole.
    pub dampening: f64,
    /// Whether to look ahead along the momentum (Nesterov 1983).
    pub nesterov: bool,
    /// L2 penalty: this times the parameter is added to its gradient.
    pub weight_decay: f64,
    /// Whether to climb instead of to descend.
    pub maximize: bool,
    /// Which parameters decay.
    pub decay_mask: DecayMask,
}

impl SgdConfig {
    /// Plain gradient descent.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the momentum.
    #[must_use]
    pub fn with_momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Sets the dampening.
    #[must_use]
    pub fn with_dampening(mut self, dampening: f64) -> Self {
        self.dampening = dampening;
        self
    }

    /// Sets Nesterov momentum.
    #[must_use]
    pub fn with_nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
        self
    }

    /// Sets the L2 penalty.
    #[must_use]
    pub fn with_weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Sets the direction.
    #[must_use]
    pub fn with_maximize(mut self, maximize: bool) -> Self {
        self.maximize = maximize;
        self
    }

    /// Sets which parameters decay.
    #[must_use]
    pub fn with_decay_mask(mut self, decay_mask: DecayMask) -> Self {
        self.decay_mask = decay_mask;
        self
    }
}

/// Stochastic gradient descent, with momentum as PyTorch has it.
///
/// With gradient `g` (negated by `maximize`), parameter `p` and buffer `b`:
///
/// ```text
/// g = g + weight_decay p
/// b = g at the parameter's first step, then momentum b + (1 - dampening) g
/// p = p - lr (nesterov ? g + momentum b : b)
/// ```
///
/// Without momentum `p = p - lr g` and there is no state. The learning rate is outside the buffer, as in
/// PyTorch and unlike Sutskever et al.: a change of it acts at once. f16 and bf16 parameters are updated
/// in f32 arithmetic, and their buffer is f32.
///
/// # References
/// Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep learning
/// (2013).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{Sgd, SgdConfig};
///
/// let mut sgd = Sgd::new(SgdConfig::new().with_momentum(0.5))?;
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![1.0])];
/// sgd.step(0.25, &mut params)?;
/// sgd.step(0.25, &mut params)?;
/// assert_eq!(params[0].value, [1.0 - 0.25 - 0.25 * 1.5]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sgd {
    config: SgdConfig,
    slots: Slots,
}

impl Sgd {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a momentum or weight decay that is negative or not finite, a dampening that is
    /// not finite, or Nesterov momentum without momentum or with dampening.
    pub fn new(config: SgdConfig) -> Result<Self, OptimError> {
        let SgdConfig { momentum, dampening, nesterov, weight_decay, .. } = config;
        non_negative("momentum", momentum)?;
        non_negative("weight_decay", weight_decay)?;
        finite("dampening", dampening)?;
        if nesterov && (momentum == 0.0 || dampening != 0.0) {
            return Err(OptimError::Nesterov { momentum, dampening });
        }
        Ok(Self { config, slots: Slots::new(&["momentum_buffer"]) })
    }

    /// The hyper-parameters.
    #[must_use]
    pub fn config(&self) -> &SgdConfig {
        &self.config
    }
}

impl State for Sgd {
    /// `NAME.step` and `NAME.momentum_buffer` for each parameter; nothing without momentum.
    fn save_state(&self) -> StateDict {
        self.slots.save()
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        if self.config.momentum == 0.0
            && let Some((name, _)) = state.iter().next()
        {
            let expected = "no state without momentum";
            return Err(StateError::Invalid { name: name.into(), expected });
        }
        self.slots.load(state)
    }
}

impl GradientTransform for Sgd {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        check_lr(lr)?;
        let config = self.config;
        let slots = &mut self.slots;
        slots.rewind();
        try_visit(params, |param| {
            let (name, shape) = (param.name, param.shape);
            let Some(pair) = value_and_grad(param)? else { return Ok(()) };
            let decay = config.decay_mask.decay(config.weight_decay, shape);
            with_pair!(pair, p, g => update(&config, lr, decay, slots, name, p, g))
        })
    }
}

/// One parameter, in one pass over memory.
fn update<T: Value>(
    config: &SgdConfig,
    lr: f64,
    decay: f64,
    slots: &mut Slots,
    name: &str,
    value: &mut [T],
    grad: &[T],
) -> Result<(), StepError> {
    let work = T::Work::from_f64;
    let (lr, decay) = (work(lr), work(decay));
    let sign = work(if config.maximize { -1.0 } else { 1.0 });
    if config.momentum == 0.0 {
        for (p, &g) in value.iter_mut().zip(grad) {
            let x = p.load();
            *p = T::store(x - lr * l2_gradient(sign * g.load(), decay, x));
        }
        return Ok(());
    }
    let slot = slots.next::<T::Work>(name, |_| value.len())?;
    let first = slot.step == 0;
    slot.step += 1;
    let buffer = T::Work::typed(&mut slot.buffers[0]);
    let momentum = work(config.momentum);
    // At the first step the buffer holds zeros, and the gradient enters whole.
    let enter = work(if first { 1.0 } else { 1.0 - config.dampening });
    let nesterov = config.nesterov;
    for ((p, &g), b) in value.iter_mut().zip(grad).zip(buffer) {
        let x = p.load();
        let g = l2_gradient(sign * g.load(), decay, x);
        *b = momentum * *b + enter * g;
        let direction = if nesterov { g + momentum * *b } else { *b };
        *p = T::store(x - lr * direction);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{DType, ParamKind, ParamMut, VecParam, bf16};

    use super::*;

    #[test]
    fn hyper_parameters_are_checked() {
        let bad = |config: SgdConfig| Sgd::new(config).unwrap_err();
        assert!(matches!(
            bad(SgdConfig::new().with_momentum(f64::NAN)),
            OptimError::OutOfRange { name: "momentum", .. }
        ));
        assert!(matches!(
            bad(SgdConfig::new().with_weight_decay(-1.0)),
            OptimError::OutOfRange { name: "weight_decay", value: -1.0, .. }
        ));
        assert!(matches!(
            bad(SgdConfig::new().with_dampening(f64::INFINITY)),
            OptimError::OutOfRange { name: "dampening", .. }
        ));
        assert_eq!(
            bad(SgdConfig::new().with_nesterov(true)),
            OptimError::Nesterov { momentum: 0.0, dampening: 0.0 }
        );
        let damped = SgdConfig::new().with_momentum(0.9).with_dampening(0.1).with_nesterov(true);
        assert_eq!(bad(damped), OptimError::Nesterov { momentum: 0.9, dampening: 0.1 });
    }

    #[test]
    fn a_rate_that_is_none_is_an_error() {
        let mut params = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![1.0])];
        for lr in [f64::NAN, f64::INFINITY, -0.1] {
            let error = Sgd::new(SgdConfig::new()).unwrap().step(lr, &mut params).unwrap_err();
            assert!(matches!(error, StepError::LearningRate { .. }), "{error}");
        }
        assert_eq!(params[0].value, [1.0]);
    }

    #[test]
    fn bf16_parameters_have_an_f32_buffer() {
        let one = bf16::from_f32(1.0);
        let mut params = vec![VecParam::new("w", &[1], vec![one]).with_grad(vec![one])];
        let mut sgd = Sgd::new(SgdConfig::new().with_momentum(0.99)).unwrap();
        for _ in 0..3 {
            sgd.step(0.0, &mut params).unwrap();
        }
        let want = 1.0f32 + 0.99 * (1.0 + 0.99);
        let got = sgd.save_state().f32s("w.momentum_buffer").unwrap()[0];
        assert!((got - want).abs() < 1e-6, "{got}");
    }

    /// A walk over one parameter whose pieces may be missing or misfit.
    struct Odd {
        value: Option<Vec<f32>>,
        grad: Vec<f32>,
        wide_grad: Option<Vec<f64>>,
    }
    impl Parameters for Odd {
        fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
            let grad = match &mut self.wide_grad {
                Some(g) => g.as_mut_slice().into(),
                None => self.grad.as_mut_slice().into(),
            };
            f(ParamMut {
                name: "w",
                shape: &[],
                kind: ParamKind::Weight,
                value: self.value.as_mut().map(|v| v.as_mut_slice().into()),
                grad: Some(grad),
            });
        }
    }

    #[test]
    fn misfits_are_errors() {
        let step = |mut odd: Odd| Sgd::new(SgdConfig::new()).unwrap().step(0.1, &mut odd);
        assert_eq!(
            step(Odd { value: None, grad: vec![1.0], wide_grad: None }),
            Err(StepError::MissingValue { name: "w".into() })
        );
        assert_eq!(
            step(Odd { value: Some(vec![1.0]), grad: vec![1.0, 2.0], wide_grad: None }),
            Err(StepError::LengthMismatch { name: "w".into(), expected: 1, found: 2 })
        );
        assert_eq!(
            step(Odd { value: Some(vec![1.0]), grad: vec![], wide_grad: Some(vec![1.0]) }),
            Err(StepError::DTypeMismatch { name: "w".into(), value: DType::F32, grad: DType::F64 })
        );
    }

    #[test]
    fn the_mask_spares_vectors_and_scalars() {
        let config = SgdConfig::new().with_weight_decay(0.5).with_decay_mask(DecayMask::NoDecay1d);
        let param = |name: &str, shape: &[usize]| {
            VecParam::new(name, shape, vec![1.0f32]).with_grad(vec![0.0])
        };
        let mut params = vec![param("m", &[1, 1]), param("v", &[1]), param("s", &[])];
        Sgd::new(config).unwrap().step(1.0, &mut params).unwrap();
        assert_eq!(params.iter().map(|p| p.value[0]).collect::<Vec<_>>(), [0.5, 1.0, 1.0]);
    }
}
