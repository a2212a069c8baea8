//! The networks, for images of any (square) size.

use gradus::{
    Layer, Param, Tensor, Var,
    core::ParamKind,
    init::{FanMode, Init, Nonlinearity},
    module,
    nn::{
        Activation, BatchNorm, Conv2d, Dropout, Flatten, LayerNorm, Linear, MaxPool2d, Probability,
        Seeds, Sequential, TransformerBlock,
    },
    tensor::{ConvOptions, DType},
};

use crate::{args::Model, dataset::Data};

pub(crate) fn build(model: Model, data: &Data, seed: u64) -> Box<dyn Layer> {
    let mut seeds = Seeds::new(seed);
    match model {
        Model::Mlp => Box::new(mlp(data, &mut seeds)),
        Model::Cnn => Box::new(cnn(data, &mut seeds)),
        Model::Transformer => Box::new(Transformer::new(data, &mut seeds)),
    }
}

fn half() -> Dropout {
    Dropout::new(Probability::new(0.5).expect("0.5 is a probability"))
}

fn he() -> Init {
    Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn)
}

fn mlp(data: &Data, seeds: &mut Seeds) -> Sequential {
    let mut net = Sequential::new().then(Flatten);
    let mut width = data.side * data.side;
    for hidden in [512, 256] {
        net = net
            .then(Linear::with_init(width, hidden, &he(), seeds).without_bias())
            .then(BatchNorm::new(hidden))
            .then(Activation::Relu)
            .then(half());
        width = hidden;
    }
    net.then(Linear::new(width, data.classes, seeds))
}

fn cnn(data: &Data, seeds: &mut Seeds) -> Sequential {
    let mut net = Sequential::new();
    let (mut channels, mut side) = (1, data.side);
    for (out, pool) in [(32, false), (64, true), (128, true)] {
        let same = ConvOptions::default().with_padding([1, 1]);
        net = net
            .then(Conv2d::with_init(channels, out, [3, 3], same, &he(), seeds).without_bias())
            .then(BatchNorm::new(out))
            .then(Activation::Relu);
        if pool {
            net = net.then(MaxPool2d::new([2, 2]));
            side /= 2;
        }
        channels = out;
    }
    net.then(Flatten).then(half()).then(Linear::new(channels * side * side, data.classes, seeds))
}

/// Reads an image row by row: each row is a token.
struct Transformer {
    embed: Linear,
    position: Param,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    head: Linear,
}
module!(Transformer { embed, position, blocks, norm, head });

impl Transformer {
    fn new(data: &Data, seeds: &mut Seeds) -> Self {
        let dim = 64;
        let dropout = Probability::new(0.1).expect("0.1 is a probability");
        Self {
            embed: Linear::new(data.side, dim, seeds),
            position: Param::new(
                Tensor::zeros(&[data.side, dim], DType::F32),
                ParamKind::Embedding,
            ),
            blocks: (0..3).map(|_| TransformerBlock::new(dim, 4, false, dropout, seeds)).collect(),
            norm: LayerNorm::new(&[dim]),
            head: Linear::new(dim, data.classes, seeds),
        }
    }
}

impl Layer for Transformer {
    fn forward(&self, x: &Var) -> Var {
        let rows = x.squeeze(1);
        let mut x = &self.embed.forward(&rows) + &x.tape().watch(&self.position);
        for block in &self.blocks {
            x = block.forward(&x);
        }
        self.head.forward(&self.norm.forward(&x).mean(&[1], false))
    }
}
