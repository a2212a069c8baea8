//! Lion.

use crate::{
    DecayMask, OptimError,
    config::config,
    error::{below_one, non_negative},
    moments::Mean,
    param::Value,
    pass::Out,
    rule::{Direction, Frame, Layout, optimizer},
    slots::{Slot, Slots, Work},
};

config! {
    /// Hyper-parameters of [`Lion`], with optax's defaults.
    pub struct LionConfig;
    /// optax's defaults.
    pub fn new {
        /// Share of the momentum in the direction; 0.9.
        beta1: f64 = 0.9, with_beta1;
        /// Decay of the momentum; 0.99.
        beta2: f64 = 0.99, with_beta2;
        /// Decoupled weight decay, scaled by the rate; 1e-3.
        weight_decay: f64 = 1e-3, with_weight_decay;
        /// Which parameters decay; all.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
    }
}

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
        Ok(Self { slots: Slots::of(&config)?, config })
    }
}

optimizer!(Lion, LionConfig, "`NAME.step` and `NAME.exp_avg`.");

impl Layout for LionConfig {
    fn check(&self) -> Result<(), OptimError> {
        below_one("beta1", self.beta1)?;
        below_one("beta2", self.beta2)?;
        non_negative("weight_decay", self.weight_decay)
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(&["exp_avg"])
    }
}

impl Direction for LionConfig {
    fn frame(&self) -> Frame {
        Frame {
            weight_decay: self.weight_decay,
            decoupled: true,
            mask: self.decay_mask,
            maximize: false,
        }
    }

    fn send<T: Value>(&self, out: Out<'_, T>, _shape: &[usize], slot: &mut Slot) {
        let (direction, kept) = (Mean::new(self.beta1), Mean::new(self.beta2));
        let [momentum] = slot.typed();
        out.pass1(momentum, move |g, m| {
            let u = sign(direction.of(*m, g));
            *m = kept.of(*m, g);
            u
        });
    }
}

/// -1, 0 or 1 (the `signum` of a float has no 0); NaN of NaN.
#[inline(always)]
pub(crate) fn sign<W: Work>(x: W) -> W {
    if x == W::zero() { x } else { x.signum() }
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
