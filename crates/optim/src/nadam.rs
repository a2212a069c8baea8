//! `NAdam`.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    config::config,
    error::{below_one, non_negative},
    moments::Moments,
    param::Value,
    pass::Out,
    rule::{Direction, Frame, Layout, optimizer},
    slots::{Slot, Slots, Work},
};

config! {
    /// Hyper-parameters of [`NAdam`], with PyTorch's names and defaults.
    pub struct NAdamConfig;
    /// PyTorch's defaults.
    pub fn new {
        /// Decay of the running mean of gradients, reached as the momentum warms up; 0.9.
        beta1: f64 = 0.9, with_beta1;
        /// Decay of the running mean of squared gradients; 0.999.
        beta2: f64 = 0.999, with_beta2;
        /// Added to the root in the denominator; 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Weight decay, coupled or decoupled; 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// How fast the momentum warms up; 4e-3.
        momentum_decay: f64 = 4e-3, with_momentum_decay;
        /// Whether the decay shrinks the parameter by `lr weight_decay` instead of being added to the
        /// gradient; false.
        decoupled_weight_decay: bool = false, with_decoupled_weight_decay;
        /// Whether to climb instead of to descend; false.
        maximize: bool = false, with_maximize;
        /// Which parameters decay; all.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
    }
}

impl NAdamConfig {
    /// The momentum of update `t`.
    fn momentum(&self, t: u64) -> f64 {
        self.beta1 * (1.0 - 0.5 * Float::powf(0.96, t as f64 * self.momentum_decay))
    }
}

/// NAdam: Adam with Nesterov momentum, as PyTorch has it.
///
/// With gradient `g` (negated by `maximize`), parameter `p`, `t` counting its updates from 1:
///
/// ```text
/// p = p (1 - lr weight_decay)            if decoupled, otherwise g = g + weight_decay p
/// mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2),  M_t = mu_1 mu_2 .. mu_t
/// m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
/// d = sqrt(v / (1 - beta2^t)) + eps
/// p = p - lr (1 - mu_t) / (1 - M_t) * g / d - lr mu_{t+1} / (1 - M_t mu_{t+1}) * m / d
/// ```
///
/// f16 and bf16 parameters are updated in f32.
///
/// # References
/// Dozat: Incorporating Nesterov momentum into Adam (2016).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{NAdam, NAdamConfig};
///
/// let mut nadam = NAdam::new(NAdamConfig::new())?;
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![5.0])];
/// nadam.step(0.1, &mut params)?;
/// assert!(params[0].value[0] < 0.9);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct NAdam {
    config: NAdamConfig,
    slots: Slots,
}

impl NAdam {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a beta outside `[0, 1)`, or an eps, weight decay or momentum decay that is negative
    /// or not finite.
    pub fn new(config: NAdamConfig) -> Result<Self, OptimError> {
        Ok(Self { slots: Slots::of(&config)?, config })
    }
}

optimizer!(
    NAdam,
    NAdamConfig,
    "`NAME.step`, `NAME.exp_avg`, `NAME.exp_avg_sq` and `NAME.mu_product` (one number)."
);

impl Layout for NAdamConfig {
    fn check(&self) -> Result<(), OptimError> {
        below_one("beta1", self.beta1)?;
        below_one("beta2", self.beta2)?;
        non_negative("eps", self.eps)?;
        non_negative("weight_decay", self.weight_decay)?;
        non_negative("momentum_decay", self.momentum_decay)
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(&["exp_avg", "exp_avg_sq", "mu_product"])
    }

    fn buffer_len(&self, field: usize, _shape: &[usize], len: usize) -> usize {
        if field == 2 { 1 } else { len }
    }
}

impl Direction for NAdamConfig {
    fn frame(&self) -> Frame {
        Frame {
            weight_decay: self.weight_decay,
            decoupled: self.decoupled_weight_decay,
            mask: self.decay_mask,
            maximize: self.maximize,
        }
    }

    fn send<T: Value>(&self, out: Out<'_, T>, _shape: &[usize], slot: &mut Slot) {
        let t = slot.step;
        let k = Moments::new(self.beta1, self.beta2, self.eps, t);
        let [mean, square, product] = slot.buffers();
        let product = &mut f64::typed(product)[0];
        let (mu, mu_next) = (self.momentum(t), self.momentum(t + 1));
        *product = if t == 1 { mu } else { *product * mu };
        let grad_share = T::Work::from_f64((1.0 - mu) / (1.0 - *product));
        let mean_share = T::Work::from_f64(mu_next / (1.0 - *product * mu_next));
        out.pass2(T::Work::typed(mean), T::Work::typed(square), move |g, m, v| {
            k.advance(m, v, g);
            (grad_share * g + mean_share * *m) / k.root(*v)
        });
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{GradientTransform, State, VecParam};

    use super::*;

    #[test]
    fn the_first_step_is_that_of_the_formula() {
        let config = NAdamConfig::new().with_eps(0.0).with_momentum_decay(0.0);
        let mut params = vec![VecParam::new("w", &[1], vec![0.0f64]).with_grad(vec![2.0])];
        let mut rule = NAdam::new(config).unwrap();
        rule.step(1.0, &mut params).unwrap();
        // mu = 0.45 at every step; m = 0.2, d = 2.
        let want = -(1.0 + 0.45 / (1.0 - 0.45 * 0.45) * 0.1);
        assert!((params[0].value[0] - want).abs() < 1e-14, "{}", params[0].value[0]);
        rule.step(1.0, &mut params).unwrap();
        let product = rule.save_state().f64s("w.mu_product").unwrap()[0];
        assert!((product - 0.2025).abs() < 1e-15);
    }
}
