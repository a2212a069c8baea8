//! `RMSprop`.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    error::{at_most_one, non_negative},
    param::{Value, l2_gradient},
    rule::{Rule, optimizer, setters},
    slots::{Slot, Slots, Work},
};

/// Hyper-parameters of [`RmsProp`], with PyTorch's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RmsPropConfig {
    /// Decay of the running mean of squared gradients; 0.99.
    pub alpha: f64,
    /// Added to the root in the denominator; 1e-8.
    pub eps: f64,
    /// L2 penalty: this times the parameter is added to its gradient; 0.
    pub weight_decay: f64,
    /// Share of the old momentum buffer in the new one; 0.
    pub momentum: f64,
    /// Whether to divide by the standard deviation instead of the root of the second moment; false.
    pub centered: bool,
    /// Whether to climb instead of to descend; false.
    pub maximize: bool,
    /// Which parameters decay; all.
    pub decay_mask: DecayMask,
}

impl RmsPropConfig {
    /// PyTorch's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            alpha: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
            momentum: 0.0,
            centered: false,
            maximize: false,
            decay_mask: DecayMask::All,
        }
    }
}

impl Default for RmsPropConfig {
    fn default() -> Self {
        Self::new()
    }
}

setters!(RmsPropConfig {
    with_alpha => alpha: f64,
    with_eps => eps: f64,
    with_weight_decay => weight_decay: f64,
    with_momentum => momentum: f64,
    with_centered => centered: bool,
    with_maximize => maximize: bool,
    with_decay_mask => decay_mask: DecayMask,
});

/// RMSprop: each element's gradient divided by a running root mean square, as PyTorch has it.
///
/// With gradient `g` (negated by `maximize`), parameter `p`:
///
/// ```text
/// g = g + weight_decay p
/// v = alpha v + (1 - alpha) g^2
/// a = alpha a + (1 - alpha) g                     if centered
/// d = g / (sqrt(centered ? v - a^2 : v) + eps)
/// p = p - lr d, or with momentum: b = momentum b + d, p = p - lr b
/// ```
///
/// `eps` is outside the root (in TensorFlow it is inside). A centered variance that rounding made
/// negative counts as 0, where PyTorch's root of it is NaN. f16 and bf16 parameters are updated in f32.
///
/// # References
/// Hinton: Neural networks for machine learning, lecture 6e (2012). Centered: Graves: Generating sequences
/// with recurrent neural networks (2013).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{RmsProp, RmsPropConfig};
///
/// let mut rmsprop = RmsProp::new(RmsPropConfig::new().with_alpha(0.75))?;
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f64]).with_grad(vec![4.0])];
/// rmsprop.step(0.1, &mut params)?;
/// assert!((params[0].value[0] - 0.8).abs() < 1e-8); // v = 4, so d = 2
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "RMSprop")]
pub struct RmsProp {
    config: RmsPropConfig,
    slots: Slots,
}

impl RmsProp {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for an alpha outside `[0, 1]`, or an eps, momentum or weight decay that is negative or
    /// not finite.
    pub fn new(config: RmsPropConfig) -> Result<Self, OptimError> {
        at_most_one("alpha", config.alpha)?;
        non_negative("eps", config.eps)?;
        non_negative("momentum", config.momentum)?;
        non_negative("weight_decay", config.weight_decay)?;
        let fields: &[&str] = match (config.centered, config.momentum > 0.0) {
            (false, false) => &["square_avg"],
            (true, false) => &["square_avg", "grad_avg"],
            (false, true) => &["square_avg", "momentum_buffer"],
            (true, true) => &["square_avg", "grad_avg", "momentum_buffer"],
        };
        Ok(Self { config, slots: Slots::new(fields) })
    }
}

optimizer!(
    RmsProp,
    RmsPropConfig,
    "`NAME.step`, `NAME.square_avg` and, where in use, `NAME.grad_avg` and `NAME.momentum_buffer`."
);

impl Rule for RmsPropConfig {
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
        let (lr, eps, momentum) = (work(lr), work(self.eps), work(self.momentum));
        let (alpha, rest) = (work(self.alpha), work(1.0 - self.alpha));
        let mut buffers = slot.buffers.iter_mut().map(T::Work::typed);
        let mut next = |used: bool| if used { buffers.next() } else { None };
        let (square, mut mean, mut velocity) =
            (next(true), next(self.centered), next(self.momentum > 0.0));
        let square = square.into_iter().flatten();
        for (i, ((p, &g), v)) in value.iter_mut().zip(grad).zip(square).enumerate() {
            let x = p.load();
            let g = l2_gradient(sign * g.load(), decay, x);
            *v = alpha * *v + rest * (g * g);
            let mut variance = *v;
            if let Some(mean) = &mut mean {
                mean[i] = alpha * mean[i] + rest * g;
                variance = variance - mean[i] * mean[i];
                // Not `max`: a NaN has to come through.
                if variance < work(0.0) {
                    variance = work(0.0);
                }
            }
            let mut direction = g / (variance.sqrt() + eps);
            if let Some(velocity) = &mut velocity {
                velocity[i] = momentum * velocity[i] + direction;
                direction = velocity[i];
            }
            *p = T::store(x - lr * direction);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{GradientTransform, VecParam};

    use super::*;

    #[test]
    fn the_first_steps_are_those_of_the_formula() {
        let config = RmsPropConfig::new().with_alpha(0.5).with_eps(0.0).with_momentum(0.5);
        let mut params = vec![VecParam::new("w", &[1], vec![0.0f64]).with_grad(vec![2.0])];
        let mut rule = RmsProp::new(config).unwrap();
        rule.step(1.0, &mut params).unwrap(); // v = 2, d = b = sqrt 2
        let root2 = 2f64.sqrt();
        assert!((params[0].value[0] + root2).abs() < 1e-15);
        rule.step(1.0, &mut params).unwrap(); // v = 3, d = 2 / sqrt 3
        let want = -root2 - (0.5 * root2 + 2.0 / 3f64.sqrt());
        assert!((params[0].value[0] - want).abs() < 1e-15);
    }

    #[test]
    fn a_constant_gradient_has_no_variance_and_gives_no_nan() {
        let config = RmsPropConfig::new().with_alpha(0.3).with_centered(true);
        let mut params = vec![VecParam::new("w", &[1], vec![0.0f32]).with_grad(vec![0.1])];
        let mut rule = RmsProp::new(config).unwrap();
        for _ in 0..60 {
            rule.step(1e-9, &mut params).unwrap();
            assert!(params[0].value[0].is_finite());
        }
    }
}
