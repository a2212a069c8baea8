//! `NAdam`.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    error::{below_one, non_negative},
    param::{Value, l2_gradient},
    rule::{Rule, optimizer, setters},
    slots::{Slot, Slots, Work},
};

/// Hyper-parameters of [`NAdam`], with PyTorch's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct NAdamConfig {
    /// Decay of the running mean of gradients, reached as the momentum warms up; 0.9.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients; 0.999.
    pub beta2: f64,
    /// Added to the root in the denominator; 1e-8.
    pub eps: f64,
    /// Weight decay, coupled or decoupled; 0.
    pub weight_decay: f64,
    /// How fast the momentum warms up; 4e-3.
    pub momentum_decay: f64,
    /// Whether the decay shrinks the parameter by `lr weight_decay` instead of being added to the
    /// gradient; false.
    pub decoupled_weight_decay: bool,
    /// Whether to climb instead of to descend; false.
    pub maximize: bool,
    /// Which parameters decay; all.
    pub decay_mask: DecayMask,
}

impl NAdamConfig {
    /// PyTorch's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            momentum_decay: 4e-3,
            decoupled_weight_decay: false,
            maximize: false,
            decay_mask: DecayMask::All,
        }
    }

    /// Sets both decay rates.
    #[must_use]
    pub fn with_betas(mut self, beta1: f64, beta2: f64) -> Self {
        (self.beta1, self.beta2) = (beta1, beta2);
        self
    }

    /// The momentum of update `t`.
    fn momentum(&self, t: u64) -> f64 {
        self.beta1 * (1.0 - 0.5 * Float::powf(0.96, t as f64 * self.momentum_decay))
    }
}

impl Default for NAdamConfig {
    fn default() -> Self {
        Self::new()
    }
}

setters!(NAdamConfig {
    with_eps => eps: f64,
    with_weight_decay => weight_decay: f64,
    with_momentum_decay => momentum_decay: f64,
    with_decoupled_weight_decay => decoupled_weight_decay: bool,
    with_maximize => maximize: bool,
    with_decay_mask => decay_mask: DecayMask,
});

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
        below_one("beta1", config.beta1)?;
        below_one("beta2", config.beta2)?;
        non_negative("eps", config.eps)?;
        non_negative("weight_decay", config.weight_decay)?;
        non_negative("momentum_decay", config.momentum_decay)?;
        Ok(Self { config, slots: Slots::new(&["exp_avg", "exp_avg_sq", "mu_product"]) })
    }
}

optimizer!(
    NAdam,
    NAdamConfig,
    "`NAME.step`, `NAME.exp_avg`, `NAME.exp_avg_sq` and `NAME.mu_product` (one number)."
);

impl Rule for NAdamConfig {
    fn buffer_len(&self, field: usize, _shape: &[usize], len: usize) -> usize {
        if field == 2 { 1 } else { len }
    }

    fn update<T: Value>(
        &self,
        lr: f64,
        shape: &[usize],
        slot: &mut Slot,
        value: &mut [T],
        grad: &[T],
    ) {
        let t = slot.step;
        let [mean, square, product] = slot.buffers.as_mut_slice() else {
            unreachable!("NAdam has three buffers")
        };
        let product = &mut f64::typed(product)[0];
        let (mu, mu_next) = (self.momentum(t), self.momentum(t + 1));
        *product = if t == 1 { mu } else { *product * mu };
        let work = T::Work::from_f64;
        let decay = self.decay_mask.decay(self.weight_decay, shape);
        let (l2, shrink) =
            if self.decoupled_weight_decay { (0.0, 1.0 - lr * decay) } else { (decay, 1.0) };
        let (l2, shrink) = (work(l2), work(shrink));
        let sign = work(if self.maximize { -1.0 } else { 1.0 });
        let grad_rate = work(lr * (1.0 - mu) / (1.0 - *product));
        let mean_rate = work(lr * mu_next / (1.0 - *product * mu_next));
        let correction = work(1.0 / Float::sqrt(1.0 - Float::powf(self.beta2, t as f64)));
        let (beta1, rest1) = (work(self.beta1), work(1.0 - self.beta1));
        let (beta2, rest2) = (work(self.beta2), work(1.0 - self.beta2));
        let eps = work(self.eps);
        let (mean, square) = (T::Work::typed(mean), T::Work::typed(square));
        for (((p, &g), m), v) in value.iter_mut().zip(grad).zip(mean).zip(square) {
            let x = p.load();
            let g = l2_gradient(sign * g.load(), l2, x);
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * (g * g);
            let root = v.sqrt() * correction + eps;
            *p = T::store(shrink * x - (grad_rate * g + mean_rate * *m) / root);
        }
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
