//! Reduce on plateau, by PyTorch's rules.

use gradus_stop::{Mode, ReduceOnPlateau, ReduceOnPlateauConfig, ThresholdMode};
use serde_json::Value;

use super::per_group;
use crate::{
    answer::{Answer, Failure, Values, number},
    case::Case,
    ops::Table,
};

pub(super) const OPS: Table = &[("reduce_lr_on_plateau", reduce)];

fn reduce(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let rates: Vec<f64> = args.to("base_lrs")?;
    let min_rates = (0..rates.len()).map(|group| per_group(args, "min_lr", group));
    let min_rates = min_rates.collect::<Result<Vec<_>, _>>()?;
    let (mode, worst) = match args.to::<String>("mode")?.as_str() {
        "min" => (Mode::Min, f64::INFINITY),
        "max" => (Mode::Max, f64::NEG_INFINITY),
        other => return Err(Failure::unsupported(format!("mode {other}"))),
    };
    let threshold_mode = match args.to::<String>("threshold_mode")?.as_str() {
        "rel" => ThresholdMode::Relative,
        "abs" => ThresholdMode::Absolute,
        other => return Err(Failure::unsupported(format!("threshold_mode {other}"))),
    };
    let config = ReduceOnPlateauConfig::torch(mode)
        .with_factor(args.to("factor")?)
        .with_patience(args.to("patience")?)
        .with_threshold(args.to("threshold")?, threshold_mode)
        .with_cooldown(args.to("cooldown")?)
        .with_min_rates(min_rates)
        .with_eps(args.to("eps")?);
    let mut plateau = ReduceOnPlateau::new(rates, config)?;

    let row = |plateau: &ReduceOnPlateau| -> Value {
        plateau.rates().iter().copied().map(number).collect::<Vec<_>>().into()
    };
    let mut lrs = vec![row(&plateau)];
    let (mut bad, mut cooldown, mut best) = (Vec::new(), Vec::new(), Vec::new());
    for metric in args.to::<Vec<f64>>("metrics")? {
        bad.push(plateau.observe(metric).waiting);
        cooldown.push(plateau.cooldown());
        best.push(number(plateau.best().unwrap_or(worst)));
        lrs.push(row(&plateau));
    }
    let mut values = Values::new();
    values.json("lrs", lrs);
    values.json("num_bad_epochs", bad);
    values.json("cooldown_counter", cooldown);
    values.json("best", best);
    Ok(values.into())
}
