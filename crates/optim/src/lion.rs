//! Lion.

use gradus_core::FloatElement;

use crate::{
    DecayMask, OptimError,
    error::{below_one, non_negative},
    param::Value,
    rule::{Rule, optimizer, setters},
    slots::{Slot, Slots, Work},
};

/// Hyper-parameters of [`Lion`], with optax's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LionConfig {
    /// Share of the momentum in the direction; 0.9.
    pub beta1: f64,
    /// Decay of the momentum; 0.99.
    pub beta2: f64,
    /// Decoupled weight decay, scaled by the rate; 1e-3.
    pub weight_decay: f64,
    /// Which parameters decay; all.
    pub decay_mask: DecayMask,
}

impl LionConfig {
    /// optax's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self { beta1: 0.9, beta2: 0.99, weight_decay: 1e-3, decay_mask: DecayMask::All }
    }

    /// Sets both decay rates.
    #[must_use]
    pub fn with_betas(mut self, beta1: f64, beta2: f64) -> Self {
        (self.beta1, self.beta2) = (beta1, beta2);
        self
    }
}

impl Default for LionConfig {
    fn default() -> Self {
        Self::new()
    }
}

setters!(LionConfig {
    with_weight_decay => weight_decay: f64,
    with_decay_mask => decay_mask: DecayMask,
});

/// Lion: the sign of an interpolated momentum; one buffer, and every element moves by the rate.
///
/// With gradient `g`, parameter `p`:
///
/// ```text
/// p = p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p)        sign(0) = 0
/// m = beta2 m + (1 - beta2) g
/// ```
///
/// The numbers are optax's (PyTorch has no Lion). The paper takes a rate 3 to 10 times lower than AdamW's
/// and a decay higher by as much. f16 and bf16 parameters are updated in f32.
///
/// # References
/// Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu, Le: Symbolic discovery of optimization
/// algorithms (2023).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{Lion, LionConfig};
///
/// let mut lion = Lion::new(LionConfig::new().with_weight_decay(0.0))?;
/// let mut params =
///     vec![VecParam::new("w", &[3], vec![1.0f32; 3]).with_grad(vec![1e-3, -1e3, 0.0])];
/// lion.step(0.25, &mut params)?;
/// assert_eq!(params[0].value, [0.75, 1.25, 1.0]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lion {
    config: LionConfig,
    slots: Slots,
}

impl Lion {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a beta outside `[0, 1)` or a weight decay that is negative or not finite.
    pub fn new(config: LionConfig) -> Result<Self, OptimError> {
        below_one("beta1", config.beta1)?;
        below_one("beta2", config.beta2)?;
        non_negative("weight_decay", config.weight_decay)?;
        Ok(Self { config, slots: Slots::new(&["exp_avg"]) })
    }
}

optimizer!(Lion, LionConfig, "`NAME.step` and `NAME.exp_avg`.");

/// -1, 0 or 1 (the `signum` of a float has no 0); NaN of NaN.
fn sign<W: Work>(x: W) -> W {
    if x == W::zero() { x } else { x.signum() }
}

impl Rule for LionConfig {
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
        let lr = work(lr);
        let (beta1, rest1) = (work(self.beta1), work(1.0 - self.beta1));
        let (beta2, rest2) = (work(self.beta2), work(1.0 - self.beta2));
        let momentum = T::Work::typed(&mut slot.buffers[0]);
        for ((p, &g), m) in value.iter_mut().zip(grad).zip(momentum) {
            let (x, g) = (p.load(), g.load());
            let direction = sign(beta1 * *m + rest1 * g);
            *p = T::store(x - lr * (direction + decay * x));
            *m = beta2 * *m + rest2 * g;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{GradientTransform, VecParam};

    use super::*;

    #[test]
    fn the_direction_looks_at_the_old_momentum() {
        let config = LionConfig::new().with_betas(0.75, 0.5).with_weight_decay(0.5);
        let mut params = vec![VecParam::new("w", &[1], vec![1.0f64]).with_grad(vec![8.0])];
        let mut rule = Lion::new(config).unwrap();
        rule.step(0.5, &mut params).unwrap(); // m = 4
        assert_eq!(params[0].value, [0.25]);
        params[0].grad = Some(vec![-12.0]); // 0.75 * 4 - 0.25 * 12 = 0: decay alone
        rule.step(0.5, &mut params).unwrap();
        assert_eq!(params[0].value, [0.1875]);
    }

    #[test]
    fn nan_comes_through() {
        let mut params = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![f32::NAN])];
        Lion::new(LionConfig::new()).unwrap().step(0.5, &mut params).unwrap();
        assert!(params[0].value[0].is_nan());
    }
}
