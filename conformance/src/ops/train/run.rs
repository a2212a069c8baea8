//! Whole training runs: a small network, an optimizer, a clip, a schedule.

use gradus_autograd::{CrossEntropy, Module, Reduction, Tape, Tensor, Var};
use gradus_clip::{ClipNorm, NormType, clip_grad_norm, global_norm};
use gradus_core::Parameters;

use super::models::{Cnn, Mlp, Transformer};
use crate::{
    answer::{Answer, Failure, Values},
    array::Array,
    case::{Args, Case},
    ops::{Table, differentiate, optim, schedule},
};

pub(super) const OPS: Table = &[
    ("mlp_run", |c| train(c, Mlp::new(c)?)),
    ("cnn_run", |c| train(c, Cnn::new(c)?)),
    ("transformer_run", |c| train(c, Transformer::new(c)?)),
];

/// A network that can be trained.
pub(super) trait Model: Module {
    /// The loss of one batch.
    fn loss(&self, tape: &Tape, x: &Tensor, y: &Tensor) -> Result<Var, Failure>;
}

fn train(case: &Case, mut model: impl Model) -> Result<Answer, Failure> {
    let args = &case.args;
    differentiate::fill(&mut model, case)?;
    let options = Args::new(args.get("optimizer")?).map_err(Failure::Unsupported)?;
    let base: f64 = options.to("lr")?;
    let mut optimizer = optim::build(&options.to::<String>("name")?, &options)?;
    if !options.unread().is_empty() {
        return Err(Failure::unsupported(format!("options {:?}", options.unread())));
    }
    let schedule = args.find("schedule").map(|s| schedule::nested(s, base, 0)).transpose()?;
    let clip: Option<f64> = args.maybe("clip_norm")?;
    let (x, y) = (case.array("x")?, case.array("y")?);
    let (mut losses, mut norms, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for t in 0..args.to("steps")? {
        let tape = Tape::training(0, t as u64);
        let loss = model.loss(&tape, &x.at(t).to_tensor()?, &y.at(t).to_tensor()?)?;
        let mut grads = loss.backward();
        let mut bound = grads.bind(&mut model)?;
        let lr = schedule.as_ref().map_or(base, |s| s.value(t as u64));
        losses.push(loss.item() as f32);
        norms.push(norm(&mut bound, clip)? as f32);
        rates.push(lr as f32);
        optimizer.step(lr, &mut bound)?;
    }
    let mut values = Values::new();
    values.out("losses", Array::row(losses));
    values.out("grad_norms", Array::row(norms));
    values.out("lrs", Array::row(rates));
    differentiate::state(&model, "final.", &mut values);
    Ok(values.into())
}

/// The norm before clipping; without a bound it is only measured.
fn norm(params: &mut dyn Parameters, clip: Option<f64>) -> Result<f64, Failure> {
    Ok(match clip {
        Some(max_norm) => clip_grad_norm(params, &ClipNorm::new(max_norm))?.norm,
        None => global_norm(params, NormType::L2)?.norm,
    })
}

/// Loss of the run: `loss` and `label_smoothing` of the case.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) squared: bool,
    pub(super) label_smoothing: f64,
}

impl Loss {
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let label_smoothing = args.maybe("label_smoothing")?.unwrap_or(0.0);
        let squared = match args.to::<String>("loss")?.as_str() {
            "cross_entropy" => false,
            "mse" => true,
            other => return Err(Failure::unsupported(format!("loss {other}"))),
        };
        Ok(Self { squared, label_smoothing })
    }

    pub(super) fn of(&self, output: &Var, y: &Tensor) -> Var {
        if self.squared {
            output.mse_loss(&output.constant(y.clone()), Reduction::Mean)
        } else {
            output.cross_entropy(
                y,
                &CrossEntropy::default().with_label_smoothing(self.label_smoothing),
            )
        }
    }
}
