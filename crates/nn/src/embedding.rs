use gradus_autograd::{Param, ParamKind, Tape, Tensor, Var, module};
use gradus_init::Init;

use crate::Seeds;

/// A table of vectors, looked up by index.
///
/// # Shapes
/// `weight` `[num_embeddings, embedding_dim]`; indices i64 of any shape `S`; result `[S, embedding_dim]`.
#[derive(Clone, Debug)]
pub struct Embedding {
    weight: Param,
}
module!(Embedding { weight });

impl Embedding {
    /// With PyTorch's start: the standard normal.
    #[must_use]
    pub fn new(num_embeddings: usize, embedding_dim: usize, seeds: &mut Seeds) -> Self {
        Self::with_init(num_embeddings, embedding_dim, &Init::torch_embedding(), seeds)
    }

    /// With a table drawn by `init`.
    ///
    /// # Panics
    /// When `init` cannot fill the table.
    #[must_use]
    #[track_caller]
    pub fn with_init(
        num_embeddings: usize,
        embedding_dim: usize,
        init: &Init,
        seeds: &mut Seeds,
    ) -> Self {
        Self { weight: seeds.param(ParamKind::Embedding, &[num_embeddings, embedding_dim], init) }
    }

    /// The table.
    #[must_use]
    pub fn weight(&self) -> &Param {
        &self.weight
    }

    /// Looks the vectors up.
    ///
    /// # Panics
    /// When an index is outside of the table.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, indices: &Tensor, tape: &Tape) -> Var {
        tape.watch(&self.weight).embedding(indices, None)
    }
}
