//! The comparison that the unit tests share.

use crate::Schedule;

/// Checks values against a reference within 1e-12, relative to the reference.
#[track_caller]
pub(crate) fn check(schedule: &dyn Schedule, expected: &[(u64, f64)]) {
    for &(step, want) in expected {
        let got = schedule.value(step);
        assert!((got - want).abs() <= 1e-12 * want.abs(), "step {step}: got {got}, want {want}");
    }
}
