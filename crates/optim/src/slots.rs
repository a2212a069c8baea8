//! State by parameter name: a step count and some buffers each.

use alloc::{string::String, vec, vec::Vec};

use gradus_core::{FloatElement, StateDict, StateError, StateValue, StepError};

/// The state of all parameters of one optimizer.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    /// Names of the buffers, in order.
    fields: &'static [&'static str],
    /// In walk order as far as known: those before `cursor` have been used in this step.
    slots: Vec<Slot>,
    cursor: usize,
}

/// The state of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slot {
    name: String,
    /// Updates that this parameter has had.
    pub(crate) step: u64,
    /// As many as there are fields.
    buffers: Vec<Buffer>,
}

/// State is f64 for f64 parameters, f32 for all others.
#[derive(Clone, Debug, PartialEq)]
enum Buffer {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Buffer {
    fn len(&self) -> usize {
        match self {
            Self::F32(b) => b.len(),
            Self::F64(b) => b.len(),
        }
    }
}

/// A type that state is kept in.
pub(crate) trait Work: FloatElement {
    /// The buffer as a slice of this type, converted first if a restored state was of the other one.
    fn slice(buffer: &mut BufferRef<'_>) -> Self;
}

/// The state of the parameter at hand, typed.
pub(crate) struct BufferRef<'a>(&'a mut Buffer);

impl Slots {
    pub(crate) fn new(fields: &'static [&'static str]) -> Self {
        Self { fields, slots: Vec::new(), cursor: 0 }
    }
}
