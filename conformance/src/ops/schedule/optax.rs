//! The schedules of optax.

use std::collections::BTreeMap;

use gradus_schedule::{
    Constant, CosineAnnealing, ExponentialDecay, Linear, Piecewise, PiecewiseConstant, Polynomial,
    ScheduleExt, Sequential, Shape, StepDecay,
};
use serde_json::Value;

use super::{Boxed, table};
use crate::{
    answer::{Answer, Failure, Values},
    case::{Args, Case},
    ops::Table,
};

pub(super) const OPS: Table = &[
    ("optax_warmup_cosine_decay", rates),
    ("optax_warmup_exponential_decay", rates),
    ("optax_polynomial", rates),
    ("optax_exponential_decay", rates),
    ("optax_cosine_decay", rates),
    ("optax_piecewise_constant", rates),
    ("optax_piecewise_interpolate", rates),
    ("optax_sgdr", rates),
    ("optax_linear_onecycle", rates),
    ("optax_cosine_onecycle", rates),
];

fn rates(case: &Case) -> Result<Answer, Failure> {
    let schedule = build(&case.op, &case.args)?;
    let mut values = Values::new();
    values.json("lrs", table(&[schedule], case.args.to("steps")?));
    Ok(values.into())
}

fn build(op: &str, args: &Args) -> Result<Boxed, Failure> {
    Ok(match op {
        "optax_warmup_cosine_decay" => warmup_cosine(args)?,
        "optax_warmup_exponential_decay" => {
            warmed_up(args, exponential(args, args.to("peak_value")?)?)?
        }
        "optax_polynomial" => {
            let (start, end): (f64, f64) = (args.to("init_value")?, args.to("end_value")?);
            let (power, begin): (f64, Option<u64>) =
                (args.to("power")?, args.maybe("transition_begin")?);
            match args.to("transition_steps")? {
                0 => Box::new(Constant::new(start)?),
                steps => {
                    let decay = Polynomial::new(start, end, steps, power)?;
                    Box::new(decay.delay(begin.unwrap_or(0)))
                }
            }
        }
        "optax_exponential_decay" => exponential(args, args.to("init_value")?)?,
        "optax_cosine_decay" => {
            let start: f64 = args.to("init_value")?;
            let end = start * args.to::<f64>("alpha")?;
            let decay = CosineAnnealing::new(start, end, args.to("decay_steps")?)?;
            Box::new(decay.with_exponent(args.maybe("exponent")?.unwrap_or(1.0))?)
        }
        "optax_piecewise_constant" => {
            Box::new(PiecewiseConstant::new(args.to("init_value")?, scales(args)?)?)
        }
        "optax_piecewise_interpolate" => {
            let shape = match args.to::<String>("interpolate_type")?.as_str() {
                "linear" => Shape::Linear,
                "cosine" => Shape::Cosine,
                other => return Err(Failure::unsupported(format!("interpolate_type {other}"))),
            };
            interpolated(args.to("init_value")?, scales(args)?.into_iter().collect(), shape)?
        }
        "optax_sgdr" => {
            let (mut parts, mut ends, mut end) = (Vec::new(), Vec::new(), 0);
            for segment in args.to::<Vec<Value>>("cosine_kwargs")? {
                let segment = Args::new(&segment).map_err(Failure::Unsupported)?;
                parts.push(warmup_cosine(&segment)?);
                end += segment.to::<u64>("decay_steps")?;
                ends.push(end);
                if let unread @ [_, ..] = segment.unread().as_slice() {
                    return Err(Failure::unsupported(format!("arguments {unread:?}")));
                }
            }
            ends.pop();
            Box::new(Sequential::new(parts, ends)?)
        }
        "optax_linear_onecycle" => one_cycle(args, Shape::Linear, Some(("pct_final", 0.85)))?,
        "optax_cosine_onecycle" => one_cycle(args, Shape::Cosine, None)?,
        other => return Err(Failure::unsupported(format!("schedule {other}"))),
    })
}

/// `boundaries` with their `scales`.
fn scales(args: &Args) -> Result<Vec<(u64, f64)>, Failure> {
    let (boundaries, scales): (Vec<u64>, Vec<f64>) = (args.to("boundaries")?, args.to("scales")?);
    Ok(boundaries.into_iter().zip(scales).collect())
}

/// A line from `init_value` to `peak_value`, then the other schedule.
fn warmed_up(args: &Args, next: Boxed) -> Result<Boxed, Failure> {
    let (start, peak) = (args.to("init_value")?, args.to("peak_value")?);
    Ok(match args.to("warmup_steps")? {
        0 => next,
        steps => Box::new(Linear::new(start, peak, steps)?.then(steps, next)),
    })
}

fn warmup_cosine(args: &Args) -> Result<Boxed, Failure> {
    let (warmup, total): (u64, u64) = (args.to("warmup_steps")?, args.to("decay_steps")?);
    let (peak, end) = (args.to("peak_value")?, args.to("end_value")?);
    let decay = CosineAnnealing::new(peak, end, total.saturating_sub(warmup))?;
    let decay = decay.with_exponent(args.maybe("exponent")?.unwrap_or(1.0))?;
    warmed_up(args, Box::new(decay))
}

fn exponential(args: &Args, start: f64) -> Result<Boxed, Failure> {
    let (rate, steps): (f64, u64) = (args.to("decay_rate")?, args.to("transition_steps")?);
    let (begin, end): (Option<u64>, Option<f64>) =
        (args.maybe("transition_begin")?, args.maybe("end_value")?);
    let staircase = args.maybe("staircase")?.unwrap_or(false);
    if steps == 0 || rate == 0.0 {
        // optax takes this for a constant.
        return Ok(Box::new(Constant::new(start)?));
    }
    let decay: Boxed = if staircase {
        Box::new(StepDecay::new(start, steps, rate)?)
    } else {
        Box::new(ExponentialDecay::new(start, rate)?.with_period(steps)?)
    };
    let decay = decay.delay(begin.unwrap_or(0));
    Ok(match end {
        None => Box::new(decay),
        Some(end) if rate < 1.0 => Box::new(decay.clamp(end, f64::MAX)?),
        Some(end) => Box::new(decay.clamp(0.0, end)?),
    })
}

/// Up to the peak, down to the start where `middle` says, and on to the last value.
fn one_cycle(args: &Args, shape: Shape, middle: Option<(&str, f64)>) -> Result<Boxed, Failure> {
    let (steps, peak): (u64, f64) = (args.to("transition_steps")?, args.to("peak_value")?);
    let or = |name: &str, default: f64| Ok::<_, Failure>(args.maybe(name)?.unwrap_or(default));
    let at = |fraction: f64| (fraction * steps as f64) as u64;
    let factor = or("div_factor", 25.0)?;
    let mut scales = BTreeMap::from([(at(or("pct_start", 0.3)?), factor)]);
    let mut last = 1.0 / or("final_div_factor", 1e4)?;
    match middle {
        Some((name, default)) => {
            scales.insert(at(or(name, default)?), 1.0 / factor);
        }
        None => last /= factor,
    }
    scales.insert(steps, last);
    interpolated(peak / factor, scales, shape)
}

/// From `start` through the running product of the scales. Of two at one step the later counts, as in a dict.
fn interpolated(start: f64, scales: BTreeMap<u64, f64>, shape: Shape) -> Result<Boxed, Failure> {
    let mut value = start;
    let knots = scales.into_iter().map(|(at, scale)| {
        value *= scale;
        (at, value)
    });
    let knots: Vec<(u64, f64)> = knots.collect();
    // One at 0 with others behind it is where they start from.
    Ok(Box::new(match knots.as_slice() {
        [(0, start), rest @ ..] if !rest.is_empty() => Piecewise::new(*start, rest, shape)?,
        _ => Piecewise::new(start, knots, shape)?,
    }))
}
