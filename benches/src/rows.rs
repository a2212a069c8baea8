//! The table of rows.

mod cnn;
mod gemm;
mod gpt;
mod mlp;
mod training;

use gradus_core::DType;

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

const F32: &[DType] = &[DType::F32];

/// All rows.
pub const ROWS: &[Row] = &[
    Row { name: "gemm_1024", kind: Kind::Kernel, dtypes: F32, run: gemm::gemm_1024 },
    Row { name: "mlp_step", kind: Kind::Train, dtypes: F32, run: mlp::mlp_step },
    Row { name: "tiny_mlp_step", kind: Kind::Train, dtypes: F32, run: mlp::tiny_mlp_step },
    Row { name: "cnn_step", kind: Kind::Train, dtypes: F32, run: cnn::cnn_step },
    Row { name: "gpt_step", kind: Kind::Train, dtypes: F32, run: gpt::gpt_step },
];
