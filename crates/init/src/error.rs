//! Shapes and numbers that nothing can be initialized with.

use alloc::{string::String, vec::Vec};
use core::fmt;

/// Why a parameter could not be initialized; it is as it was.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum InitError {
    /// A scheme that scales by fan-in or fan-out needs at least two dimensions.
    TooFewDims {
        /// The shape given.
        shape: Vec<usize>,
    },
    /// The fan that a scheme divides by is 0.
    ZeroFan {
        /// The shape given.
        shape: Vec<usize>,
    },
    /// A number is NaN or outside its range.
    OutOfRange {
        /// Which.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The values that it may have.
        range: &'static str,
    },
    /// The lower bound is above the upper one.
    EmptyRange {
        /// The lower bound.
        low: f64,
        /// The upper bound.
        high: f64,
    },
    /// There is no nonlinearity of this name.
    UnknownNonlinearity {
        /// The name given.
        name: String,
    },
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewDims { shape } => {
                write!(f, "fan-in and fan-out need two dimensions or more, the shape is {shape:?}")
            }
            Self::ZeroFan { shape } => write!(f, "the fan of shape {shape:?} is 0"),
            Self::OutOfRange { name, value, range } => {
                write!(f, "{name} is {value}, it has to be in {range}")
            }
            Self::EmptyRange { low, high } => write!(f, "no number is within [{low}, {high}]"),
            Self::UnknownNonlinearity { name } => write!(f, "no nonlinearity is called {name:?}"),
        }
    }
}

impl core::error::Error for InitError {}
