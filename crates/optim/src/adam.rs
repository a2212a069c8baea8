//! Adam, AMSGrad and AdamW.

use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    config::config,
    error::{below_one, non_negative},
    moments::Moments,
    param::Value,
    pass::Out,
    rule::{Direction, Frame, Layout, optimizer},
    slots::{Slot, Slots},
};

config! {
    /// Hyper-parameters of [`Adam`], with PyTorch's names and defaults.
    ///
    /// | field | [`adam()`](Self::adam) | [`adamw()`](Self::adamw) |
    /// |---|---|---|
    /// | `beta1`, `beta2` | 0.9, 0.999 | the same |
    /// | `eps` | 1e-8 | the same |
    /// | `weight_decay` | 0 | 0.01 |
    /// | `decoupled_weight_decay` | false | true |
    /// | `amsgrad`, `maximize` | false | the same |
    /// | `decay_mask` | all parameters | the same |
    pub struct AdamConfig;
    /// Adam: no decay; if there is one, it is coupled (L2).
    pub fn adam {
        /// Decay of the running mean of gradients.
        beta1: f64 = 0.9, with_beta1;
        /// Decay of the running mean of squared gradients.
        beta2: f64 = 0.999, with_beta2;
        /// Added to the root in the denominator, after bias correction.
        eps: f64 = 1e-8, with_eps;
        /// Weight decay, coupled or decoupled.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Whether the decay shrinks the parameter by `lr weight_decay` (AdamW) instead of being added to the
        /// gradient (L2).
        decoupled_weight_decay: bool = false, with_decoupled_weight_decay;
        /// Whether the denominator uses the largest second moment so far.
        amsgrad: bool = false, with_amsgrad;
        /// Whether to climb instead of to descend.
        maximize: bool = false, with_maximize;
        /// Which parameters decay.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
    }
}

impl AdamConfig {
    /// AdamW: a decoupled decay of 0.01.
    #[must_use]
    #[doc(alias = "AdamW")]
    pub fn adamw() -> Self {
        Self { weight_decay: 0.01, decoupled_weight_decay: true, ..Self::adam() }
    }
}

/// Adam and, with [`AdamConfig::adamw`], AdamW, as PyTorch has them.
///
/// With gradient `g` (negated by `maximize`), parameter `p`, and `t` counting this parameter's updates
/// from 1:
///
/// ```text
/// p = p (1 - lr weight_decay)            if decoupled, otherwise g = g + weight_decay p
/// m = beta1 m + (1 - beta1) g
/// v = beta2 v + (1 - beta2) g^2
/// s = v, or with amsgrad the running maximum of v (uncorrected)
/// p = p - lr / (1 - beta1^t) * m / (sqrt(s) / sqrt(1 - beta2^t) + eps)
/// ```
///
/// Decoupled decay is scaled by the learning rate, as in PyTorch and optax and unlike the paper.
/// f16 and bf16 parameters are updated in f32 arithmetic, and their state is f32 (PyTorch keeps it in
/// the parameter's type).
///
/// # References
/// Kingma, Ba: Adam: a method for stochastic optimization (2014). Reddi, Kale, Kumar: On the convergence
/// of Adam and beyond (2018). Loshchilov, Hutter: Decoupled weight decay regularization (2017).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{Adam, AdamConfig};
///
/// let mut adam = Adam::new(AdamConfig::adam())?;
/// let mut params = vec![VecParam::new("w", &[2], vec![1.0f64, 1.0]).with_grad(vec![1e-3, -1e3])];
/// adam.step(0.1, &mut params)?;
/// // The first step has the length of the learning rate, whatever the gradient's.
/// assert!((params[0].value[0] - 0.9).abs() < 1e-5);
/// assert!((params[0].value[1] - 1.1).abs() < 1e-5);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "AdamW")]
pub struct Adam {
    config: AdamConfig,
    slots: Slots,
}

impl Adam {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a beta outside `[0, 1)` or an eps or weight decay that is negative or not finite.
    pub fn new(config: AdamConfig) -> Result<Self, OptimError> {
        Ok(Self { slots: Slots::of(&config)?, config })
    }
}

optimizer!(
    Adam,
    AdamConfig,
    "`NAME.step`, `NAME.exp_avg`, `NAME.exp_avg_sq` and, with amsgrad, `NAME.max_exp_avg_sq`."
);

impl Layout for AdamConfig {
    fn check(&self) -> Result<(), OptimError> {
        below_one("beta1", self.beta1)?;
        below_one("beta2", self.beta2)?;
        non_negative("eps", self.eps)?;
        non_negative("weight_decay", self.weight_decay)
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(if self.amsgrad {
            &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
        } else {
            &["exp_avg", "exp_avg_sq"]
        })
    }
}

impl Direction for AdamConfig {
    fn frame(&self) -> Frame {
        Frame {
            weight_decay: self.weight_decay,
            decoupled: self.decoupled_weight_decay,
            mask: self.decay_mask,
            maximize: self.maximize,
        }
    }

    fn send<T: Value>(&self, out: Out<'_, T>, _shape: &[usize], slot: &mut Slot) {
        let k = Moments::new(self.beta1, self.beta2, self.eps, slot.step);
        if self.amsgrad {
            let [m, v, max] = slot.typed();
            out.pass3(m, v, max, move |g, m, v, max| {
                k.advance(m, v, g);
                // Not `max`: a NaN has to come through.
                if *v > *max || v.is_nan() {
                    *max = *v;
                }
                k.direction(*m, *max)
            });
        } else {
            let [m, v] = slot.typed();
            out.pass2(m, v, move |g, m, v| {
                k.advance(m, v, g);
                k.direction(*m, *v)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{
        GradientTransform, PresentGradients, State, StateError, StepError, VecParam, bf16,
    };

    use super::*;

    #[test]
    fn hyper_parameters_are_checked() {
        for config in [
            AdamConfig::adam().with_betas(1.0, 0.9),
            AdamConfig::adam().with_betas(0.9, -0.1),
            AdamConfig::adam().with_betas(f64::NAN, 0.9),
            AdamConfig::adam().with_eps(-1e-8),
            AdamConfig::adamw().with_weight_decay(f64::INFINITY),
        ] {
            assert!(matches!(Adam::new(config), Err(OptimError::OutOfRange { .. })), "{config:?}");
        }
    }

    #[test]
    fn a_hidden_parameter_stands_still() {
        let param = |name: &str| VecParam::new(name, &[1], vec![1.0f32]);
        let mut both = vec![param("a").with_grad(vec![0.3]), param("b")];
        let mut adam = Adam::new(AdamConfig::adamw()).unwrap();
        let missing = Err(StepError::MissingGradient { names: vec!["b".into()] });
        assert_eq!(adam.step(0.1, &mut both), missing);
        assert_eq!(both[0].value, [1.0]);
        adam.step(0.1, &mut PresentGradients(&mut both)).unwrap();
        adam.step(0.1, &mut PresentGradients(&mut both)).unwrap();
        assert_eq!(both[1].value, [1.0]);
        assert_eq!(adam.save_state().len(), 3);
        // Its first update is corrected as a first one.
        both[1].grad = Some(vec![0.3]);
        adam.step(0.1, &mut both).unwrap();
        let mut fresh = vec![param("b").with_grad(vec![0.3])];
        Adam::new(AdamConfig::adamw()).unwrap().step(0.1, &mut fresh).unwrap();
        assert_eq!(both[1].value, fresh[0].value);
        assert_eq!(adam.save_state().u64("a.step"), Ok(3));
        assert_eq!(adam.save_state().u64("b.step"), Ok(1));
    }

    #[test]
    fn amsgrad_lets_nan_through() {
        let mut params = vec![VecParam::new("a", &[1], vec![1.0f32]).with_grad(vec![1.0])];
        let mut adam = Adam::new(AdamConfig::adam().with_amsgrad(true)).unwrap();
        adam.step(0.1, &mut params).unwrap();
        params[0].grad = Some(vec![f32::NAN]);
        adam.step(0.1, &mut params).unwrap();
        assert!(params[0].value[0].is_nan());
        assert!(adam.save_state().f32s("a.max_exp_avg_sq").unwrap()[0].is_nan());
    }

    #[test]
    fn the_state_of_bf16_parameters_is_f32() {
        let one = bf16::from_f32(1.0);
        let mut params = vec![VecParam::new("a", &[1], vec![one]).with_grad(vec![one])];
        let mut adam = Adam::new(AdamConfig::adam()).unwrap();
        adam.step(0.5, &mut params).unwrap();
        assert_eq!(params[0].value[0].to_f32(), 0.5);
        assert_eq!(adam.save_state().f32s("a.exp_avg_sq"), Ok(vec![0.001]));
    }

    #[test]
    fn states_of_other_optimizers_are_refused() {
        let mut params: Vec<VecParam> =
            vec![VecParam::new("a", &[], vec![1.0]).with_grad(vec![1.0])];
        let mut plain = Adam::new(AdamConfig::adam()).unwrap();
        let mut amsgrad = Adam::new(AdamConfig::adam().with_amsgrad(true)).unwrap();
        plain.step(0.1, &mut params).unwrap();
        amsgrad.step(0.1, &mut params).unwrap();
        assert_eq!(
            amsgrad.clone().load_state(&plain.save_state()),
            Err(StateError::Missing { name: "a.max_exp_avg_sq".into() })
        );
        assert!(matches!(plain.load_state(&amsgrad.save_state()), Err(StateError::Invalid { .. })));
    }
}
