//! Losses.

use gradus_autograd::{CrossEntropy, Reduction, Var};

use crate::{
    answer::{Answer, Failure},
    case::Case,
    ops::{
        Table,
        differentiate::{self, Inputs},
    },
};

pub(super) const OPS: Table = &[
    ("cross_entropy", cross_entropy),
    ("nll_loss", nll_loss),
    ("mse_loss", |c| paired(c, Var::mse_loss)),
    ("l1_loss", |c| paired(c, Var::l1_loss)),
    ("smooth_l1_loss", smooth_l1_loss),
    ("huber_loss", huber_loss),
    ("bce_with_logits", bce_with_logits),
    ("kl_div", kl_div),
];

fn reduction(case: &Case) -> Result<Reduction, Failure> {
    match case.args.to::<String>("reduction")?.as_str() {
        "mean" => Ok(Reduction::Mean),
        "sum" => Ok(Reduction::Sum),
        "batchmean" => Ok(Reduction::BatchMean),
        "none" => Ok(Reduction::None),
        other => Err(Failure::unsupported(format!("reduction {other}"))),
    }
}

fn loss(
    case: &Case,
    f: impl FnOnce(&Inputs<'_>) -> Result<Var, Failure>,
) -> Result<Answer, Failure> {
    differentiate::outputs(case, |i| Ok(vec![("loss", f(i)?)]))
}

fn cross_entropy(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let mut options = CrossEntropy::default()
        .with_ignore_index(args.to("ignore_index")?)
        .with_label_smoothing(args.to("label_smoothing")?)
        .with_reduction(reduction(case)?);
    if let Some(weight) = case.find_tensor("weight")? {
        options = options.with_weight(weight);
    }
    let target = case.tensor("target")?;
    loss(case, |i| Ok(i.var("input")?.cross_entropy(&target, &options)))
}

fn nll_loss(case: &Case) -> Result<Answer, Failure> {
    let (ignore, reduction) = (case.args.to("ignore_index")?, reduction(case)?);
    let (target, weight) = (case.tensor("target")?, case.find_tensor("weight")?);
    loss(case, |i| Ok(i.var("input")?.nll_loss(&target, weight.as_ref(), ignore, reduction)))
}

/// A loss of a prediction and a target, with gradients of both.
fn paired(case: &Case, f: impl FnOnce(&Var, &Var, Reduction) -> Var) -> Result<Answer, Failure> {
    let reduction = reduction(case)?;
    loss(case, |i| Ok(f(&i.var("input")?, &i.var("target")?, reduction)))
}

fn smooth_l1_loss(case: &Case) -> Result<Answer, Failure> {
    let beta = case.args.to("beta")?;
    paired(case, |x, y, reduction| x.smooth_l1_loss(y, beta, reduction))
}

fn huber_loss(case: &Case) -> Result<Answer, Failure> {
    let delta = case.args.to("delta")?;
    paired(case, |x, y, reduction| x.huber_loss(y, delta, reduction))
}

fn kl_div(case: &Case) -> Result<Answer, Failure> {
    let log_target = case.args.to("log_target")?;
    paired(case, |x, y, reduction| x.kl_div(y, log_target, reduction))
}

fn bce_with_logits(case: &Case) -> Result<Answer, Failure> {
    let reduction = reduction(case)?;
    let target = case.tensor("target")?;
    let (weight, positive) = (case.find_tensor("weight")?, case.find_tensor("pos_weight")?);
    loss(case, |i| {
        Ok(i.var("input")?.bce_with_logits(&target, weight.as_ref(), positive.as_ref(), reduction))
    })
}
