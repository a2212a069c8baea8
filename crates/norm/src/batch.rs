//! Batch normalization and its variants.
//!
//! `op` is the operation, one for all forms; `plan` is what it does, forward and backward; `unit` cuts that into pieces of
//! work; `kernels` are the inner loops; `moments` are statistics that can be merged. The rest are layers and what is done with their statistics.

mod config;
mod fold;
mod kernels;
mod layer;
mod moments;
mod momentum;
mod op;
mod plan;
mod renorm;
mod running;
mod unit;
mod update;

pub use config::BatchNormConfig;
pub use layer::BatchNorm;
pub use moments::BatchStats;
pub use momentum::Momentum;
pub use op::{batch_norm, ghost_batch_norm, masked_batch_norm, sync_batch_norm};
pub(crate) use plan::reciprocal;
pub use renorm::{BatchRenorm, BatchRenormConfig, RenormLimits, RenormRamp, batch_renorm};
pub(crate) use running::{blend, next_weight};
pub use update::update_bn;
