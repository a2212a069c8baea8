//! The area `schedule`: the rate of each group at each step. PyTorch's schedulers are here.

mod cycle;
mod optax;
mod plateau;
mod transformers;

use gradus_schedule::{
    Anneal, Constant, CosineAnnealing, ExponentialDecay, Linear, MultiStepDecay, Past, Polynomial,
    Schedule, ScheduleExt, Sequential, Shape, StepDecay, from_fn, multiplicative,
};
use serde_json::Value;

use super::Table;
use crate::{
    answer::{Answer, Failure, Values, number},
    case::{Args, Case},
};

pub(super) const OPS: &[Table] = &[TORCH, cycle::OPS, plateau::OPS, optax::OPS, transformers::OPS];

const TORCH: Table = &[
    ("step_lr", rates),
    ("multi_step_lr", rates),
    ("constant_lr", rates),
    ("linear_lr", rates),
    ("exponential_lr", rates),
    ("polynomial_lr", rates),
    ("cosine_annealing_lr", rates),
    ("lambda_lr", rates),
    ("multiplicative_lr", rates),
    ("swa_lr", rates),
    ("sequential_lr", rates),
    ("chained_scheduler", rates),
];

type Boxed = Box<dyn Schedule>;

fn rates(case: &Case) -> Result<Answer, Failure> {
    let bases: Vec<f64> = case.args.to("base_lrs")?;
    let steps: u64 = case.args.to("steps")?;
    let groups = bases.iter().enumerate().map(|(g, &base)| build(&case.op, &case.args, base, g));
    let groups: Vec<Boxed> = groups.collect::<Result<_, _>>()?;
    let mut values = Values::new();
    values.json("lrs", table(&groups, steps));
    Ok(values.into())
}

/// The table of all groups' values at the steps `0..=steps`.
fn table(groups: &[Boxed], steps: u64) -> Vec<Vec<Value>> {
    let row = |t| groups.iter().map(|s| number(s.value(t))).collect();
    (0..=steps).map(row).collect()
}

/// The schedule of a torch or transformers scheduler for the group `group` with the rate `base`.
pub(super) fn build(op: &str, args: &Args, base: f64, group: usize) -> Result<Boxed, Failure> {
    Ok(match op {
        "step_lr" => Box::new(StepDecay::new(base, args.to("step_size")?, args.to("gamma")?)?),
        "multi_step_lr" => Box::new(MultiStepDecay::new(
            base,
            args.to::<Vec<u64>>("milestones")?,
            args.to("gamma")?,
        )?),
        // No iterations: torch stays where it starts.
        "constant_lr" => {
            let reduced = Constant::new(base * args.to::<f64>("factor")?)?;
            match args.to("total_iters")? {
                0 => Box::new(reduced),
                steps => Box::new(reduced.then(steps, Constant::new(base)?)),
            }
        }
        "linear_lr" => {
            let (start, end): (f64, f64) = (args.to("start_factor")?, args.to("end_factor")?);
            match args.to("total_iters")? {
                0 => Box::new(Constant::new(base * start)?),
                steps => Box::new(Linear::new(base * start, base * end, steps)?),
            }
        }
        "exponential_lr" => Box::new(ExponentialDecay::new(base, args.to("gamma")?)?),
        "polynomial_lr" => match (args.to("total_iters")?, args.to("power")?) {
            (0, _) => Box::new(Constant::new(base)?),
            (steps, power) => Box::new(Polynomial::new(base, 0.0, steps, power)?),
        },
        "cosine_annealing_lr" => {
            let half = CosineAnnealing::new(base, args.to("eta_min")?, args.to("T_max")?)?;
            Box::new(half.with_past(Past::Periodic))
        }
        "cosine_annealing_warm_restarts" => Box::new(cycle::restarts(args, base)?),
        "lambda_lr" => {
            let factor = factor_of(args, group)?;
            Box::new(from_fn(move |t| base * factor(t)))
        }
        "multiplicative_lr" => Box::new(multiplicative(base, factor_of(args, group)?)?),
        "swa_lr" => {
            let (end, shape) = (per_group(args, "swa_lr", group)?, anneal_strategy(args)?);
            match args.to("anneal_epochs")? {
                0 => Box::new(Constant::new(end)?),
                epochs => Box::new(Anneal::new(base, end, epochs, shape)?),
            }
        }
        "sequential_lr" => {
            let parts = parts(args, |_| base, group)?;
            Box::new(Sequential::new(parts, args.to::<Vec<u64>>("milestones")?)?)
        }
        "chained_scheduler" => {
            // The first has the rate, the others are factors.
            let parts = parts(args, |i| if i == 0 { base } else { 1.0 }, group)?;
            let all = parts.into_iter().reduce(|a, b| Box::new(a.times(b)));
            all.ok_or_else(|| Failure::unsupported("a chain of no schedulers"))?
        }
        op if op.starts_with("hf_") => transformers::build(op, args, base)?,
        other => return Err(Failure::unsupported(format!("scheduler {other}"))),
    })
}

/// The schedulers that one is made of: `{op, args}`.
fn parts(args: &Args, base: impl Fn(usize) -> f64, group: usize) -> Result<Vec<Boxed>, Failure> {
    let parts: Vec<Value> = args.to("schedulers")?;
    parts.iter().enumerate().map(|(i, part)| nested(part, base(i), group)).collect()
}

/// A scheduler written as `{op, args}`.
pub(super) fn nested(part: &Value, base: f64, group: usize) -> Result<Boxed, Failure> {
    let outer = Args::new(part).map_err(Failure::Unsupported)?;
    let args = Args::new(outer.get("args")?).map_err(Failure::Unsupported)?;
    let schedule = build(&outer.to::<String>("op")?, &args, base, group)?;
    match args.unread().as_slice() {
        [] => Ok(schedule),
        unread => Err(Failure::unsupported(format!("arguments {unread:?}"))),
    }
}

/// A number for all groups, or one for each.
fn per_group(args: &Args, name: &str, group: usize) -> Result<f64, Failure> {
    let Value::Array(_) = args.get(name)? else { return args.to(name) };
    let each: Vec<f64> = args.to(name)?;
    each.get(group).copied().ok_or_else(|| Failure::unsupported(format!("a group without {name}")))
}

/// The argument `anneal_strategy`.
fn anneal_strategy(args: &Args) -> Result<Shape, Failure> {
    match args.to::<String>("anneal_strategy")?.as_str() {
        "cos" => Ok(Shape::Cosine),
        "linear" => Ok(Shape::Linear),
        other => Err(Failure::unsupported(format!("anneal_strategy {other}"))),
    }
}

/// The group's factor among `lambdas`, which has a name.
fn factor_of(args: &Args, group: usize) -> Result<Box<dyn Fn(u64) -> f64>, Failure> {
    let factors: Vec<Value> = args.to("lambdas")?;
    let factor =
        factors.get(group).ok_or_else(|| Failure::unsupported("a group without a lambda"))?;
    let args = Args::new(factor).map_err(Failure::Unsupported)?;
    Ok(match args.to::<String>("kind")?.as_str() {
        "linear_warmup" => {
            let warmup: f64 = args.to("warmup")?;
            Box::new(move |t| f64::min(1.0, (t + 1) as f64 / warmup))
        }
        "inverse_time" => {
            let k: f64 = args.to("k")?;
            Box::new(move |t| 1.0 / (1.0 + k * t as f64))
        }
        "power" => {
            let base: f64 = args.to("base")?;
            Box::new(move |t| base.powf(t as f64))
        }
        "constant" => {
            let value: f64 = args.to("value")?;
            Box::new(move |_| value)
        }
        other => return Err(Failure::unsupported(format!("lambda {other}"))),
    })
}
