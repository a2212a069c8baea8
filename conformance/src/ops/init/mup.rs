//! muP.

use gradus_init::{Fans, MupOptimizer, MupRole, mup_attention_scale, mup_scaling};
use serde_json::{Map, Value};

use crate::{
    answer::{Answer, Failure, Values, number},
    case::{Args, Case},
};

pub(super) fn scaling(case: &Case) -> Result<Answer, Failure> {
    let optimizer = match case.args.to::<String>("optimizer")?.as_str() {
        "adam" => MupOptimizer::Adam,
        "sgd" => MupOptimizer::Sgd,
        other => return Err(Failure::unsupported(format!("optimizer {other}"))),
    };
    let base_lr: f64 = case.args.to("base_lr")?;
    let layers = case.args.to::<Vec<Value>>("layers")?;
    let rows = layers.iter().map(|layer| row(layer, optimizer, base_lr));
    let mut values = Values::new();
    values.json("layers", rows.collect::<Result<Vec<_>, _>>()?);
    Ok(values.into())
}

fn row(layer: &Value, optimizer: MupOptimizer, base_lr: f64) -> Result<Value, Failure> {
    let layer = Args::new(layer).map_err(Failure::Unsupported)?;
    let role = match layer.to::<String>("kind")?.as_str() {
        "input" => MupRole::Input,
        "bias" => MupRole::Bias,
        "hidden" => MupRole::Hidden,
        "output" => MupRole::Output,
        other => return Err(Failure::unsupported(format!("kind {other}"))),
    };
    let fans = Fans { fan_in: layer.to("fan_in")?, fan_out: layer.to("fan_out")? };
    let base = Fans { fan_in: layer.to("base_fan_in")?, fan_out: layer.to("base_fan_out")? };
    let base_std: f64 = layer.to("base_std")?;
    let scaling = mup_scaling(optimizer, role, fans, base)?;
    let numbers = [
        ("init_std", base_std * scaling.init),
        ("multiplier", scaling.multiplier),
        ("lr", base_lr * scaling.lr),
    ];
    Ok(numbers
        .map(|(name, x)| (name.to_owned(), number(x)))
        .into_iter()
        .collect::<Map<_, _>>()
        .into())
}

pub(super) fn attention_scale(case: &Case) -> Result<Answer, Failure> {
    let scale = mup_attention_scale(case.args.to("d_head")?, case.args.to("base_d_head")?)?;
    let mut values = Values::new();
    values.json("scale", number(scale));
    Ok(values.into())
}
