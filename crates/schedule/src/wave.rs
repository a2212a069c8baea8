//! A whole cosine wave.

use core::f64::consts::PI;

use num_traits::Float;

use crate::{
    Schedule, ScheduleError,
    error::{length, number},
    finite::bounded,
};

/// `cycles` periods of a cosine within `steps`, and on after them:
/// `end + (start - end) (1 + cos(2 pi cycles t / steps)) / 2`.
///
/// transformers' `get_cosine_schedule_with_warmup` is this with `end` 0 (or `min_lr_rate` times the base rate) and
/// a warm-up. Half a cycle is the usual decay, but unlike [`CosineAnnealing`](crate::CosineAnnealing) it rises
/// again after `steps`, as it does there; [`ending`](crate::ScheduleExt::ending) holds it.
///
/// ```
/// use gradus_schedule::{CosineWave, Schedule};
/// let lr = CosineWave::new(0.4, 0.0, 12, 1.5)?;
/// let values = [0, 4, 8, 12].map(|t| lr.value(t));
/// assert!(values.iter().zip([0.4, 0.0, 0.4, 0.0]).all(|(got, want)| (got - want).abs() < 1e-15));
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct CosineWave {
    start: f64,
    end: f64,
    steps: u64,
    cycles: f64,
}

impl CosineWave {
    /// Starts at `start`, and is at `end` half a cycle later.
    ///
    /// # Errors
    /// [`ScheduleError`] when a number is not finite or is negative, or `steps` is 0.
    pub fn new(start: f64, end: f64, steps: u64, cycles: f64) -> Result<Self, ScheduleError> {
        Self { start, end, steps, cycles }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        number("end", self.end)?;
        number("cycles", self.cycles)?;
        length("steps", self.steps)?;
        Ok(self)
    }
}

impl Schedule for CosineWave {
    fn value(&self, step: u64) -> f64 {
        let cycle = (self.cycles * (step as f64 / self.steps as f64)).min(f64::MAX) % 1.0;
        let (sin, cos) = Float::sin_cos(PI * cycle);
        bounded(self.start * (cos * cos) + self.end * (sin * sin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ScheduleExt;

    #[test]
    fn matches_transformers_cosine() {
        // base 0.1, warm-up 10, 50 steps, half a cycle; it rises again
        let lr = CosineWave::new(0.1, 0.0, 40, 0.5).unwrap().warmup(10);
        // base 1, warm-up 5, 60 steps, 1.5 cycles
        let more = CosineWave::new(1.0, 0.0, 55, 1.5).unwrap().warmup(5);
        // base 1, 60 steps, min_lr_rate 0.01
        let floor = CosineWave::new(0.1, 0.001, 60, 0.5).unwrap();
        for (got, want) in [
            (lr.value(15), 0.09619397662556434),
            (lr.value(50), 0.0),
            (lr.value(55), 0.003806023374435658),
            (more.value(10), 0.8274303669726425),
            (more.value(25), 0.020253513192751316),
            (more.value(60), 0.0),
            (floor.value(1), 0.0999321619703514),
            (floor.value(3), 0.09939057285945933),
        ] {
            assert!((got - want).abs() < 1e-15, "{got} {want}");
        }
    }

    #[test]
    fn no_cycles_are_a_constant() {
        let lr = CosineWave::new(0.1, 0.0, 40, 0.0).unwrap();
        assert_eq!([lr.value(0), lr.value(33)], [0.1, 0.1]);
    }

    #[test]
    fn bad_arguments_are_refused() {
        assert!(CosineWave::new(0.1, 0.0, 0, 0.5).is_err());
        assert!(CosineWave::new(0.1, 0.0, 5, f64::NAN).is_err());
    }
}
