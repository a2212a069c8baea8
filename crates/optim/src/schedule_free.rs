//! Schedule-free SGD and `AdamW`.

use gradus_core::{FloatElement, ParamMut, Parameters, StepError, with_slice};
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    config::config,
    error::{below_one, finite, non_negative},
    moments::{Mean, bias},
    param::{Value, try_visit},
    pieces::in_pieces,
    rule::{Layout, Rule, Turn, optimizer},
    slots::{Slots, Work},
};

config! {
    /// Hyper-parameters of [`ScheduleFree`], with the names of its authors' package and optax.
    pub struct ScheduleFreeConfig;
    /// Schedule-free SGD.
    pub fn sgd {
        /// Whether each step is divided by a running root mean square, as in AdamW.
        adaptive: bool = false, with_adaptive;
        /// Share of the average in the point where gradients are taken; 0.9.
        beta1: f64 = 0.9, with_beta1;
        /// Decay of the running mean of squared gradients, if adaptive; 0.999.
        beta2: f64 = 0.999, with_beta2;
        /// Added to the root in the denominator, if adaptive; 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Decoupled weight decay, at the point where gradients are taken, scaled by the rate; 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Steps in which the rate rises linearly from 0; 0.
        warmup_steps: u64 = 0, with_warmup_steps;
        /// A step enters the average by the largest rate so far to this power; 2.
        weight_lr_power: f64 = 2.0, with_weight_lr_power;
        /// Which parameters decay; all.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
    }
}

impl ScheduleFreeConfig {
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
        Ok(Self { slots: Slots::of(&config)?, config })
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
            slots.check(usize::MAX, name, len)?;
            with_slice!(value, p => write(slots, name, len, p, share));
            Ok(())
        })
    }
}

fn write<T: Value>(
    slots: &mut Slots,
    name: &str,
    len_of: impl Fn(usize) -> usize,
    value: &mut [T],
    share: f64,
) {
    let [z, x, ..] = slots.next::<T::Work>(name, len_of).all() else {
        unreachable!("z and x come first")
    };
    let (z, x) = (T::Work::typed(z), T::Work::typed(x));
    let mean = Mean::new(share);
    for ((p, &z), &x) in value.iter_mut().zip(&*z).zip(&*x) {
        *p = T::store(mean.of(x, z));
    }
}

optimizer!(
    ScheduleFree,
    ScheduleFreeConfig,
    "`NAME.step`, `NAME.z`, `NAME.x`, `NAME.lr_max` and `NAME.weight_sum` (one number each) and, if adaptive, \
     `NAME.exp_avg_sq`."
);

impl Layout for ScheduleFreeConfig {
    fn check(&self) -> Result<(), OptimError> {
        below_one("beta1", self.beta1)?;
        below_one("beta2", self.beta2)?;
        non_negative("eps", self.eps)?;
        non_negative("weight_decay", self.weight_decay)?;
        finite("weight_lr_power", self.weight_lr_power)
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(if self.adaptive {
            &["z", "x", "lr_max", "weight_sum", "exp_avg_sq"]
        } else {
            &["z", "x", "lr_max", "weight_sum"]
        })
    }

    fn buffer_len(&self, field: usize, _shape: &[usize], len: usize) -> usize {
        if field == 2 || field == 3 { 1 } else { len }
    }
}

impl Rule for ScheduleFreeConfig {
    fn update<T: Value>(&self, Turn { lr, site, slot, value, grad }: Turn<'_, T>) {
        let t = slot.step;
        let [z, x, lr_max, weight_sum, square @ ..] = slot.all() else {
            unreachable!("there are at least four buffers")
        };
        let (z, x) = (T::Work::typed(z), T::Work::typed(x));
        let (lr_max, weight_sum) = (&mut f64::typed(lr_max)[0], &mut f64::typed(weight_sum)[0]);
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
        let decay = work(self.decay_mask.decay(self.weight_decay, site));
        let (average, train) = (Mean::new(1.0 - share), Mean::new(self.beta1));
        let moved = move |p: &mut T, direction: T::Work, z: &mut T::Work, x: &mut T::Work| {
            *z = *z - rate * (direction + decay * p.load());
            *x = average.of(*x, *z);
            *p = T::store(train.of(*x, *z));
        };
        let grad = &*grad;
        if let [square] = square {
            let mean = Mean::new(self.beta2);
            let correction = work(1.0 / Float::sqrt(bias(self.beta2, t)));
            let eps = work(self.eps);
            let square = T::Work::typed(square);
            in_pieces((value, grad, z, x, square), move |(p, g, z, x, v): (_, &[T], _, _, _)| {
                let (p, z, x, v): (&mut [T], &mut [_], &mut [_], &mut [_]) = (p, z, x, v);
                for ((((p, g), z), x), v) in p.iter_mut().zip(g).zip(z).zip(x).zip(v) {
                    let g = g.load();
                    *v = mean.of(*v, g * g);
                    moved(p, g / (v.sqrt() * correction + eps), z, x);
                }
            });
        } else {
            in_pieces((value, grad, z, x), move |(p, g, z, x): (_, &[T], _, _)| {
                let (p, z, x): (&mut [T], &mut [_], &mut [_]) = (p, z, x);
                for (((p, g), z), x) in p.iter_mut().zip(g).zip(z).zip(x) {
                    moved(p, g.load(), z, x);
                }
            });
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
