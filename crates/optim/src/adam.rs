//! Adam, AMSGrad and AdamW.

use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    error::{below_one, non_negative},
    param::{Value, l2_gradient},
    rule::{Rule, optimizer, setters},
    slots::{Slot, Slots, Work},
};

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
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdamConfig {
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients.
    pub beta2: f64,
    /// Added to the root in the denominator, after bias correction.
    pub eps: f64,
    /// Weight decay, coupled or decoupled.
    pub weight_decay: f64,
    /// Whether the decay shrinks the parameter by `lr weight_decay` (AdamW) instead of being added to the
    /// gradient (L2).
    pub decoupled_weight_decay: bool,
    /// Whether the denominator uses the largest second moment so far.
    pub amsgrad: bool,
    /// Whether to climb instead of to descend.
    pub maximize: bool,
    /// Which parameters decay.
    pub decay_mask: DecayMask,
}

impl AdamConfig {
    /// Adam: no decay; if there is one, it is coupled (L2).
    #[must_use]
    pub fn adam() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled_weight_decay: false,
            amsgrad: false,
            maximize: false,
            decay_mask: DecayMask::All,
        }
    }

    /// AdamW: a decoupled decay of 0.01.
    #[must_use]
    #[doc(alias = "AdamW")]
    pub fn adamw() -> Self {
        Self { weight_decay: 0.01, decoupled_weight_decay: true, ..Self::adam() }
    }

    /// Sets the decay rates of both means.
    #[must_use]
    pub fn with_betas(mut self, beta1: f64, beta2: f64) -> Self {
        (self.beta1, self.beta2) = (beta1, beta2);
        self
    }
}

setters!(AdamConfig {
    with_eps => eps: f64,
    with_weight_decay => weight_decay: f64,
    with_amsgrad => amsgrad: bool,
    with_maximize => maximize: bool,
    with_decay_mask => decay_mask: DecayMask,
});

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
        below_one("beta1", config.beta1)?;
        below_one("beta2", config.beta2)?;
        non_negative("eps", config.eps)?;
        non_negative("weight_decay", config.weight_decay)?;
        let fields: &[&str] = if config.amsgrad {
            &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
        } else {
            &["exp_avg", "exp_avg_sq"]
        };
        Ok(Self { config, slots: Slots::new(fields) })
    }
}

optimizer!(
    Adam,
    AdamConfig,
    "`NAME.step`, `NAME.exp_avg`, `NAME.exp_avg_sq` and, with amsgrad, `NAME.max_exp_avg_sq`."
);

impl Rule for AdamConfig {
    /// One pass over memory.
    fn update<T: Value>(
        &self,
        lr: f64,
        shape: &[usize],
        slot: &mut Slot,
        value: &mut [T],
        grad: &[T],
    ) {
        let decay = self.decay_mask.decay(self.weight_decay, shape);
        let k = Scalars::<T::Work>::new(self, lr, decay, slot.step);
        match slot.buffers.as_mut_slice() {
            [m, v] => plain(&k, value, grad, T::Work::typed(m), T::Work::typed(v)),
            [m, v, max] => {
                let (m, v) = (T::Work::typed(m), T::Work::typed(v));
                amsgrad(&k, value, grad, m, v, T::Work::typed(max));
            }
            _ => unreachable!("Adam has two or three buffers"),
        }
    }
}

/// The scalars of one parameter's update.
struct Scalars<W> {
    sign: W,
    l2: W,
    shrink: W,
    beta1: W,
    beta1_rest: W,
    beta2: W,
    beta2_rest: W,
    step_size: W,
    /// 1 / sqrt(1 - beta2^t).
    root_scale: W,
    eps: W,
}

impl<W: Work> Scalars<W> {
    /// Computes in f64 whatever is not done once per element.
    fn new(config: &AdamConfig, lr: f64, decay: f64, t: u64) -> Self {
        let bias = |beta: f64| 1.0 - Float::powf(beta, t as f64);
        let (l2, shrink) =
            if config.decoupled_weight_decay { (0.0, 1.0 - lr * decay) } else { (decay, 1.0) };
        Self {
            sign: W::from_f64(if config.maximize { -1.0 } else { 1.0 }),
            l2: W::from_f64(l2),
            shrink: W::from_f64(shrink),
            beta1: W::from_f64(config.beta1),
            beta1_rest: W::from_f64(1.0 - config.beta1),
            beta2: W::from_f64(config.beta2),
            beta2_rest: W::from_f64(1.0 - config.beta2),
            step_size: W::from_f64(lr / bias(config.beta1)),
            root_scale: W::from_f64(1.0 / Float::sqrt(bias(config.beta2))),
            eps: W::from_f64(config.eps),
        }
    }

    /// The gradient with what is added to it.
    #[inline(always)]
    fn gradient(&self, g: W, p: W) -> W {
        l2_gradient(self.sign * g, self.l2, p)
    }

    #[inline(always)]
    fn first_moment(&self, m: W, g: W) -> W {
        self.beta1 * m + self.beta1_rest * g
    }

    #[inline(always)]
    fn second_moment(&self, v: W, g: W) -> W {
        self.beta2 * v + self.beta2_rest * (g * g)
    }

    /// The new parameter.
    #[inline(always)]
    fn moved(&self, p: W, m: W, v: W) -> W {
        self.shrink * p - self.step_size * (m / (v.sqrt() * self.root_scale + self.eps))
    }
}

fn plain<T: Value>(
    k: &Scalars<T::Work>,
    value: &mut [T],
    grad: &[T],
    m: &mut [T::Work],
    v: &mut [T::Work],
) {
    for (((p, &g), m), v) in value.iter_mut().zip(grad).zip(m).zip(v) {
        let x = p.load();
        let g = k.gradient(g.load(), x);
        *m = k.first_moment(*m, g);
        *v = k.second_moment(*v, g);
        *p = T::store(k.moved(x, *m, *v));
    }
}

fn amsgrad<T: Value>(
    k: &Scalars<T::Work>,
    value: &mut [T],
    grad: &[T],
    m: &mut [T::Work],
    v: &mut [T::Work],
    max: &mut [T::Work],
) {
    for ((((p, &g), m), v), max) in value.iter_mut().zip(grad).zip(m).zip(v).zip(max) {
        let x = p.load();
        let g = k.gradient(g.load(), x);
        *m = k.first_moment(*m, g);
        *v = k.second_moment(*v, g);
        // Not `max`: a NaN has to come through.
        if *v > *max || v.is_nan() {
            *max = *v;
        }
        *p = T::store(k.moved(x, *m, *max));
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{GradientTransform, State, StateError, VecParam, bf16};

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
    fn a_parameter_without_gradient_stands_still() {
        let param = |name: &str| VecParam::new(name, &[1], vec![1.0f32]);
        let mut both = vec![param("a").with_grad(vec![0.3]), param("b")];
        let mut adam = Adam::new(AdamConfig::adamw()).unwrap();
        adam.step(0.1, &mut both).unwrap();
        adam.step(0.1, &mut both).unwrap();
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
