#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod affine;
mod batch;
mod batch_kernels;
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

pub use batch::{BatchNorm, BatchNormConfig, BatchStats, Momentum, batch_norm};
pub use dyt::{DyT, dyt};
pub use error::NormError;
pub use group::{GroupNorm, GroupNormConfig, group_norm};
pub use instance::{InstanceNorm, InstanceNormConfig, instance_norm};
pub use layer::{LayerNorm, LayerNormConfig, layer_norm};
pub use response::{LocalResponseNorm, LocalResponseNormConfig, local_response_norm};
pub use rms::{RmsNorm, RmsNormConfig, rms_norm};
