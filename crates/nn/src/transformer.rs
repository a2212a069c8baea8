use gradus_autograd::{Layer, Var, module};
use gradus_init::Init;
use gradus_norm::LayerNorm;
use gradus_regularize::{Probability, dropout};

use crate::{Linear, MultiHeadAttention, Seeds};

/// A pre-norm transformer block: `x += drop(attn(ln1(x)))`, then `x += drop(fc2(gelu(fc1(ln2(x)))))`.
///
/// # Shapes
/// `x` `[N, T, dim]`, result the same; the inner layer is four times as wide.
///
/// # References
/// Vaswani et al. 2017; the norm before each branch: Xiong et al. 2020, arXiv:2002.04745.
#[derive(Clone, Debug)]
pub struct TransformerBlock {
    ln1: LayerNorm,
    attn: MultiHeadAttention,
    ln2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    dropout: Probability,
}
module!(TransformerBlock { ln1, attn, ln2, fc1, fc2 });

impl TransformerBlock {
    /// Weights as in GPT-2: normal with standard deviation 0.02, biases zero.
    ///
    /// # Panics
    /// When `dim` is 0 or does not divide into `heads`.
    #[must_use]
    #[track_caller]
    pub fn new(
        dim: usize,
        heads: usize,
        causal: bool,
        dropout: Probability,
        seeds: &mut Seeds,
    ) -> Self {
        let init = Init::normal(0.0, 0.02);
        Self {
            ln1: LayerNorm::new(&[dim]),
            attn: MultiHeadAttention::new(dim, heads, causal, &init, seeds),
            ln2: LayerNorm::new(&[dim]),
            fc1: Linear::with_init(dim, 4 * dim, &init, seeds).with_zero_bias(),
            fc2: Linear::with_init(4 * dim, dim, &init, seeds).with_zero_bias(),
            dropout,
        }
    }
}

impl Layer for TransformerBlock {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        let x = x + &dropout(&self.attn.forward(&self.ln1.forward(x)), self.dropout);
        let inner = self.fc1.forward(&self.ln2.forward(&x)).gelu();
        &x + &dropout(&self.fc2.forward(&inner), self.dropout)
    }
}
