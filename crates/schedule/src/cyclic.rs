//! A triangle wave.

use num_traits::Float;

use crate::{
    Schedule, ScheduleError,
    error::{length, number},
    finite::decay,
};

/// How the amplitude of a [`Cyclic`] schedule changes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum CyclicMode {
    /// It stays.
    #[default]
    Triangular,
    /// It is halved after each cycle.
    Triangular2,
    /// It is multiplied by this at each step: `gamma^t`.
    ExpRange(f64),
}

/// From `base` up to `peak` and back in straight lines, for ever (PyTorch's `CyclicLR`):
/// `base + (peak - base) h(t) a(t)`, with the height `h` in \[0, 1\] and the amplitude `a` of [`CyclicMode`].
///
/// `base` may lie above `peak`: a momentum that falls while the rate rises (PyTorch's `cycle_momentum`) is
/// `Cyclic::new(max_momentum, base_momentum, ..)` with the same steps and mode. An amplitude of another form (PyTorch's
/// `scale_fn`) is `Cyclic::new(0.0, peak - base, n)?.times(from_fn(..)).plus(Constant::new(base)?)`.
///
/// ```
/// use gradus_schedule::{Cyclic, CyclicMode, Schedule};
/// let lr = Cyclic::new(0.0, 0.8, 10)?.with_mode(CyclicMode::Triangular2)?;
/// assert_eq!([lr.value(5), lr.value(10), lr.value(20), lr.value(30)], [0.4, 0.8, 0.0, 0.4]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # References
/// Smith: Cyclical learning rates for training neural networks (2017).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Cyclic {
    base: f64,
    peak: f64,
    steps_up: u64,
    steps_down: u64,
    #[cfg_attr(feature = "serde", serde(default))]
    mode: CyclicMode,
}

impl Cyclic {
    /// Up for `steps` (PyTorch: 2000), down for as many, with a constant amplitude.
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, or `steps` is 0.
    pub fn new(base: f64, peak: f64, steps: u64) -> Result<Self, ScheduleError> {
        length("steps", steps)?;
        let mode = CyclicMode::default();
        Self { base, peak, steps_up: steps, steps_down: steps, mode }.checked()
    }

    /// Comes down in another number of steps.
    ///
    /// # Errors
    /// [`ScheduleError::ZeroSteps`] when there are none.
    pub fn with_steps_down(self, steps_down: u64) -> Result<Self, ScheduleError> {
        Self { steps_down, ..self }.checked()
    }

    /// Changes the amplitude with time.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when the factor of [`CyclicMode::ExpRange`] is not finite or is negative.
    pub fn with_mode(self, mode: CyclicMode) -> Result<Self, ScheduleError> {
        Self { mode, ..self }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("base", self.base)?;
        number("peak", self.peak)?;
        length("steps_up", self.steps_up)?;
        length("steps_down", self.steps_down)?;
        if let CyclicMode::ExpRange(gamma) = self.mode {
            number("gamma", gamma)?;
        }
        Ok(self)
    }
}

impl Schedule for Cyclic {
    fn value(&self, step: u64) -> f64 {
        let cycle_length = self.steps_up.saturating_add(self.steps_down);
        let (cycle, own) = (step / cycle_length, step % cycle_length);
        let height = if own <= self.steps_up {
            own as f64 / self.steps_up as f64
        } else {
            (cycle_length - own) as f64 / self.steps_down as f64
        };
        let weight = match self.mode {
            CyclicMode::Triangular => height,
            CyclicMode::Triangular2 => height * Float::powf(0.5, cycle as f64),
            CyclicMode::ExpRange(gamma) => height * decay(1.0, gamma, step as f64),
        };
        // A growing amplitude may leave the range of a rate, or of numbers.
        (self.base + (self.peak - self.base) * weight).clamp(0.0, f64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check;

    #[test]
    fn matches_pytorch_cyclic_lr() {
        // base 0.01, max 0.1, up 10
        let lr = Cyclic::new(0.01, 0.1, 10).unwrap();
        check(&lr, &[(0, 0.01), (1, 0.019), (10, 0.1), (17, 0.037), (31, 0.091), (40, 0.01)]);
        let momentum = Cyclic::new(0.9, 0.8, 10).unwrap();
        check(&momentum, &[(0, 0.9), (1, 0.89), (10, 0.8), (20, 0.9)]);
        // base 0.001, max 0.5, up 8, down 12, triangular2
        let lr = Cyclic::new(0.001, 0.5, 8).unwrap().with_steps_down(12).unwrap();
        let lr = lr.with_mode(CyclicMode::Triangular2).unwrap();
        check(&lr, &[(1, 0.063375), (5, 0.312875), (10, 0.41683333333333333), (23, 0.0945625)]);
        check(&lr, &[(40, 0.001), (50, 0.10495833333333333)]);
        // base 0.01, max 0.1, up 15, exp_range 0.98
        let lr = Cyclic::new(0.01, 0.1, 15).unwrap().with_mode(CyclicMode::ExpRange(0.98)).unwrap();
        check(&lr, &[(1, 0.01588), (5, 0.037117623904), (31, 0.013207447797968718)]);
        check(&lr, &[(50, 0.03185018080522699)]);
    }

    #[test]
    fn the_extremes_stay_rates() {
        let up = Cyclic::new(1.0, 2.0, 1).unwrap().with_mode(CyclicMode::ExpRange(2.0)).unwrap();
        let down = Cyclic::new(2.0, 1.0, 1).unwrap().with_mode(CyclicMode::ExpRange(2.0)).unwrap();
        check(&up, &[(10_001, f64::MAX), (10_000, 1.0)]);
        check(&down, &[(1, 0.0), (2, 2.0), (10_001, 0.0)]);
        let longest = Cyclic::new(0.0, 1.0, u64::MAX).unwrap();
        check(&longest, &[(0, 0.0), (u64::MAX - 1, 1.0)]);
    }

    #[test]
    fn bad_arguments_are_refused() {
        let zero = |argument| Err(ScheduleError::ZeroSteps { argument });
        assert_eq!(Cyclic::new(0.0, 1.0, 0), zero("steps"));
        let lr = Cyclic::new(0.0, 1.0, 5).unwrap();
        assert_eq!(lr.with_steps_down(0), zero("steps_down"));
        assert!(lr.with_mode(CyclicMode::ExpRange(f64::NAN)).is_err());
    }
}
