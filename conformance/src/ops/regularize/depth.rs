//! Stochastic depth.

use gradus_regularize::{Probability, add_kept, depth_rates};

use crate::{
    answer::{Answer, Failure, Values},
    case::Case,
    ops::{Table, differentiate},
};

pub(super) const OPS: Table =
    &[("stochastic_depth", stochastic_depth), ("stochastic_depth_rates", rates)];

fn stochastic_depth(case: &Case) -> Result<Answer, Failure> {
    let p = Probability::new(case.args.to("p")?)?;
    let mode: String = case.args.to("mode")?;
    let keep = case.tensor("keep")?;
    let scale = if p == Probability::ONE { 0.0 } else { 1.0 / (1.0 - p.get()) };
    differentiate::y(case, |i| {
        let (x, residual) = (i.var("x")?, i.var("residual")?);
        let flags = match mode.as_str() {
            "row" => x.shape().first().copied().unwrap_or(1),
            "batch" => 1,
            other => return Err(Failure::unsupported(format!("mode {other}"))),
        };
        if keep.shape() != [flags] {
            return Err(Failure::unsupported(format!("{mode} with flags {:?}", keep.shape())));
        }
        Ok(add_kept(&x, &residual, &keep, scale))
    })
}

fn rates(case: &Case) -> Result<Answer, Failure> {
    let last = Probability::new(case.args.to("p_last")?)?;
    let rates = depth_rates(case.args.to("blocks")?, last);
    let mut values = Values::new();
    values.json("rates", rates.iter().map(|p| p.get()).collect::<Vec<_>>());
    Ok(values.into())
}
