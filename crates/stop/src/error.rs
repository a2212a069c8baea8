//! What can be wrong with a configuration.

use core::fmt;

/// Why something here could not be built.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum StopError {
    /// `min_delta` is NaN, infinite or negative.
    InvalidMinDelta {
        /// What was given.
        value: f64,
    },
    /// A threshold or the baseline is NaN or infinite: no metric could be compared with it.
    NonFinite {
        /// The option's name.
        option: &'static str,
        /// What was given.
        value: f64,
    },
    /// A number is not in the range of its option.
    OutOfRange {
        /// The option's name.
        option: &'static str,
        /// What was given.
        value: f64,
        /// What it should be.
        expected: &'static str,
    },
    /// A number that has to be at least 1, or a time, is 0.
    Zero {
        /// The option's name.
        option: &'static str,
    },
    /// A criterion has the name of one before it.
    DuplicateName {
        /// Position of the criterion in its list.
        index: usize,
    },
    /// There are several lower, or upper, bounds of rates, but not one for each rate.
    CountMismatch {
        /// Rates given.
        rates: usize,
        /// The option's name: `min_rates` or `max_rates`.
        option: &'static str,
        /// Bounds given.
        bounds: usize,
    },
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidMinDelta { value } => {
                write!(f, "min_delta must be finite and not negative, got {value}")
            }
            Self::NonFinite { option, value } => write!(f, "{option} must be finite, got {value}"),
            Self::OutOfRange { option, value, expected } => {
                write!(f, "{option} must be {expected}, got {value}")
            }
            Self::Zero { option } => write!(f, "{option} must not be 0"),
            Self::DuplicateName { index } => {
                write!(f, "criterion {index} has the name of one before it")
            }
            Self::CountMismatch { rates, option, bounds } => write!(
                f,
                "{option} must be one for all or one for each of {rates} rates, got {bounds}"
            ),
        }
    }
}

impl core::error::Error for StopError {}

/// Nothing, if the number is finite, not negative, and also what else is asked of it.
pub(crate) fn in_range(
    option: &'static str,
    value: f64,
    also: bool,
    expected: &'static str,
) -> Result<(), StopError> {
    if value.is_finite() && value >= 0.0 && also {
        Ok(())
    } else {
        Err(StopError::OutOfRange { option, value, expected })
    }
}
