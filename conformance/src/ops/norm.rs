//! The area `norm`.

mod rows;

use gradus_autograd::{Module, Tape, Var};
use gradus_norm::{BatchNorm, BatchNormConfig, Momentum, NormError};

use super::{
    Table,
    differentiate::{self, Inputs},
};
use crate::{
    answer::{Answer, Failure, Values},
    case::{Args, Case},
};

pub(super) const OPS: &[Table] =
    &[&[("batch_norm", one_batch), ("batch_norm_seq", batches)], rows::OPS];

fn config(args: &Args) -> Result<BatchNormConfig, Failure> {
    let momentum = args.maybe("momentum")?.map_or(Momentum::Cumulative, Momentum::New);
    Ok(BatchNormConfig::default().with_eps(args.to("eps")?).with_momentum(momentum))
}

/// A tape in training or evaluation mode; gradients flow on both.
fn tape(training: bool) -> Tape {
    if training { Tape::training(0, 0) } else { Tape::frozen() }
}

fn channels(x: &Var) -> Result<usize, Failure> {
    x.shape().get(1).copied().ok_or_else(|| Failure::unsupported("x is not [N, C, ..]"))
}

fn one_batch(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let config = config(args)?
        .with_affine(args.to("affine")?)
        .with_track_running_stats(args.to("track_running_stats")?);
    let inputs = Inputs::new(case, tape(args.to("training")?));
    let x = inputs.var("x")?;
    let mut norm = BatchNorm::with_config(channels(&x)?, config)?;
    differentiate::fill(&mut norm, case)?;
    inputs.watch(&norm);
    refusable(&inputs, &norm, norm.try_forward(&x))
}

/// The result `y` of a layer with state, its gradients and the state after it; of a refusal, the state.
fn refusable(
    inputs: &Inputs<'_>,
    norm: &impl Module,
    result: Result<Var, NormError>,
) -> Result<Answer, Failure> {
    match result {
        Ok(y) => {
            let mut values = inputs.finish(&[("y", y)])?;
            differentiate::state(norm, "", &mut values);
            Ok(values.into())
        }
        Err(error) => {
            let mut state = Values::new();
            differentiate::state(norm, "", &mut state);
            Ok(Answer::Refused { why: error.to_string(), state })
        }
    }
}

/// A fresh layer over several batches, then evaluation.
fn batches(case: &Case) -> Result<Answer, Failure> {
    let config = config(&case.args)?;
    let count: usize = case.args.to("batches")?;
    let channels = channels(&tape(false).constant(case.tensor("x0")?))?;
    let mut norm = BatchNorm::with_config(channels, config)?;
    differentiate::fill(&mut norm, case)?;
    let forward = |name: &str, training| -> Result<Var, Failure> {
        Ok(norm.try_forward(&tape(training).constant(case.tensor(name)?))?)
    };
    let mut values = Values::new();
    for i in 0..count {
        values.out(&format!("y{i}"), forward(&format!("x{i}"), true)?.into_value());
    }
    values.out("y_eval", forward("x_eval", false)?.into_value());
    differentiate::state(&norm, "", &mut values);
    Ok(values.into())
}
