//! The schedules of PyTorch that cycle, with the momentum where that cycles too.

use gradus_schedule::{Constant, Cyclic, CyclicMode, OneCycle, ScheduleError, WarmRestarts};

use super::{Boxed, anneal_strategy, rates, table};
use crate::{
    answer::{Answer, Failure, Values, number},
    case::{Args, Case},
    ops::Table,
};

pub(super) const OPS: Table = &[
    ("cosine_annealing_warm_restarts", warm_restarts),
    ("one_cycle_lr", one_cycle),
    ("cyclic_lr", cyclic),
];

/// The restarts of one group.
pub(super) fn restarts(args: &Args, base: f64) -> Result<WarmRestarts, Failure> {
    let restarts = WarmRestarts::new(base, args.to("eta_min")?, args.to("T_0")?)?;
    Ok(restarts.with_growth(args.to("T_mult")?)?)
}

/// By whole steps, or at the given parts of epochs after the start.
fn warm_restarts(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let Some(epochs) = args.maybe::<Vec<f64>>("epochs")? else { return rates(case) };
    let bases: Vec<f64> = args.to("base_lrs")?;
    let groups = bases.iter().map(|&base| restarts(args, base));
    let groups = groups.collect::<Result<Vec<_>, _>>()?;
    let row = |epoch: f64| {
        let values = groups.iter().map(|group| group.value_at(epoch).map(number));
        values.collect::<Result<Vec<_>, ScheduleError>>()
    };
    let rows = [0.0].into_iter().chain(epochs).map(row).collect::<Result<Vec<_>, _>>()?;
    let mut values = Values::new();
    values.json("lrs", rows);
    Ok(values.into())
}

fn one_cycle(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let shape = anneal_strategy(args)?;
    let bases: Vec<f64> = args.to("base_lrs")?;
    let momentum = Momentum::read(args)?;
    let (mut lrs, mut momentums) = (Vec::<Boxed>::new(), Vec::<Boxed>::new());
    for max in args.to::<Vec<f64>>("max_lr")? {
        let cycle = OneCycle::new(max, args.to("total_steps")?)
            .with_pct_start(args.to("pct_start")?)
            .with_shape(shape)
            .with_div_factor(args.to("div_factor")?)
            .with_final_div_factor(args.to("final_div_factor")?)
            .with_three_phase(args.to("three_phase")?)
            .with_momentum(momentum.base, momentum.max);
        lrs.push(Box::new(cycle.rate()?));
        momentums.push(match momentum.fixed {
            Some(fixed) => Box::new(Constant::new(fixed)?),
            None => Box::new(cycle.momentum()?),
        });
    }
    answer(args, &bases, &lrs, &momentums)
}

fn cyclic(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let up: u64 = args.to("step_size_up")?;
    let down = args.maybe("step_size_down")?.unwrap_or(up);
    let gamma: f64 = args.to("gamma")?;
    let mode = match args.to::<String>("mode")?.as_str() {
        "triangular" => CyclicMode::Triangular,
        "triangular2" => CyclicMode::Triangular2,
        "exp_range" => CyclicMode::ExpRange(gamma),
        other => return Err(Failure::unsupported(format!("mode {other}"))),
    };
    let cycle =
        |from: f64, to: f64| Cyclic::new(from, to, up)?.with_steps_down(down)?.with_mode(mode);
    let (bases, peaks): (Vec<f64>, Vec<f64>) = (args.to("base_lr")?, args.to("max_lr")?);
    let groups: Vec<f64> = args.to("base_lrs")?;
    let momentum = Momentum::read(args)?;
    let (mut lrs, mut momentums) = (Vec::<Boxed>::new(), Vec::<Boxed>::new());
    for (base, peak) in bases.into_iter().zip(peaks) {
        lrs.push(Box::new(cycle(base, peak)?));
        momentums.push(match momentum.fixed {
            Some(fixed) => Box::new(Constant::new(fixed)?),
            None => Box::new(cycle(momentum.max, momentum.base)?),
        });
    }
    answer(args, &groups, &lrs, &momentums)
}

/// The range of the momentum, or its value where it does not cycle.
struct Momentum {
    base: f64,
    max: f64,
    fixed: Option<f64>,
}

impl Momentum {
    fn read(args: &Args) -> Result<Self, Failure> {
        let (cycles, momentum) = (args.to::<bool>("cycle_momentum")?, args.to("momentum")?);
        let fixed = (!cycles).then_some(momentum);
        Ok(Self { base: args.to("base_momentum")?, max: args.to("max_momentum")?, fixed })
    }
}

fn answer(
    args: &Args,
    groups: &[f64],
    lrs: &[Boxed],
    momentums: &[Boxed],
) -> Result<Answer, Failure> {
    if groups.len() != lrs.len() {
        return Err(Failure::unsupported("not one rate for each group"));
    }
    let steps = args.to("steps")?;
    let mut values = Values::new();
    values.json("lrs", table(lrs, steps));
    values.json("momentums", table(momentums, steps));
    Ok(values.into())
}
