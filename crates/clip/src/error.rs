//! What stops a clip.

use alloc::string::String;
use core::fmt;

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
            Self::NonFinite { norm, count, name } => write!(
                f,
                "gradient norm is {norm}: {count} elements are NaN or infinite, see parameter {name}"
            ),
        }
    }
}

impl core::error::Error for ClipError {}
