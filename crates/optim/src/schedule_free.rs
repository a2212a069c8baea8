//! Schedule-free SGD and `AdamW`.

use gradus_core::{FloatElement, ParamMut, Parameters, StepError, with_slice};
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    error::{below_one, finite, non_negative},
    param::{Value, try_visit},
    rule::{Rule, optimizer, setters},
    slots::{Slot, Slots, Work},
};

/// Hyper-parameters of [`ScheduleFree`], with the names of its authors' package and optax.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScheduleFreeConfig {
    /// Whether each step is divided by a running root mean square, as in AdamW.
    pub adaptive: bool,
    /// Share of the average in the point where gradients are taken; 0.9.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients, if adaptive; 0.999.
    pub beta2: f64,
    /// Added to the root in the denominator, if adaptive; 1e-8.
    pub eps: f64,
    /// Decoupled weight decay, at the point where gradients are taken, scaled by the rate; 0.
    pub weight_decay: f64,
    /// Steps in which the rate rises linearly from 0; 0.
    pub warmup_steps: u64,
    /// A step enters the average by the largest rate so far to this power; 2.
    pub weight_lr_power: f64,
    /// Which parameters decay; all.
    pub decay_mask: DecayMask,
}

impl ScheduleFreeConfig {
    /// Schedule-free SGD.
    #[must_use]
    pub fn sgd() -> Self {
        Self {
            adaptive: false,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            warmup_steps: 0,
            weight_lr_power: 2.0,
            decay_mask: DecayMask::All,
        }
    }

    /// Schedule-free AdamW.
    #[must_use]
    pub fn adamw() -> Self {
        Self { adaptive: true, ..Self::sgd() }
    }

    /// The rate after `k` steps.
    fn warmed(&self, lr: f64, k: u64) -> f64 {
        if k < self.warmup_steps { lr * k as f64 / self.warmup_steps as f64 } else { lr }
    }
}

setters!(ScheduleFreeConfig {
    with_beta1 => beta1: f64,
    with_beta2 => beta2: f64,
    with_eps => eps: f64,
    with_weight_decay => weight_decay: f64,
    with_warmup_steps => warmup_steps: u64,
    with_weight_lr_power => weight_lr_power: f64,
    with_decay_mask => decay_mask: DecayMask,
});

/// Schedule-free optimization: a running average of the iterates instead of a falling rate, so that the length of
/// the training need not be known.
///
/// Parameters hold `y`, where gradients `g` are taken; `z` and the average `x` start from it. `t` counts the
/// parameter's updates from 1, `rate(k)` is `lr min(k / warmup_steps, 1)`, or `lr` without warm-up:
///
/// ```text
/// d = g, or if adaptive: v = beta2 v + (1 - beta2) g^2,  d = g / (sqrt(v / (1 - beta2^t)) + eps)
/// z = z - rate(t - 1) (d + weight_decay y)
/// r = max(r, rate(t)),  w = r^weight_lr_power,  W = W + w,  c = w / W (0 where W is 0)
/// x = (1 - c) x + c z
/// y = beta1 x + (1 - beta1) z
/// ```
///
/// The numbers are those of optax's `contrib.schedule_free`, including a first warm-up step of rate 0. The
/// weights to evaluate and to save are `x`: [`eval_params`](Self::eval_params) writes them into the
/// parameters, [`train_params`](Self::train_params) brings `y` back before the next step. Both `z` and `x`
/// are kept, in f32 for f16 and bf16, whose own precision would swallow the small steps of an average.
///
/// # References
/// Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky: The road less scheduled (2024).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{ScheduleFree, ScheduleFreeConfig};
///
/// let mut rule = ScheduleFree::new(ScheduleFreeConfig::sgd().with_beta1(0.5))?;
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f32])];
/// for _ in 0..2 {
///     params[0].grad = Some(vec![1.0]);
///     rule.step(0.5, &mut params)?;
/// }
/// assert_eq!(params[0].value, [0.125]); // z = 0.5, then 0; x = 0.5, then 0.25
/// rule.eval_params(&mut params)?;
/// assert_eq!(params[0].value, [0.25]);
/// rule.train_params(&mut params)?;
/// assert_eq!(params[0].value, [0.125]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ScheduleFree {
    config: ScheduleFreeConfig,
    slots: Slots,
}

impl ScheduleFree {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a beta outside `[0, 1)`, an eps or weight decay that is negative or not finite, or a
    /// power that is not finite.
    pub fn new(config: ScheduleFreeConfig) -> Result<Self, OptimError> {
        below_one("beta1", config.beta1)?;
        below_one("beta2", config.beta2)?;
        non_negative("eps", config.eps)?;
        non_negative("weight_decay", config.weight_decay)?;
        finite("weight_lr_power", config.weight_lr_power)?;
        let fields: &[&str] = if config.adaptive {
            &["z", "x", "lr_max", "weight_sum", "exp_avg_sq"]
        } else {
            &["z", "x", "lr_max", "weight_sum"]
        };
        Ok(Self { config, slots: Slots::new(fields) })
    }

    /// Writes the average `x` into every parameter that has had a step.
    ///
    /// # Errors
    /// [`StepError`] where a parameter's length is not that of its state.
    pub fn eval_params(&mut self, params: &mut dyn Parameters) -> Result<(), StepError> {
        self.write(params, 1.0)
    }

    /// Writes `y`, where gradients are to be taken, into every parameter that has had a step.
    ///
    /// # Errors
    /// [`StepError`] where a parameter's length is not that of its state.
    pub fn train_params(&mut self, params: &mut dyn Parameters) -> Result<(), StepError> {
        self.write(params, self.config.beta1)
    }

    fn write(&mut self, params: &mut dyn Parameters, share: f64) -> Result<(), StepError> {
        let Self { config, slots } = self;
        slots.rewind();
        try_visit(params, |ParamMut { name, shape, value, .. }| {
            let Some(value) = value else { return Ok(()) };
            if !slots.knows(name) {
                return Ok(());
            }
            let n = value.len();
            let len = |field| config.buffer_len(field, shape, n);
            with_slice!(value, p => write(slots, name, len, p, share))
        })
    }
}

fn write<T: Value>(
    slots: &mut Slots,
    name: &str,
    len_of: impl Fn(usize) -> usize,
    value: &mut [T],
    share: f64,
) -> Result<(), StepError> {
    let slot = slots.next::<T::Work>(name, len_of)?;
    let [z, x, ..] = slot.buffers.as_mut_slice() else { unreachable!("z and x come first") };
    let (z, x) = (T::Work::typed(z), T::Work::typed(x));
    let (share, rest) = (T::Work::from_f64(share), T::Work::from_f64(1.0 - share));
    for ((p, &z), &x) in value.iter_mut().zip(&*z).zip(&*x) {
        *p = T::store(share * x + rest * z);
    }
    Ok(())
}

optimizer!(
    ScheduleFree,
    ScheduleFreeConfig,
    "`NAME.step`, `NAME.z`, `NAME.x`, `NAME.lr_max` and `NAME.weight_sum` (one number each) and, if adaptive, \
     `NAME.exp_avg_sq`."
);

impl Rule for ScheduleFreeConfig {
    fn buffer_len(&self, field: usize, _shape: &[usize], len: usize) -> usize {
        if field == 2 || field == 3 { 1 } else { len }
    }

    fn update<T: Value>(
        &self,
        lr: f64,
        shape: &[usize],
        slot: &mut Slot,
        value: &mut [T],
        grad: &[T],
    ) {
        let t = slot.step;
        let [z, x, lr_max, weight_sum, square @ ..] = slot.buffers.as_mut_slice() else {
            unreachable!("there are at least four buffers")
        };
        let (z, x) = (T::Work::typed(z), T::Work::typed(x));
        let (lr_max, weight_sum) = (&mut f64::typed(lr_max)[0], &mut f64::typed(weight_sum)[0]);
        let mut square = square.first_mut().map(T::Work::typed);
        if t == 1 {
            for ((z, x), p) in z.iter_mut().zip(&mut *x).zip(&*value) {
                (*z, *x) = (p.load(), p.load());
            }
        }
        *lr_max = lr_max.max(self.warmed(lr, t));
        let weight = Float::powf(*lr_max, self.weight_lr_power);
        *weight_sum += weight;
        let share = if *weight_sum == 0.0 { 0.0 } else { weight / *weight_sum };
        let work = T::Work::from_f64;
        let rate = work(self.warmed(lr, t - 1));
        let decay = work(self.decay_mask.decay(self.weight_decay, shape));
        let (share, kept) = (work(share), work(1.0 - share));
        let (beta1, rest1) = (work(self.beta1), work(1.0 - self.beta1));
        let (beta2, rest2) = (work(self.beta2), work(1.0 - self.beta2));
        let correction = work(1.0 / Float::sqrt(1.0 - Float::powf(self.beta2, t as f64)));
        let eps = work(self.eps);
        for (i, (((p, g), z), x)) in value.iter_mut().zip(grad).zip(z).zip(x).enumerate() {
            let g = g.load();
            let direction = match &mut square {
                Some(v) => {
                    v[i] = beta2 * v[i] + rest2 * (g * g);
                    g / (v[i].sqrt() * correction + eps)
                }
                None => g,
            };
            *z = *z - rate * (direction + decay * p.load());
            *x = kept * *x + share * *z;
            *p = T::store(beta1 * *x + rest1 * *z);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{GradientTransform, State, VecParam, bf16};

    use super::*;

    #[test]
    fn without_warm_up_and_decay_the_average_is_the_mean_of_the_iterates() {
        let mut rule = ScheduleFree::new(ScheduleFreeConfig::sgd()).unwrap();
        let mut params = vec![VecParam::new("w", &[1], vec![0.0f64])];
        for g in [1.0, 2.0, 3.0] {
            params[0].grad = Some(vec![g]);
            rule.step(1.0, &mut params).unwrap();
        }
        rule.eval_params(&mut params).unwrap();
        assert!((params[0].value[0] - (-1.0 - 3.0 - 6.0) / 3.0).abs() < 1e-15);
    }

    #[test]
    fn the_first_step_of_a_warm_up_stands_still() {
        let config = ScheduleFreeConfig::adamw().with_warmup_steps(2);
        let mut rule = ScheduleFree::new(config).unwrap();
        let mut params = vec![VecParam::new("w", &[1], vec![1.0f64]).with_grad(vec![5.0])];
        rule.step(0.5, &mut params).unwrap();
        assert_eq!(params[0].value, [1.0]);
        rule.step(0.5, &mut params).unwrap();
        assert!((rule.save_state().f64s("w.z").unwrap()[0] - 0.75).abs() < 1e-8);
        assert_eq!(rule.save_state().f64s("w.lr_max"), Ok(vec![0.5]));
    }

    #[test]
    fn a_rate_of_zero_changes_nothing() {
        let mut rule = ScheduleFree::new(ScheduleFreeConfig::sgd()).unwrap();
        let mut params = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![5.0])];
        rule.step(0.0, &mut params).unwrap();
        assert_eq!(params[0].value, [1.0]);
    }

    #[test]
    fn bf16_parameters_have_an_f32_average() {
        let one = bf16::from_f32(1.0);
        let mut rule = ScheduleFree::new(ScheduleFreeConfig::sgd()).unwrap();
        let mut params = vec![VecParam::new("w", &[1], vec![one]).with_grad(vec![one])];
        rule.step(0.0009765625, &mut params).unwrap();
        assert_eq!(rule.save_state().f32s("w.x"), Ok(vec![1.0 - 0.0009765625]));
    }

    #[test]
    fn parameters_without_state_are_left_alone_by_both_writes() {
        let mut rule = ScheduleFree::new(ScheduleFreeConfig::sgd()).unwrap();
        let mut params = vec![VecParam::new("w", &[1], vec![3.0f32])];
        rule.eval_params(&mut params).unwrap();
        rule.train_params(&mut params).unwrap();
        assert_eq!(params[0].value, [3.0]);
        assert!(rule.save_state().is_empty());
    }
}
