//! LAMB.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    error::{below_one, non_negative},
    lanes::sum,
    param::Value,
    rule::{Rule, optimizer, setters},
    slots::{Slot, Slots, Work},
};

/// Hyper-parameters of [`Lamb`], with optax's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LambConfig {
    /// Decay of the running mean of gradients; 0.9.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients; 0.999.
    pub beta2: f64,
    /// Added to the root in the denominator, after bias correction; 1e-6.
    pub eps: f64,
    /// Weight decay, part of the update whose length is then fixed; 0.
    pub weight_decay: f64,
    /// Which parameters decay; all.
    pub decay_mask: DecayMask,
}

impl LambConfig {
    /// optax's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-6, weight_decay: 0.0, decay_mask: DecayMask::All }
    }

    /// Sets both decay rates.
    #[must_use]
    pub fn with_betas(mut self, beta1: f64, beta2: f64) -> Self {
        (self.beta1, self.beta2) = (beta1, beta2);
        self
    }
}

impl Default for LambConfig {
    fn default() -> Self {
        Self::new()
    }
}

setters!(LambConfig {
    with_eps => eps: f64,
    with_weight_decay => weight_decay: f64,
    with_decay_mask => decay_mask: DecayMask,
});

/// LAMB: Adam whose update of each parameter has the length of that parameter times the rate, for very
/// large batches.
///
/// With gradient `g`, parameter `p`, `t` counting its updates from 1, Euclidean norms over the parameter:
///
/// ```text
/// m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
/// u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay p
/// p = p - lr norm(p) / norm(u) u          the ratio is 1 where either norm is 0
/// ```
///
/// The numbers are optax's (PyTorch has no LAMB): no clipping of the gradient and no parameter left out,
/// which other implementations do. f16 and bf16 parameters are updated in f32.
///
/// # References
/// You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer, Hsieh: Large batch optimization for
/// deep learning: training BERT in 76 minutes (2019).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{Lamb, LambConfig};
///
/// let mut lamb = Lamb::new(LambConfig::new())?;
/// let mut params = vec![VecParam::new("w", &[2], vec![3.0f64, 4.0]).with_grad(vec![1e3, 0.0])];
/// lamb.step(0.1, &mut params)?;
/// assert!((params[0].value[0] - 2.5).abs() < 1e-6); // a tenth of the norm 5
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "LAMB")]
pub struct Lamb {
    config: LambConfig,
    slots: Slots,
}

impl Lamb {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a beta outside `[0, 1)` or an eps or weight decay that is negative or not finite.
    pub fn new(config: LambConfig) -> Result<Self, OptimError> {
        below_one("beta1", config.beta1)?;
        below_one("beta2", config.beta2)?;
        non_negative("eps", config.eps)?;
        non_negative("weight_decay", config.weight_decay)?;
        Ok(Self { config, slots: Slots::new(&["exp_avg", "exp_avg_sq"]) })
    }
}

optimizer!(Lamb, LambConfig, "`NAME.step`, `NAME.exp_avg` and `NAME.exp_avg_sq`.");

impl Rule for LambConfig {
    /// Two passes: the length of the update has to be known before it is made.
    fn update<T: Value>(
        &self,
        lr: f64,
        shape: &[usize],
        slot: &mut Slot,
        value: &mut [T],
        grad: &[T],
    ) {
        let work = T::Work::from_f64;
        let bias = |beta: f64| 1.0 - Float::powf(beta, slot.step as f64);
        let decay = work(self.decay_mask.decay(self.weight_decay, shape));
        let mean_scale = work(1.0 / bias(self.beta1));
        let root_scale = work(1.0 / Float::sqrt(bias(self.beta2)));
        let (beta1, rest1) = (work(self.beta1), work(1.0 - self.beta1));
        let (beta2, rest2) = (work(self.beta2), work(1.0 - self.beta2));
        let eps = work(self.eps);
        let [mean, square] = slot.buffers.as_mut_slice() else {
            unreachable!("LAMB has two buffers")
        };
        let (mean, square) = (T::Work::typed(mean), T::Work::typed(square));
        for ((&g, m), v) in grad.iter().zip(&mut *mean).zip(&mut *square) {
            let g = g.load();
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * (g * g);
        }
        let step = |i: usize, x: T::Work| {
            mean_scale * mean[i] / (square[i].sqrt() * root_scale + eps) + decay * x
        };
        let squared = |x: T::Work| x * x;
        let param = sum(value.len(), |i| squared(value[i].load()));
        let length = sum(value.len(), |i| squared(step(i, value[i].load())));
        let ratio = if param == 0.0 || length == 0.0 { 1.0 } else { Float::sqrt(param / length) };
        let rate = work(lr * ratio);
        for (i, p) in value.iter_mut().enumerate() {
            let x = p.load();
            *p = T::store(x - rate * step(i, x));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{GradientTransform, VecParam};

    use super::*;

    #[test]
    fn the_update_is_as_long_as_the_rate_times_the_parameter() {
        let config = LambConfig::new().with_weight_decay(0.5);
        let mut params =
            vec![VecParam::new("w", &[3], vec![1.0f64, 2.0, 2.0]).with_grad(vec![9.0, -1.0, 4.0])];
        let mut rule = Lamb::new(config).unwrap();
        rule.step(0.1, &mut params).unwrap();
        let moved = [1.0, 2.0, 2.0].iter().zip(&params[0].value).map(|(a, b)| (a - b) * (a - b));
        assert!((moved.sum::<f64>() - 0.09).abs() < 1e-12);
    }

    #[test]
    fn the_ratio_is_one_where_there_is_nothing_to_compare() {
        let zero = VecParam::new("zero", &[1], vec![0.0f64]).with_grad(vec![1.0]);
        let still = VecParam::new("still", &[1], vec![2.0f64]).with_grad(vec![0.0]);
        let mut params = vec![zero, still, VecParam::new("empty", &[0], vec![]).with_grad(vec![])];
        Lamb::new(LambConfig::new()).unwrap().step(0.5, &mut params).unwrap();
        assert!((params[0].value[0] + 0.5).abs() < 1e-5);
        assert_eq!(params[1].value, [2.0]);
    }
}
