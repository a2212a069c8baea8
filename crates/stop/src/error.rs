//! What can be wrong with a configuration.

use core::fmt;

/// Why a stopper could not be built.
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
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidMinDelta { value } => {
                write!(f, "min_delta must be finite and not negative, got {value}")
            }
            Self::NonFinite { option, value } => write!(f, "{option} must be finite, got {value}"),
        }
    }
}

impl core::error::Error for StopError {}
