//! Adadelta.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    config::config,
    error::{at_most_one, non_negative},
    moments::Mean,
    param::Value,
    pass::Out,
    rule::{Direction, Frame, Layout, optimizer},
    slots::{Slot, Slots},
};

config! {
    /// Hyper-parameters of [`Adadelta`], with PyTorch's names and defaults.
    pub struct AdadeltaConfig;
    /// PyTorch's defaults.
    pub fn new {
        /// Decay of both running means; 0.9.
        rho: f64 = 0.9, with_rho;
        /// Added to both means under their roots; 1e-6.
        eps: f64 = 1e-6, with_eps;
        /// L2 penalty: this times the parameter is added to its gradient; 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Whether to climb instead of to descend; false.
        maximize: bool = false, with_maximize;
        /// Which parameters decay; all.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
    }
}

/// Adadelta: steps in the units of the parameter, from the ratio of two running root mean squares.
///
/// With gradient `g` (negated by `maximize`), parameter `p`:
///
/// ```text
/// g = g + weight_decay p
/// s = rho s + (1 - rho) g^2
/// d = sqrt(a + eps) / sqrt(s + eps) * g
/// a = rho a + (1 - rho) d^2
/// p = p - lr d
/// ```
///
/// The paper's rate is `lr` = 1. f16 and bf16 parameters are updated in f32.
///
/// # References
/// Zeiler: ADADELTA: an adaptive learning rate method (2012).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{Adadelta, AdadeltaConfig};
///
/// let mut adadelta = Adadelta::new(AdadeltaConfig::new().with_rho(0.0).with_eps(1.0))?;
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f64]).with_grad(vec![0.75])];
/// adadelta.step(1.0, &mut params)?;
/// assert!((params[0].value[0] - 0.4).abs() < 1e-12); // 0.75 / sqrt(0.75^2 + 1) = 0.6
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adadelta {
    config: AdadeltaConfig,
    slots: Slots,
}

impl Adadelta {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a rho outside `[0, 1]`, or an eps or weight decay that is negative or not finite.
    pub fn new(config: AdadeltaConfig) -> Result<Self, OptimError> {
        Ok(Self { slots: Slots::of(&config)?, config })
    }
}

optimizer!(Adadelta, AdadeltaConfig, "`NAME.step`, `NAME.square_avg` and `NAME.acc_delta`.");

impl Layout for AdadeltaConfig {
    fn check(&self) -> Result<(), OptimError> {
        at_most_one("rho", self.rho)?;
        non_negative("eps", self.eps)?;
        non_negative("weight_decay", self.weight_decay)
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(&["square_avg", "acc_delta"])
    }
}

impl Direction for AdadeltaConfig {
    fn frame(&self) -> Frame {
        Frame {
            weight_decay: self.weight_decay,
            decoupled: false,
            mask: self.decay_mask,
            maximize: self.maximize,
        }
    }

    fn send<T: Value>(&self, out: Out<'_, T>, _shape: &[usize], slot: &mut Slot) {
        let (mean, eps) = (Mean::new(self.rho), T::Work::from_f64(self.eps));
        let [square, delta] = slot.typed();
        out.pass2(square, delta, move |g, s, a| {
            *s = mean.of(*s, g * g);
            let direction = (*a + eps).sqrt() / (*s + eps).sqrt() * g;
            *a = mean.of(*a, direction * direction);
            direction
        });
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{GradientTransform, VecParam};

    use super::*;

    #[test]
    fn the_second_step_uses_the_length_of_the_first() {
        let config = AdadeltaConfig::new().with_rho(0.0).with_eps(1.0);
        let mut params = vec![VecParam::new("w", &[1], vec![0.0f64]).with_grad(vec![0.75])];
        let mut rule = Adadelta::new(config).unwrap();
        rule.step(1.0, &mut params).unwrap();
        rule.step(1.0, &mut params).unwrap();
        let want = -0.6 - 1.36f64.sqrt() * 0.6;
        assert!((params[0].value[0] - want).abs() < 1e-15);
    }
}
