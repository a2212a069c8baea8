#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod check;

mod gradients;
mod module;
mod ops;
mod param;
mod precision;
mod tape;
mod values;
mod var;

pub use gradients::{Bound, Gradients, MissingGradients};
pub use gradus_core::{DType, ParamKind, Precision, RngStream};
pub use gradus_tensor::Tensor;
pub use module::{Entry, EntryMut, Layer, Module, NameMismatch, Path, Snapshot};
pub use ops::{CellWeights, CrossEntropy, Reduction, States};
pub use param::{Buffer, Param, ParamId};
pub use tape::{Sink, Tape};
pub use values::Values;
pub use var::Var;
