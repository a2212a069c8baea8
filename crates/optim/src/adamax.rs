//! Adamax.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    config::config,
    error::{below_one, non_negative},
    moments::{Mean, bias},
    param::Value,
    pass::Out,
    rule::{Direction, Frame, Layout, optimizer},
    slots::{Slot, Slots},
};

config! {
    /// Hyper-parameters of [`Adamax`], with PyTorch's names and defaults.
    pub struct AdamaxConfig;
    /// PyTorch's defaults.
    pub fn new {
        /// Decay of the running mean of gradients; 0.9.
        beta1: f64 = 0.9, with_beta1;
        /// Decay of the running maximum; 0.999.
        beta2: f64 = 0.999, with_beta2;
        /// Added to each gradient's absolute value; 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// L2 penalty: this times the parameter is added to its gradient; 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Whether to climb instead of to descend; false.
        maximize: bool = false, with_maximize;
        /// Which parameters decay; all.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
    }
}

/// Adamax: Adam with the infinity norm in place of the second moment, as PyTorch has it.
///
/// With gradient `g` (negated by `maximize`), parameter `p`, `t` counting its updates from 1:
///
/// ```text
/// g = g + weight_decay p
/// m = beta1 m + (1 - beta1) g
/// u = max(beta2 u, abs(g) + eps)
/// p = p - lr / (1 - beta1^t) * m / u
/// ```
///
/// f16 and bf16 parameters are updated in f32.
///
/// # References
/// Kingma, Ba: Adam: a method for stochastic optimization (2014), section 7.1.
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{Adamax, AdamaxConfig};
///
/// let mut adamax = Adamax::new(AdamaxConfig::new())?;
/// let mut params = vec![VecParam::new("w", &[2], vec![1.0f64, 1.0]).with_grad(vec![1e-2, -1e3])];
/// adamax.step(0.25, &mut params)?;
/// assert!((params[0].value[0] - 0.75).abs() < 1e-5 && (params[0].value[1] - 1.25).abs() < 1e-5);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adamax {
    config: AdamaxConfig,
    slots: Slots,
}

impl Adamax {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a beta outside `[0, 1)` or an eps or weight decay that is negative or not finite.
    pub fn new(config: AdamaxConfig) -> Result<Self, OptimError> {
        Ok(Self { slots: Slots::of(&config)?, config })
    }
}

optimizer!(Adamax, AdamaxConfig, "`NAME.step`, `NAME.exp_avg` and `NAME.exp_inf`.");

impl Layout for AdamaxConfig {
    fn check(&self) -> Result<(), OptimError> {
        below_one("beta1", self.beta1)?;
        below_one("beta2", self.beta2)?;
        non_negative("eps", self.eps)?;
        non_negative("weight_decay", self.weight_decay)
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(&["exp_avg", "exp_inf"])
    }
}

impl Direction for AdamaxConfig {
    fn frame(&self) -> Frame {
        Frame {
            weight_decay: self.weight_decay,
            decoupled: false,
            mask: self.decay_mask,
            maximize: self.maximize,
        }
    }

    fn send<T: Value>(&self, out: Out<'_, T>, _shape: &[usize], slot: &mut Slot) {
        let scale = T::Work::from_f64(1.0 / bias(self.beta1, slot.step));
        let mean = Mean::new(self.beta1);
        let (beta2, eps) = (T::Work::from_f64(self.beta2), T::Work::from_f64(self.eps));
        let [first, max] = slot.typed();
        out.pass2(first, max, move |g, m, u| {
            *m = mean.of(*m, g);
            let (old, new) = (beta2 * *u, g.abs() + eps);
            // Not `max`: a NaN has to come through.
            *u = if old > new || old.is_nan() { old } else { new };
            scale * (*m / *u)
        });
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{GradientTransform, State, VecParam};

    use super::*;

    #[test]
    fn the_largest_gradient_is_remembered_and_forgotten_slowly() {
        let config = AdamaxConfig::new().with_betas(0.5, 0.5).with_eps(0.0);
        let mut params = vec![VecParam::new("w", &[1], vec![0.0f64]).with_grad(vec![8.0])];
        let mut rule = Adamax::new(config).unwrap();
        rule.step(1.0, &mut params).unwrap();
        params[0].grad = Some(vec![1.0]);
        rule.step(1.0, &mut params).unwrap();
        assert_eq!(rule.save_state().f64s("w.exp_inf"), Ok(vec![4.0]));
        // m = 4 then 2.5; 2.5 / (1 - 1/4) / 4
        assert!((params[0].value[0] - (-1.0 - 2.5 / 0.75 / 4.0)).abs() < 1e-15);
    }

    #[test]
    fn nan_comes_through_and_stays() {
        let mut params = vec![VecParam::new("w", &[1], vec![0.0f32]).with_grad(vec![f32::NAN])];
        let mut rule = Adamax::new(AdamaxConfig::new()).unwrap();
        rule.step(1.0, &mut params).unwrap();
        params[0].grad = Some(vec![1.0]);
        rule.step(1.0, &mut params).unwrap();
        assert!(rule.save_state().f32s("w.exp_inf").unwrap()[0].is_nan());
    }
}
