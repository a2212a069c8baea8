//! The step at which a schedule has a value.

use core::ops::Range;

use crate::Schedule;

/// The first step of the range at which the schedule has `value`, or passes it: then the nearer of the two
/// steps that it lies between, the earlier of equals.
///
/// `None` when the value is not met within the range, or is NaN. The range is walked through, one value a
/// step.
///
/// ```
/// use gradus_schedule::{Schedule, find_step, warmup_cosine};
/// let lr = warmup_cosine(0.1, 100, 1000)?;
/// assert_eq!(find_step(&lr, 0.05, 0..1000), Some(50)); // on the way up
/// assert_eq!(find_step(&lr, 0.05, 100..1000), Some(550)); // on the way down
/// assert_eq!(find_step(&lr, 0.2, 0..1000), None);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
pub fn find_step(schedule: &dyn Schedule, value: f64, steps: Range<u64>) -> Option<u64> {
    let mut before: Option<f64> = None;
    for step in steps {
        let off = schedule.value(step) - value;
        if off == 0.0 {
            return Some(step);
        }
        if let Some(last) = before
            && (last < 0.0) != (off < 0.0)
            && !off.is_nan()
        {
            return Some(if last.abs() <= off.abs() { step - 1 } else { step });
        }
        before = (!off.is_nan()).then_some(off);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Linear, StepDecay, from_fn};

    #[test]
    fn a_value_between_two_steps_is_at_the_nearer() {
        let lr = Linear::new(10.0, 0.0, 10).unwrap();
        assert_eq!(find_step(&lr, 7.0, 0..11), Some(3));
        assert_eq!(find_step(&lr, 6.8, 0..11), Some(3));
        assert_eq!(find_step(&lr, 6.2, 0..11), Some(4));
        assert_eq!(find_step(&lr, 6.5, 0..11), Some(3));
        assert_eq!(find_step(&lr, 0.0, 0..100), Some(10));
    }

    #[test]
    fn a_value_that_is_jumped_over_is_at_the_jump() {
        let lr = StepDecay::new(1.0, 10, 0.1).unwrap();
        assert_eq!(find_step(&lr, 0.2, 0..100), Some(10));
        assert_eq!(find_step(&lr, 0.9, 0..100), Some(9));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let lr = Linear::new(1.0, 0.5, 10).unwrap();
        for (value, range) in [(0.4, 0..100), (1.1, 0..100), (f64::NAN, 0..100), (0.9, 5..5)] {
            assert_eq!(find_step(&lr, value, range), None);
        }
        let holes = from_fn(|t| if t == 1 { f64::NAN } else { t as f64 });
        assert_eq!(find_step(&holes, 1.0, 0..10), None);
    }
}
