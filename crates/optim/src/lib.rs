#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod adadelta;
mod adafactor;
mod adagrad;
mod adam;
mod adamax;
mod average;
mod average_error;
mod backup;
mod chain;
mod ema;
mod ema_decay;
mod error;
mod group;
mod lamb;
mod lanes;
mod lion;
mod lookahead;
mod muon;
mod nadam;
mod param;
mod post_hoc;
mod radam;
mod rmsprop;
mod rule;
mod sam;
mod schedule_free;
mod sgd;
mod slots;
mod swa;
mod swapped;

pub use adadelta::{Adadelta, AdadeltaConfig};
pub use adafactor::{Adafactor, AdafactorConfig};
pub use adagrad::{Adagrad, AdagradConfig};
pub use adam::{Adam, AdamConfig};
pub use adamax::{Adamax, AdamaxConfig};
pub use average::Average;
pub use average_error::AverageError;
pub use chain::Chain;
pub use ema::{Ema, EmaConfig};
pub use ema_decay::{EmaDecay, TimmDecay};
pub use error::OptimError;
pub use group::Group;
pub use lamb::{Lamb, LambConfig};
pub use lion::{Lion, LionConfig};
pub use lookahead::{Lookahead, LookaheadConfig};
pub use muon::{Muon, MuonConfig, MuonScale};
pub use nadam::{NAdam, NAdamConfig};
pub use param::DecayMask;
pub use post_hoc::PowerProfile;
pub use radam::{RAdam, RAdamConfig};
pub use rmsprop::{RmsProp, RmsPropConfig};
pub use sam::{Perturbed, Sam, SamConfig, SamError};
pub use schedule_free::{ScheduleFree, ScheduleFreeConfig};
pub use sgd::{Sgd, SgdConfig};
pub use swa::{Lawa, Swa, SwaConfig};
pub use swapped::Swapped;
