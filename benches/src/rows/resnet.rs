//! A residual network for small images: ResNet-20 (He, Zhang, Ren, Sun 2015).

use gradus_autograd::{CrossEntropy, Var, module};
use gradus_nn::{BatchNorm, Conv2d, GlobalAvgPool2d, Layer, Linear, Seeds};
use gradus_optim::{Sgd, SgdConfig};
use gradus_tensor::ConvOptions;

use super::training::{Start, conv, linear, norm, started, train};
use crate::{
    inputs::{SQRT_3, labels, sym},
    measure::{Measured, Request},
};

/// Input channels, output channels and stride of the nine blocks.
const BLOCKS: [[usize; 3]; 9] = [
    [16, 16, 1],
    [16, 16, 1],
    [16, 16, 1],
    [16, 32, 2],
    [32, 32, 1],
    [32, 32, 1],
    [32, 64, 2],
    [64, 64, 1],
    [64, 64, 1],
];

/// ResNet-20 on 64 images of 32x32, SGD with momentum.
pub(super) fn resnet_step(request: &Request) -> Measured {
    let model = started(ResNet::new(), &resnet_starts());
    let config = SgdConfig::new().with_momentum(0.9).with_weight_decay(1e-4);
    let optimizer = Sgd::new(config).expect("constants");
    let batch = |b| (sym(100 + b, &[64, 3, 32, 32], SQRT_3), labels(200 + b, 64, 10));
    train(request, model, optimizer, 0.1, batch, |model, tape, x, y| {
        model.forward(&tape.constant(x.clone())).cross_entropy(y, &CrossEntropy::default())
    })
}

/// A convolution without bias, and batch norm.
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}
module!(ConvNorm { conv, norm });

impl ConvNorm {
    /// Padded so that stride 1 keeps the size of the image.
    fn new([inputs, outputs, stride]: [usize; 3], window: usize, seeds: &mut Seeds) -> Self {
        let options = ConvOptions::default().with_stride([stride; 2]).with_padding([window / 2; 2]);
        let conv = Conv2d::new(inputs, outputs, [window; 2], seeds);
        Self { conv: conv.with_options(options).without_bias(), norm: BatchNorm::new(outputs) }
    }

    fn forward(&self, x: &Var) -> Var {
        self.norm.forward(&self.conv.forward(x))
    }
}

/// Two 3x3 convolutions beside a shortcut, which is the identity where the shape stays.
struct Block {
    first: ConvNorm,
    second: ConvNorm,
    shortcut: Option<ConvNorm>,
}
module!(Block { first, second, shortcut });

impl Block {
    fn new(shape @ [inputs, outputs, stride]: [usize; 3], seeds: &mut Seeds) -> Self {
        let changes = inputs != outputs || stride != 1;
        Self {
            first: ConvNorm::new(shape, 3, seeds),
            second: ConvNorm::new([outputs, outputs, 1], 3, seeds),
            shortcut: changes.then(|| ConvNorm::new(shape, 1, seeds)),
        }
    }

    fn forward(&self, x: &Var) -> Var {
        let inner = self.second.forward(&self.first.forward(x).relu());
        let sum = match &self.shortcut {
            Some(shortcut) => inner.add(&shortcut.forward(x)),
            None => inner.add(x),
        };
        sum.relu()
    }
}

struct ResNet {
    stem: ConvNorm,
    blocks: Vec<Block>,
    head: Linear,
}
module!(ResNet { stem, blocks, head });

impl ResNet {
    fn new() -> Self {
        let seeds = &mut Seeds::new(0);
        Self {
            stem: ConvNorm::new([3, 16, 1], 3, seeds),
            blocks: BLOCKS.map(|shape| Block::new(shape, seeds)).into(),
            head: Linear::new(64, 10, seeds),
        }
    }

    fn forward(&self, x: &Var) -> Var {
        let x = self.blocks.iter().fold(self.stem.forward(x).relu(), |x, block| block.forward(&x));
        self.head.forward(&GlobalAvgPool2d.forward(&x))
    }
}

fn resnet_starts() -> Vec<Start> {
    let conv_norm = |inputs, window| [conv(inputs, window), norm()].concat();
    let block = |[inputs, outputs, _]: [usize; 3]| {
        let shortcut = if inputs == outputs { Vec::new() } else { conv_norm(inputs, 1) };
        [conv_norm(inputs, 3), conv_norm(outputs, 3), shortcut].concat()
    };
    [conv_norm(3, 3), BLOCKS.map(block).concat(), linear(64)].concat()
}

#[cfg(test)]
mod tests {
    use gradus_autograd::Module;

    use super::*;

    #[test]
    fn the_model_has_its_parameters() {
        assert_eq!(started(ResNet::new(), &resnet_starts()).num_params(), 272_474);
    }
}
