//! Adagrad.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    error::non_negative,
    param::{Value, l2_gradient},
    rule::{Rule, optimizer, setters},
    slots::{Slot, Slots, Work},
};

/// Hyper-parameters of [`Adagrad`], with PyTorch's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdagradConfig {
    /// The rate of update `t` (from 1) is divided by `1 + (t - 1) lr_decay`; 0.
    pub lr_decay: f64,
    /// L2 penalty: this times the parameter is added to its gradient; 0.
    pub weight_decay: f64,
    /// What the sums of squares start from; 0.
    pub initial_accumulator_value: f64,
    /// Added to the root in the denominator; 1e-10.
    pub eps: f64,
    /// Whether to climb instead of to descend; false.
    pub maximize: bool,
    /// Which parameters decay; all.
    pub decay_mask: DecayMask,
}

impl AdagradConfig {
    /// PyTorch's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            lr_decay: 0.0,
            weight_decay: 0.0,
            initial_accumulator_value: 0.0,
            eps: 1e-10,
            maximize: false,
            decay_mask: DecayMask::All,
        }
    }
}

impl Default for AdagradConfig {
    fn default() -> Self {
        Self::new()
    }
}

setters!(AdagradConfig {
    with_lr_decay => lr_decay: f64,
    with_weight_decay => weight_decay: f64,
    with_initial_accumulator_value => initial_accumulator_value: f64,
    with_eps => eps: f64,
    with_maximize => maximize: bool,
    with_decay_mask => decay_mask: DecayMask,
});

/// Adagrad: each element's rate falls with the sum of its squared gradients, as PyTorch has it.
///
/// With gradient `g` (negated by `maximize`), parameter `p`, `t` counting its updates from 1:
///
/// ```text
/// g = g + weight_decay p
/// s = s + g^2
/// p = p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps)
/// ```
///
/// f16 and bf16 parameters are updated in f32.
///
/// # References
/// Duchi, Hazan, Singer: Adaptive subgradient methods for online learning and stochastic optimization (2011).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{Adagrad, AdagradConfig};
///
/// let mut adagrad = Adagrad::new(AdagradConfig::new())?;
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f64]).with_grad(vec![3.0])];
/// adagrad.step(0.5, &mut params)?;
/// assert!((params[0].value[0] - 0.5).abs() < 1e-9);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adagrad {
    config: AdagradConfig,
    slots: Slots,
}

impl Adagrad {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a hyper-parameter that is negative or not finite.
    pub fn new(config: AdagradConfig) -> Result<Self, OptimError> {
        non_negative("lr_decay", config.lr_decay)?;
        non_negative("weight_decay", config.weight_decay)?;
        non_negative("initial_accumulator_value", config.initial_accumulator_value)?;
        non_negative("eps", config.eps)?;
        Ok(Self { config, slots: Slots::new(&["sum"]) })
    }
}

optimizer!(Adagrad, AdagradConfig, "`NAME.step` and `NAME.sum`.");

impl Rule for AdagradConfig {
    fn update<T: Value>(
        &self,
        lr: f64,
        shape: &[usize],
        slot: &mut Slot,
        value: &mut [T],
        grad: &[T],
    ) {
        let work = T::Work::from_f64;
        let decay = work(self.decay_mask.decay(self.weight_decay, shape));
        let sign = work(if self.maximize { -1.0 } else { 1.0 });
        let rate = work(lr / (1.0 + (slot.step - 1) as f64 * self.lr_decay));
        let eps = work(self.eps);
        let sum = T::Work::typed(&mut slot.buffers[0]);
        if slot.step == 1 {
            sum.fill(work(self.initial_accumulator_value));
        }
        for ((p, &g), s) in value.iter_mut().zip(grad).zip(sum) {
            let x = p.load();
            let g = l2_gradient(sign * g.load(), decay, x);
            *s = *s + g * g;
            *p = T::store(x - rate * (g / (s.sqrt() + eps)));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{GradientTransform, VecParam};

    use super::*;

    #[test]
    fn the_second_step_is_that_of_the_formula() {
        let config = AdagradConfig::new()
            .with_eps(0.0)
            .with_lr_decay(1.0)
            .with_initial_accumulator_value(7.0);
        let mut params = vec![VecParam::new("w", &[1], vec![0.0f64]).with_grad(vec![3.0])];
        let mut rule = Adagrad::new(config).unwrap();
        rule.step(1.0, &mut params).unwrap();
        assert_eq!(params[0].value, [-0.75]); // 3 / sqrt(7 + 9)
        rule.step(1.0, &mut params).unwrap();
        assert_eq!(params[0].value, [-0.75 - 0.5 * (3.0 / 5.0)]); // 3 / sqrt(16 + 9), half the rate
    }
}
