//! Stochastic gradient descent with momentum.

use gradus_core::FloatElement;

use crate::{
    DecayMask, OptimError,
    config::config,
    error::{finite, non_negative},
    param::Value,
    pass::Out,
    rule::{Direction, Frame, Layout, optimizer},
    slots::{Slot, Slots},
};

config! {
    /// Hyper-parameters of [`Sgd`], with PyTorch's names and defaults.
    ///
    /// | field | default |
    /// |---|---|
    /// | `momentum`, `dampening`, `weight_decay` | 0 |
    /// | `nesterov`, `maximize` | false |
    /// | `decay_mask` | all parameters |
    pub struct SgdConfig;
    /// Plain gradient descent.
    pub fn new {
        /// Share of the old momentum buffer in the new one.
        momentum: f64 = 0.0, with_momentum;
        /// The gradient enters the momentum buffer times `1 - dampening`; the first one enters whole.
        dampening: f64 = 0.0, with_dampening;
        /// Whether to look ahead along the momentum (Nesterov 1983).
        nesterov: bool = false, with_nesterov;
        /// L2 penalty: this times the parameter is added to its gradient.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Whether to climb instead of to descend.
        maximize: bool = false, with_maximize;
        /// Which parameters decay.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
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
        Ok(Self { slots: Slots::of(&config)?, config })
    }
}

optimizer!(
    Sgd,
    SgdConfig,
    "`NAME.step` and `NAME.momentum_buffer` for each parameter; nothing without momentum."
);

impl Layout for SgdConfig {
    fn check(&self) -> Result<(), OptimError> {
        non_negative("momentum", self.momentum)?;
        non_negative("weight_decay", self.weight_decay)?;
        finite("dampening", self.dampening)?;
        let Self { momentum, dampening, nesterov, .. } = *self;
        if nesterov && (momentum == 0.0 || dampening != 0.0) {
            return Err(OptimError::Nesterov { momentum, dampening });
        }
        Ok(())
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        (self.momentum > 0.0).then_some(&["momentum_buffer"])
    }
}

impl Direction for SgdConfig {
    fn frame(&self) -> Frame {
        Frame {
            weight_decay: self.weight_decay,
            decoupled: false,
            mask: self.decay_mask,
            maximize: self.maximize,
        }
    }

    fn send<T: Value>(&self, out: Out<'_, T>, _shape: &[usize], slot: &mut Slot) {
        if self.momentum == 0.0 {
            return out.pass0(|g| g);
        }
        let momentum = T::Work::from_f64(self.momentum);
        // At the first step the buffer holds zeros, and the gradient enters whole.
        let enter = T::Work::from_f64(if slot.step == 1 { 1.0 } else { 1.0 - self.dampening });
        let nesterov = self.nesterov;
        let [buffer] = slot.typed();
        out.pass1(buffer, move |g, b| {
            *b = momentum * *b + enter * g;
            if nesterov { g + momentum * *b } else { *b }
        });
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{
        DType, GradientTransform, ParamKind, ParamMut, Parameters, State, StepError, VecParam, bf16,
    };

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
