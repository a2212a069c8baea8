//! Batch normalization and its variants.
//!
//! `op` is the operation, one for all forms; `sweep` cuts its work and walks over memory; `kernels` are the inner loops;
//! `moments` are statistics that can be merged. The rest are layers and what is done with their statistics.

mod config;
mod fold;
mod kernels;
mod layer;
mod moments;
mod momentum;
mod op;
mod renorm;
mod running;
mod sweep;
mod update;

pub use config::BatchNormConfig;
pub use layer::BatchNorm;
pub use moments::BatchStats;
pub use momentum::Momentum;
pub use op::{batch_norm, ghost_batch_norm, masked_batch_norm, sync_batch_norm};
pub use renorm::{BatchRenorm, BatchRenormConfig, RenormLimits, RenormRamp, batch_renorm};
pub(crate) use sweep::reciprocal;
pub use update::update_bn;
