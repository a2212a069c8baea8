#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod any_of;
mod budget;
mod config;
mod criterion;
mod early;
mod error;
mod plateau;
mod plateau_config;
mod prechelt;
mod smooth;
mod spike;
mod verdict;

pub use any_of::AnyOf;
pub use budget::Budget;
pub use config::{EarlyStoppingConfig, FirstMetric, Mode};
pub use criterion::{Criterion, Observation};
pub use early::EarlyStopping;
pub use error::StopError;
pub use gradus_core::{State, StateDict, StateError, StateValue};
pub use plateau::ReduceOnPlateau;
pub use plateau_config::{PlateauRule, ReduceOnPlateauConfig, ThresholdMode};
pub use prechelt::{Prechelt, PrecheltRule};
pub use smooth::{Smoothed, Smoothing};
pub use spike::{SpikeConfig, SpikeDetector};
pub use verdict::{Reason, Verdict};
