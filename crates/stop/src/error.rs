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
    /// There are several `min_rates`, but not one for each rate.
    CountMismatch {
        /// Rates given.
        rates: usize,
        /// Lower bounds given.
        min_rates: usize,
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
            Self::CountMismatch { rates, min_rates } => {
                write!(
                    f,
                    "min_rates must be one for all or one for each of {rates} rates, got {min_rates}"
                )
            }
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
