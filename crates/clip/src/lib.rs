#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod clip;
mod error;
mod norm;
mod slices;
mod sums;

pub use clip::{ClipNorm, ClipReport, OnNonFinite, clip_grad_norm, clip_grad_value};
pub use error::ClipError;
pub use norm::{GradNorm, NormType, global_norm};
pub use slices::GradSlices;
