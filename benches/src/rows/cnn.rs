//! A small convolutional network.

use gradus_autograd::CrossEntropy;
use gradus_nn::{
    Activation, BatchNorm, Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, Probability, Seeds,
    Sequential,
};
use gradus_optim::{Sgd, SgdConfig};
use gradus_tensor::ConvOptions;

use super::training::{Start, conv, dropout, linear, norm, started, train};
use crate::{
    inputs::{SQRT_3, labels, sym},
    measure::{Measured, Request},
};

/// Two convolutions and two linear layers on 64 images of 28x28, SGD with Nesterov momentum.
pub(super) fn cnn_step(request: &Request) -> Measured {
    let model = started(cnn(dropout(request, 0.5)), &cnn_starts());
    let config = SgdConfig::new().with_momentum(0.9).with_nesterov(true).with_weight_decay(5e-4);
    let optimizer = Sgd::new(config).expect("constants");
    let batch = |b| (sym(100 + b, &[64, 1, 28, 28], SQRT_3), labels(200 + b, 64, 10));
    train(request, model, optimizer, 0.05, batch, |model, tape, x, y| {
        model.forward(&tape.constant(x.clone())).cross_entropy(y, &CrossEntropy::default())
    })
}

fn cnn(p: Probability) -> Sequential {
    let seeds = &mut Seeds::new(0);
    let stage = |model: Sequential, inputs, outputs, seeds: &mut Seeds| {
        let same = ConvOptions::default().with_padding([1, 1]);
        let conv = Conv2d::new(inputs, outputs, [3, 3], seeds).with_options(same).without_bias();
        let model = model.then(conv).then(BatchNorm::new(outputs)).then(Activation::Relu);
        model.then(MaxPool2d::new([2, 2]))
    };
    let model = stage(Sequential::new(), 1, 32, seeds);
    stage(model, 32, 64, seeds)
        .then(Flatten)
        .then(Linear::new(64 * 7 * 7, 128, seeds))
        .then(Activation::Relu)
        .then(Dropout::new(p))
        .then(Linear::new(128, 10, seeds))
}

fn cnn_starts() -> Vec<Start> {
    [conv(1, 3), norm(), conv(32, 3), norm(), linear(64 * 7 * 7), linear(128)].concat()
}

#[cfg(test)]
mod tests {
    use gradus_autograd::Module;

    use super::*;

    #[test]
    fn the_model_has_its_parameters() {
        assert_eq!(started(cnn(Probability::ZERO), &cnn_starts()).num_params(), 421_738);
    }
}
