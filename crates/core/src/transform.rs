//! What turns gradients into new parameters.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt;

use crate::{DType, Parameters, State};

/// One stage between the gradients and the parameters: a clip, an added decay, an optimizer.
///
/// Stages run one after the other on the same walk. A stage changes gradients in place or updates
/// values from them; its hyper-parameters are its own fields, its state is explicit ([`State`]) and the
/// learning rate is an argument, so that schedules and restarts need no extra machinery.
pub trait GradientTransform: State {
    /// Does one step.
    ///
    /// # Errors
    /// [`StepError`] for a learning rate that is negative or not finite, for a parameter without a gradient
    /// (its training would silently stop; [`PresentGradients`](crate::PresentGradients) hides such, and they keep
    /// their value, their state and their step count), or where the walk does not fit the transform or its state.
    /// A transform looks for these before it changes anything.
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError>;
}

impl<T: GradientTransform + ?Sized> GradientTransform for Box<T> {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        (**self).step(lr, params)
    }
}

/// Checks that every parameter with a value has a gradient. It walks, but reads no element.
///
/// # Errors
/// [`StepError::MissingGradient`] with the names of those that have none.
pub fn require_gradients(params: &mut dyn Parameters) -> Result<(), StepError> {
    let mut names = Vec::new();
    params.visit(&mut |p| {
        if p.value.is_some() && p.grad.is_none() {
            names.push(p.name.into());
        }
    });
    if names.is_empty() { Ok(()) } else { Err(StepError::MissingGradient { names }) }
}

/// Why a [`GradientTransform::step`] could not be done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StepError {
    /// The learning rate is NaN, infinite or negative.
    LearningRate {
        /// The rate given.
        lr: f64,
    },
    /// A gradient is NaN or infinite, and the stage that looks for such has to refuse it.
    NonFiniteGradient {
        /// The first parameter with such an element, or the one whose norm overflowed.
        name: String,
        /// Number of elements that are NaN or infinite, of all parameters.
        count: usize,
    },
    /// A stage has a hyper-parameter that it cannot work with.
    HyperParameter {
        /// The hyper-parameter.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// This transform does not handle parameters of this shape.
    Shape {
        /// The parameter.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The shapes that it handles.
        expected: &'static str,
    },
    /// Parameters have a value but no gradient: nothing reached them.
    MissingGradient {
        /// Their names, in the order of the walk.
        names: Vec<String>,
    },
    /// Parameters belong to no group, and every parameter has to be in one.
    NoGroup {
        /// Their names, in the order of the walk.
        names: Vec<String>,
    },
    /// A parameter has a gradient but the walk shows no value to update.
    MissingValue {
        /// The parameter.
        name: String,
    },
    /// A parameter's length is not that of the state kept for it, or of its gradient.
    LengthMismatch {
        /// The parameter.
        name: String,
        /// Elements expected.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// Value and gradient are of different types, or of one that this transform does not handle.
    DTypeMismatch {
        /// The parameter.
        name: String,
        /// Type of the value.
        value: DType,
        /// Type of the gradient.
        grad: DType,
    },
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LearningRate { lr } => write!(f, "learning rate {lr} is not in [0, inf)"),
            Self::NonFiniteGradient { name, count } => write!(
                f,
                "{count} elements of the gradients are NaN or infinite, see parameter {name}"
            ),
            Self::HyperParameter { name, value } => {
                write!(f, "no step can be done with {name} = {value}")
            }
            Self::Shape { name, shape, expected } => {
                write!(f, "parameter {name}: expected {expected}, its shape is {shape:?}")
            }
            Self::MissingGradient { names } => {
                write!(
                    f,
                    "no gradient for {}: freeze or hide what should not train",
                    names.join(", ")
                )
            }
            Self::NoGroup { names } => write!(f, "no group selects {}", names.join(", ")),
            Self::MissingValue { name } => {
                write!(f, "parameter {name}: there is a gradient but no value to update")
            }
            Self::LengthMismatch { name, expected, found } => {
                write!(f, "parameter {name}: expected {expected} elements, found {found}")
            }
            Self::DTypeMismatch { name, value, grad } => {
                write!(f, "parameter {name}: value is {value}, gradient is {grad}")
            }
        }
    }
}

impl core::error::Error for StepError {}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use super::*;
    use crate::{PresentGradients, VecParam};

    #[test]
    fn missing_gradients_are_named_all_of_them() {
        let param = |name: &str| VecParam::new(name, &[1], vec![1.0f32]);
        let mut params = vec![param("a"), param("b").with_grad(vec![1.0]), param("c")];
        let error = require_gradients(&mut params).unwrap_err();
        assert_eq!(error, StepError::MissingGradient { names: vec!["a".into(), "c".into()] });
        assert!(error.to_string().contains("a, c"), "{error}");
        assert_eq!(require_gradients(&mut PresentGradients(&mut params)), Ok(()));
    }
}
