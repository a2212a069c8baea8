//! Adamax.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    error::{below_one, non_negative},
    param::{Value, l2_gradient},
    rule::{Rule, optimizer, setters},
    slots::{Slot, Slots, Work},
};

/// Hyper-parameters of [`Adamax`], with PyTorch's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdamaxConfig {
    /// Decay of the running mean of gradients; 0.9.
    pub beta1: f64,
    /// Decay of the running maximum; 0.999.
    pub beta2: f64,
    /// Added to each gradient's absolute value; 1e-8.
    pub eps: f64,
    /// L2 penalty: this times the parameter is added to its gradient; 0.
    pub weight_decay: f64,
    /// Whether to climb instead of to descend; false.
    pub maximize: bool,
    /// Which parameters decay; all.
    pub decay_mask: DecayMask,
}

impl AdamaxConfig {
    /// PyTorch's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
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
}

impl Default for AdamaxConfig {
    fn default() -> Self {
        Self::new()
    }
}

setters!(AdamaxConfig {
    with_eps => eps: f64,
    with_weight_decay => weight_decay: f64,
    with_maximize => maximize: bool,
    with_decay_mask => decay_mask: DecayMask,
});

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
        below_one("beta1", config.beta1)?;
        below_one("beta2", config.beta2)?;
        non_negative("eps", config.eps)?;
        non_negative("weight_decay", config.weight_decay)?;
        Ok(Self { config, slots: Slots::new(&["exp_avg", "exp_inf"]) })
    }
}

optimizer!(Adamax, AdamaxConfig, "`NAME.step`, `NAME.exp_avg` and `NAME.exp_inf`.");

impl Rule for AdamaxConfig {
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
        let rate = work(lr / (1.0 - Float::powf(self.beta1, slot.step as f64)));
        let (beta1, rest1) = (work(self.beta1), work(1.0 - self.beta1));
        let (beta2, eps) = (work(self.beta2), work(self.eps));
        let [mean, max] = slot.buffers.as_mut_slice() else {
            unreachable!("Adamax has two buffers")
        };
        let (mean, max) = (T::Work::typed(mean), T::Work::typed(max));
        for (((p, &g), m), u) in value.iter_mut().zip(grad).zip(mean).zip(max) {
            let x = p.load();
            let g = l2_gradient(sign * g.load(), decay, x);
            *m = beta1 * *m + rest1 * g;
            let (old, new) = (beta2 * *u, g.abs() + eps);
            // Not `max`: a NaN has to come through.
            *u = if old > new || old.is_nan() { old } else { new };
            *p = T::store(x - rate * (*m / *u));
        }
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
