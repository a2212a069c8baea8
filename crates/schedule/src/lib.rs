#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod anneal;
#[cfg(feature = "serde")]
mod checked;
mod combine;
mod configured;
mod constant;
mod cooldown;
mod cosine;
mod cyclic;
mod error;
mod exponential;
mod ext;
mod finite;
mod function;
mod groups;
mod inverse_sqrt;
mod inverse_time;
mod layer_wise;
mod linear;
mod noise;
mod one_cycle;
mod past;
mod piecewise;
mod polynomial;
mod preview;
mod restarts;
mod search;
mod sequence;
mod shape;
mod step;
mod timing;
mod warmup;
mod wave;

pub use anneal::Anneal;
pub use combine::{Clamped, Map, Max, Min, Plus, Scaled, Times};
pub use configured::AnySchedule;
pub use constant::Constant;
pub use cooldown::{Cooldown, warmup_stable_decay};
pub use cosine::{CosineAnnealing, warmup_cosine};
pub use cyclic::{Cyclic, CyclicMode};
pub use error::ScheduleError;
pub use exponential::ExponentialDecay;
pub use ext::ScheduleExt;
pub use function::{FromFn, Multiplicative, from_fn, multiplicative};
pub use gradus_core::Schedule;
pub use groups::Groups;
pub use inverse_sqrt::{InverseSqrt, Noam};
pub use inverse_time::{InverseTime, PowerLaw};
pub use layer_wise::layer_wise_decay;
pub use linear::{Linear, warmup_linear};
pub use noise::{Noise, NoiseKind};
pub use one_cycle::OneCycle;
pub use past::{Ending, Past};
pub use piecewise::{Piecewise, PiecewiseConstant};
pub use polynomial::Polynomial;
pub use preview::{csv, sparkline, svg};
pub use restarts::WarmRestarts;
pub use search::find_step;
pub use sequence::{Sequential, Then};
pub use shape::Shape;
pub use step::{MultiStepDecay, StepDecay};
pub use timing::{AtEpoch, Delayed, Every};
pub use warmup::Warmup;
pub use wave::CosineWave;

#[cfg(test)]
mod testing;
