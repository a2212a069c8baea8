#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod adam;
mod chain;
mod error;
mod group;
mod param;
mod sgd;
mod slots;

pub use adam::{Adam, AdamConfig};
pub use chain::Chain;
pub use error::OptimError;
pub use group::Group;
pub use param::DecayMask;
pub use sgd::{Sgd, SgdConfig};
