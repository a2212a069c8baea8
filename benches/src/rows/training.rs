//! What all training rows share: the start of the parameters, and the step.

use std::{f64::consts::SQRT_2, sync::Arc};

use gradus_amp::{OpClass, Policy};
use gradus_autograd::{Module, Tape, Tensor, Var};
use gradus_clip::{ClipNorm, clip_grad_norm};
use gradus_core::{DType, GradientTransform, Schedule};
use gradus_regularize::Probability;
use gradus_schedule::{CosineAnnealing, Linear, ScheduleExt};

use crate::{
    checks::Checks,
    inputs::{SQRT_3, sym},
    measure::{Measured, Request, Session},
};

/// Batches that the steps go round.
pub(super) const BATCHES: u64 = 8;
/// Steps whose losses are the row's checks.
const CHECKED_STEPS: usize = 5;
/// Bound of the global norm of the gradients.
const MAX_NORM: f64 = 1.0;

/// How a parameter starts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Start {
    Ones,
    Zeros,
    /// Uniform within this bound, by the number of the parameter.
    Uniform(f64),
}

/// Weight and bias of a linear layer with this many inputs.
pub(super) fn linear(inputs: usize) -> Vec<Start> {
    vec![Start::Uniform(1.0 / (inputs as f64).sqrt()); 2]
}

/// Scale and shift of a norm.
pub(super) fn norm() -> Vec<Start> {
    vec![Start::Ones, Start::Zeros]
}

/// The weight of a convolution with square windows: Kaiming's uniform bound.
pub(super) fn conv(inputs: usize, window: usize) -> Vec<Start> {
    vec![Start::Uniform(SQRT_2 * SQRT_3 / ((inputs * window * window) as f64).sqrt())]
}

/// The model with its parameters at their start, which is given in the order of the walk.
pub(super) fn started<M: Module>(mut model: M, starts: &[Start]) -> M {
    let mut numbered = (1000..).zip(starts);
    model.for_each_param_mut(&mut |name, param| {
        let (seed, start) =
            numbered.next().unwrap_or_else(|| panic!("no start is given for {name}"));
        let shape = param.value().shape();
        let value = match *start {
            Start::Ones => Tensor::ones(shape, DType::F32),
            Start::Zeros => Tensor::zeros(shape, DType::F32),
            Start::Uniform(bound) => sym(seed, shape, bound),
        };
        param.set(value);
    });
    assert_eq!(numbered.next(), None, "starts are given for more parameters than there are");
    model
}

/// The row's dropout, or none where it is turned off.
pub(super) fn dropout(request: &Request, p: f64) -> Probability {
    let p = if request.dropout { p } else { 0.0 };
    Probability::new(p).expect("a constant within [0, 1]")
}

/// Of a row in 16 bits: matrix work and embeddings take this type, so that what flows between layers stays in it.
pub(super) fn policy(dtype: DType) -> Option<Arc<Policy>> {
    let lower = || Policy::mixed(dtype)?.with_op("embedding", OpClass::Lower);
    (dtype != DType::F32).then(|| Arc::new(lower().expect("a type and an operation that exist")))
}

/// The tape of a step.
pub(super) fn tape(step: u64, policy: Option<&Arc<Policy>>) -> Tape {
    let tape = Tape::training(0, step);
    match policy {
        Some(policy) => tape.with_precision(policy.clone()),
        None => tape,
    }
}

/// Measures whole training steps: forward, backward, clip, update, and the loss as a number. `loss` is given the
/// model, the tape, the inputs and the targets.
pub(super) fn train<M: Module>(
    request: &Request,
    mut model: M,
    mut optimizer: impl GradientTransform,
    base_lr: f64,
    batch: impl Fn(u64) -> (Tensor, Tensor),
    loss: impl Fn(&M, &Tape, &Tensor, &Tensor) -> Var,
) -> Measured {
    let batches: Vec<_> = (0..BATCHES).map(batch).collect();
    let rates = learning_rates(base_lr);
    let clip = ClipNorm::new(MAX_NORM);
    let policy = policy(request.dtype);
    let mut t = 0;
    let mut step = || {
        let (x, y) = &batches[t % batches.len()];
        t += 1;
        let tape = tape(t as u64, policy.as_ref());
        let loss = loss(&model, &tape, x, y);
        let mut grads = loss.backward();
        let mut bound = grads.bind(&mut model).expect("backward reaches every parameter");
        clip_grad_norm(&mut bound, &clip).expect("the bound is a number above 0");
        optimizer.step(rates.value(t as u64), &mut bound).expect("the model does not change");
        loss.item()
    };
    let session = Session::begin(request);
    let losses = (0..CHECKED_STEPS).map(|_| step()).collect();
    Measured { timing: session.time(step), checks: Checks::of_losses(losses) }
}

/// The rate of step 1, 2, ...: a ramp of ten steps times a cosine of a million.
fn learning_rates(base: f64) -> impl Schedule {
    let cosine = CosineAnnealing::new(base, 0.0, 1_000_000).expect("constants");
    cosine.times(Linear::new(0.0, 1.0, 10).expect("constants"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_specified_one() {
        let rates = learning_rates(0.05);
        for t in [1u64, 3, 10, 11, 500_000, 1_000_000, 2_000_000] {
            let cosine = (std::f64::consts::PI * t.min(1_000_000) as f64 / 1e6).cos();
            let want = 0.05 * (t as f64 / 10.0).min(1.0) * 0.5 * (1.0 + cosine);
            assert!((rates.value(t) - want).abs() <= 1e-15, "{t}: {} {want}", rates.value(t));
        }
    }
}
