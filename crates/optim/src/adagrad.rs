//! Adagrad.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    config::config,
    error::non_negative,
    param::Value,
    pass::Out,
    rule::{Direction, Frame, Layout, optimizer},
    slots::{Slot, Slots},
};

config! {
    /// Hyper-parameters of [`Adagrad`], with PyTorch's names and defaults.
    pub struct AdagradConfig;
    /// PyTorch's defaults.
    pub fn new {
        /// The rate of update `t` (from 1) is divided by `1 + (t - 1) lr_decay`; 0.
        lr_decay: f64 = 0.0, with_lr_decay;
        /// L2 penalty: this times the parameter is added to its gradient; 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// What the sums of squares start from; 0.
        initial_accumulator_value: f64 = 0.0, with_initial_accumulator_value;
        /// Added to the root in the denominator; 1e-10.
        eps: f64 = 1e-10, with_eps;
        /// Whether to climb instead of to descend; false.
        maximize: bool = false, with_maximize;
        /// Which parameters decay; all.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
    }
}

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
        Ok(Self { slots: Slots::of(&config)?, config })
    }
}

optimizer!(Adagrad, AdagradConfig, "`NAME.step` and `NAME.sum`.");

impl Layout for AdagradConfig {
    fn check(&self) -> Result<(), OptimError> {
        non_negative("lr_decay", self.lr_decay)?;
        non_negative("weight_decay", self.weight_decay)?;
        non_negative("initial_accumulator_value", self.initial_accumulator_value)?;
        non_negative("eps", self.eps)
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(&["sum"])
    }
}

impl Direction for AdagradConfig {
    fn frame(&self) -> Frame {
        Frame {
            weight_decay: self.weight_decay,
            decoupled: false,
            mask: self.decay_mask,
            maximize: self.maximize,
        }
    }

    fn send<T: Value>(&self, out: Out<'_, T>, _shape: &[usize], slot: &mut Slot) {
        let first = slot.step == 1;
        let scale = T::Work::from_f64(1.0 / (1.0 + (slot.step - 1) as f64 * self.lr_decay));
        let eps = T::Work::from_f64(self.eps);
        let [sum] = slot.typed();
        if first {
            sum.fill(T::Work::from_f64(self.initial_accumulator_value));
        }
        out.pass1(sum, move |g, s| {
            *s = *s + g * g;
            scale * (g / (s.sqrt() + eps))
        });
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
