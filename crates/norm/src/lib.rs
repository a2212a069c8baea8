#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod affine;
mod batch;
mod dyt;
mod error;
mod group;
mod instance;
mod lanes;
mod layer;
mod planes;
mod response;
mod rms;
mod rows;
mod weight;

pub use batch::{
    BatchNorm, BatchNormConfig, BatchRenorm, BatchRenormConfig, BatchStats, Momentum, RenormLimits,
    RenormRamp, batch_norm, batch_renorm, ghost_batch_norm, masked_batch_norm, sync_batch_norm,
    update_bn,
};
pub use dyt::{DyT, dyt};
pub use error::NormError;
pub use group::{GroupNorm, GroupNormConfig, group_norm};
pub use instance::{InstanceNorm, InstanceNormConfig, instance_norm};
pub use layer::{LayerNorm, LayerNormConfig, layer_norm};
pub use response::{LocalResponseNorm, LocalResponseNormConfig, local_response_norm};
pub use rms::{RmsNorm, RmsNormConfig, rms_norm};
pub use weight::{
    SpectralNorm, SpectralNormConfig, WeightNorm, WeightStandardization, power_iteration,
    spectral_norm, weight_norm, weight_standardization,
};
