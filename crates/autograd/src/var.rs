//! A value on a tape.

use std::fmt;

use gradus_core::DType;
use gradus_tensor::Tensor;
use smallvec::SmallVec;

use crate::{
    Gradients, ParamId, Sink, Tape,
    tape::{ModuleId, NodeId},
};

/// A value and its place on a [`Tape`]: an owned handle, cheap to clone.
///
/// The value lives as long as a handle or a record of the tape needs it. Operations are methods; they record
/// themselves where an operand is tracked, and are plain arithmetic where none is.
#[derive(Clone)]
pub struct Var {
    tape: Tape,
    value: Tensor,
    node: Option<NodeId>,
    /// Of a parameter, or of a cast of one: its identity.
    param: Option<ParamId>,
    /// The module that it was made in.
    module: ModuleId,
}

impl Var {
    pub(crate) fn new(
        tape: Tape,
        value: Tensor,
        node: Option<NodeId>,
        param: Option<ParamId>,
        module: ModuleId,
    ) -> Self {
        Self { tape, value, node, param, module }
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The value, without the handle.
    #[must_use]
    pub fn into_value(self) -> Tensor {
        self.value
    }

    /// The dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        self.value.shape()
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.value.dtype()
    }

    /// The tape that this value lies on.
    #[must_use]
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Whether a gradient flows through this value.
    #[must_use]
    pub fn is_tracked(&self) -> bool {
        self.node.is_some()
    }

    /// The only element, widened.
    ///
    /// # Panics
    /// When there is not exactly one element.
    #[must_use]
    #[track_caller]
    pub fn item(&self) -> f64 {
        self.value.item()
    }

    /// The same value as a constant: the one way to cut a gradient.
    #[must_use]
    pub fn detach(&self) -> Self {
        let (tape, value) = (self.tape.clone(), self.value.clone());
        Self { tape, value, node: None, param: None, module: self.module }
    }

    /// A constant on this value's tape.
    #[must_use]
    pub fn constant(&self, value: Tensor) -> Self {
        Self { tape: self.tape.clone(), value, node: None, param: None, module: self.module }
    }

    /// Gradients of this value, which has one element, for every leaf and parameter that was reached.
    ///
    /// # Panics
    /// When there is not exactly one element, or the tape has already gone backward.
    #[track_caller]
    #[must_use]
    pub fn backward(&self) -> Gradients {
        assert_eq!(
            self.value.numel(),
            1,
            "backward: a value of shape {:?} is no scalar; give upstream gradients to Tape::backward",
            self.shape()
        );
        self.tape.backward(&[(self, Tensor::ones(self.shape(), self.dtype()))])
    }

    pub(crate) fn node(&self) -> Option<NodeId> {
        self.node
    }

    pub(crate) fn param(&self) -> Option<ParamId> {
        self.param
    }

    pub(crate) fn module(&self) -> ModuleId {
        self.module
    }

    /// The module that an operation belongs to: that of its parameters, or the one in which its first operand was made.
    pub(crate) fn module_of(operands: &[&Self]) -> ModuleId {
        operands.iter().find(|v| v.param.is_some()).unwrap_or(&operands[0]).module
    }

    /// Adds an operation: its result, and how the gradient of the result becomes gradients of the inputs.
    /// Forward and backward are registered together; there is no other way onto a tape.
    ///
    /// # Panics
    /// When there is no input, or inputs lie on different tapes.
    #[track_caller]
    #[must_use]
    pub fn op(
        name: &'static str,
        inputs: &[&Self],
        output: Tensor,
        backward: impl FnOnce(Tensor, &mut Sink<'_>) + Send + 'static,
    ) -> Self {
        let tape = common_tape(name, inputs);
        let node =
            tape.record(name, inputs, std::slice::from_ref(&output), move |mut grads, sink| {
                if let Some(grad) = grads.pop().flatten() {
                    backward(grad, sink);
                }
            });
        Self::new(tape.clone(), output, node, None, Self::module_of(inputs))
    }

    /// As [`op`](Self::op), for several results; the gradient of a result that nobody used is `None`.
    ///
    /// # Panics
    /// When there is no input, or inputs lie on different tapes.
    #[track_caller]
    #[must_use]
    pub fn op_multi(
        name: &'static str,
        inputs: &[&Self],
        outputs: Vec<Tensor>,
        backward: impl FnOnce(Vec<Option<Tensor>>, &mut Sink<'_>) + Send + 'static,
    ) -> Vec<Self> {
        let tape = common_tape(name, inputs);
        let first = tape.record(
            name,
            inputs,
            &outputs,
            move |grads: SmallVec<[Option<Tensor>; 1]>, sink| {
                backward(grads.into_vec(), sink);
            },
        );
        let place = |i: usize| first.map(|f| f + i as NodeId);
        let module = Self::module_of(inputs);
        let var = |(i, t)| Self::new(tape.clone(), t, place(i), None, module);
        outputs.into_iter().enumerate().map(var).collect()
    }
}

#[track_caller]
fn common_tape<'a>(name: &str, inputs: &[&'a Var]) -> &'a Tape {
    let tape =
        inputs.first().unwrap_or_else(|| panic!("{name}: an operation without inputs")).tape();
    assert!(inputs.iter().all(|v| v.tape.is_same(tape)), "{name}: operands lie on different tapes");
    tape
}

impl fmt::Debug for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Var({}, {:?})",
            if self.is_tracked() { "tracked" } else { "constant" },
            self.value
        )
    }
}
