//! What stops mixed precision.

use alloc::string::String;
use core::fmt;

use gradus_core::{DType, StepError};

/// Why something about mixed precision could not be done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AmpError {
    /// A number of a configuration is NaN or outside its range.
    OutOfRange {
        /// What it is.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The values that it may have.
        range: &'static str,
    },
    /// A gradient is in half precision: unscaled, it would lose what the scale had saved. Widen it first, see
    /// [`MasterWeights`](crate::MasterWeights).
    HalfGradient {
        /// The parameter.
        name: String,
    },
    /// The iteration ended without a look at any gradient, so that nothing is known about the scale.
    NothingUnscaled,
    /// The walk over the parameters is not the one that master weights were made for.
    Parameters {
        /// The parameter at which they differ, or where one is missing.
        name: String,
        /// What was expected there.
        expected: String,
    },
    /// A parameter has no value, or a gradient of another length than its value.
    Length {
        /// The parameter.
        name: String,
        /// Elements of its value.
        value: usize,
        /// Elements of its gradient.
        grad: usize,
    },
    /// A policy names an operation that there is not.
    UnknownOp {
        /// The name.
        name: String,
    },
    /// A policy asks for a type that it cannot compute in.
    Type {
        /// What the type is for.
        name: &'static str,
        /// The type.
        dtype: DType,
        /// The types that it may be.
        expected: &'static str,
    },
    /// A policy that is text says something that is none.
    Syntax {
        /// The part that is not understood.
        part: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The optimizer or a stage before it failed.
    Step(StepError),
}

impl fmt::Display for AmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { name, value, range } => {
                write!(f, "{name} is {value}, it has to be {range}")
            }
            Self::HalfGradient { name } => write!(
                f,
                "parameter {name}: its gradient is f16, which loses what loss scaling saves; widen it to f32"
            ),
            Self::NothingUnscaled => {
                f.write_str("the iteration ended before any gradient was unscaled")
            }
            Self::Parameters { name, expected } => {
                write!(f, "parameter {name}: the master weights expect {expected}")
            }
            Self::Length { name, value, grad } => {
                write!(f, "parameter {name}: {grad} gradients for {value} values")
            }
            Self::UnknownOp { name } => write!(f, "a policy names {name}, which is no operation"),
            Self::Type { name, dtype, expected } => {
                write!(f, "type {dtype} for {name}: it has to be {expected}")
            }
            Self::Syntax { part, expected } => {
                write!(f, "a policy says \"{part}\", expected {expected}")
            }
            Self::Step(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AmpError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Step(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StepError> for AmpError {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}
