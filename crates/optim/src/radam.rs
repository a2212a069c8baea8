//! `RAdam`.

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
    /// Hyper-parameters of [`RAdam`], with PyTorch's names and defaults.
    pub struct RAdamConfig;
    /// PyTorch's defaults.
    pub fn new {
        /// Decay of the running mean of gradients; 0.9.
        beta1: f64 = 0.9, with_beta1;
        /// Decay of the running mean of squared gradients; 0.999.
        beta2: f64 = 0.999, with_beta2;
        /// Added to the root in the denominator; 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Weight decay, coupled or decoupled; 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Whether the decay shrinks the parameter by `lr weight_decay` instead of being added to the
        /// gradient; false.
        decoupled_weight_decay: bool = false, with_decoupled_weight_decay;
        /// Whether to climb instead of to descend; false.
        maximize: bool = false, with_maximize;
        /// Which parameters decay; all.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
    }
}

impl RAdamConfig {
    /// The factor that makes up for the variance of the adaptive rate at update `t`; `None` while that
    /// variance is unbounded.
    fn rectification(&self, t: f64) -> Option<f64> {
        let limit = 2.0 / (1.0 - self.beta2) - 1.0;
        let power = Float::powf(self.beta2, t);
        let r = limit - 2.0 * t * power / (1.0 - power);
        (r > 5.0).then(|| {
            let share = (r - 4.0) * (r - 2.0) * limit;
            Float::sqrt(share / ((limit - 4.0) * (limit - 2.0) * r))
        })
    }
}

/// RAdam: Adam that starts as momentum SGD, until its second moment can be trusted, as PyTorch has it.
///
/// With gradient `g` (negated by `maximize`), parameter `p`, `t` counting its updates from 1:
///
/// ```text
/// p = p (1 - lr weight_decay)            if decoupled, otherwise g = g + weight_decay p
/// m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
/// r_inf = 2 / (1 - beta2) - 1,  r = r_inf - 2 t beta2^t / (1 - beta2^t)
/// k = sqrt((r - 4) (r - 2) r_inf / ((r_inf - 4) (r_inf - 2) r))
/// p = p - lr m / (1 - beta1^t) * (r > 5 ? k sqrt(1 - beta2^t) / (sqrt(v) + eps) : 1)
/// ```
///
/// f16 and bf16 parameters are updated in f32.
///
/// # References
/// Liu, Jiang, He, Chen, Liu, Gao, Han: On the variance of the adaptive learning rate and beyond (2019).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{RAdam, RAdamConfig};
///
/// let mut radam = RAdam::new(RAdamConfig::new())?;
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f64]).with_grad(vec![5.0])];
/// radam.step(0.1, &mut params)?;
/// assert!((params[0].value[0] - 0.5).abs() < 1e-12); // a plain gradient step at first
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RAdam {
    config: RAdamConfig,
    slots: Slots,
}

impl RAdam {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a beta outside `[0, 1)` or an eps or weight decay that is negative or not finite.
    pub fn new(config: RAdamConfig) -> Result<Self, OptimError> {
        Ok(Self { slots: Slots::of(&config)?, config })
    }
}

optimizer!(RAdam, RAdamConfig, "`NAME.step`, `NAME.exp_avg` and `NAME.exp_avg_sq`.");

impl Layout for RAdamConfig {
    fn check(&self) -> Result<(), OptimError> {
        below_one("beta1", self.beta1)?;
        below_one("beta2", self.beta2)?;
        non_negative("eps", self.eps)?;
        non_negative("weight_decay", self.weight_decay)
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(&["exp_avg", "exp_avg_sq"])
    }
}

impl Direction for RAdamConfig {
    fn frame(&self) -> Frame {
        Frame {
            weight_decay: self.weight_decay,
            decoupled: self.decoupled_weight_decay,
            mask: self.decay_mask,
            maximize: self.maximize,
        }
    }

    fn send<T: Value>(&self, out: Out<'_, T>, _shape: &[usize], slot: &mut Slot) {
        let t = slot.step;
        let first_scale = 1.0 / bias(self.beta1, t);
        let plain = T::Work::from_f64(first_scale);
        let adaptive = self
            .rectification(t as f64)
            .map(|k| T::Work::from_f64(first_scale * k * Float::sqrt(bias(self.beta2, t))));
        let (first, second) = (Mean::new(self.beta1), Mean::new(self.beta2));
        let eps = T::Work::from_f64(self.eps);
        let [mean, square] = slot.typed();
        out.pass2(mean, square, move |g, m, v| {
            *m = first.of(*m, g);
            *v = second.of(*v, g * g);
            match adaptive {
                Some(scale) => scale * (*m / (v.sqrt() + eps)),
                None => plain * *m,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rectification_starts_at_the_sixth_step_and_ends_at_one() {
        let config = RAdamConfig::new();
        assert_eq!(config.rectification(5.0), None);
        let sixth = config.rectification(6.0).unwrap();
        assert!(sixth > 0.0 && sixth < 0.05, "{sixth}");
        assert!((config.rectification(1e5).unwrap() - 1.0).abs() < 1e-9);
        // A short memory never has enough samples.
        assert_eq!(config.with_betas(0.9, 0.5).rectification(1e5), None);
    }
}
