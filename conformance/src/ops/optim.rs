//! The area `optim`: optimizers on given gradients.

use gradus_core::{GradientTransform, PresentGradients, VecParam};
use gradus_optim::{
    Adadelta, AdadeltaConfig, Adafactor, AdafactorConfig, Adagrad, AdagradConfig, Adam, AdamConfig,
    Adamax, AdamaxConfig, DecayMask, Group, Groups, Lamb, LambConfig, Lion, LionConfig, Muon,
    MuonConfig, MuonScale, NAdam, NAdamConfig, RAdam, RAdamConfig, RmsProp, RmsPropConfig,
    ScheduleFree, ScheduleFreeConfig, Sgd, SgdConfig,
};
use serde_json::{Map, Value};

use super::Table;
use crate::{
    answer::{Answer, Failure, Values, number},
    array::Array,
    case::{Args, Case},
};

pub(super) const OPS: Table = &[
    ("sgd", steps),
    ("adam", steps),
    ("adamw", steps),
    ("rmsprop", steps),
    ("adagrad", steps),
    ("adadelta", steps),
    ("nadam", steps),
    ("radam", steps),
    ("adamax", steps),
    ("lamb", steps),
    ("lion", steps),
    ("muon", steps),
    ("adafactor", steps),
    ("schedule_free_sgd", schedule_free),
    ("schedule_free_adamw", schedule_free),
];

type Rule = Box<dyn GradientTransform + Send + Sync>;

/// An optimizer with torch's options (optax's for LAMB and Lion).
pub(super) fn build(name: &str, options: &Args) -> Result<Rule, Failure> {
    let no_decay_1d = options.maybe("no_decay_1d")?.unwrap_or(false);
    let mask = if no_decay_1d { DecayMask::NoDecay1d } else { DecayMask::All };
    let maximize = || Ok::<bool, Failure>(options.maybe("maximize")?.unwrap_or(false));
    let decay = || options.to::<f64>("weight_decay");
    let betas = || options.to::<[f64; 2]>("betas");
    let eps = || options.to::<f64>("eps");
    options.ignore(&["lr"]);
    Ok(match name {
        "sgd" => Box::new(Sgd::new(
            SgdConfig::new()
                .with_momentum(options.to("momentum")?)
                .with_dampening(options.to("dampening")?)
                .with_nesterov(options.to("nesterov")?)
                .with_weight_decay(decay()?)
                .with_maximize(maximize()?)
                .with_decay_mask(mask),
        )?),
        "adam" | "adamw" => {
            let config = if name == "adam" { AdamConfig::adam() } else { AdamConfig::adamw() };
            let [beta1, beta2] = betas()?;
            Box::new(Adam::new(
                config
                    .with_betas(beta1, beta2)
                    .with_eps(eps()?)
                    .with_weight_decay(decay()?)
                    .with_amsgrad(options.maybe("amsgrad")?.unwrap_or(false))
                    .with_maximize(maximize()?)
                    .with_decay_mask(mask),
            )?)
        }
        "rmsprop" => Box::new(RmsProp::new(
            RmsPropConfig::new()
                .with_alpha(options.to("alpha")?)
                .with_eps(eps()?)
                .with_weight_decay(decay()?)
                .with_momentum(options.to("momentum")?)
                .with_centered(options.to("centered")?)
                .with_maximize(maximize()?)
                .with_decay_mask(mask),
        )?),
        "adagrad" => Box::new(Adagrad::new(
            AdagradConfig::new()
                .with_lr_decay(options.to("lr_decay")?)
                .with_weight_decay(decay()?)
                .with_initial_accumulator_value(options.to("initial_accumulator_value")?)
                .with_eps(eps()?)
                .with_maximize(maximize()?)
                .with_decay_mask(mask),
        )?),
        "adadelta" => Box::new(Adadelta::new(
            AdadeltaConfig::new()
                .with_rho(options.to("rho")?)
                .with_eps(eps()?)
                .with_weight_decay(decay()?)
                .with_maximize(maximize()?)
                .with_decay_mask(mask),
        )?),
        "nadam" => {
            let [beta1, beta2] = betas()?;
            Box::new(NAdam::new(
                NAdamConfig::new()
                    .with_betas(beta1, beta2)
                    .with_eps(eps()?)
                    .with_weight_decay(decay()?)
                    .with_momentum_decay(options.to("momentum_decay")?)
                    .with_decoupled_weight_decay(options.to("decoupled_weight_decay")?)
                    .with_maximize(maximize()?)
                    .with_decay_mask(mask),
            )?)
        }
        "radam" => {
            let [beta1, beta2] = betas()?;
            Box::new(RAdam::new(
                RAdamConfig::new()
                    .with_betas(beta1, beta2)
                    .with_eps(eps()?)
                    .with_weight_decay(decay()?)
                    .with_decoupled_weight_decay(options.to("decoupled_weight_decay")?)
                    .with_maximize(maximize()?)
                    .with_decay_mask(mask),
            )?)
        }
        "adamax" => {
            let [beta1, beta2] = betas()?;
            Box::new(Adamax::new(
                AdamaxConfig::new()
                    .with_betas(beta1, beta2)
                    .with_eps(eps()?)
                    .with_weight_decay(decay()?)
                    .with_maximize(maximize()?)
                    .with_decay_mask(mask),
            )?)
        }
        "lamb" => {
            let [beta1, beta2] = betas()?;
            Box::new(Lamb::new(
                LambConfig::new()
                    .with_betas(beta1, beta2)
                    .with_eps(eps()?)
                    .with_weight_decay(decay()?)
                    .with_decay_mask(mask),
            )?)
        }
        "lion" => {
            let [beta1, beta2] = betas()?;
            Box::new(Lion::new(
                LionConfig::new()
                    .with_betas(beta1, beta2)
                    .with_weight_decay(decay()?)
                    .with_decay_mask(mask),
            )?)
        }
        "muon" => Box::new(Muon::new(muon(options)?)?),
        "adafactor" => {
            let [eps1, eps2] = options.to::<[Option<f64>; 2]>("eps")?;
            Box::new(Adafactor::new(
                AdafactorConfig::new()
                    .with_beta2_decay(options.to("beta2_decay")?)
                    .with_eps1(eps1)
                    .with_eps2(eps2.ok_or_else(|| Failure::unsupported("eps2 null"))?)
                    .with_d(options.to("d")?)
                    .with_weight_decay(decay()?)
                    .with_maximize(maximize()?)
                    .with_decay_mask(mask),
            )?)
        }
        other => return Err(Failure::unsupported(format!("optimizer {other}"))),
    })
}

fn muon(options: &Args) -> Result<MuonConfig, Failure> {
    // Either type of the iteration passes; ours is that of the parameter.
    options.ignore(&["ns_dtype"]);
    let scale = match options.maybe::<String>("adjust_lr_fn")?.as_deref() {
        None | Some("original") => MuonScale::Original,
        Some("match_rms_adamw") => MuonScale::MatchRmsAdamW,
        Some("spectral_unclamped") => MuonScale::SpectralUnclamped,
        Some(other) => return Err(Failure::unsupported(format!("adjust_lr_fn {other}"))),
    };
    Ok(MuonConfig::new()
        .with_weight_decay(options.to("weight_decay")?)
        .with_momentum(options.to("momentum")?)
        .with_nesterov(options.to("nesterov")?)
        .with_ns_coefficients(options.to("ns_coefficients")?)
        .with_eps(options.to("eps")?)
        .with_ns_steps(options.to("ns_steps")?)
        .with_scale(scale))
}

/// `schedule_free_sgd` and `schedule_free_adamw`: besides the parameters, the weights to evaluate.
fn schedule_free(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let config = if case.op == "schedule_free_adamw" {
        let [beta1, beta2] = args.to("betas")?;
        ScheduleFreeConfig::adamw().with_beta1(beta1).with_beta2(beta2).with_eps(args.to("eps")?)
    } else {
        ScheduleFreeConfig::sgd().with_beta1(args.to("b1")?)
    };
    let mut rule = ScheduleFree::new(
        config
            .with_weight_decay(args.maybe("weight_decay")?.unwrap_or(0.0))
            .with_warmup_steps(args.maybe("warmup_steps")?.unwrap_or(0))
            .with_weight_lr_power(args.to("weight_lr_power")?),
    )?;
    let run = Run::of(case)?;
    let mut eval = vec![Vec::new(); run.params.len()];
    let (params, history) = run.steps(|rate, params| {
        rule.step(rate, &mut PresentGradients(&mut *params))?;
        let mut average = params.clone();
        rule.eval_params(&mut average)?;
        for (p, history) in average.iter().zip(&mut eval) {
            history.extend_from_slice(&p.value);
        }
        Ok(())
    })?;
    let mut values = Values::new();
    put(case, &params, history, "params", "", &mut values);
    put(case, &params, eval, "eval_params", "eval.", &mut values);
    Ok(values.into())
}

/// The optimizer of a case, with its parameter groups.
fn optimizer(case: &Case, lr: f64) -> Result<Rule, Failure> {
    let whole = build(&case.op, &case.args)?;
    let Some(groups) = case.args.maybe::<Vec<Map<String, Value>>>("groups")? else {
        return Ok(whole);
    };
    let mut all = Groups::new();
    for group in groups {
        let args = Args::new(&case.args.with(&group)).map_err(Failure::Unsupported)?;
        let members: Vec<String> = args.to("params")?;
        let rule = build(&case.op, &args)?;
        let scale = if lr == 0.0 { 1.0 } else { args.to::<f64>("lr")? / lr };
        let select = move |name: &str, _: &[usize], _| members.iter().any(|m| m == name);
        all = all.then(Group::new(select, rule).with_lr_scale(scale));
    }
    Ok(Box::new(all))
}

/// The gradient of each step, step by step; `None` where the case says that there is none.
struct Gradients {
    steps: Vec<Vec<f32>>,
    skipped: Vec<usize>,
}

fn steps(case: &Case) -> Result<Answer, Failure> {
    let mut optimizer = optimizer(case, case.args.to("lr")?)?;
    let (params, history) = Run::of(case)?
        .steps(|rate, params| Ok(optimizer.step(rate, &mut PresentGradients(params))?))?;
    let mut values = Values::new();
    put(case, &params, history, "params", "", &mut values);
    Ok(values.into())
}

/// The parameters of a case, their gradients and the rate of each step.
struct Run {
    params: Vec<VecParam>,
    gradients: Vec<Gradients>,
    rates: Vec<f64>,
}

impl Run {
    fn of(case: &Case) -> Result<Self, Failure> {
        let count: usize = case.args.to("steps")?;
        let lr: f64 = case.args.to("lr")?;
        let mut rates = case.args.maybe::<Vec<f64>>("lrs")?.unwrap_or_else(|| vec![lr; count]);
        rates.truncate(count);
        let (params, gradients) =
            if case.tensors.is_empty() { from_json(case)? } else { from_tensors(case, count)? };
        Ok(Self { params, gradients, rates })
    }

    /// Does all steps; returns the parameters and each one's values after every step.
    fn steps(
        mut self,
        mut step: impl FnMut(f64, &mut Vec<VecParam>) -> Result<(), Failure>,
    ) -> Result<(Vec<VecParam>, Vec<Vec<f32>>), Failure> {
        let mut history = vec![Vec::new(); self.params.len()];
        for (t, &rate) in self.rates.iter().enumerate() {
            for (p, g) in self.params.iter_mut().zip(&self.gradients) {
                p.grad = (!g.skipped.contains(&t)).then(|| g.steps[t].clone());
            }
            step(rate, &mut self.params)?;
            for (p, history) in self.params.iter().zip(&mut history) {
                history.extend_from_slice(&p.value);
            }
        }
        Ok((self.params, history))
    }
}

/// Adds a history: `out.<prefix><p>` of a tensor case, `key` of a sequence case.
fn put(
    case: &Case,
    params: &[VecParam],
    history: Vec<Vec<f32>>,
    key: &str,
    prefix: &str,
    values: &mut Values,
) {
    let steps = case.args.to::<usize>("steps").unwrap_or(0);
    for (p, history) in params.iter().zip(history) {
        if case.tensors.is_empty() {
            values.json(key, history.iter().map(|&x| number(f64::from(x))).collect::<Vec<_>>());
        } else {
            let shape = [&[steps], p.shape.as_slice()].concat();
            values.out(&format!("{prefix}{}", p.name), Array::f32(&shape, history));
        }
    }
}

fn from_tensors(case: &Case, count: usize) -> Result<(Vec<VecParam>, Vec<Gradients>), Failure> {
    let skip = case.args.maybe::<Map<String, Value>>("skip")?.unwrap_or_default();
    let (mut params, mut gradients) = (Vec::new(), Vec::new());
    for name in case.names("param.") {
        let value = case.array(name)?;
        let steps = match case.find(&format!("grad.{name}")) {
            Some(all) => (0..count)
                .map(|t| all.at(t).as_f32().map(<[f32]>::to_vec))
                .collect::<Result<_, _>>()?,
            // The parameter itself is to be refused, whatever its gradient.
            None if case.expects_error => vec![vec![0.0; value.len()]; count],
            None => return Err(Failure::unsupported(format!("the case has no grad.{name}"))),
        };
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
