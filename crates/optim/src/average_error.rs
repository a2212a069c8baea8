//! Why parameters and the values kept for them do not fit together.

use alloc::string::String;
use core::fmt;

use gradus_core::DType;

/// Why an average could not be updated or written. Nothing has changed then.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AverageError {
    /// The walk shows no value of a parameter, only its gradient.
    MissingValue {
        /// The parameter.
        name: String,
    },
    /// The walk shows a parameter that nothing was kept for, or shows one twice.
    UnknownParameter {
        /// The parameter.
        name: String,
    },
    /// Something was kept for a parameter that the walk does not show.
    MissingParameter {
        /// The parameter.
        name: String,
    },
    /// A parameter's length is not that of the values kept for it.
    LengthMismatch {
        /// The parameter.
        name: String,
        /// Elements kept.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// A parameter's type is not that of the bits kept for it.
    DTypeMismatch {
        /// The parameter.
        name: String,
        /// The type kept.
        expected: DType,
        /// The type found.
        found: DType,
    },
    /// A schedule gave a decay outside `[0, 1]`.
    Decay {
        /// Number of the update, from 0.
        update: u64,
        /// What the schedule gave for it.
        decay: f64,
    },
    /// A weight of a sum of averages is NaN or infinite.
    Weight {
        /// The weight.
        weight: f64,
    },
    /// The stored averages do not determine their weights: two are of one profile, or there is none.
    Profiles {
        /// Number of stored averages.
        count: usize,
    },
}

impl fmt::Display for AverageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingValue { name } => write!(f, "parameter {name}: the walk shows no value"),
            Self::UnknownParameter { name } => {
                write!(f, "parameter {name}: nothing was kept for it, or the walk shows it twice")
            }
            Self::MissingParameter { name } => {
                write!(f, "parameter {name}: the walk does not show it any more")
            }
            Self::LengthMismatch { name, expected, found } => {
                write!(f, "parameter {name}: expected {expected} elements, found {found}")
            }
            Self::DTypeMismatch { name, expected, found } => {
                write!(f, "parameter {name}: expected {expected}, found {found}")
            }
            Self::Decay { update, decay } => {
                write!(f, "the decay of update {update} is {decay}, it has to be in [0, 1]")
            }
            Self::Weight { weight } => write!(f, "an average enters a sum times {weight}"),
            Self::Profiles { count } => {
                write!(f, "the profiles of {count} stored averages do not determine their weights")
            }
        }
    }
}

impl core::error::Error for AverageError {}
