#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod dataset;
mod error;
mod file;
mod gather;
mod loader;
mod order;
mod split;
mod standardize;

pub mod cifar10;
pub mod csv;
pub mod idx;
pub mod mnist;
pub mod text;

pub use dataset::{Dataset, Split};
pub use error::{DataError, Location};
pub use gradus_tensor::{DType, Tensor};
pub use loader::{Batch, Batches, DataLoader};
pub use order::shuffled;
pub use split::{split, stratified_split};
pub use standardize::Standardize;
