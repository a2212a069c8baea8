//! LAMB.

use gradus_core::FloatElement;

use crate::{
    DecayMask, OptimError,
    config::config,
    error::{below_one, non_negative},
    lanes::{sum1, sum3},
    moments::Moments,
    param::Value,
    pass::{Around, decayed},
    pieces::in_pieces,
    rule::{Layout, Rule, Turn, optimizer},
    slots::Slots,
    trust_ratio::trust_ratio,
};

config! {
    /// Hyper-parameters of [`Lamb`], with optax's defaults.
    pub struct LambConfig;
    /// optax's defaults.
    pub fn new {
        /// Decay of the running mean of gradients; 0.9.
        beta1: f64 = 0.9, with_beta1;
        /// Decay of the running mean of squared gradients; 0.999.
        beta2: f64 = 0.999, with_beta2;
        /// Added to the root in the denominator, after bias correction; 1e-6.
        eps: f64 = 1e-6, with_eps;
        /// Weight decay, part of the update whose length is then fixed; 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Which parameters decay; all.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
    }
}

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
        Ok(Self { slots: Slots::of(&config)?, config })
    }
}

optimizer!(Lamb, LambConfig, "`NAME.step`, `NAME.exp_avg` and `NAME.exp_avg_sq`.");

impl Layout for LambConfig {
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

impl Rule for LambConfig {
    /// Three passes: the length of the update has to be known before it is made.
    fn update<T: Value>(&self, Turn { lr, site, slot, value, grad }: Turn<'_, T>) {
        let k = Moments::<T::Work>::new(self.beta1, self.beta2, self.eps, slot.step);
        let decay = T::Work::from_f64(self.decay_mask.decay(self.weight_decay, site));
        let [m, v] = slot.typed::<T::Work, 2>();
        in_pieces((&*grad, &mut *m, &mut *v), move |(grad, m, v): (&[T], _, _)| {
            for ((g, m), v) in grad.iter().zip::<&mut [_]>(m).zip::<&mut [_]>(v) {
                k.advance(m, v, g.load());
            }
        });
        let (m, v) = (&*m, &*v);
        let direction =
            move |m: T::Work, v: T::Work, p: T::Work| decayed(k.direction(m, v), decay, p);
        let squared = |x: T::Work| x * x;
        let param = sum1(value, |p| squared(p.load()));
        let length = sum3(m, v, value, |m, v, p| squared(direction(m, v, p.load())));
        let ratio = T::Work::from_f64(trust_ratio(1.0, param, length, 0.0));
        let around = Around::new(lr, false, 0.0, false);
        in_pieces((value, m, v), move |(value, m, v): (&mut [T], &[_], &[_])| {
            for ((p, &m), &v) in value.iter_mut().zip(m).zip(v) {
                let x = p.load();
                *p = T::store(around.moved(x, ratio * direction(m, v, x)));
            }
        });
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
