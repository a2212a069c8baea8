//! Shapes and numbers that nothing can be initialized with.

use alloc::{boxed::Box, string::String, vec::Vec};
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
    /// A scheme is made for another number of dimensions.
    WrongDims {
        /// The scheme, or the layout.
        scheme: &'static str,
        /// The shape given.
        shape: Vec<usize>,
        /// The dimensions that it takes.
        dims: &'static str,
    },
    /// The fan that a scheme divides by is 0.
    ZeroFan {
        /// The shape given.
        shape: Vec<usize>,
    },
    /// The outputs do not divide into this many groups.
    WrongGroups {
        /// The groups asked for.
        groups: usize,
        /// The outputs.
        outs: usize,
    },
    /// A delta-orthogonal kernel keeps norms, so it cannot have more inputs than outputs.
    Narrowing {
        /// The inputs.
        ins: usize,
        /// The outputs.
        outs: usize,
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
    /// A measurement is for a layer that is not in the report.
    UnknownLayer {
        /// The name given.
        name: String,
    },
    /// No factor brings the outputs of a layer to the variance asked for: they are constant or not finite.
    NoVariance {
        /// The number of the layer.
        layer: usize,
        /// The variance of its outputs.
        variance: f64,
    },
    /// The same, in a walk, with the name of the parameter.
    Parameter {
        /// Its name.
        name: String,
        /// What was wrong.
        error: Box<InitError>,
    },
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewDims { shape } => {
                write!(f, "fan-in and fan-out need two dimensions or more, the shape is {shape:?}")
            }
            Self::WrongDims { scheme, shape, dims } => {
                write!(f, "{scheme} takes {dims} dimensions, the shape is {shape:?}")
            }
            Self::ZeroFan { shape } => write!(f, "the fan of shape {shape:?} is 0"),
            Self::WrongGroups { groups, outs } => {
                write!(f, "{outs} outputs do not divide into {groups} groups")
            }
            Self::Narrowing { ins, outs } => {
                write!(f, "a delta-orthogonal kernel from {ins} inputs to {outs} outputs")?;
                f.write_str(": it needs at least as many outputs")
            }
            Self::OutOfRange { name, value, range } => {
                write!(f, "{name} is {value}, it has to be in {range}")
            }
            Self::EmptyRange { low, high } => write!(f, "no number is within [{low}, {high}]"),
            Self::UnknownNonlinearity { name } => write!(f, "no nonlinearity is called {name:?}"),
            Self::UnknownLayer { name } => write!(f, "no layer of the report is called {name:?}"),
            Self::NoVariance { layer, variance } => {
                write!(f, "the outputs of layer {layer} have variance {variance}, ")?;
                f.write_str("which no factor on its weights can bring to another")
            }
            Self::Parameter { name, error } => write!(f, "{name}: {error}"),
        }
    }
}

impl core::error::Error for InitError {}

/// `Ok` if `ok`, else that `value` is out of `range`.
pub(crate) fn in_range(
    name: &'static str,
    value: f64,
    ok: bool,
    range: &'static str,
) -> Result<(), InitError> {
    if ok { Ok(()) } else { Err(InitError::OutOfRange { name, value, range }) }
}

/// Zero or more, and finite.
pub(crate) fn non_negative(name: &'static str, value: f64) -> Result<(), InitError> {
    in_range(name, value, value >= 0.0 && value.is_finite(), "[0, inf)")
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn messages_say_what_was_wrong() {
        let error = InitError::Parameter {
            name: "conv.weight".into(),
            error: Box::new(InitError::WrongGroups { groups: 3, outs: 4 }),
        };
        assert_eq!(error.to_string(), "conv.weight: 4 outputs do not divide into 3 groups");
        let error = InitError::WrongDims { scheme: "identity", shape: [5].into(), dims: "2" };
        assert_eq!(error.to_string(), "identity takes 2 dimensions, the shape is [5]");
    }
}
