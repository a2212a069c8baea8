#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use gradus_amp as amp;
pub use gradus_autograd as autograd;
pub use gradus_clip as clip;
pub use gradus_core as core;
pub use gradus_data as data;
pub use gradus_init as init;
pub use gradus_nn as nn;
pub use gradus_norm as norm;
pub use gradus_optim as optim;
pub use gradus_regularize as regularize;
pub use gradus_schedule as schedule;
pub use gradus_stop as stop;
pub use gradus_tensor as tensor;
pub use gradus_train as train;

pub use gradus_autograd::{Layer, Module, Param, Tape, Tensor, Var, module};
