//! The table of rows.

mod cnn;
mod dropout;
mod gemm;
mod gpt;
mod init;
mod lstm;
mod mlp;
mod norm;
mod op;
mod resnet;
mod training;
mod update;

use gradus_core::DType;
use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};

use crate::measure::{Measured, Request};

/// What a row measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One operation.
    Kernel,
    /// One whole training step.
    Train,
}

/// One unit of work.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures.
    pub kind: Kind,
    /// The types that it is done in.
    pub dtypes: &'static [DType],
    /// Makes the inputs and measures; called inside the pool of threads.
    pub run: fn(&Request) -> Measured,
}

impl Row {
    /// Measures it inside a pool of threads of its own, so that no fork comes from outside of it.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn measure(&self, request: &Request) -> Result<Measured, ThreadPoolBuildError> {
        let pool = ThreadPoolBuilder::new().num_threads(request.threads).build()?;
        Ok(pool.install(|| (self.run)(request)))
    }

    /// Done in bf16 too.
    const fn in_both(self) -> Self {
        Self { dtypes: BOTH, ..self }
    }
}

/// A training row in a size of its own.
#[derive(Clone, PartialEq, Debug)]
pub struct AtSize {
    /// Trainable numbers.
    pub params: usize,
    /// Samples, or tokens, of a step.
    pub samples: usize,
    /// Its times and losses.
    pub measured: Measured,
}

/// `mlp_step` with hidden layers of this width on batches of this size.
pub(crate) fn mlp_of([width, batch]: [usize; 2], request: &Request) -> AtSize {
    mlp::mlp_of(width, batch, request)
}

/// `gpt_step` with so many blocks of this width, on so many sequences of 128 tokens.
pub(crate) fn gpt_of([dim, blocks, sequences]: [usize; 3], request: &Request) -> AtSize {
    gpt::gpt_of(gpt::Size { dim, blocks, sequences, length: 128 }, request)
}

const F32: &[DType] = &[DType::F32];
const BOTH: &[DType] = &[DType::F32, DType::BF16];

/// All rows.
pub const ROWS: &[Row] = &[
    kernel("gemm_256", gemm::gemm_256).in_both(),
    kernel("gemm_1024", gemm::gemm_1024).in_both(),
    kernel("gemm_skinny", gemm::gemm_skinny).in_both(),
    kernel("layernorm_fwd_bwd", norm::layer_norm_row).in_both(),
    kernel("rmsnorm_fwd_bwd", norm::rms_norm_row),
    kernel("batchnorm2d_fwd_bwd", norm::batch_norm2d),
    kernel("softmax_xent_fwd_bwd", op::softmax_xent),
    kernel("gelu_fwd_bwd", op::gelu),
    kernel("dropout_fwd_bwd", dropout::dropout_fwd_bwd),
    kernel("clip_grad_norm", update::clip_grad_norm_row),
    kernel("adamw_step", update::adamw_step),
    kernel("kaiming_normal_init", init::kaiming_normal),
    kernel("conv3x3_fwd_bwd", op::conv3x3).in_both(),
    kernel("attention_causal_fwd_bwd", op::attention_causal).in_both(),
    train("mlp_step", mlp::mlp_step).in_both(),
    train("tiny_mlp_step", mlp::tiny_mlp_step),
    train("cnn_step", cnn::cnn_step).in_both(),
    train("resnet_step", resnet::resnet_step).in_both(),
    train("lstm_step", lstm::lstm_step),
    train("gpt_step", gpt::gpt_step).in_both(),
];

const fn kernel(name: &'static str, run: fn(&Request) -> Measured) -> Row {
    Row { name, kind: Kind::Kernel, dtypes: F32, run }
}

const fn train(name: &'static str, run: fn(&Request) -> Measured) -> Row {
    Row { name, kind: Kind::Train, dtypes: F32, run }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ROWS.iter().map(|r| r.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }
}
