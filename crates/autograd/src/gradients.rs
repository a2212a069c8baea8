//! What backward returns.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use gradus_core::{DType, ParamKind, ParamMut, Parameters, SliceMut, bf16, f16};
use gradus_tensor::Tensor;

use crate::{Module, ParamId, Tape, Var, tape::NodeId};

/// Gradients of one backward pass, owned: clip them, add them up, hand them to an optimizer, drop them.
///
/// As [`Parameters`] they are walked in the order in which the tape first met their parameters, under the names
/// `grad.0`, `grad.1`, ...; [`bind`](Self::bind) joins them with their model, its names and its values.
#[derive(Debug, Default)]
pub struct Gradients {
    grads: Vec<Leaf>,
    by_id: HashMap<ParamId, usize>,
    /// The tape that went backward: places mean nothing on another one.
    tape: Option<Tape>,
}

#[derive(Debug)]
struct Leaf {
    id: ParamId,
    /// Its place on the tape; none for a gradient that came from another tape.
    node: Option<NodeId>,
    grad: Tensor,
    name: String,
}

impl Gradients {
    pub(crate) fn new(tape: Tape, leaves: impl Iterator<Item = (ParamId, NodeId, Tensor)>) -> Self {
        let mut all = Self { tape: Some(tape), ..Self::default() };
        for (id, node, grad) in leaves {
            all.by_id.insert(id, all.grads.len());
            let name = format!("grad.{}", all.grads.len());
            all.grads.push(Leaf { id, node: Some(node), grad, name });
        }
        all
    }

    /// The gradient of a parameter, if backward reached it.
    #[must_use]
    pub fn get(&self, id: ParamId) -> Option<&Tensor> {
        self.by_id.get(&id).map(|&i| &self.grads[i].grad)
    }

    /// The gradient of a parameter, for writing.
    pub fn get_mut(&mut self, id: ParamId) -> Option<&mut Tensor> {
        self.by_id.get(&id).map(|&i| &mut self.grads[i].grad)
    }

    /// The gradient of a leaf or a watched parameter of the tape that went backward, if it was reached; none for a
    /// value of another tape.
    #[must_use]
    pub fn wrt(&self, leaf: &Var) -> Option<&Tensor> {
        let node = leaf.node()?;
        self.tape.as_ref().filter(|tape| tape.is_same(leaf.tape()))?;
        self.grads.iter().find(|l| l.node == Some(node)).map(|l| &l.grad)
    }

    /// Number of gradients.
    #[must_use]
    pub fn len(&self) -> usize {
        self.grads.len()
    }

    /// Whether backward reached nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grads.is_empty()
    }

    /// Adds `weight` times the gradients of another pass: accumulation over micro-batches.
    pub fn accumulate(&mut self, other: Self, weight: f64) {
        for mut leaf in other.grads {
            match self.by_id.get(&leaf.id) {
                Some(&i) => self.grads[i].grad.add_scaled_assign(weight, &leaf.grad),
                None => {
                    if weight != 1.0 {
                        leaf.grad.scale_assign(weight);
                    }
                    self.by_id.insert(leaf.id, self.grads.len());
                    leaf.name = format!("grad.{}", self.grads.len());
                    leaf.node = None;
                    self.grads.push(leaf);
                }
            }
        }
    }

    /// Joins the gradients with their model: [`Parameters`] that an optimizer can step.
    ///
    /// # Errors
    /// [`MissingGradients`] when a trainable parameter was not reached: its training has silently stopped, or it
    /// should be frozen. [`bind_reached`](Self::bind_reached) is for models that use only a part in each step.
    ///
    /// # Panics
    /// When the model shows a parameter twice (a clone of it): clipping would scale its one gradient twice. Weights
    /// are tied by watching one parameter twice.
    #[track_caller]
    pub fn bind<'a, M: Module + ?Sized>(
        &'a mut self,
        model: &'a mut M,
    ) -> Result<Bound<'a, M>, MissingGradients> {
        let mut names = Vec::new();
        for_each_once(model, |name, id| {
            if !self.by_id.contains_key(&id) {
                names.push(name.to_owned());
            }
        });
        if names.is_empty() {
            Ok(Bound { grads: self, model })
        } else {
            Err(MissingGradients { names })
        }
    }

    /// As [`bind`](Self::bind); parameters that were not reached are hidden, so that an optimizer leaves their value,
    /// their state and their step count alone.
    ///
    /// # Panics
    /// As [`bind`](Self::bind).
    #[track_caller]
    pub fn bind_reached<'a, M: Module + ?Sized>(&'a mut self, model: &'a mut M) -> Bound<'a, M> {
        for_each_once(model, |_, _| {});
        Bound { grads: self, model }
    }
}

/// Shows the trainable parameters, and refuses one that comes twice.
#[track_caller]
fn for_each_once<M: Module + ?Sized>(model: &M, mut f: impl FnMut(&str, ParamId)) {
    let mut seen = HashSet::new();
    let mut twice = None;
    model.for_each_param(&mut |name, p| {
        if p.is_trainable() {
            if !seen.insert(p.id()) {
                twice.get_or_insert_with(|| name.to_owned());
            }
            f(name, p.id());
        }
    });
    if let Some(name) = twice {
        panic!(
            "bind: {name} is a clone of a parameter before it; weights are tied by watching one parameter twice"
        );
    }
}

/// A tensor's elements as a [`SliceMut`].
pub(crate) fn slice_mut(t: &mut Tensor) -> SliceMut<'_> {
    match t.dtype() {
        DType::F32 => t.make_mut::<f32>().into(),
        DType::F64 => t.make_mut::<f64>().into(),
        DType::F16 => t.make_mut::<f16>().into(),
        DType::BF16 => t.make_mut::<bf16>().into(),
        other => panic!("a parameter of type {other} has no gradient"),
    }
}

impl Parameters for Gradients {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        for leaf in &mut self.grads {
            let shape = leaf.grad.shape().to_vec();
            let grad = Some(slice_mut(&mut leaf.grad));
            f(ParamMut {
                name: &leaf.name,
                shape: &shape,
                kind: ParamKind::Weight,
                value: None,
                grad,
            });
        }
    }
}

/// A model with its gradients: every trainable parameter that was reached, by name, in the order of the model's walk.
#[derive(Debug)]
pub struct Bound<'a, M: ?Sized> {
    grads: &'a mut Gradients,
    model: &'a mut M,
}

impl<M: Module + ?Sized> Parameters for Bound<'_, M> {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        let grads = &mut *self.grads;
        self.model.for_each_param_mut(&mut |name, p| {
            if !p.is_trainable() {
                return;
            }
            let Some(grad) = grads.get_mut(p.id()) else { return };
            let shape = p.value().shape().to_vec();
            let (kind, grad) = (p.kind(), Some(slice_mut(grad)));
            f(ParamMut { name, shape: &shape, kind, value: Some(slice_mut(p.value_mut())), grad });
        });
    }
}

/// Trainable parameters that backward did not reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissingGradients {
    /// Their names.
    pub names: Vec<String>,
}

impl fmt::Display for MissingGradients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no gradient reached {} (freeze what should not train)", self.names.join(", "))
    }
}

impl std::error::Error for MissingGradients {}
