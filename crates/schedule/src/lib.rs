#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod combine;
mod constant;
mod cosine;
mod error;
mod exponential;
mod ext;
mod function;
mod linear;
mod polynomial;
mod sequence;
mod step;

pub use combine::{Scaled, Times, Warmup};
pub use constant::Constant;
pub use cosine::{CosineAnnealing, Past, warmup_cosine};
pub use error::ScheduleError;
pub use exponential::ExponentialDecay;
pub use ext::ScheduleExt;
pub use function::{FromFn, from_fn};
pub use gradus_core::Schedule;
pub use linear::Linear;
pub use polynomial::Polynomial;
pub use sequence::{Sequential, Then};
pub use step::{MultiStepDecay, StepDecay};

#[cfg(test)]
mod testing;
