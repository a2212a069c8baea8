#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate alloc;

mod config;
mod early;
mod error;
mod verdict;

pub use config::{EarlyStoppingConfig, FirstMetric, Mode};
pub use early::EarlyStopping;
pub use error::StopError;
pub use gradus_core::{State, StateDict, StateError, StateValue};
pub use verdict::{Reason, Verdict};
