//! The area `norm`.

mod batch;
mod rows;
mod weight;

use gradus_autograd::{Module, Tape, Var};
use gradus_norm::{Momentum, NormError};

use super::{
    Table,
    differentiate::{self, Inputs},
};
use crate::{
    answer::{Answer, Failure, Values},
    case::Args,
};

pub(super) const OPS: &[Table] = &[batch::OPS, rows::OPS, weight::OPS];

/// `momentum` of the new, or the cumulative average where it is null.
fn momentum(args: &Args) -> Result<Momentum, Failure> {
    Ok(args.maybe("momentum")?.map_or(Momentum::Cumulative, Momentum::New))
}

/// A tape in training or evaluation mode; gradients flow on both.
fn tape(training: bool) -> Tape {
    if training { Tape::training(0, 0) } else { Tape::frozen() }
}

fn channels(x: &Var) -> Result<usize, Failure> {
    x.shape().get(1).copied().ok_or_else(|| Failure::unsupported("x is not [N, C, ..]"))
}

/// The result `y` of a layer with state, its gradients and the state after it; of a refusal, the state.
fn refusable(
    inputs: &Inputs<'_>,
    norm: &impl Module,
    result: Result<Var, NormError>,
) -> Result<Answer, Failure> {
    refusable_all(inputs, norm, result.map(|y| vec![("y".into(), y)]))
}

/// As [`refusable`], for any results.
fn refusable_all(
    inputs: &Inputs<'_>,
    norm: &impl Module,
    results: Result<Vec<(String, Var)>, NormError>,
) -> Result<Answer, Failure> {
    match results {
        Ok(ys) => {
            let ys: Vec<(&str, Var)> = ys.iter().map(|(n, y)| (n.as_str(), y.clone())).collect();
            let mut values = inputs.finish(&ys)?;
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
