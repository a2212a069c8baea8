//! A small language model.

use gradus_autograd::{CrossEntropy, Module, Param, ParamKind, Tape, Tensor, Var, module};
use gradus_core::DType;
use gradus_nn::{Embedding, Layer, LayerNorm, Linear, Probability, Seeds, TransformerBlock};
use gradus_optim::{Adam, AdamConfig};
use gradus_regularize::dropout as drop_out;

use super::{
    AtSize,
    training::{Start, dropout, norm, started, train},
};
use crate::{
    inputs::{SQRT_3, tokens},
    measure::{Measured, Request},
};

const VOCABULARY: usize = 96;
const HEAD_DIM: usize = 64;

/// Sizes of the model and of its batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Size {
    pub(super) dim: usize,
    pub(super) blocks: usize,
    pub(super) sequences: usize,
    pub(super) length: usize,
}

const GPT: Size = Size { dim: 256, blocks: 4, sequences: 16, length: 128 };

/// Four pre-norm transformer blocks on 16 sequences of 128 tokens, AdamW.
pub(super) fn gpt_step(request: &Request) -> Measured {
    gpt_of(GPT, request).measured
}

/// The same in another size.
pub(super) fn gpt_of(size: Size, request: &Request) -> AtSize {
    let model = started(Gpt::new(size, dropout(request, 0.1)), &gpt_starts(size));
    let optimizer = Adam::new(AdamConfig::adamw().with_weight_decay(0.1)).expect("constants");
    let params = model.num_params();
    let batch = |b| tokens(b, size.sequences, size.length);
    let rows = size.sequences * size.length;
    let measured = train(request, model, optimizer, 3e-4, batch, |model, tape, x, y| {
        let logits = model.forward(x, tape).reshape(&[rows as isize, VOCABULARY as isize]);
        logits.cross_entropy(y, &CrossEntropy::default())
    });
    AtSize { params, samples: rows, measured }
}

struct Gpt {
    token: Embedding,
    position: Param,
    blocks: Vec<TransformerBlock>,
    norm: LayerNorm,
    head: Linear,
    dropout: Probability,
}
module!(Gpt { token, position, blocks, norm, head });

impl Gpt {
    fn new(Size { dim, blocks, length, .. }: Size, dropout: Probability) -> Self {
        let seeds = &mut Seeds::new(0);
        let position = Tensor::zeros(&[length, dim], DType::F32);
        let block = |_| TransformerBlock::new(dim, dim / HEAD_DIM, true, dropout, seeds);
        Self {
            blocks: (0..blocks).map(block).collect(),
            token: Embedding::new(VOCABULARY, dim, seeds),
            position: Param::new(position, ParamKind::Embedding),
            norm: LayerNorm::new(&[dim]),
            head: Linear::new(dim, VOCABULARY, seeds).without_bias(),
            dropout,
        }
    }

    /// Tokens `[N, length]` to logits `[N, length, VOCABULARY]`.
    fn forward(&self, tokens: &Tensor, tape: &Tape) -> Var {
        let x = self.blocks.iter().fold(self.embed(tokens, tape), |x, block| block.forward(&x));
        self.head.forward(&self.norm.forward(&x))
    }

    fn embed(&self, tokens: &Tensor, tape: &Tape) -> Var {
        // Positions are looked up, too, and cast as such: an f32 sum would make all that follows f32.
        let position = tape.watch(&self.position);
        let [position] = Var::autocast("embedding", [&position]);
        drop_out(&self.token.forward(tokens, tape).add(&position), self.dropout)
    }
}

fn gpt_starts(size: Size) -> Vec<Start> {
    let weight = Start::Uniform(0.02 * SQRT_3);
    let linear = || vec![weight, Start::Zeros];
    let block = [norm(), linear(), linear(), norm(), linear(), linear()].concat();
    [vec![weight; 2], block.repeat(size.blocks), norm(), vec![weight]].concat()
}

#[cfg(test)]
mod tests {
    use super::{
        super::training::{policy, tape},
        *,
    };

    #[test]
    fn the_model_has_its_parameters() {
        assert_eq!(
            started(Gpt::new(GPT, Probability::ZERO), &gpt_starts(GPT)).num_params(),
            3_241_472
        );
    }

    #[test]
    fn what_flows_between_blocks_has_the_type_of_the_row() {
        let size = Size { dim: 64, blocks: 2, sequences: 2, length: 8 };
        let model = Gpt::new(size, Probability::new(0.1).unwrap());
        let (x, _) = tokens(0, size.sequences, size.length);
        for dtype in [DType::F32, DType::BF16] {
            let mut x = model.embed(&x, &tape(1, policy(dtype).as_ref()));
            assert_eq!(x.dtype(), dtype, "the embedding");
            for block in &model.blocks {
                x = block.forward(&x);
                assert_eq!(x.dtype(), dtype, "a block");
            }
            assert_eq!(model.norm.forward(&x).dtype(), dtype, "the last norm");
        }
    }
}
