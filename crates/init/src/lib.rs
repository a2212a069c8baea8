#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod distribution;
mod error;
mod fans;
mod gain;
mod haar;
mod init;
mod lanes;
mod lsuv;
mod mup;
pub mod presets;
mod quadrature;
mod report;
mod residual;
mod sampler;
mod structured;
mod truncated;
mod walk;

pub use distribution::Distribution;
pub use error::InitError;
pub use fans::{FanMode, Fans, Kernel, Layout};
pub use gain::{Nonlinearity, gain_of};
pub use init::{Init, Spread};
pub use lsuv::{Lsuv, LsuvLayer, variance};
pub use mup::{MupOptimizer, MupRole, MupScaling, MupTable, mup_attention_scale, mup_scaling};
pub use report::{Gauge, ReportLayer, ReportRow, VarianceReport, identical_units};
pub use residual::{fixup_scale, residual_scale};
pub use sampler::Sampler;
pub use walk::{ParamSite, init_parameters};
