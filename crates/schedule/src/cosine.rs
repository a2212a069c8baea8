//! Half a period of a cosine, alone and after a warm-up.

use core::f64::consts::FRAC_PI_2;

use num_traits::Float;

use crate::{
    Past, Schedule, ScheduleError, ScheduleExt, Warmup,
    error::{length, number, positive},
    finite::{bounded, mix},
};

/// From `start` to `end` along half a cosine: `end + (start - end) ((1 + cos(pi t / steps)) / 2)^exponent`,
/// with an exponent of 1 by default.
///
/// PyTorch's `CosineAnnealingLR(T_max, eta_min)` is
/// `CosineAnnealing::new(base, eta_min, T_max)?.with_past(Past::Periodic)`: there the rate rises again after
/// `T_max`. Here it holds by default, because a run that goes on a little longer than planned should not
/// train at a growing rate. PyTorch's `SWALR` is one towards the averaging rate, optax's
/// `cosine_decay_schedule(init, steps, alpha, exponent)` is `CosineAnnealing::new(init, alpha * init, steps)`.
///
/// ```
/// use gradus_schedule::{CosineAnnealing, Past, Schedule};
/// let hold = CosineAnnealing::new(0.1, 0.0, 50)?;
/// let periodic = hold.with_past(Past::Periodic);
/// assert_eq!([hold.value(50), hold.value(100)], [0.0, 0.0]);
/// assert_eq!([periodic.value(50), periodic.value(100)], [0.0, 0.1]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # References
/// Loshchilov, Hutter: SGDR: stochastic gradient descent with warm restarts (2017), without the restarts.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct CosineAnnealing {
    start: f64,
    end: f64,
    steps: u64,
    #[cfg_attr(feature = "serde", serde(default = "crate::checked::one"))]
    exponent: f64,
    #[cfg_attr(feature = "serde", serde(default = "crate::checked::one"))]
    k: f64,
    #[cfg_attr(feature = "serde", serde(default))]
    past: Past,
}

impl CosineAnnealing {
    /// From `start` at step 0 to `end` at step `steps`, then [`Past::Hold`].
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, or `steps` is 0.
    pub fn new(start: f64, end: f64, steps: u64) -> Result<Self, ScheduleError> {
        Self { start, end, steps, exponent: 1.0, k: 1.0, past: Past::default() }.checked()
    }

    /// Says what happens after `steps`.
    #[must_use]
    pub fn with_past(self, past: Past) -> Self {
        Self { past, ..self }
    }

    /// Raises the cosine's weight to this power: above 1 the value falls earlier (as in optax).
    ///
    /// # Errors
    /// [`ScheduleError::OutOfRange`] unless the exponent is positive and finite.
    pub fn with_exponent(self, exponent: f64) -> Result<Self, ScheduleError> {
        Self { exponent, ..self }.checked()
    }

    /// Raises the fraction of the steps to this power, `cos(pi (t / steps)^k)`: above 1 the value falls later
    /// (timm's `k_decay`).
    ///
    /// # Errors
    /// [`ScheduleError::OutOfRange`] unless `k` is positive and finite.
    ///
    /// # References
    /// Zhang, Li: k-decay: a new method for learning rate schedule (2020).
    pub fn with_k_decay(self, k: f64) -> Result<Self, ScheduleError> {
        Self { k, ..self }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        number("end", self.end)?;
        length("steps", self.steps)?;
        positive("exponent", self.exponent)?;
        positive("k", self.k)?;
        Ok(self)
    }
}

impl Schedule for CosineAnnealing {
    fn value(&self, step: u64) -> f64 {
        // Folded as an integer, since the cosine of a large argument is inexact.
        let away = self.past.fold(step, self.steps);
        if away == self.steps {
            return self.end;
        }
        // cos^2(x/2) = (1 + cos x)/2, without the cancellation close to the end.
        let fraction = away as f64 / self.steps as f64;
        let fraction = if self.k == 1.0 { fraction } else { Float::powf(fraction, self.k) };
        let (sin, cos) = Float::sin_cos(FRAC_PI_2 * fraction);
        if self.exponent == 1.0 {
            return bounded(self.start * (cos * cos) + self.end * (sin * sin));
        }
        mix(self.start, self.end, Float::powf(cos * cos, self.exponent))
    }
}

/// Linear warm-up from 0 to `peak` over `warmup_steps`, then half a cosine down to 0 at `total_steps`.
///
/// Short for `CosineAnnealing::new(peak, 0.0, total_steps - warmup_steps)?.warmup(warmup_steps)`; as in optax
/// and transformers, the total includes the warm-up. It holds 0 afterwards.
///
/// ```
/// use gradus_schedule::{Schedule, warmup_cosine};
/// let lr = warmup_cosine(3e-4, 100, 1000)?;
/// assert_eq!([lr.value(0), lr.value(100), lr.value(1000)], [0.0, 3e-4, 0.0]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # Errors
/// [`ScheduleError`] when `peak` is not finite or is negative, or `warmup_steps` is not less than `total_steps`.
pub fn warmup_cosine(
    peak: f64,
    warmup_steps: u64,
    total_steps: u64,
) -> Result<Warmup<CosineAnnealing>, ScheduleError> {
    if warmup_steps >= total_steps {
        return Err(ScheduleError::WarmupTooLong { warmup_steps, total_steps });
    }
    let peak = number("peak", peak)?;
    Ok(CosineAnnealing::new(peak, 0.0, total_steps - warmup_steps)?.warmup(warmup_steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Linear, testing::check};

    #[test]
    fn matches_pytorch_cosine_annealing_lr() {
        // T_max 50, eta_min 0
        let lr = CosineAnnealing::new(0.1, 0.0, 50).unwrap();
        let first = [(0, 0.1), (1, 0.09990133642141358), (10, 0.09045084971874737), (50, 0.0)];
        check(&lr, &first);
        check(&lr.with_past(Past::Periodic), &first);
        // T_max 20, eta_min 0.001
        let lr = CosineAnnealing::new(0.1, 0.001, 20).unwrap().with_past(Past::Periodic);
        check(&lr, &[(1, 0.09939057285945932), (10, 0.0505), (20, 0.001), (50, 0.0505)]);
        // T_max 25, eta_min 0.01
        let lr = CosineAnnealing::new(0.1, 0.01, 25).unwrap().with_past(Past::Periodic);
        check(&lr, &[(2, 0.09858624225078841), (10, 0.06890576474687264), (25, 0.01), (50, 0.1)]);
    }

    #[test]
    fn the_golden_numbers_of_pytorch() {
        let hold = CosineAnnealing::new(0.1, 0.0, 10).unwrap();
        let periodic = hold.with_past(Past::Periodic);
        let want = [(1, 0.097553), (5, 0.05), (9, 0.002447), (10, 0.0), (11, 0.002447), (20, 0.1)];
        for (t, want) in want {
            assert!((periodic.value(t) - want).abs() < 5e-7, "{t}");
        }
        assert_eq!([hold.value(11), hold.value(20)], [0.0, 0.0]);
    }

    #[test]
    fn matches_optax_cosine_decay() {
        // init 0.1, decay_steps 50, alpha 0.05, exponent 2
        let lr = CosineAnnealing::new(0.1, 0.005, 50).unwrap().with_exponent(2.0).unwrap();
        check(&lr, &[(0, 0.1), (1, 0.09981263167845233), (2, 0.09925237335084021), (50, 0.005)]);
        assert!(lr.with_exponent(0.0).is_err());
    }

    #[test]
    fn k_decay_by_hand() {
        // 0.1 + 0.9 (1 + cos(pi (1/2)^2)) / 2, and half way at the root of a half
        let lr = CosineAnnealing::new(1.0, 0.1, 10).unwrap().with_k_decay(2.0).unwrap();
        check(&lr, &[(0, 1.0), (5, 0.1 + 0.9 * 0.8535533905932737), (10, 0.1), (11, 0.1)]);
        assert!(lr.with_k_decay(f64::NAN).is_err());
    }

    #[test]
    fn past_the_end_it_holds_or_comes_back() {
        let hold = CosineAnnealing::new(0.1, 0.02, 10).unwrap();
        check(&hold, &[(10, 0.02), (11, 0.02), (u64::MAX, 0.02)]);
        let periodic = hold.with_past(Past::Periodic);
        for t in 0..=20 {
            assert_eq!(periodic.value(t), periodic.value(20 - t), "step {t}");
            assert_eq!(periodic.value(t), periodic.value(t + 20_000_000_000), "step {t}");
        }
        let restart = hold.with_past(Past::Restart);
        check(&restart, &[(9, hold.value(9)), (10, 0.1), (25, hold.value(5))]);
        let longest = CosineAnnealing::new(0.1, 0.02, u64::MAX).unwrap();
        check(&longest.with_past(Past::Periodic), &[(0, 0.1), (u64::MAX, 0.02)]);
    }

    #[test]
    fn the_last_steps_of_a_long_run_keep_their_digits() {
        // One step before the end: (pi/2)^2 / n^2, to first order.
        let n = 100_000_000;
        let lr = CosineAnnealing::new(1.0, 0.0, n).unwrap().value(n - 1);
        let want = (FRAC_PI_2 / n as f64) * (FRAC_PI_2 / n as f64);
        assert!((lr / want - 1.0).abs() < 1e-7, "{lr} {want}");
    }

    #[test]
    fn warm_up_then_cosine() {
        // LinearLR(0.1 -> 1, 10) then CosineAnnealingLR(50), base 0.1
        let lr = CosineAnnealing::new(0.1, 0.0, 50).unwrap().warmup(10);
        let lr = lr.with_start_factor(0.1).unwrap();
        check(&lr, &[(0, 0.01), (1, 0.019), (9, 0.091), (10, 0.1), (11, 0.09990133642141358)]);
        check(&lr, &[(50, 0.009549150281252632), (60, 0.0)]);
        // Warm-up from 0 within the total.
        let lr = warmup_cosine(0.5, 4, 12).unwrap();
        check(&lr, &[(0, 0.0), (1, 0.125), (4, 0.5), (8, 0.25), (12, 0.0), (13, 0.0)]);
    }

    #[test]
    fn ramp_times_cosine() {
        // base min(1, t/10) (1 + cos(pi t/1000))/2: here the warm-up does not delay the cosine.
        let ramp = Linear::new(0.0, 1.0, 10).unwrap();
        let lr = CosineAnnealing::new(0.1, 0.0, 1000).unwrap().times(ramp);
        check(&lr, &[(0, 0.0), (5, 0.04999691581204152), (10, 0.09997532801828657)]);
        check(&lr, &[(500, 0.05), (1000, 0.0), (1001, 0.0)]);
    }

    #[test]
    fn a_warm_up_that_leaves_no_steps_is_refused() {
        for warmup_steps in [10, 11] {
            assert_eq!(
                warmup_cosine(0.1, warmup_steps, 10),
                Err(ScheduleError::WarmupTooLong { warmup_steps, total_steps: 10 })
            );
        }
        assert_eq!(
            warmup_cosine(-0.1, 1, 10),
            Err(ScheduleError::InvalidNumber { argument: "peak", value: -0.1 })
        );
    }
}
