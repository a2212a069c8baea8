#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod batch;
mod error;
mod lanes;
mod layer;
mod weight;

pub use batch::{
    BatchNorm, BatchNormConfig, BatchRenorm, BatchRenormConfig, BatchStats, Momentum, RenormLimits,
    RenormRamp, batch_norm, batch_renorm, ghost_batch_norm, masked_batch_norm, sync_batch_norm,
    update_bn,
};
pub use error::NormError;
pub use layer::{LayerNorm, layer_norm};
pub use weight::{
    SpectralNorm, SpectralNormConfig, WeightNorm, WeightStandardization, power_iteration,
    spectral_norm, weight_norm, weight_standardization,
};
