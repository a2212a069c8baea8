//! The area `autograd`: fixed expressions.

use gradus_autograd::{Gradients, Tape, Var};
use gradus_tensor::Tensor;

use super::{
    Table,
    differentiate::{self, Inputs},
};
use crate::{
    answer::{Answer, Failure, Values},
    case::Case,
};

pub(super) const OPS: Table = &[
    ("autograd_reuse", |c| differentiate::y(c, |i| x(i).map(|x| &x * &x + &x * &x.tanh()))),
    ("autograd_detach", |c| {
        differentiate::y(c, |i| x(i).map(|x| &x * &x.detach() + &x.detach() * &x.detach()))
    }),
    ("autograd_overlap", |c| {
        differentiate::y(c, |i| x(i).map(|x| x.slice(0, 0, Some(-1), 1) * x.slice(0, 1, None, 1)))
    }),
    ("autograd_tied", tied),
    ("autograd_deep_chain", deep_chain),
    ("autograd_accumulate", accumulate),
];

fn x(inputs: &Inputs<'_>) -> Result<Var, Failure> {
    inputs.var("x")
}

fn tied(case: &Case) -> Result<Answer, Failure> {
    differentiate::y(case, |i| {
        let weight = i.var("weight")?;
        let rows = weight.embedding(&case.tensor("index")?, None);
        Ok(rows.matmul(&weight.transpose(0, 1)))
    })
}

fn deep_chain(case: &Case) -> Result<Answer, Failure> {
    let (depth, a) = (case.args.to::<usize>("depth")?, case.args.to::<f64>("a")?);
    differentiate::y(case, |i| {
        let x = i.var("x")?;
        Ok((0..depth).fold(x.clone(), |y, _| y * a + &x))
    })
}

/// Forward and backward several times; the gradients add up unless they are dropped between.
fn accumulate(case: &Case) -> Result<Answer, Failure> {
    let calls: usize = case.args.to("backward_calls")?;
    let zero: bool = case.args.to("zero_between")?;
    let cotangent =
        case.tensors.get("cotangent.y").ok_or_else(|| Failure::unsupported("no cotangent.y"))?;
    let mut values = Values::new();
    let mut total: Option<Tensor> = None;
    for _ in 0..calls {
        let tape = Tape::training(0, 0);
        let x = tape.leaf(case.tensor("x")?);
        let y = x.tanh();
        let grads: Gradients = tape.backward(&[(&y, cotangent.to_tensor()?)]);
        let grad = grads.wrt(&x).cloned();
        match (&mut total, grad) {
            (Some(sum), Some(grad)) if !zero => sum.add_assign(&grad),
            (total, grad) => *total = grad,
        }
        values.out("y", y.value());
    }
    if let Some(grad) = total {
        values.grad("x", &grad);
    }
    Ok(values.into())
}
