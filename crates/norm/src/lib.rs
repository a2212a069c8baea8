#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod batch;
mod batch_kernels;
mod error;
mod lanes;
mod layer;

pub use batch::{BatchNorm, BatchNormConfig, BatchStats, Momentum, batch_norm};
pub use error::NormError;
pub use layer::{LayerNorm, layer_norm};
