//! Early stopping.

use gradus_stop::{EarlyStopping, EarlyStoppingConfig, Mode, Reason};
use serde_json::Value;

use crate::{
    answer::{Answer, Failure, Values, number},
    case::{Args, Case},
    ops::Table,
};

pub(super) const OPS: Table =
    &[("early_stopping_keras", keras), ("early_stopping_lightning", lightning)];

fn keras(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let config = EarlyStoppingConfig::keras(mode(args)?)
        .with_min_delta(args.to("min_delta")?)
        .with_patience(args.to("patience")?)
        .with_baseline(args.maybe("baseline")?)
        .with_start_from_epoch(args.to("start_from_epoch")?);
    let restore: bool = args.to("restore_best_weights")?;
    let (mut values, stopper, _) = run(args, config)?;
    let last = stopper.epochs().checked_sub(1);
    let best = stopper.best_epoch();
    values.json("best_epoch", best);
    values.json("final_weights_epoch", if restore { best.or(last) } else { last });
    Ok(values.into())
}

fn lightning(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let config = EarlyStoppingConfig::lightning(mode(args)?)
        .with_min_delta(args.to("min_delta")?)
        .with_patience(args.to("patience")?)
        .with_check_finite(args.to("check_finite")?)
        .with_stopping_threshold(args.maybe("stopping_threshold")?)
        .with_divergence_threshold(args.maybe("divergence_threshold")?);
    let worst = if config.mode == Mode::Min { f64::INFINITY } else { f64::NEG_INFINITY };
    let (mut values, _, reason) = run(args, config)?;
    // Lightning starts from the worst there is, where ours has no best yet.
    if let Some(Value::Array(best)) = values.json.get_mut("best") {
        best.iter_mut().filter(|b| b.is_null()).for_each(|b| *b = number(worst));
    }
    values.json(
        "reason",
        match reason {
            None => "not_stopped",
            Some(Reason::NonFiniteMetric) => "non_finite_metric",
            Some(Reason::StoppingThreshold) => "stopping_threshold",
            Some(Reason::DivergenceThreshold) => "divergence_threshold",
            Some(Reason::PatienceExhausted) => "patience_exhausted",
            Some(other) => return Err(Failure::unsupported(format!("reason {other:?}"))),
        },
    );
    Ok(values.into())
}

fn mode(args: &Args) -> Result<Mode, Failure> {
    match args.to::<String>("mode")?.as_str() {
        "min" => Ok(Mode::Min),
        "max" => Ok(Mode::Max),
        other => Err(Failure::unsupported(format!("mode {other}"))),
    }
}

/// Observes the metrics until the stop, and notes what both variants report.
fn run(
    args: &Args,
    config: EarlyStoppingConfig,
) -> Result<(Values, EarlyStopping, Option<Reason>), Failure> {
    let mut stopper = EarlyStopping::new(config)?;
    let (mut wait, mut best, mut reason) = (Vec::new(), Vec::<Value>::new(), None);
    for metric in args.to::<Vec<f64>>("metrics")? {
        reason = stopper.observe(metric).stop;
        wait.push(stopper.waiting());
        best.push(stopper.best().map_or(Value::Null, number));
        if reason.is_some() {
            break;
        }
    }
    let mut values = Values::new();
    values.json("stopped_epoch", reason.map(|_| stopper.epochs() - 1));
    values.json("epochs_run", stopper.epochs());
    values.json("wait", wait);
    values.json("best", best);
    Ok((values, stopper, reason))
}
