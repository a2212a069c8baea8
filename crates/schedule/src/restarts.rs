//! A fall that starts over and over.

use num_traits::Float;

use crate::{
    Schedule, ScheduleError, Shape,
    error::{growth, length, number, positive},
    finite::decay,
};

/// A fall from `start` to `end` in cycles, along half a cosine if nothing else is said (PyTorch's
/// `CosineAnnealingWarmRestarts`; with other shapes and `k` timm's cosine, tanh and polynomial schedules).
///
/// Cycle `i` is `first_cycle * growth^i` steps long and starts at `start * decay^i`; after the fraction `x` of it, the
/// value is `end + (start decay^i - end) fall(x^k)`, see [`Shape::fall`]. At the step where a cycle would reach `end` the
/// next one starts, so that `end` itself is only taken after the last cycle, if there is one.
///
/// | here | PyTorch | timm | Keras `CosineDecayRestarts` |
/// |---|---|---|---|
/// | `first_cycle` | `T_0` | `t_initial` | `first_decay_steps` |
/// | `growth`, 1 | `T_mult` | `cycle_mul` | `t_mul` (2) |
/// | `decay`, 1 | | `cycle_decay` | `m_mul` |
/// | `cycles`, without end | | `cycle_limit` (1) | |
/// | `k`, 1 | | `k_decay` | |
/// | `end` | `eta_min` | `lr_min` | `alpha * start`, to which the decay does not apply: add it by [`plus`](crate::ScheduleExt::plus) |
///
/// ```
/// use gradus_schedule::{Schedule, WarmRestarts};
/// let lr = WarmRestarts::new(1.0, 0.0, 2)?.with_growth(2.0)?.with_decay(0.5)?;
/// let values = [0, 2, 4, 6].map(|t| lr.value(t));
/// assert!(values.iter().zip([1.0, 0.5, 0.25, 0.25]).all(|(got, want)| (got - want).abs() < 1e-15));
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # References
/// Loshchilov, Hutter: SGDR: stochastic gradient descent with warm restarts (2017); Zhang, Li: k-decay: a new method for
/// learning rate schedule (2020).
#[derive(Clone, Copy, PartialEq, Debug)]
#[doc(alias = "CosineAnnealingWarmRestarts")]
#[doc(alias = "CosineDecayRestarts")]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct WarmRestarts {
    start: f64,
    end: f64,
    first_cycle: u64,
    /// Units of `first_cycle` that a step has. More than 1 where cycles are a fraction of a whole number of
    /// steps long: so that restarts that fall on a step are hit exactly.
    #[cfg_attr(feature = "serde", serde(default = "crate::checked::one"))]
    pace: u64,
    #[cfg_attr(feature = "serde", serde(default = "crate::checked::one"))]
    growth: f64,
    #[cfg_attr(feature = "serde", serde(default = "crate::checked::one"))]
    decay: f64,
    #[cfg_attr(feature = "serde", serde(default = "cosine"))]
    shape: Shape,
    #[cfg_attr(feature = "serde", serde(default = "crate::checked::one"))]
    k: f64,
    #[cfg_attr(feature = "serde", serde(default))]
    cycles: Option<u64>,
}

/// The shape where nothing is said.
fn cosine() -> Shape {
    Shape::Cosine
}

impl WarmRestarts {
    /// Cycles of `first_cycle` steps each, without end.
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, or `first_cycle` is 0.
    pub fn new(start: f64, end: f64, first_cycle: u64) -> Result<Self, ScheduleError> {
        Self {
            start,
            end,
            first_cycle,
            pace: 1,
            growth: 1.0,
            decay: 1.0,
            shape: cosine(),
            k: 1.0,
            cycles: None,
        }
        .checked()
    }

    /// `cycles` equal cycles within `steps`, then `end` (transformers'
    /// `get_cosine_with_hard_restarts_schedule_with_warmup`, without the warm-up).
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, or `steps` or `cycles` is 0.
    pub fn within(start: f64, end: f64, steps: u64, cycles: u64) -> Result<Self, ScheduleError> {
        length("steps", steps)?;
        Self { pace: cycles, cycles: Some(cycles), ..Self::new(start, end, steps)? }.checked()
    }

    /// Makes each cycle longer than the one before by this factor, whole or not.
    ///
    /// # Errors
    /// [`ScheduleError::OutOfRange`] unless the factor is finite and at least 1.
    pub fn with_growth(self, growth: f64) -> Result<Self, ScheduleError> {
        Self { growth, ..self }.checked()
    }

    /// Makes each cycle start lower than the one before by this factor.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when the factor is not finite or is negative.
    pub fn with_decay(self, decay: f64) -> Result<Self, ScheduleError> {
        Self { decay, ..self }.checked()
    }

    /// Falls along another shape: [`Shape::TANH`] for timm's `TanhLRScheduler`, [`Shape::Power`] (1/2 there) for its
    /// `PolyLRScheduler`.
    ///
    /// # Errors
    /// [`ScheduleError::OutOfRange`] when a number of the shape makes no sense.
    pub fn with_shape(self, shape: Shape) -> Result<Self, ScheduleError> {
        Self { shape, ..self }.checked()
    }

    /// Raises the fraction of the cycle to this power: above 1 the value falls later (timm's `k_decay`).
    ///
    /// # Errors
    /// [`ScheduleError::OutOfRange`] unless `k` is positive and finite.
    pub fn with_k_decay(self, k: f64) -> Result<Self, ScheduleError> {
        Self { k, ..self }.checked()
    }

    /// Stays at `end` after so many cycles.
    ///
    /// # Errors
    /// [`ScheduleError::ZeroSteps`] when there are none.
    pub fn with_cycles(self, cycles: u64) -> Result<Self, ScheduleError> {
        Self { cycles: Some(cycles), ..self }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        number("end", self.end)?;
        length("first_cycle", self.first_cycle)?;
        length("cycles", self.pace)?;
        length("cycles", self.cycles.unwrap_or(1))?;
        growth("growth", self.growth)?;
        number("decay", self.decay)?;
        self.shape.checked()?;
        positive("k", self.k)?;
        Ok(self)
    }

    /// The value between two steps, such as PyTorch's `step(epoch)` with a fraction of an epoch.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when the position is not finite or is negative.
    pub fn value_at(&self, position: f64) -> Result<f64, ScheduleError> {
        Ok(self.at(number("position", position)?))
    }

    fn at(&self, position: f64) -> f64 {
        let (cycle, x) = self.cycle((position * self.pace as f64).min(f64::MAX));
        if self.cycles.is_some_and(|all| cycle >= all as f64) {
            return self.end;
        }
        let x = if self.k == 1.0 { x } else { Float::powf(x, self.k) };
        self.shape.between(decay(self.start, self.decay, cycle), self.end, x)
    }

    /// The number of the cycle, and the fraction of it that is over.
    fn cycle(&self, t: f64) -> (f64, f64) {
        let (first, growth) = (self.first_cycle as f64, self.growth);
        if growth == 1.0 {
            let own = t % first;
            return (Float::round((t - own) / first), own / first);
        }
        let begin = |cycle: f64| first * ((Float::powf(growth, cycle) - 1.0) / (growth - 1.0));
        // The logarithm to the base of the growth of 1 + t (growth - 1) / first, even where that is infinite. It may
        // miss a restart by its rounding.
        let (times, step) = (t / first, growth - 1.0);
        let log = if times * step < f64::MAX {
            Float::ln_1p(times * step)
        } else {
            Float::ln(times) + Float::ln(step)
        };
        let near = Float::floor(log / Float::ln_1p(step));
        let cycle = if t < begin(near) {
            near - 1.0
        } else if t >= begin(near + 1.0) {
            near + 1.0
        } else {
            near
        };
        let x = (t - begin(cycle)) / (first * Float::powf(growth, cycle));
        // Below 0 by rounding, or infinity divided by infinity.
        (cycle, if x > 0.0 { x } else { 0.0 })
    }
}

impl Schedule for WarmRestarts {
    fn value(&self, step: u64) -> f64 {
        self.at(step as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScheduleExt, testing::check};

    #[test]
    fn matches_pytorch_warm_restarts() {
        // base 1, T_0 3, T_mult 2
        let lr = WarmRestarts::new(1.0, 0.0, 3).unwrap().with_growth(2.0).unwrap();
        check(&lr, &[(0, 1.0), (1, 0.75), (2, 0.25), (3, 1.0), (4, 0.9330127018922194)]);
        check(&lr, &[(6, 0.5), (8, 0.06698729810778066), (9, 1.0), (21, 1.0), (45, 1.0)]);
        // base 0.1, T_0 10, T_mult 1
        let lr = WarmRestarts::new(0.1, 0.0, 10).unwrap();
        check(&lr, &[(1, 0.09755282581475769), (10, 0.1), (17, 0.02061073738537635), (50, 0.1)]);
        // base 0.1, T_0 4, T_mult 3
        let lr = WarmRestarts::new(0.1, 0.0, 4).unwrap().with_growth(3.0).unwrap();
        check(&lr, &[(4, 0.1), (5, 0.09829629131445342), (17, 0.09980973490458728)]);
        check(&lr, &[(40, 0.025), (50, 0.0007596123493895991), (52, 0.1)]);
    }

    #[test]
    fn every_restart_of_whole_cycles_is_hit() {
        for growth in [2, 3, 5, 7] {
            let lr = WarmRestarts::new(0.1, 0.0, 7).unwrap().with_growth(growth as f64).unwrap();
            let (mut at, mut cycle) = (0, 7_u64);
            while at < 1 << 40 {
                assert_eq!(lr.value(at), 0.1, "growth {growth}, step {at}");
                assert!(lr.value(at + cycle - 1) < 0.03, "growth {growth}, before {}", at + cycle);
                (at, cycle) = (at + cycle, cycle * growth);
            }
        }
    }

    #[test]
    fn fractions_of_an_epoch() {
        // base 0.02, eta_min 0.001, T_0 3, T_mult 2
        let lr = WarmRestarts::new(0.02, 0.001, 3).unwrap().with_growth(2.0).unwrap();
        for (position, want) in [(0.25, 0.01967629534974615), (1.25, 0.012958780928473947)] {
            let got = lr.value_at(position).unwrap();
            assert!((got - want).abs() < 1e-15, "{position}: {got}");
        }
        for bad in [-0.5, f64::NAN, f64::INFINITY] {
            assert!(lr.value_at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn matches_transformers_hard_restarts() {
        // base 1, warm-up 5, 60 steps, 3 cycles
        let lr = WarmRestarts::within(1.0, 0.0, 55, 3).unwrap().warmup(5);
        check(&lr, &[(5, 1.0), (10, 0.8274303669726426), (20, 0.07937323358440945)]);
        check(&lr, &[(25, 0.9797464868072487), (60, 0.0), (61, 0.0)]);
        // Restarts at every third step of an uneven cycle: 7/3.
        let lr = WarmRestarts::within(1.0, 0.0, 14, 6).unwrap();
        check(&lr, &[(0, 1.0), (7, 1.0), (14, 0.0), (u64::MAX, 0.0)]);
    }

    #[test]
    fn cycles_of_real_growth_with_decay_and_an_end() {
        let lr = WarmRestarts::new(1.0, 0.1, 10).unwrap().with_growth(1.5).unwrap();
        let lr = lr.with_decay(0.5).unwrap().with_cycles(3).unwrap();
        // Cycles of 10, 15 and 22.5 steps.
        check(&lr, &[(0, 1.0), (5, 0.55), (10, 0.5), (25, 0.25), (48, 0.1), (1000, 0.1)]);
        assert!(lr.value(47) > 0.1 && lr.value(24) < 0.11);
    }

    #[test]
    fn the_golden_numbers_of_pytorch() {
        let lr = WarmRestarts::new(1.0, 0.0, 3).unwrap().with_growth(2.0).unwrap();
        let want = [1.0, 0.75, 0.25, 1.0, 0.933013, 0.75, 0.5, 0.25, 0.066987, 1.0];
        for (t, want) in want.into_iter().enumerate() {
            assert!((lr.value(t as u64) - want).abs() < 1e-6, "{t}");
        }
    }

    #[test]
    fn matches_timm_with_every_option() {
        // CosineLRScheduler(t_initial 10, lr_min 0.01, cycle_mul 1.5, cycle_decay 0.5, cycle_limit 3, k_decay 2)
        let lr = WarmRestarts::new(1.0, 0.01, 10).unwrap().with_growth(1.5).unwrap();
        let lr = lr.with_decay(0.5).unwrap().with_cycles(3).unwrap().with_k_decay(2.0).unwrap();
        let cosine = |top: f64, x: f64| {
            0.01 + 0.5 * (top - 0.01) * (1.0 + (core::f64::consts::PI * x * x).cos())
        };
        check(&lr, &[(0, 1.0), (3, cosine(1.0, 0.3)), (10, 0.5), (16, cosine(0.5, 0.4))]);
        check(
            &lr,
            &[(25, 0.25), (34, cosine(0.25, 0.4)), (47, cosine(0.25, 22.0 / 22.5)), (48, 0.01)],
        );
        // PolyLRScheduler(t_initial 10, power 0.5, lr_min 0.01, cycle_limit 1, k_decay 2)
        let lr = WarmRestarts::new(1.0, 0.01, 10).unwrap().with_cycles(1).unwrap();
        let poly = lr.with_shape(Shape::Power(0.5)).unwrap().with_k_decay(2.0).unwrap();
        check(&poly, &[(0, 1.0), (6, 0.01 + 0.99 * 0.8), (8, 0.01 + 0.99 * 0.6), (10, 0.01)]);
        assert!(lr.with_k_decay(0.0).is_err() && lr.with_shape(Shape::Power(-1.0)).is_err());
    }

    #[test]
    fn matches_keras_restarts_with_a_floor() {
        // CosineDecayRestarts(0.1, first_decay_steps 4, t_mul 2, m_mul 0.5, alpha 0.1):
        // initial ((1 - alpha) m^i (1 + cos(pi x)) / 2 + alpha)
        let lr = WarmRestarts::new(0.1 * 0.9, 0.0, 4).unwrap().with_growth(2.0).unwrap();
        let lr = lr.with_decay(0.5).unwrap().plus(crate::Constant::new(0.1 * 0.1).unwrap());
        check(&lr, &[(0, 0.1), (2, 0.055), (4, 0.055), (8, 0.0325), (12, 0.0325), (20, 0.02125)]);
    }

    #[test]
    fn cycles_beyond_all_numbers_are_no_trouble() {
        for growth in [1.0 + f64::EPSILON, 1.0001, 1e200, f64::MAX] {
            for first in [1, u64::MAX] {
                let lr = WarmRestarts::new(1.0, 0.5, first).unwrap().with_growth(growth).unwrap();
                for at in [0.0, 1.0, 1e10, 1e19, 1e200, f64::MAX] {
                    let v = lr.value_at(at).unwrap();
                    assert!((0.5..=1.0).contains(&v), "{growth} {first} {at}: {v}");
                }
            }
        }
    }

    #[test]
    fn bad_arguments_are_refused() {
        let lr = WarmRestarts::new(1.0, 0.0, 10).unwrap();
        for bad in [0.5, f64::NAN, f64::INFINITY] {
            assert!(lr.with_growth(bad).is_err(), "{bad}");
        }
        assert!(lr.with_decay(-0.1).is_err() && lr.with_cycles(0).is_err());
        assert_eq!(
            WarmRestarts::new(1.0, 0.0, 0),
            Err(ScheduleError::ZeroSteps { argument: "first_cycle" })
        );
        assert_eq!(
            WarmRestarts::within(1.0, 0.0, 0, 3),
            Err(ScheduleError::ZeroSteps { argument: "steps" })
        );
    }
}
