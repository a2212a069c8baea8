//! A recurrent language model.

use gradus_autograd::{CrossEntropy, Tape, Tensor, Var, module};
use gradus_nn::{Embedding, Layer, Linear, Lstm, Seeds};
use gradus_optim::{Adam, AdamConfig};

use super::training::{Start, linear, started, train};
use crate::{
    inputs::{SQRT_3, tokens},
    measure::{Measured, Request},
};

const VOCABULARY: usize = 96;
const SEQUENCES: usize = 32;
const LENGTH: usize = 64;
const DIM: usize = 128;
const HIDDEN: usize = 256;

/// One layer of long short-term memory on 32 sequences of 64 tokens, AdamW.
pub(super) fn lstm_step(request: &Request) -> Measured {
    let model = started(LstmModel::new(), &lstm_starts());
    let optimizer = Adam::new(AdamConfig::adamw()).expect("the defaults");
    let batch = |b| tokens(b, SEQUENCES, LENGTH);
    train(request, model, optimizer, 2e-3, batch, |model, tape, x, y| {
        let rows = (SEQUENCES * LENGTH) as isize;
        let logits = model.forward(x, tape).reshape(&[rows, VOCABULARY as isize]);
        logits.cross_entropy(y, &CrossEntropy::default())
    })
}

struct LstmModel {
    embedding: Embedding,
    lstm: Lstm,
    head: Linear,
}
module!(LstmModel { embedding, lstm, head });

impl LstmModel {
    fn new() -> Self {
        let seeds = &mut Seeds::new(0);
        Self {
            embedding: Embedding::new(VOCABULARY, DIM, seeds),
            lstm: Lstm::new(DIM, HIDDEN, 1, seeds),
            head: Linear::new(HIDDEN, VOCABULARY, seeds),
        }
    }

    /// Tokens `[N, T]` to logits `[N, T, VOCABULARY]`.
    fn forward(&self, tokens: &Tensor, tape: &Tape) -> Var {
        self.head.forward(&self.lstm.forward(&self.embedding.forward(tokens, tape)).y)
    }
}

fn lstm_starts() -> Vec<Start> {
    let recurrent = Start::Uniform(1.0 / (HIDDEN as f64).sqrt());
    [vec![Start::Uniform(SQRT_3)], vec![recurrent; 4], linear(HIDDEN)].concat()
}

#[cfg(test)]
mod tests {
    use gradus_autograd::Module;

    use super::*;

    #[test]
    fn the_model_has_its_parameters() {
        assert_eq!(started(LstmModel::new(), &lstm_starts()).num_params(), 432_224);
    }
}
