//! Matrix products, shapes and indexing.

use gradus_autograd::Var;
use serde_json::Value;

use crate::{
    answer::{Answer, Failure},
    case::{Args, Case},
    ops::{Table, differentiate},
};

pub(super) const OPS: Table = &[
    ("matmul", |c| differentiate::y(c, |i| Ok(i.var("a")?.matmul(&i.var("b")?)))),
    ("transpose", transpose),
    ("permute", permute),
    ("reshape", reshape),
    ("slice", slice),
    ("concat", |c| join(c, Var::concat)),
    ("stack", |c| join(c, Var::stack)),
    ("gather", gather),
    ("index_select", index_select),
    ("embedding", embedding),
];

fn transpose(case: &Case) -> Result<Answer, Failure> {
    let (a, b) = (case.args.to("dim0")?, case.args.to("dim1")?);
    differentiate::y(case, |i| Ok(i.var("x")?.transpose(a, b)))
}

fn permute(case: &Case) -> Result<Answer, Failure> {
    let dims: Vec<isize> = case.args.to("dims")?;
    differentiate::y(case, |i| Ok(i.var("x")?.permute(&dims)))
}

fn reshape(case: &Case) -> Result<Answer, Failure> {
    let shape: Vec<isize> = case.args.to("shape")?;
    let transposed = case.args.maybe("transpose_first")?.unwrap_or(false);
    differentiate::y(case, |i| {
        let x = i.var("x")?;
        let x = if transposed { x.transpose(0, 1) } else { x };
        Ok(x.reshape(&shape))
    })
}

fn slice(case: &Case) -> Result<Answer, Failure> {
    let slices: Vec<Value> = case.args.to("slices")?;
    differentiate::y(case, |i| {
        slices.iter().try_fold(i.var("x")?, |x, s| {
            let s = Args::new(s).map_err(Failure::Unsupported)?;
            Ok(x.slice(s.to("dim")?, s.to("start")?, s.maybe("end")?, s.to("step")?))
        })
    })
}

fn join(case: &Case, f: impl FnOnce(&[&Var], isize) -> Var) -> Result<Answer, Failure> {
    let dim = case.args.to("dim")?;
    differentiate::y(case, |i| {
        let parts = i.numbered("x")?;
        Ok(f(&parts.iter().collect::<Vec<_>>(), dim))
    })
}

fn gather(case: &Case) -> Result<Answer, Failure> {
    let (dim, index) = (case.args.to("dim")?, case.tensor("index")?);
    differentiate::y(case, |i| Ok(i.var("x")?.gather(dim, &index)))
}

fn index_select(case: &Case) -> Result<Answer, Failure> {
    let (dim, index) = (case.args.to("dim")?, case.tensor("index")?);
    differentiate::y(case, |i| Ok(i.var("x")?.index_select(dim, &index)))
}

fn embedding(case: &Case) -> Result<Answer, Failure> {
    let (padding, index) = (case.args.maybe("padding_idx")?, case.tensor("index")?);
    differentiate::y(case, |i| Ok(i.var("weight")?.embedding(&index, padding)))
}
