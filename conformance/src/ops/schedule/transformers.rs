//! The schedules of transformers.

use gradus_schedule::{
    Constant, CosineWave, InverseSqrt, Linear, Polynomial, ScheduleExt, Shape, WarmRestarts,
};

use super::{Boxed, rates};
use crate::{answer::Failure, case::Args, ops::Table};

pub(super) const OPS: Table = &[
    ("hf_linear", rates),
    ("hf_cosine", rates),
    ("hf_cosine_min_lr", rates),
    ("hf_cosine_hard_restarts", rates),
    ("hf_polynomial", rates),
    ("hf_inverse_sqrt", rates),
    ("hf_constant_with_warmup", rates),
    ("hf_wsd", rates),
];

/// The schedule that starts from the rate `base`.
pub(super) fn build(op: &str, args: &Args, base: f64) -> Result<Boxed, Failure> {
    let warmup: u64 = args.to("num_warmup_steps")?;
    if op == "hf_wsd" {
        return wsd(args, base, warmup);
    }
    Ok(match op {
        "hf_linear" => match decay_steps(args, warmup)? {
            0 => Box::new(Constant::new(base)?.warmup(warmup).cooldown(warmup, 0)),
            steps => Box::new(Linear::new(base, 0.0, steps)?.warmup(warmup)),
        },
        "hf_cosine" => {
            let steps = decay_steps(args, warmup)?.max(1);
            let wave = CosineWave::new(base, 0.0, steps, args.to("num_cycles")?)?;
            Box::new(wave.warmup(warmup))
        }
        "hf_cosine_min_lr" => {
            let end = base * args.to::<f64>("min_lr_rate")?;
            let steps = decay_steps(args, warmup)?.max(1);
            let wave = CosineWave::new(base, end, steps, args.to("num_cycles")?)?;
            Box::new(wave.warmup(warmup))
        }
        "hf_cosine_hard_restarts" => {
            let steps = decay_steps(args, warmup)?.max(1);
            let restarts = WarmRestarts::within(base, 0.0, steps, whole(args, "num_cycles")?)?;
            Box::new(restarts.warmup(warmup))
        }
        "hf_polynomial" => {
            let (end, power): (f64, f64) = (args.to("lr_end")?, args.to("power")?);
            let steps = decay_steps(args, warmup)?.max(1);
            let decay = Polynomial::new(base, end, steps, power)?.warmup(warmup);
            if args.to::<u64>("num_training_steps")? < warmup {
                // Over before the warm-up is.
                Box::new(decay.then(warmup, Constant::new(end)?))
            } else {
                Box::new(decay)
            }
        }
        "hf_inverse_sqrt" => {
            let default = if warmup == 0 { 10_000 } else { warmup };
            // 0 counts as none.
            let timescale = args.maybe("timescale")?.filter(|&t| t > 0).unwrap_or(default);
            Box::new(InverseSqrt::new(base, timescale)?.warmup(warmup))
        }
        "hf_constant_with_warmup" => Box::new(Constant::new(base)?.warmup(warmup)),
        other => return Err(Failure::unsupported(format!("scheduler {other}"))),
    })
}

fn decay_steps(args: &Args, warmup: u64) -> Result<u64, Failure> {
    Ok(args.to::<u64>("num_training_steps")?.saturating_sub(warmup))
}

fn wsd(args: &Args, base: f64, warmup: u64) -> Result<Boxed, Failure> {
    let ratio: f64 = args.to("min_lr_ratio")?;
    let at = warmup + args.to::<u64>("num_stable_steps")?;
    let (steps, end): (u64, f64) = (args.to("num_decay_steps")?, base * ratio);
    let rise = shape(&args.to::<String>("warmup_type")?)?;
    let trunk = Constant::new(base)?.warmup(warmup).with_start_factor(ratio)?.with_shape(rise)?;
    let (fall, cycles): (String, f64) = (args.to("decay_type")?, args.to("num_cycles")?);
    if fall != "cosine" || cycles == 0.5 || steps == 0 {
        let decay = trunk.cooldown(at, steps).with_end(end)?;
        return Ok(Box::new(decay.with_shape(shape(&fall)?)?));
    }
    let wave = CosineWave::new(base, end, steps, cycles)?;
    Ok(Box::new(trunk.then(at, wave).then(at + steps, Constant::new(end)?)))
}

fn shape(name: &str) -> Result<Shape, Failure> {
    match name {
        "linear" => Ok(Shape::Linear),
        "cosine" => Ok(Shape::Cosine),
        "1-sqrt" => Ok(Shape::OneMinusSqrt),
        other => Err(Failure::unsupported(format!("shape {other}"))),
    }
}

/// A whole number, however it is written.
fn whole(args: &Args, name: &str) -> Result<u64, Failure> {
    let number: f64 = args.to(name)?;
    if number >= 0.0 && number.fract() == 0.0 {
        Ok(number as u64)
    } else {
        Err(Failure::unsupported(format!("{name} {number}")))
    }
}
