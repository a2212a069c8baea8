#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod element;
mod params;
mod precision;
mod rng;
mod schedule;
mod state;
mod transform;

pub use element::{DType, Element, FloatElement};
pub use half::{bf16, f16};
pub use params::{ParamKind, ParamMut, Parameters, PresentGradients, SliceMut, VecParam};
pub use precision::Precision;
pub use rng::{RngStream, hash_name, philox4x32, splitmix64};
pub use schedule::Schedule;
pub use state::{State, StateDict, StateError, StateValue};
pub use transform::{GradientTransform, StepError, require_gradients};
