//! A small language model.

use gradus_autograd::{CrossEntropy, Param, ParamKind, Tape, Tensor, Var, module};
use gradus_core::DType;
use gradus_nn::{Embedding, Layer, LayerNorm, Linear, Probability, Seeds, TransformerBlock};
use gradus_optim::{Adam, AdamConfig};
use gradus_regularize::dropout as drop_out;

use super::training::{Start, dropout, norm, started, train};
use crate::{
    inputs::{SQRT_3, tokens},
    measure::{Measured, Request},
};

const VOCABULARY: usize = 96;
const SEQUENCES: usize = 16;
const LENGTH: usize = 128;
const DIM: usize = 256;
const HEADS: usize = 4;
const BLOCKS: usize = 4;

/// Four pre-norm transformer blocks on 16 sequences of 128 tokens, AdamW.
pub(super) fn gpt_step(request: &Request) -> Measured {
    let model = started(Gpt::new(dropout(request, 0.1)), &gpt_starts());
    let optimizer = Adam::new(AdamConfig::adamw().with_weight_decay(0.1)).expect("constants");
    let batch = |b| tokens(b, SEQUENCES, LENGTH);
    train(request, model, optimizer, 3e-4, batch, |model, tape, x, y| {
        let logits = model.forward(x, tape);
        let rows = (SEQUENCES * LENGTH) as isize;
        logits.reshape(&[rows, VOCABULARY as isize]).cross_entropy(y, &CrossEntropy::default())
    })
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
    fn new(dropout: Probability) -> Self {
        let seeds = &mut Seeds::new(0);
        Self {
            token: Embedding::new(VOCABULARY, DIM, seeds),
            position: Param::new(Tensor::zeros(&[LENGTH, DIM], DType::F32), ParamKind::Embedding),
            blocks: (0..BLOCKS)
                .map(|_| TransformerBlock::new(DIM, HEADS, true, dropout, seeds))
                .collect(),
            norm: LayerNorm::new(&[DIM]),
            head: Linear::new(DIM, VOCABULARY, seeds).without_bias(),
            dropout,
        }
    }

    /// Tokens `[N, LENGTH]` to logits `[N, LENGTH, VOCABULARY]`.
    fn forward(&self, tokens: &Tensor, tape: &Tape) -> Var {
        let x = self.token.forward(tokens, tape).add(&tape.watch(&self.position));
        let x = self.blocks.iter().fold(drop_out(&x, self.dropout), |x, block| block.forward(&x));
        self.head.forward(&self.norm.forward(&x))
    }
}

fn gpt_starts() -> Vec<Start> {
    let weight = Start::Uniform(0.02 * SQRT_3);
    let linear = || vec![weight, Start::Zeros];
    let block = [norm(), linear(), linear(), norm(), linear(), linear()].concat();
    [vec![weight; 2], block.repeat(BLOCKS), norm(), vec![weight]].concat()
}

#[cfg(test)]
mod tests {
    use gradus_autograd::Module;

    use super::*;

    #[test]
    fn the_model_has_its_parameters() {
        assert_eq!(started(Gpt::new(Probability::ZERO), &gpt_starts()).num_params(), 3_241_472);
    }
}
