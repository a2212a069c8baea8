//! The dropout family: statistics of what is drawn.

use gradus_autograd::{DType, Tape, Tensor, Var};
use gradus_regularize::{
    AlphaCoefficients, Probability, alpha_dropout, channel_dropout, dropout, gaussian_noise,
};

use crate::{
    answer::{Answer, Failure},
    case::{Args, Case},
    ops::Table,
};

pub(super) const OPS: Table = &[
    ("dropout", |case| ones(case, dropout, false)),
    ("dropout2d", |case| ones(case, channel_dropout, true)),
    ("alpha_dropout", alpha),
];

type Dropout = fn(&Var, Probability) -> Var;

/// The result for an input of ones, and the gradient of its sum.
fn dropped(
    f: Dropout,
    p: Probability,
    shape: &[usize],
    training: bool,
    seed: u64,
) -> [Vec<f32>; 2] {
    let tape = if training { Tape::training(seed, 0) } else { Tape::frozen() };
    let x = tape.leaf(Tensor::ones(shape, DType::F32));
    let y = f(&x, p);
    let grads = tape.backward(&[(&y, Tensor::ones(shape, DType::F32))]);
    let grad = grads.wrt(&x).map_or_else(|| vec![0.0; x.value().numel()], |g| g.to_vec());
    [y.value().to_vec(), grad]
}

/// What is wrong, as it is found.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn check(&mut self, ok: bool, what: impl FnOnce() -> String) {
        if !ok {
            self.0.push(what());
        }
    }

    /// `got` is `want` or within `limit` of it.
    fn near(&mut self, name: &str, got: f64, want: f64, limit: f64) {
        self.check(got == want || (got - want).abs() <= limit, || {
            format!("{name} is {got}, want {want} +- {limit}")
        });
    }
}

fn expected(case: &Case) -> Result<Args, Failure> {
    Args::new(&case.expect.clone().into()).map_err(Failure::Unsupported)
}

/// Dropout of ones; of `planes`, whole `[sample, channel]` planes share their fate.
fn ones(case: &Case, f: Dropout, planes: bool) -> Result<Answer, Failure> {
    let p = Probability::new(case.args.to("p")?)?;
    let (shape, training): (Vec<usize>, bool) = (case.args.to("shape")?, case.args.to("training")?);
    let expect = expected(case)?;
    let kept_value: f64 = expect.to("kept_value")?;
    let (share, tolerance): (f64, f64) =
        (expect.to("kept_fraction")?, expect.to("fraction_tolerance")?);
    let [y, grad] = dropped(f, p, &shape, training, 0);
    let mut problems = Problems::default();

    let limit = case.limits.values().around(kept_value);
    let odd = y.iter().find(|&&y| y != 0.0 && (f64::from(y) - kept_value).abs() > limit);
    problems.check(odd.is_none(), || format!("an output is {odd:?}, neither 0 nor {kept_value}"));
    let width: usize = if planes { shape[2..].iter().product() } else { 1 };
    let groups: Vec<&[f32]> = y.chunks(width.max(1)).collect();
    problems.check(groups.iter().all(|g| g.iter().all(|v| *v == g[0])), || "a torn plane".into());
    if !groups.is_empty() {
        let kept = groups.iter().filter(|g| g[0] != 0.0).count() as f64 / groups.len() as f64;
        problems.near("the share of what is kept", kept, share, tolerance);
    }
    problems.check(y == grad, || "the gradient is not the scaled mask".into());
    let again = |seed| dropped(f, p, &shape, training, seed)[0] == y;
    problems.check(again(0), || "the same seed gives another mask".into());
    if training && !y.is_empty() && p.get() > 0.0 && p.get() < 1.0 {
        // Two seeds may agree about a few elements; many do not.
        problems.check(!(1..100).all(again), || "other seeds give the same mask".into());
    }
    Ok(Answer::Judged(problems.0))
}

fn alpha(case: &Case) -> Result<Answer, Failure> {
    let p = Probability::new(case.args.to("p")?)?;
    let expect = expected(case)?;
    let coefficients = AlphaCoefficients::new(p);
    let mut problems = Problems::default();
    for (name, got) in [
        ("alpha_prime", AlphaCoefficients::ALPHA_PRIME),
        ("a", coefficients.scale),
        ("b", coefficients.shift),
        ("dropped_value", coefficients.dropped()),
    ] {
        let want: f64 = expect.to(name)?;
        problems.near(name, got, want, case.limits.values().around(want));
    }

    let tape = Tape::training(1, 0);
    let zeros = tape.constant(Tensor::zeros(&[400_000], DType::F32));
    let x = gaussian_noise(&zeros, 1.0)?;
    let y = alpha_dropout(&x, p);
    let mean: f64 = expect.to("mean_of_standard_normal_input")?;
    let var: f64 = expect.to("var_of_standard_normal_input")?;
    problems.near("the mean", y.mean(&[], false).item(), mean, 0.02);
    problems.near("the variance", y.var(&[], 0, false).item(), var, 0.05);
    // What the coefficients say is what is done.
    let (scale, shift) = (coefficients.scale as f32, coefficients.shift as f32);
    let (xs, ys) = (x.value().to_vec::<f32>(), y.value().to_vec::<f32>());
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-5;
    let odd = xs
        .iter()
        .zip(&ys)
        .find(|&(&x, &y)| !near(y, coefficients.dropped() as f32) && !near(y, scale * x + shift));
    problems.check(odd.is_none(), || format!("{odd:?} is neither kept nor dropped"));
    Ok(Answer::Judged(problems.0))
}
