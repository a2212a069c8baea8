//! Adadelta.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    error::{at_most_one, non_negative},
    param::{Value, l2_gradient},
    rule::{Rule, optimizer, setters},
    slots::{Slot, Slots, Work},
};

/// Hyper-parameters of [`Adadelta`], with PyTorch's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdadeltaConfig {
    /// Decay of both running means; 0.9.
    pub rho: f64,
    /// Added to both means under their roots; 1e-6.
    pub eps: f64,
    /// L2 penalty: this times the parameter is added to its gradient; 0.
    pub weight_decay: f64,
    /// Whether to climb instead of to descend; false.
    pub maximize: bool,
    /// Which parameters decay; all.
    pub decay_mask: DecayMask,
}

impl AdadeltaConfig {
    /// PyTorch's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self { rho: 0.9, eps: 1e-6, weight_decay: 0.0, maximize: false, decay_mask: DecayMask::All }
    }
}

impl Default for AdadeltaConfig {
    fn default() -> Self {
        Self::new()
    }
}

setters!(AdadeltaConfig {
    with_rho => rho: f64,
    with_eps => eps: f64,
    with_weight_decay => weight_decay: f64,
    with_maximize => maximize: bool,
    with_decay_mask => decay_mask: DecayMask,
});

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
        at_most_one("rho", config.rho)?;
        non_negative("eps", config.eps)?;
        non_negative("weight_decay", config.weight_decay)?;
        Ok(Self { config, slots: Slots::new(&["square_avg", "acc_delta"]) })
    }
}

optimizer!(Adadelta, AdadeltaConfig, "`NAME.step`, `NAME.square_avg` and `NAME.acc_delta`.");

impl Rule for AdadeltaConfig {
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
        let (lr, eps) = (work(lr), work(self.eps));
        let (rho, rest) = (work(self.rho), work(1.0 - self.rho));
        let [square, delta] = slot.buffers.as_mut_slice() else {
            unreachable!("Adadelta has two buffers")
        };
        let (square, delta) = (T::Work::typed(square), T::Work::typed(delta));
        for (((p, &g), s), a) in value.iter_mut().zip(grad).zip(square).zip(delta) {
            let x = p.load();
            let g = l2_gradient(sign * g.load(), decay, x);
            *s = rho * *s + rest * (g * g);
            let step = (*a + eps).sqrt() / (*s + eps).sqrt() * g;
            *a = rho * *a + rest * (step * step);
            *p = T::store(x - lr * step);
        }
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
