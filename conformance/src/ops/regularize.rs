//! The area `regularize`.

use gradus_autograd::{DType, Tape, Tensor};
use gradus_regularize::{Probability, smooth_labels};

use super::Table;
use crate::{
    answer::{Answer, Failure, Values},
    case::{Args, Case},
};

pub(super) const OPS: Table = &[("dropout", dropout), ("label_smoothing", label_smoothing)];

/// Dropout of ones, and the gradient of the sum of the result.
fn dropped(p: Probability, shape: &[usize], training: bool, seed: u64) -> [Vec<f32>; 2] {
    let tape = if training { Tape::training(seed, 0) } else { Tape::frozen() };
    let x = tape.leaf(Tensor::ones(shape, DType::F32));
    let y = gradus_regularize::dropout(&x, p);
    let grads = tape.backward(&[(&y, Tensor::ones(shape, DType::F32))]);
    let grad = grads.wrt(&x).map_or_else(|| vec![0.0; x.value().numel()], |g| g.to_vec());
    [y.value().to_vec(), grad]
}

fn dropout(case: &Case) -> Result<Answer, Failure> {
    let p = Probability::new(case.args.to("p")?)?;
    let (shape, training): (Vec<usize>, bool) = (case.args.to("shape")?, case.args.to("training")?);
    let expect = Args::new(&case.expect.clone().into()).map_err(Failure::Unsupported)?;
    let kept_value: f64 = expect.to("kept_value")?;
    let (kept_fraction, tolerance): (f64, f64) =
        (expect.to("kept_fraction")?, expect.to("fraction_tolerance")?);
    let [y, grad] = dropped(p, &shape, training, 0);
    let mut problems = Vec::new();
    let mut check = |ok: bool, what: String| {
        if !ok {
            problems.push(what);
        }
    };
    let limit = case.limits.values().around(kept_value);
    let odd = y.iter().find(|&&y| y != 0.0 && (f64::from(y) - kept_value).abs() > limit);
    check(odd.is_none(), format!("an output is {odd:?}, neither 0 nor {kept_value}"));
    let kept = y.iter().filter(|&&y| y != 0.0).count() as f64 / y.len() as f64;
    check(
        y.is_empty() || (kept - kept_fraction).abs() <= tolerance,
        format!("kept {kept}, want {kept_fraction} +- {tolerance}"),
    );
    check(y == grad, "the gradient is not the scaled mask".into());
    check(dropped(p, &shape, training, 0)[0] == y, "the same seed gives another mask".into());
    let random = training && p.get() > 0.0 && p.get() < 1.0;
    check(
        !random || dropped(p, &shape, training, 1)[0] != y,
        "another seed gives the same mask".into(),
    );
    Ok(Answer::Judged(problems))
}

fn label_smoothing(case: &Case) -> Result<Answer, Failure> {
    let smoothing = Probability::new(case.args.to("smoothing")?)?;
    let mut values = Values::new();
    values.out(
        "target",
        smooth_labels(&case.tensor("target")?, case.args.to("num_classes")?, smoothing)?,
    );
    Ok(values.into())
}
