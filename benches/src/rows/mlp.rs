//! Perceptrons with hidden layers: one with batch norm and dropout, one that is too small for anything to hide.

use gradus_autograd::{CrossEntropy, Module, Reduction, Tensor};
use gradus_nn::{Activation, BatchNorm, Dropout, Layer, Linear, Probability, Seeds, Sequential};
use gradus_optim::{Adam, AdamConfig, Sgd, SgdConfig};

use super::{
    AtSize,
    training::{Start, dropout, linear, norm, started, train},
};
use crate::{
    inputs::{SQRT_3, labels, sym},
    measure::{Measured, Request},
};

/// 784-512-512-10 on batches of 128, AdamW.
pub(super) fn mlp_step(request: &Request) -> Measured {
    mlp_of(512, 128, request).measured
}

/// The same with hidden layers of this width, on batches of this size.
pub(super) fn mlp_of(width: usize, batch: usize, request: &Request) -> AtSize {
    let model = started(mlp(width, dropout(request, 0.2)), &mlp_starts(width));
    let optimizer = Adam::new(AdamConfig::adamw()).expect("the defaults");
    let params = model.num_params();
    let data = |b| (sym(100 + b, &[batch, 784], SQRT_3), labels(200 + b, batch, 10));
    let measured = train(request, model, optimizer, 1e-3, data, |model, tape, x, y| {
        model.forward(&tape.constant(x.clone())).cross_entropy(y, &CrossEntropy::default())
    });
    AtSize { params, samples: batch, measured }
}

fn mlp(width: usize, p: Probability) -> Sequential {
    let seeds = &mut Seeds::new(0);
    let hidden = |model: Sequential, inputs, seeds: &mut Seeds| {
        let model = model.then(Linear::new(inputs, width, seeds)).then(BatchNorm::new(width));
        model.then(Activation::Relu).then(Dropout::new(p))
    };
    let model = hidden(Sequential::new(), 784, seeds);
    hidden(model, width, seeds).then(Linear::new(width, 10, seeds))
}

fn mlp_starts(width: usize) -> Vec<Start> {
    [linear(784), norm(), linear(width), norm(), linear(width)].concat()
}

/// 8-32-32-1 on batches of 32, SGD with momentum: what a step costs when there is next to nothing to compute.
pub(super) fn tiny_mlp_step(request: &Request) -> Measured {
    let model = started(tiny_mlp(), &tiny_mlp_starts());
    let optimizer = Sgd::new(SgdConfig::new().with_momentum(0.9)).expect("constants");
    train(request, model, optimizer, 0.05, tiny_batch, |model, tape, x, y| {
        let (x, y) = (tape.constant(x.clone()), tape.constant(y.clone()));
        model.forward(&x).mse_loss(&y, Reduction::Mean)
    })
}

fn tiny_mlp() -> Sequential {
    let seeds = &mut Seeds::new(0);
    Sequential::new()
        .then(Linear::new(8, 32, seeds))
        .then(Activation::Tanh)
        .then(Linear::new(32, 32, seeds))
        .then(Activation::Tanh)
        .then(Linear::new(32, 1, seeds))
}

fn tiny_mlp_starts() -> Vec<Start> {
    [linear(8), linear(32), linear(32)].concat()
}

/// The target is `x0 x1 - x2 / 2`.
fn tiny_batch(b: u64) -> (Tensor, Tensor) {
    let x = sym(100 + b, &[32, 8], SQRT_3);
    let y: Vec<f32> = x.as_slice::<f32>().chunks(8).map(|r| r[0] * r[1] - 0.5 * r[2]).collect();
    (x, Tensor::from_slice(&y, &[32, 1]))
}

#[cfg(test)]
mod tests {
    use gradus_core::DType;

    use super::*;

    #[test]
    fn models_have_their_parameters() {
        let model = started(mlp(512, Probability::ZERO), &mlp_starts(512));
        assert_eq!(model.num_params(), 671_754);
        assert_eq!(started(tiny_mlp(), &tiny_mlp_starts()).num_params(), 1_377);
    }

    #[test]
    fn losses_in_16_bits_are_nearly_those_in_32() {
        let [full, short] = [DType::F32, DType::BF16].map(|dtype| {
            let request = Request { dtype, threads: 1, seconds: 0.0, dropout: false };
            mlp_of(32, 64, &request).measured.checks.values
        });
        for (full, short) in full.into_iter().zip(short) {
            let difference = (full - short).abs();
            assert!(difference > 0.0 && difference < 2e-2 * full, "{full} {short}");
        }
    }
}
