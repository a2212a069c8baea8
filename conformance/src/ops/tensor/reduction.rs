//! Reductions and softmax.

use gradus_autograd::{Tensor, Var};

use crate::{
    answer::{Answer, Failure, Values},
    case::Case,
    ops::{Table, differentiate},
};

pub(super) const OPS: Table = &[
    ("sum", |c| over(c, Var::sum)),
    ("mean", |c| over(c, Var::mean)),
    ("amax", |c| over(c, Var::amax)),
    ("amin", |c| over(c, Var::amin)),
    ("logsumexp", |c| over(c, Var::logsumexp)),
    ("var", var),
    ("max_dim", |c| extreme(c, Var::max_dim)),
    ("min_dim", |c| extreme(c, Var::min_dim)),
    ("argmax", argmax),
    ("cumsum", |c| along(c, Var::cumsum)),
    ("softmax", |c| along(c, Var::softmax)),
    ("log_softmax", |c| along(c, Var::log_softmax)),
];

/// Dimensions to reduce; none means all.
fn dims(case: &Case) -> Result<Vec<isize>, Failure> {
    Ok(case.args.maybe("dims")?.unwrap_or_default())
}

fn over(case: &Case, f: impl FnOnce(&Var, &[isize], bool) -> Var) -> Result<Answer, Failure> {
    let (dims, keepdim) = (dims(case)?, case.args.to("keepdim")?);
    differentiate::y(case, |i| Ok(f(&i.var("x")?, &dims, keepdim)))
}

fn along(case: &Case, f: impl FnOnce(&Var, isize) -> Var) -> Result<Answer, Failure> {
    let dim = case.args.to("dim")?;
    differentiate::y(case, |i| Ok(f(&i.var("x")?, dim)))
}

fn var(case: &Case) -> Result<Answer, Failure> {
    let correction = case.args.to("correction")?;
    over(case, |x, dims, keepdim| x.var(dims, correction, keepdim))
}

fn extreme(
    case: &Case,
    f: impl FnOnce(&Var, isize, bool) -> (Var, Tensor),
) -> Result<Answer, Failure> {
    let (dim, keepdim) = (case.args.to("dim")?, case.args.to("keepdim")?);
    differentiate::outputs(case, |i| {
        let (values, indices) = f(&i.var("x")?, dim, keepdim);
        Ok(vec![("values", values), ("indices", i.tape.constant(indices))])
    })
}

fn argmax(case: &Case) -> Result<Answer, Failure> {
    let (dim, keepdim) = (case.args.maybe("dim")?, case.args.to("keepdim")?);
    let mut values = Values::new();
    values.out("index", case.tensor("x")?.argmax(dim, keepdim));
    Ok(values.into())
}
