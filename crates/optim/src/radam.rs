//! `RAdam`.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    error::{below_one, non_negative},
    param::{Value, l2_gradient},
    rule::{Rule, optimizer, setters},
    slots::{Slot, Slots, Work},
};

/// Hyper-parameters of [`RAdam`], with PyTorch's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RAdamConfig {
    /// Decay of the running mean of gradients; 0.9.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients; 0.999.
    pub beta2: f64,
    /// Added to the root in the denominator; 1e-8.
    pub eps: f64,
    /// Weight decay, coupled or decoupled; 0.
    pub weight_decay: f64,
    /// Whether the decay shrinks the parameter by `lr weight_decay` instead of being added to the
    /// gradient; false.
    pub decoupled_weight_decay: bool,
    /// Whether to climb instead of to descend; false.
    pub maximize: bool,
    /// Which parameters decay; all.
    pub decay_mask: DecayMask,
}

impl RAdamConfig {
    /// PyTorch's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
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

    /// The factor that makes up for the variance of the adaptive rate at update `t`; `None` while that
    /// variance is unbounded.
    fn rectification(&self, t: f64) -> Option<f64> {
        let limit = 2.0 / (1.0 - self.beta2) - 1.0;
        let power = Float::powf(self.beta2, t);
        let r = limit - 2.0 * t * power / (1.0 - power);
        (r > 5.0).then(|| {
            let share = (r - 4.0) * (r - 2.0) * limit;
            Float::sqrt(share / ((limit - 4.0) * (limit - 2.0) * r))
        })
    }
}

impl Default for RAdamConfig {
    fn default() -> Self {
        Self::new()
    }
}

setters!(RAdamConfig {
    with_eps => eps: f64,
    with_weight_decay => weight_decay: f64,
    with_decoupled_weight_decay => decoupled_weight_decay: bool,
    with_maximize => maximize: bool,
    with_decay_mask => decay_mask: DecayMask,
});

/// RAdam: Adam that starts as momentum SGD, until its second moment can be trusted, as PyTorch has it.
///
/// With gradient `g` (negated by `maximize`), parameter `p`, `t` counting its updates from 1:
///
/// ```text
/// p = p (1 - lr weight_decay)            if decoupled, otherwise g = g + weight_decay p
/// m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
/// r_inf = 2 / (1 - beta2) - 1,  r = r_inf - 2 t beta2^t / (1 - beta2^t)
/// k = sqrt((r - 4) (r - 2) r_inf / ((r_inf - 4) (r_inf - 2) r))
/// p = p - lr m / (1 - beta1^t) * (r > 5 ? k sqrt(1 - beta2^t) / (sqrt(v) + eps) : 1)
/// ```
///
/// f16 and bf16 parameters are updated in f32.
///
/// # References
/// Liu, Jiang, He, Chen, Liu, Gao, Han: On the variance of the adaptive learning rate and beyond (2019).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{RAdam, RAdamConfig};
///
/// let mut radam = RAdam::new(RAdamConfig::new())?;
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f64]).with_grad(vec![5.0])];
/// radam.step(0.1, &mut params)?;
/// assert!((params[0].value[0] - 0.5).abs() < 1e-12); // a plain gradient step at first
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RAdam {
    config: RAdamConfig,
    slots: Slots,
}

impl RAdam {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a beta outside `[0, 1)` or an eps or weight decay that is negative or not finite.
    pub fn new(config: RAdamConfig) -> Result<Self, OptimError> {
        below_one("beta1", config.beta1)?;
        below_one("beta2", config.beta2)?;
        non_negative("eps", config.eps)?;
        non_negative("weight_decay", config.weight_decay)?;
        Ok(Self { config, slots: Slots::new(&["exp_avg", "exp_avg_sq"]) })
    }
}

optimizer!(RAdam, RAdamConfig, "`NAME.step`, `NAME.exp_avg` and `NAME.exp_avg_sq`.");

impl Rule for RAdamConfig {
    fn update<T: Value>(
        &self,
        lr: f64,
        shape: &[usize],
        slot: &mut Slot,
        value: &mut [T],
        grad: &[T],
    ) {
        let t = slot.step as f64;
        let work = T::Work::from_f64;
        let decay = self.decay_mask.decay(self.weight_decay, shape);
        let (l2, shrink) =
            if self.decoupled_weight_decay { (0.0, 1.0 - lr * decay) } else { (decay, 1.0) };
        let (l2, shrink) = (work(l2), work(shrink));
        let sign = work(if self.maximize { -1.0 } else { 1.0 });
        let rate = lr / (1.0 - Float::powf(self.beta1, t));
        let adaptive = self
            .rectification(t)
            .map(|k| work(rate * k * Float::sqrt(1.0 - Float::powf(self.beta2, t))));
        let rate = work(rate);
        let (beta1, rest1) = (work(self.beta1), work(1.0 - self.beta1));
        let (beta2, rest2) = (work(self.beta2), work(1.0 - self.beta2));
        let eps = work(self.eps);
        let [mean, square] = slot.buffers.as_mut_slice() else {
            unreachable!("RAdam has two buffers")
        };
        let (mean, square) = (T::Work::typed(mean), T::Work::typed(square));
        for (((p, &g), m), v) in value.iter_mut().zip(grad).zip(mean).zip(square) {
            let x = p.load();
            let g = l2_gradient(sign * g.load(), l2, x);
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * (g * g);
            let step = match adaptive {
                Some(rate) => rate * (*m / (v.sqrt() + eps)),
                None => rate * *m,
            };
            *p = T::store(shrink * x - step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rectification_starts_at_the_sixth_step_and_ends_at_one() {
        let config = RAdamConfig::new();
        assert_eq!(config.rectification(5.0), None);
        let sixth = config.rectification(6.0).unwrap();
        assert!(sixth > 0.0 && sixth < 0.05, "{sixth}");
        assert!((config.rectification(1e5).unwrap() - 1.0).abs() < 1e-9);
        // A short memory never has enough samples.
        assert_eq!(config.with_betas(0.9, 0.5).rectification(1e5), None);
    }
}
