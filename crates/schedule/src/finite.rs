//! Arithmetic that leaves the range of finite numbers nowhere.

use num_traits::Float;

/// Within the finite numbers: infinity times 0 would be NaN in the next schedule up. NaN stays.
pub(crate) fn bounded(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}

/// `start * weight + end * (1 - weight)`, finite for all finite arguments.
pub(crate) fn mix(start: f64, end: f64, weight: f64) -> f64 {
    bounded(start * weight + end * (1.0 - weight))
}

/// `start * gamma^times`, finite for all finite arguments.
pub(crate) fn decay(start: f64, gamma: f64, times: f64) -> f64 {
    // The power may overflow, and 0 times infinity is NaN: hence a bound on each factor.
    bounded(start * Float::powf(gamma, times).min(f64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_infinite_and_nan_is_not_hidden() {
        assert_eq!([bounded(f64::INFINITY), bounded(f64::NEG_INFINITY)], [f64::MAX, f64::MIN]);
        assert!(bounded(f64::NAN).is_nan());
        assert_eq!(bounded(f64::MAX * 1.5 - f64::MAX / 4.0), f64::MAX);
        assert_eq!([mix(f64::MAX, 0.0, 1.0), mix(3.0, 1.0, 0.5)], [f64::MAX, 2.0]);
        assert_eq!([decay(0.0, 2.0, 1e19), decay(2.0, 2.0, 1e19)], [0.0, f64::MAX]);
    }
}
