#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod adadelta;
mod adafactor;
mod adagrad;
mod adam;
mod adamax;
mod chain;
mod error;
mod group;
mod lamb;
mod lanes;
mod lion;
mod muon;
mod nadam;
mod param;
mod radam;
mod rmsprop;
mod rule;
mod schedule_free;
mod sgd;
mod slots;

pub use adadelta::{Adadelta, AdadeltaConfig};
pub use adafactor::{Adafactor, AdafactorConfig};
pub use adagrad::{Adagrad, AdagradConfig};
pub use adam::{Adam, AdamConfig};
pub use adamax::{Adamax, AdamaxConfig};
pub use chain::Chain;
pub use error::OptimError;
pub use group::Group;
pub use lamb::{Lamb, LambConfig};
pub use lion::{Lion, LionConfig};
pub use muon::{Muon, MuonConfig, MuonScale};
pub use nadam::{NAdam, NAdamConfig};
pub use param::DecayMask;
pub use radam::{RAdam, RAdamConfig};
pub use rmsprop::{RmsProp, RmsPropConfig};
pub use schedule_free::{ScheduleFree, ScheduleFreeConfig};
pub use sgd::{Sgd, SgdConfig};
