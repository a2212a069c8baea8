#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod early;
mod error;
mod plateau;
mod plateau_config;
mod verdict;

pub use config::{EarlyStoppingConfig, FirstMetric, Mode};
pub use early::EarlyStopping;
pub use error::StopError;
pub use gradus_core::{State, StateDict, StateError, StateValue};
pub use plateau::ReduceOnPlateau;
pub use plateau_config::{PlateauRule, ReduceOnPlateauConfig, ThresholdMode};
pub use verdict::{Reason, Verdict};
