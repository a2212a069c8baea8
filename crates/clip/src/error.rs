//! What stops a clip.

use alloc::string::String;
use core::fmt;

use gradus_core::StepError;

/// Why gradients were not clipped; they are as they were.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ClipError {
    /// The bound is NaN or negative.
    Bound {
        /// The bound given.
        bound: f64,
    },
    /// The order of the norm is NaN, zero or negative.
    Order {
        /// The order given.
        p: f64,
    },
    /// A hyper-parameter is NaN or outside its range.
    OutOfRange {
        /// The hyper-parameter.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The values that it may have.
        range: &'static str,
    },
    /// A bound that depends on the parameter has no parameter to depend on, or one of another length.
    Value {
        /// The parameter.
        name: String,
        /// Elements of its gradient.
        expected: usize,
        /// Elements of its value; `None` where the walk shows none.
        found: Option<usize>,
    },
    /// More updates in a row were left out than [`SkipLimit`](crate::SkipLimit) puts up with.
    TooManySkips {
        /// How many.
        consecutive: u64,
    },
    /// The norm is NaN or infinite.
    NonFinite {
        /// The norm.
        norm: f64,
        /// Number of elements that are NaN or infinite; 0 when finite ones overflowed.
        count: usize,
        /// The first tensor with such an element, or the one with the largest norm.
        name: String,
    },
}

impl fmt::Display for ClipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound { bound } => write!(f, "bound {bound} is not a number >= 0"),
            Self::Order { p } => write!(f, "order {p} of the norm is not a number > 0"),
            Self::OutOfRange { name, value, range } => {
                write!(f, "{name} is {value}, it has to be in {range}")
            }
            Self::Value { name, expected, found: Some(found) } => {
                write!(f, "parameter {name}: {expected} gradients for {found} values")
            }
            Self::Value { name, .. } => write!(f, "parameter {name}: there is no value"),
            Self::TooManySkips { consecutive } => {
                write!(f, "{consecutive} updates in a row had gradients that are NaN or infinite")
            }
            Self::NonFinite { norm, count, name } => write!(
                f,
                "gradient norm is {norm}: {count} elements are NaN or infinite, see parameter {name}"
            ),
        }
    }
}

impl core::error::Error for ClipError {}

/// What a clip says as a stage of a chain.
impl From<ClipError> for StepError {
    fn from(error: ClipError) -> Self {
        match error {
            ClipError::Bound { bound } => Self::HyperParameter { name: "bound", value: bound },
            ClipError::Order { p } => Self::HyperParameter { name: "p", value: p },
            ClipError::OutOfRange { name, value, .. } => Self::HyperParameter { name, value },
            ClipError::Value { name, found: None, .. } => Self::MissingValue { name },
            ClipError::Value { name, expected, found: Some(found) } => {
                Self::LengthMismatch { name, expected, found }
            }
            ClipError::TooManySkips { .. } => {
                Self::NonFiniteGradient { name: String::new(), count: 0 }
            }
            ClipError::NonFinite { count, name, .. } => Self::NonFiniteGradient { name, count },
        }
    }
}

/// Checks a bound: a number, not negative; infinity bounds nothing.
pub(crate) fn check_bound(bound: f64) -> Result<f64, ClipError> {
    if bound >= 0.0 { Ok(bound) } else { Err(ClipError::Bound { bound }) }
}

/// Checks a hyper-parameter.
pub(crate) fn check(
    fits: bool,
    name: &'static str,
    value: f64,
    range: &'static str,
) -> Result<(), ClipError> {
    if fits { Ok(()) } else { Err(ClipError::OutOfRange { name, value, range }) }
}
