//! The area `optim`: optimizers on given gradients.

use gradus_core::{GradientTransform, VecParam};
use gradus_optim::{Adam, AdamConfig, Chain, DecayMask, Group, Sgd, SgdConfig};
use serde_json::{Map, Value};

use super::Table;
use crate::{
    answer::{Answer, Failure, Values, number},
    array::Array,
    case::{Args, Case},
};

pub(super) const OPS: Table = &[("sgd", steps), ("adam", steps), ("adamw", steps)];

/// An optimizer with torch's options.
pub(super) fn build(
    name: &str,
    options: &Args,
) -> Result<Box<dyn GradientTransform + Send + Sync>, Failure> {
    let no_decay_1d = options.maybe("no_decay_1d")?.unwrap_or(false);
    let mask = if no_decay_1d { DecayMask::NoDecay1d } else { DecayMask::All };
    let maximize = options.maybe("maximize")?.unwrap_or(false);
    options.ignore(&["lr"]);
    if name == "sgd" {
        let config = SgdConfig::new()
            .with_momentum(options.to("momentum")?)
            .with_dampening(options.to("dampening")?)
            .with_nesterov(options.to("nesterov")?)
            .with_weight_decay(options.to("weight_decay")?)
            .with_maximize(maximize)
            .with_decay_mask(mask);
        return Ok(Box::new(Sgd::new(config)?));
    }
    let config = match name {
        "adam" => AdamConfig::adam(),
        "adamw" => AdamConfig::adamw(),
        other => return Err(Failure::unsupported(format!("optimizer {other}"))),
    };
    let [beta1, beta2] = options.to("betas")?;
    let config = config
        .with_betas(beta1, beta2)
        .with_eps(options.to("eps")?)
        .with_weight_decay(options.to("weight_decay")?)
        .with_amsgrad(options.maybe("amsgrad")?.unwrap_or(false))
        .with_maximize(maximize)
        .with_decay_mask(mask);
    Ok(Box::new(Adam::new(config)?))
}

/// The optimizer of a case, with its parameter groups.
fn optimizer(case: &Case, lr: f64) -> Result<Box<dyn GradientTransform + Send + Sync>, Failure> {
    let whole = build(&case.op, &case.args)?;
    let Some(groups) = case.args.maybe::<Vec<Map<String, Value>>>("groups")? else {
        return Ok(whole);
    };
    let mut chain = Chain::new();
    for group in groups {
        let args = Args::new(&case.args.with(&group)).map_err(Failure::Unsupported)?;
        let members: Vec<String> = args.to("params")?;
        let rule = build(&case.op, &args)?;
        let scale = if lr == 0.0 { 1.0 } else { args.to::<f64>("lr")? / lr };
        let select = move |name: &str, _: &[usize], _| members.iter().any(|m| m == name);
        chain = chain.then(Group::new(select, rule).with_lr_scale(scale));
    }
    Ok(Box::new(chain))
}

/// The gradient of each step, step by step; `None` where the case says that there is none.
struct Gradients {
    steps: Vec<Vec<f32>>,
    skipped: Vec<usize>,
}

fn steps(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let count: usize = args.to("steps")?;
    let lr: f64 = args.to("lr")?;
    let rates = args.maybe::<Vec<f64>>("lrs")?.unwrap_or_else(|| vec![lr; count]);
    let (mut params, gradients) =
        if case.tensors.is_empty() { from_json(case)? } else { from_tensors(case, count)? };
    let mut optimizer = optimizer(case, lr)?;
    let mut history = vec![Vec::new(); params.len()];
    for (t, &rate) in rates.iter().enumerate().take(count) {
        for (p, g) in params.iter_mut().zip(&gradients) {
            p.grad = (!g.skipped.contains(&t)).then(|| g.steps[t].clone());
        }
        optimizer.step(rate, &mut params)?;
        for (p, history) in params.iter().zip(&mut history) {
            history.extend_from_slice(&p.value);
        }
    }
    let mut values = Values::new();
    for (p, history) in params.iter().zip(history) {
        if case.tensors.is_empty() {
            values
                .json("params", history.iter().map(|&x| number(f64::from(x))).collect::<Vec<_>>());
        } else {
            let shape = [&[count], p.shape.as_slice()].concat();
            values.out(&p.name, Array::f32(&shape, history));
        }
    }
    Ok(values.into())
}

fn from_tensors(case: &Case, count: usize) -> Result<(Vec<VecParam>, Vec<Gradients>), Failure> {
    let skip = case.args.maybe::<Map<String, Value>>("skip")?.unwrap_or_default();
    let (mut params, mut gradients) = (Vec::new(), Vec::new());
    for name in case.names("param.") {
        let value = case.array(name)?;
        let all = case.array(&format!("grad.{name}"))?;
        let steps = (0..count)
            .map(|t| all.at(t).as_f32().map(<[f32]>::to_vec))
            .collect::<Result<_, _>>()?;
        let skipped = skip.get(name).and_then(Value::as_array).map_or_else(Vec::new, |steps| {
            steps.iter().filter_map(|t| usize::try_from(t.as_u64()?).ok()).collect()
        });
        params.push(VecParam::new(name, &value.shape, value.as_f32()?.to_vec()));
        gradients.push(Gradients { steps, skipped });
    }
    Ok((params, gradients))
}

fn from_json(case: &Case) -> Result<(Vec<VecParam>, Vec<Gradients>), Failure> {
    let init: f64 = case.args.to("init")?;
    let grads: Vec<f64> = case.args.to("grads")?;
    let steps = grads.iter().map(|&g| vec![g as f32]).collect();
    Ok((
        vec![VecParam::new("p", &[1], vec![init as f32])],
        vec![Gradients { steps, skipped: Vec::new() }],
    ))
}
