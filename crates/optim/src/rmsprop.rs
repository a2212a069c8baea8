//! `RMSprop`.

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
    /// Hyper-parameters of [`RmsProp`], with PyTorch's names and defaults.
    pub struct RmsPropConfig;
    /// PyTorch's defaults.
    pub fn new {
        /// Decay of the running mean of squared gradients; 0.99.
        alpha: f64 = 0.99, with_alpha;
        /// Added to the root in the denominator; 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// L2 penalty: this times the parameter is added to its gradient; 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Share of the old momentum buffer in the new one; 0.
        momentum: f64 = 0.0, with_momentum;
        /// Whether to divide by the standard deviation instead of the root of the second moment; false.
        centered: bool = false, with_centered;
        /// Whether to climb instead of to descend; false.
        maximize: bool = false, with_maximize;
        /// Which parameters decay; all.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
    }
}

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
        Ok(Self { slots: Slots::of(&config)?, config })
    }
}

optimizer!(
    RmsProp,
    RmsPropConfig,
    "`NAME.step`, `NAME.square_avg` and, where in use, `NAME.grad_avg` and `NAME.momentum_buffer`."
);

impl Layout for RmsPropConfig {
    fn check(&self) -> Result<(), OptimError> {
        at_most_one("alpha", self.alpha)?;
        non_negative("eps", self.eps)?;
        non_negative("momentum", self.momentum)?;
        non_negative("weight_decay", self.weight_decay)
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(match (self.centered, self.momentum > 0.0) {
            (false, false) => &["square_avg"],
            (true, false) => &["square_avg", "grad_avg"],
            (false, true) => &["square_avg", "momentum_buffer"],
            (true, true) => &["square_avg", "grad_avg", "momentum_buffer"],
        })
    }
}

impl Direction for RmsPropConfig {
    fn frame(&self) -> Frame {
        Frame {
            weight_decay: self.weight_decay,
            decoupled: false,
            mask: self.decay_mask,
            maximize: self.maximize,
        }
    }

    fn send<T: Value>(&self, out: Out<'_, T>, _shape: &[usize], slot: &mut Slot) {
        let (mean, zero) = (Mean::new(self.alpha), T::Work::from_f64(0.0));
        let (eps, momentum) = (T::Work::from_f64(self.eps), T::Work::from_f64(self.momentum));
        let plain = move |g: T::Work, v: &mut T::Work| {
            *v = mean.of(*v, g * g);
            g / (v.sqrt() + eps)
        };
        let centered = move |g: T::Work, v: &mut T::Work, a: &mut T::Work| {
            *v = mean.of(*v, g * g);
            *a = mean.of(*a, g);
            let variance = *v - *a * *a;
            // Not `max`: a NaN has to come through.
            let variance = if variance < zero { zero } else { variance };
            g / (variance.sqrt() + eps)
        };
        let carried = move |d: T::Work, b: &mut T::Work| {
            *b = momentum * *b + d;
            *b
        };
        match (self.centered, self.momentum > 0.0) {
            (false, false) => {
                let [v] = slot.typed();
                out.pass1(v, plain);
            }
            (true, false) => {
                let [v, a] = slot.typed();
                out.pass2(v, a, centered);
            }
            (false, true) => {
                let [v, b] = slot.typed();
                out.pass2(v, b, move |g, v, b| carried(plain(g, v), b));
            }
            (true, true) => {
                let [v, a, b] = slot.typed();
                out.pass3(v, a, b, move |g, v, a, b| carried(centered(g, v, a), b));
            }
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
