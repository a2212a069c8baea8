//! One cycle of the rate, and one of the momentum against it.

use alloc::vec;

use crate::{
    Piecewise, ScheduleError, Shape,
    error::{fraction, length, number, positive},
};

/// The 1cycle policy (PyTorch's `OneCycleLR`): the rate rises to its maximum and falls far below where it began,
/// the momentum falls and rises again.
///
/// With `initial = max / div_factor` and `last = initial / final_div_factor`, the rate goes from `initial`
/// at step 0 to `max` at the (real) step `pct_start * total_steps - 1` and to `last` at `total_steps - 1`. In
/// three phases it comes back to `initial` at `2 * pct_start * total_steps - 2` before it falls to `last`. The
/// momentum goes from `max_momentum` to `base_momentum` and back at the same steps. After the last step both
/// hold (PyTorch: an error).
///
/// ```
/// use gradus_schedule::{OneCycle, Schedule};
/// let cycle = OneCycle::new(1.0, 10);
/// let (rate, momentum) = (cycle.rate()?, cycle.momentum()?);
/// assert_eq!([rate.value(2), momentum.value(2)], [1.0, 0.85]);
/// assert_eq!([rate.value(9), momentum.value(9)], [4e-6, 0.95]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # References
/// Smith, Topin: Super-convergence: very fast training of neural networks using large learning rates (2018).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct OneCycle {
    /// The highest rate.
    pub max: f64,
    /// Steps of the whole cycle.
    pub total_steps: u64,
    /// The fraction of the steps that the rise takes; 0.3.
    pub pct_start: f64,
    /// The way up and down; [`Shape::Cosine`].
    pub shape: Shape,
    /// `max / initial`; 25.
    pub div_factor: f64,
    /// `initial / last`; 10,000.
    pub final_div_factor: f64,
    /// Whether the way down stops at the initial rate; false.
    pub three_phase: bool,
    /// The lowest momentum; 0.85.
    pub base_momentum: f64,
    /// The momentum at both ends; 0.95.
    pub max_momentum: f64,
}

impl OneCycle {
    /// PyTorch's defaults.
    #[must_use]
    pub fn new(max: f64, total_steps: u64) -> Self {
        Self {
            max,
            total_steps,
            pct_start: 0.3,
            shape: Shape::Cosine,
            div_factor: 25.0,
            final_div_factor: 1e4,
            three_phase: false,
            base_momentum: 0.85,
            max_momentum: 0.95,
        }
    }

    /// Sets [`pct_start`](Self::pct_start).
    #[must_use]
    pub fn with_pct_start(self, pct_start: f64) -> Self {
        Self { pct_start, ..self }
    }

    /// Sets [`shape`](Self::shape).
    #[must_use]
    pub fn with_shape(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// Sets [`div_factor`](Self::div_factor).
    #[must_use]
    pub fn with_div_factor(self, div_factor: f64) -> Self {
        Self { div_factor, ..self }
    }

    /// Sets [`final_div_factor`](Self::final_div_factor).
    #[must_use]
    pub fn with_final_div_factor(self, final_div_factor: f64) -> Self {
        Self { final_div_factor, ..self }
    }

    /// Sets [`three_phase`](Self::three_phase).
    #[must_use]
    pub fn with_three_phase(self, three_phase: bool) -> Self {
        Self { three_phase, ..self }
    }

    /// Sets [`base_momentum`](Self::base_momentum) and [`max_momentum`](Self::max_momentum).
    #[must_use]
    pub fn with_momentum(self, base_momentum: f64, max_momentum: f64) -> Self {
        Self { base_momentum, max_momentum, ..self }
    }

    /// The schedule of the rate.
    ///
    /// # Errors
    /// [`ScheduleError`] when `max` is not finite or is negative, `pct_start` is not in \[0, 1\], a divisor or the
    /// power of the shape is not positive, or there are no steps.
    pub fn rate(&self) -> Result<Piecewise, ScheduleError> {
        let max = number("max", self.max)?;
        let initial = number("max / div_factor", max / positive("div_factor", self.div_factor)?)?;
        let last = initial / positive("final_div_factor", self.final_div_factor)?;
        self.through(initial, max, number("initial / final_div_factor", last)?)
    }

    /// The schedule of the momentum.
    ///
    /// # Errors
    /// [`ScheduleError`] when a momentum is not finite or is negative, `pct_start` is not in \[0, 1\], the power of
    /// the shape is not positive, or there are no steps.
    pub fn momentum(&self) -> Result<Piecewise, ScheduleError> {
        let max = number("max_momentum", self.max_momentum)?;
        self.through(max, number("base_momentum", self.base_momentum)?, max)
    }

    fn through(&self, start: f64, turn: f64, end: f64) -> Result<Piecewise, ScheduleError> {
        let total = length("total_steps", self.total_steps)? as f64;
        let first = fraction("pct_start", self.pct_start)? * total - 1.0;
        let mut knots = vec![(0.0, start), (first, turn)];
        if self.three_phase {
            knots.push((2.0 * first, start));
        }
        knots.push((total - 1.0, end));
        Piecewise::through(knots, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Schedule, testing::check};

    #[test]
    fn the_golden_numbers_of_pytorch() {
        let lr = OneCycle::new(1.0, 10).rate().unwrap();
        let want = [0.04, 0.52, 1.0, 0.950485, 0.811746, 0.611262, 0.388742, 0.188258, 0.049519];
        for (t, want) in want.into_iter().enumerate() {
            assert!((lr.value(t as u64) - want).abs() < 1e-6, "{t}: {}", lr.value(t as u64));
        }
        check(&lr, &[(9, 4e-6), (10, 4e-6), (11, 4e-6)]);
    }

    #[test]
    fn matches_pytorch_one_cycle_lr() {
        // max 1, total 10
        let lr = OneCycle::new(1.0, 10).rate().unwrap();
        check(&lr, &[(0, 0.04), (1, 0.52), (2, 1.0), (9, 4e-6), (10, 4e-6)]);
        // max 0.1, total 100
        let cycle = OneCycle::new(0.1, 100);
        let (lr, momentum) = (cycle.rate().unwrap(), cycle.momentum().unwrap());
        check(&lr, &[(0, 0.004), (1, 0.004281378056590748), (14, 0.04940133238789996)]);
        check(&lr, &[(30, 0.09994965352845243), (99, 4e-7)]);
        check(&momentum, &[(0, 0.95), (1, 0.9497068978577179), (14, 0.9027069454292709)]);
        check(&momentum, &[(30, 0.8500503466729342), (99, 0.95), (200, 0.95)]);
        // max 0.1, total 100, pct_start 0.2, linear, div 10, final_div 100
        let cycle = OneCycle::new(0.1, 100).with_pct_start(0.2).with_shape(Shape::Linear);
        let cycle = cycle.with_div_factor(10.0).with_final_div_factor(100.0);
        check(&cycle.momentum().unwrap(), &[(1, 0.9447368421052631), (30, 0.86375)]);
        check(&cycle.rate().unwrap(), &[(0, 0.01), (99, 0.0001)]);
        // max 0.5, total 80, three phases
        let cycle = OneCycle::new(0.5, 80).with_three_phase(true);
        let (lr, momentum) = (cycle.rate().unwrap(), cycle.momentum().unwrap());
        check(&lr, &[(0, 0.02), (1, 0.02223537295128064), (14, 0.34037110692103667)]);
        check(&lr, &[(23, 0.5), (30, 0.39840327730756814), (46, 0.02), (79, 2e-6)]);
        check(&momentum, &[(14, 0.8832560193914507), (46, 0.95), (60, 0.95)]);
    }

    #[test]
    fn a_turn_before_the_first_step_leaves_only_the_fall() {
        // pct_start 0: max would be at step -1, so that step 0 is 1/4 of the way down.
        let lr = OneCycle::new(1.0, 4).with_pct_start(0.0).with_shape(Shape::Linear);
        let lr = lr.with_final_div_factor(1.0).rate().unwrap();
        check(&lr, &[(0, 0.76), (1, 0.52), (3, 0.04)]);
        // The turn at step 0, and a cycle of one step.
        for cycle in [OneCycle::new(1.0, 10).with_pct_start(0.1), OneCycle::new(1.0, 1)] {
            for three_phase in [false, true] {
                let lr = cycle.with_three_phase(three_phase).rate().unwrap();
                for t in 0..12 {
                    assert!((0.0..=1.0).contains(&lr.value(t)), "{cycle:?} {t}");
                }
            }
        }
    }

    #[test]
    fn bad_numbers_are_refused() {
        let good = OneCycle::new(0.1, 10);
        assert_eq!(
            OneCycle::new(0.1, 0).rate(),
            Err(ScheduleError::ZeroSteps { argument: "total_steps" })
        );
        for bad in [
            good.with_pct_start(1.5),
            good.with_pct_start(f64::NAN),
            good.with_div_factor(0.0),
            good.with_final_div_factor(-1.0),
            good.with_shape(Shape::Power(0.0)),
            OneCycle::new(f64::NAN, 10),
        ] {
            assert!(bad.rate().is_err(), "{bad:?}");
        }
        assert!(good.with_momentum(-0.1, 0.9).momentum().is_err());
    }
}
