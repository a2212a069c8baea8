#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
mod format;
mod master;
mod meter;
mod ops;
mod policy;
mod scaler;
mod step;
mod unscale;

pub use error::AmpError;
pub use format::{Format, Rounding};
pub use gradus_kernel::convert::Overflow;
pub use master::{MasterWeights, Wide};
pub use meter::{ExponentMeter, Losses};
pub use ops::{Autocast, OpClass};
pub use policy::Policy;
pub use scaler::{DynamicScale, LossScaler, ScaleUpdate};
pub use step::{Finite, Iteration, Outcome, Skipped, Unscaled};
