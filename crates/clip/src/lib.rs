#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod adagc;
mod adaptive;
mod autoclip;
mod clip;
mod each;
mod error;
mod example;
mod nonfinite;
mod norm;
mod pieces;
mod skip;
mod slices;
mod sums;
mod value;
mod zclip;

pub use adagc::{AdaGc, AdaGcConfig};
pub use adaptive::{AdaptiveClip, AdaptiveReport, adaptive_grad_clip};
pub use autoclip::AutoClip;
pub use clip::{ClipNorm, ClipReport, clip_grad_norm, clip_grads_with_norm, scale_grads};
pub use each::{ParamClipReport, clip_block_rms, clip_param_norm};
pub use error::ClipError;
pub use example::{ExampleClipReport, clip_example_norm};
pub use nonfinite::OnNonFinite;
pub use norm::{GradNorm, NormType, global_norm};
pub use skip::{SkipLimit, SkipNonFinite};
pub use slices::GradSlices;
pub use value::clip_grad_value;
pub use zclip::{ZClip, ZClipConfig, ZClipScale};
