#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod dropout;
mod probability;
mod smoothing;

pub use dropout::{Dropout, dropout};
pub use probability::{Probability, ProbabilityError};
pub use smoothing::{LabelError, smooth_labels};
