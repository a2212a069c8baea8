//! Forward and backward of one differentiable op: what most cases ask for.

use gradus_autograd::{Entry, EntryMut, Module, Path, Tape, Var};
use gradus_tensor::Tensor;

use crate::{
    answer::{Answer, Failure, Values},
    array::Array,
    case::Case,
};

/// The inputs and parameters of a case as values on a tape. One whose gradient the case gives is a leaf, the
/// others are constants.
#[derive(Debug)]
pub(crate) struct Inputs<'a> {
    pub(crate) case: &'a Case,
    pub(crate) tape: Tape,
    leaves: std::cell::RefCell<Vec<(String, Var)>>,
}

impl<'a> Inputs<'a> {
    pub(crate) fn new(case: &'a Case, tape: Tape) -> Self {
        Self { case, tape, leaves: std::cell::RefCell::default() }
    }

    /// Input or parameter `name`. Asked for twice, it is the same leaf.
    pub(crate) fn var(&self, name: &str) -> Result<Var, Failure> {
        if !self.case.tensors.contains_key(&format!("grad.{name}")) {
            return Ok(self.tape.constant(self.case.tensor(name)?));
        }
        let mut leaves = self.leaves.borrow_mut();
        if let Some((_, var)) = leaves.iter().find(|(n, _)| n == name) {
            return Ok(var.clone());
        }
        let var = self.tape.leaf(self.case.tensor(name)?);
        leaves.push((name.to_owned(), var.clone()));
        Ok(var)
    }

    /// Input or parameter `name`, if the case has it.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Var>, Failure> {
        self.case.find(name).map(|_| self.var(name)).transpose()
    }

    /// `x0`, `x1`, ... as far as there are any.
    pub(crate) fn numbered(&self, name: &str) -> Result<Vec<Var>, Failure> {
        self.case.numbered(name).iter().map(|n| self.var(n)).collect()
    }

    /// Parameters of a layer, which are leaves where the case gives their gradient.
    pub(crate) fn watch(&self, layer: &impl Module) {
        layer.for_each_param(&mut |name, param| {
            if self.case.tensors.contains_key(&format!("grad.{name}")) {
                self.leaves.borrow_mut().push((name.to_owned(), self.tape.watch(param)));
            }
        });
    }

    /// Goes backward from `outputs` with the cotangents of the case: values of the outputs and all gradients
    /// that the case gives.
    pub(crate) fn finish(&self, outputs: &[(&str, Var)]) -> Result<Values, Failure> {
        let mut values = Values::new();
        let mut upstream = Vec::new();
        for (name, var) in outputs {
            values.out(name, var.value());
            if let Some(cotangent) = self.case.tensors.get(&format!("cotangent.{name}")) {
                let cotangent = cotangent.to_tensor()?;
                if cotangent.shape() == var.shape() {
                    upstream.push((var, cotangent));
                }
            }
        }
        let grads = self.tape.backward(&upstream);
        for (name, leaf) in self.leaves.borrow().iter() {
            match grads.wrt(leaf) {
                Some(grad) => values.grad(name, grad),
                None => values.grad(name, Tensor::zeros(leaf.shape(), leaf.dtype())),
            }
        }
        Ok(values)
    }
}

/// Runs an op whose results `f` names, and compares results and gradients.
pub(crate) fn outputs(
    case: &Case,
    f: impl FnOnce(&Inputs<'_>) -> Result<Vec<(&'static str, Var)>, Failure>,
) -> Result<Answer, Failure> {
    let inputs = Inputs::new(case, Tape::training(0, 0));
    let outputs = f(&inputs)?;
    Ok(inputs.finish(&outputs)?.into())
}

/// Runs an op with the one result `y`.
pub(crate) fn y(
    case: &Case,
    f: impl FnOnce(&Inputs<'_>) -> Result<Var, Failure>,
) -> Result<Answer, Failure> {
    outputs(case, |inputs| Ok(vec![("y", f(inputs)?)]))
}

/// Sets the parameters and buffers of a layer or model to those of the case, in the type of the case. Buffers that the
/// case leaves out stay.
pub(crate) fn fill(module: &mut impl Module, case: &Case) -> Result<(), Failure> {
    let mut result = Ok(());
    module.walk_mut(
        &mut Path::default(),
        &mut |name, entry| match (case.find_tensor(name), entry) {
            (Ok(Some(value)), EntryMut::Param(p)) => *p.value_mut() = value,
            (Ok(Some(value)), EntryMut::Buffer(b)) => b.update(|old| *old = value),
            (Ok(None), EntryMut::Buffer(_)) => {}
            (Ok(None), EntryMut::Param(_)) => {
                result = Err(Failure::unsupported(format!("no parameter {name}")))
            }
            (Err(error), _) => result = Err(error),
        },
    );
    result
}

/// Adds the parameters and buffers of a layer or model as `out.<prefix><name>`.
pub(crate) fn state(module: &impl Module, prefix: &str, values: &mut Values) {
    module.walk(&mut Path::default(), &mut |name, entry| {
        let value = match entry {
            Entry::Param(p) => p.value().clone(),
            Entry::Buffer(b) => b.get(),
        };
        values.out(&format!("{prefix}{name}"), value);
    });
}

impl From<Tensor> for Array {
    fn from(t: Tensor) -> Self {
        Self::from(&t)
    }
}
