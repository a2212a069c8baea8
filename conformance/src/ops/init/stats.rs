//! Draws against what their distribution should be.

use gradus_init::{Distribution, FanMode, Init, Nonlinearity, Spread};

use crate::{
    answer::{Answer, Failure, Values},
    case::{Args, Case},
};

fn scheme(args: &Args) -> Result<Init, Failure> {
    let he = || -> Result<(Nonlinearity, FanMode), Failure> {
        let nonlinearity =
            Nonlinearity::parse(&args.to::<String>("nonlinearity")?, args.maybe("a")?)?;
        Ok((nonlinearity, fan_mode(args)?))
    };
    Ok(match args.to::<String>("scheme")?.as_str() {
        "uniform" => Init::uniform(args.to("low")?, args.to("high")?),
        "normal" => Init::normal(args.to("mean")?, args.to("std")?),
        "constant" => Init::constant(args.to("value")?),
        "zeros" => Init::zeros(),
        "ones" => Init::ones(),
        "trunc_normal" => {
            Init::trunc_normal(args.to("mean")?, args.to("std")?, args.to("a")?, args.to("b")?)
        }
        "xavier_uniform" => Init::xavier_uniform(args.to("gain")?),
        "xavier_normal" => Init::xavier_normal(args.to("gain")?),
        "kaiming_uniform" => {
            he().map(|(nonlinearity, mode)| Init::kaiming_uniform(nonlinearity, mode))?
        }
        "kaiming_normal" => {
            he().map(|(nonlinearity, mode)| Init::kaiming_normal(nonlinearity, mode))?
        }
        "lecun_uniform" => Init::lecun_uniform(),
        "lecun_normal" => Init::lecun_normal(),
        "variance_scaling" => {
            Init::variance_scaling(args.to("scale")?, fan_mode(args)?, spread(args)?)
        }
        "linear_default" | "conv_default" => Init::torch_linear(),
        "rnn_default" => Init::torch_rnn(args.to("hidden_size")?),
        "embedding_default" => Init::torch_embedding(),
        other => return Err(Failure::unsupported(format!("scheme {other}"))),
    })
}

fn fan_mode(args: &Args) -> Result<FanMode, Failure> {
    match args.to::<String>("mode")?.as_str() {
        "fan_in" => Ok(FanMode::FanIn),
        "fan_out" => Ok(FanMode::FanOut),
        "fan_avg" => Ok(FanMode::FanAvg),
        other => Err(Failure::unsupported(format!("mode {other}"))),
    }
}

fn spread(args: &Args) -> Result<Spread, Failure> {
    match args.to::<String>("distribution")?.as_str() {
        "uniform" => Ok(Spread::Uniform),
        "normal" => Ok(Spread::Normal),
        "truncated_normal" => Ok(Spread::TruncNormal),
        other => Err(Failure::unsupported(format!("distribution {other}"))),
    }
}

/// What a distribution is expected to be, from the case.
struct Expected {
    dist: String,
    mean: f64,
    std: f64,
    low: Option<f64>,
    high: Option<f64>,
    within_1std: f64,
}

pub(super) fn stats(case: &Case) -> Result<Answer, Failure> {
    let init = scheme(&case.args)?;
    let shape: Vec<usize> = case.args.to("shape")?;
    let distribution = init.distribution(&shape)?;
    if case.expects_error {
        return Ok(Values::new().into());
    }
    let expect = Args::new(&case.expect.clone().into()).map_err(Failure::Unsupported)?;
    let want = Expected {
        dist: expect.to("dist")?,
        mean: expect.to("mean")?,
        std: expect.to("std")?,
        low: expect.maybe("low")?,
        high: expect.maybe("high")?,
        within_1std: expect.to("within_1std")?,
    };
    let mut values: Vec<f64> = Vec::new();
    let mut part = vec![0f32; shape.iter().product()];
    for seed in 0.. {
        if values.len() >= 65_536 || part.is_empty() {
            break;
        }
        init.fill(seed, "weight", &shape, &mut part)?;
        values.extend(part.iter().map(|&x| f64::from(x)));
    }
    let mut problems = drawn(&want, &values);
    problems.extend(stated(case, &want, distribution));
    Ok(Answer::Judged(problems))
}

/// The rules for random values.
fn drawn(want: &Expected, values: &[f64]) -> Vec<String> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let std = (values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt();
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let within = values.iter().filter(|&&x| (x - want.mean).abs() <= want.std).count() as f64 / n;
    let mut problems = Vec::new();
    let mut check = |ok: bool, what: &str, got: f64, want: f64| {
        if !ok {
            problems.push(format!("{what}: got {got}, want {want}"));
        }
    };
    // Bounds hold up to the rounding of the bound itself to f32.
    let slack = |bound: f64| bound.abs() * f64::from(f32::EPSILON);
    check(
        (mean - want.mean).abs() <= 5.0 * want.std / n.sqrt() + slack(want.mean),
        "mean",
        mean,
        want.mean,
    );
    check((std - want.std).abs() <= 0.03 * want.std, "std", std, want.std);
    check(
        (within - want.within_1std).abs() <= 0.02,
        "share within one std",
        within,
        want.within_1std,
    );
    if let Some(low) = want.low {
        check(min >= low - slack(low), "smallest", min, low);
    }
    if let Some(high) = want.high {
        check(max <= high + slack(high), "largest", max, high);
    }
    if let (Some(low), Some(high), "uniform") = (want.low, want.high, want.dist.as_str()) {
        let near = 0.01 * (high - low);
        check(min <= low + near, "smallest", min, low);
        check(max >= high - near, "largest", max, high);
    }
    problems
}

/// What the API states as numbers.
fn stated(case: &Case, want: &Expected, distribution: Distribution) -> Vec<String> {
    let limit = case.limits.values();
    let mut problems = Vec::new();
    let mut check = |what: &str, got: f64, want: Option<f64>| {
        if want.is_none_or(|want| (got - want).abs() > limit.around(want)) {
            problems.push(format!("stated {what}: got {got}, want {want:?}"));
        }
    };
    match distribution {
        Distribution::Constant { value } => check("value", value, Some(want.mean)),
        Distribution::Uniform { low, high } => {
            check("low", low, want.low);
            check("high", high, want.high);
        }
        Distribution::Normal { mean, std } => {
            check("mean", mean, Some(want.mean));
            check("std", std, Some(want.std));
        }
        Distribution::TruncNormal { low, high, .. } => {
            check("low", low, want.low);
            check("high", high, want.high);
        }
        _ => problems.push(format!("an unknown distribution: {distribution:?}")),
    }
    problems
}
