//! What turns gradients into new parameters.

use alloc::{boxed::Box, string::String};
use core::fmt;

use crate::{DType, Parameters, State};

/// One stage between the gradients and the parameters: a clip, an added decay, an optimizer.
///
/// Stages run one after the other on the same walk. A stage changes gradients in place or updates
/// values from them; its hyper-parameters are its own fields, its state is explicit ([`State`]) and the
/// learning rate is an argument, so that schedules and restarts need no extra machinery.
pub trait GradientTransform: State {
    /// Does one step. A parameter without a gradient keeps its value and its state, its own step count too.
    ///
    /// # Errors
    /// [`StepError`] where the walk does not fit the state kept from earlier steps. Nothing is half done
    /// then for that parameter; parameters before it may already have been updated.
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError>;
}

impl<T: GradientTransform + ?Sized> GradientTransform for Box<T> {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        (**self).step(lr, params)
    }
}

/// Why a [`GradientTransform::step`] could not be done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StepError {
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
