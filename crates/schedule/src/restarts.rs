//! A cosine that starts over and over.

use num_traits::Float;

use crate::{
    Schedule, ScheduleError, Shape,
    error::{growth, length, number},
    exponential::decay,
};

/// Half a cosine from `start` to `end` in cycles (PyTorch's `CosineAnnealingWarmRestarts`, timm's
/// `CosineLRScheduler`).
///
/// Cycle `i` is `first_cycle * growth^i` steps long and starts at `start * decay^i`. At the step where a cycle
/// would reach `end` the next one starts, so that `end` itself is only taken after the last cycle, if there
/// is one.
///
/// ```
/// use gradus_schedule::{CosineRestarts, Schedule};
/// let lr = CosineRestarts::new(1.0, 0.0, 2)?.with_growth(2.0)?.with_decay(0.5)?;
/// let values = [0, 2, 4, 6].map(|t| lr.value(t));
/// assert!(values.iter().zip([1.0, 0.5, 0.25, 0.25]).all(|(got, want)| (got - want).abs() < 1e-15));
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # References
/// Loshchilov, Hutter: SGDR: stochastic gradient descent with warm restarts (2017).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CosineRestarts {
    start: f64,
    end: f64,
    first_cycle: f64,
    /// Units of `first_cycle` that a step has. More than 1 where cycles are a fraction of a whole number of
    /// steps long: so that restarts that fall on a step are hit exactly.
    pace: f64,
    growth: f64,
    decay: f64,
    cycles: Option<u64>,
}

impl CosineRestarts {
    /// Cycles of `first_cycle` steps each, without end.
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, or `first_cycle` is 0.
    pub fn new(start: f64, end: f64, first_cycle: u64) -> Result<Self, ScheduleError> {
        Ok(Self {
            start: number("start", start)?,
            end: number("end", end)?,
            first_cycle: length("first_cycle", first_cycle)? as f64,
            pace: 1.0,
            growth: 1.0,
            decay: 1.0,
            cycles: None,
        })
    }

    /// `cycles` equal cycles within `steps`, then `end` (transformers'
    /// `get_cosine_with_hard_restarts_schedule_with_warmup`, without the warm-up).
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, or `steps` or `cycles` is 0.
    pub fn within(start: f64, end: f64, steps: u64, cycles: u64) -> Result<Self, ScheduleError> {
        let pace = length("cycles", cycles)? as f64;
        Ok(Self { pace, cycles: Some(cycles), ..Self::new(start, end, length("steps", steps)?)? })
    }

    /// Makes each cycle longer than the one before by this factor, whole or not (PyTorch's `T_mult`).
    ///
    /// # Errors
    /// [`ScheduleError::OutOfRange`] unless the factor is finite and at least 1.
    pub fn with_growth(self, factor: f64) -> Result<Self, ScheduleError> {
        Ok(Self { growth: growth("growth", factor)?, ..self })
    }

    /// Makes each cycle start lower than the one before by this factor.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when the factor is not finite or is negative.
    pub fn with_decay(self, decay: f64) -> Result<Self, ScheduleError> {
        Ok(Self { decay: number("decay", decay)?, ..self })
    }

    /// Stays at `end` after so many cycles.
    ///
    /// # Errors
    /// [`ScheduleError::ZeroSteps`] when there are none.
    pub fn with_cycles(self, cycles: u64) -> Result<Self, ScheduleError> {
        Ok(Self { cycles: Some(length("cycles", cycles)?), ..self })
    }

    /// The value between two steps, such as PyTorch's `step(epoch)` with a fraction of an epoch.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when the position is not finite or is negative.
    pub fn value_at(&self, position: f64) -> Result<f64, ScheduleError> {
        Ok(self.at(number("position", position)?))
    }

    fn at(&self, position: f64) -> f64 {
        let (cycle, x) = self.cycle((position * self.pace).min(f64::MAX));
        if self.cycles.is_some_and(|all| cycle >= all as f64) {
            return self.end;
        }
        Shape::Cosine.between(decay(self.start, self.decay, cycle), self.end, x)
    }

    /// The number of the cycle, and the fraction of it that is over.
    fn cycle(&self, t: f64) -> (f64, f64) {
        let (first, growth) = (self.first_cycle, self.growth);
        if growth == 1.0 {
            let own = t % first;
            return (Float::round((t - own) / first), own / first);
        }
        let begin = |cycle: f64| first * (Float::powf(growth, cycle) - 1.0) / (growth - 1.0);
        // The logarithm may miss a restart by its rounding.
        let log = Float::log2(t / first * (growth - 1.0) + 1.0) / Float::log2(growth);
        let near = Float::floor(log);
        let cycle = if t < begin(near) {
            near - 1.0
        } else if t >= begin(near + 1.0) {
            near + 1.0
        } else {
            near
        };
        (cycle, (t - begin(cycle)) / (first * Float::powf(growth, cycle)))
    }
}

impl Schedule for CosineRestarts {
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
        let lr = CosineRestarts::new(1.0, 0.0, 3).unwrap().with_growth(2.0).unwrap();
        check(&lr, &[(0, 1.0), (1, 0.75), (2, 0.25), (3, 1.0), (4, 0.9330127018922194)]);
        check(&lr, &[(6, 0.5), (8, 0.06698729810778066), (9, 1.0), (21, 1.0), (45, 1.0)]);
        // base 0.1, T_0 10, T_mult 1
        let lr = CosineRestarts::new(0.1, 0.0, 10).unwrap();
        check(&lr, &[(1, 0.09755282581475769), (10, 0.1), (17, 0.02061073738537635), (50, 0.1)]);
        // base 0.1, T_0 4, T_mult 3
        let lr = CosineRestarts::new(0.1, 0.0, 4).unwrap().with_growth(3.0).unwrap();
        check(&lr, &[(4, 0.1), (5, 0.09829629131445342), (17, 0.09980973490458728)]);
        check(&lr, &[(40, 0.025), (50, 0.0007596123493895991), (52, 0.1)]);
    }

    #[test]
    fn every_restart_of_whole_cycles_is_hit() {
        for growth in [2, 3, 5, 7] {
            let lr = CosineRestarts::new(0.1, 0.0, 7).unwrap().with_growth(growth as f64).unwrap();
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
        let lr = CosineRestarts::new(0.02, 0.001, 3).unwrap().with_growth(2.0).unwrap();
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
        let lr = CosineRestarts::within(1.0, 0.0, 55, 3).unwrap().warmup(5);
        check(&lr, &[(5, 1.0), (10, 0.8274303669726426), (20, 0.07937323358440945)]);
        check(&lr, &[(25, 0.9797464868072487), (60, 0.0), (61, 0.0)]);
        // Restarts at every third step of an uneven cycle: 7/3.
        let lr = CosineRestarts::within(1.0, 0.0, 14, 6).unwrap();
        check(&lr, &[(0, 1.0), (7, 1.0), (14, 0.0), (u64::MAX, 0.0)]);
    }

    #[test]
    fn cycles_of_real_growth_with_decay_and_an_end() {
        let lr = CosineRestarts::new(1.0, 0.1, 10).unwrap().with_growth(1.5).unwrap();
        let lr = lr.with_decay(0.5).unwrap().with_cycles(3).unwrap();
        // Cycles of 10, 15 and 22.5 steps.
        check(&lr, &[(0, 1.0), (5, 0.55), (10, 0.5), (25, 0.25), (48, 0.1), (1000, 0.1)]);
        assert!(lr.value(47) > 0.1 && lr.value(24) < 0.11);
    }

    #[test]
    fn bad_arguments_are_refused() {
        let lr = CosineRestarts::new(1.0, 0.0, 10).unwrap();
        for bad in [0.5, f64::NAN, f64::INFINITY] {
            assert!(lr.with_growth(bad).is_err(), "{bad}");
        }
        assert!(lr.with_decay(-0.1).is_err() && lr.with_cycles(0).is_err());
        assert_eq!(
            CosineRestarts::new(1.0, 0.0, 0),
            Err(ScheduleError::ZeroSteps { argument: "first_cycle" })
        );
        assert_eq!(
            CosineRestarts::within(1.0, 0.0, 0, 3),
            Err(ScheduleError::ZeroSteps { argument: "steps" })
        );
    }
}
