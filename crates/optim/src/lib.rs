#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod adadelta;
mod adafactor;
mod adagrad;
mod adam;
mod adamax;
mod aligned;
mod average;
mod average_error;
mod average_state;
mod backup;
mod cautious;
mod centralize;
mod chain;
mod chains;
mod config;
mod ema;
mod ema_decay;
mod error;
mod group;
mod groups;
mod lamb;
mod lanes;
mod lion;
mod lookahead;
mod mask;
mod matrix;
mod moments;
mod muon;
mod nadam;
mod noise;
mod param;
mod pass;
mod pieces;
mod post_hoc;
mod radam;
mod rmsprop;
mod rule;
mod sam;
mod scale_by;
mod schedule_free;
mod scheduled;
mod sgd;
mod slots;
mod stages;
mod swa;
mod swapped;
mod trust_ratio;

pub use adadelta::{Adadelta, AdadeltaConfig};
pub use adafactor::{Adafactor, AdafactorConfig};
pub use adagrad::{Adagrad, AdagradConfig};
pub use adam::{Adam, AdamConfig};
pub use adamax::{Adamax, AdamaxConfig};
pub use average::Average;
pub use average_error::AverageError;
pub use cautious::Cautious;
pub use centralize::Centralize;
pub use chain::Chain;
pub use ema::{Ema, EmaConfig};
pub use ema_decay::{EmaDecay, TimmDecay};
pub use error::OptimError;
pub use group::Group;
pub use groups::Groups;
pub use lamb::{Lamb, LambConfig};
pub use lion::{Lion, LionConfig};
pub use lookahead::{Lookahead, LookaheadConfig};
pub use mask::DecayMask;
pub use muon::{Muon, MuonConfig, MuonScale};
pub use nadam::{NAdam, NAdamConfig};
pub use noise::AddNoise;
pub use post_hoc::PowerProfile;
pub use radam::{RAdam, RAdamConfig};
pub use rmsprop::{RmsProp, RmsPropConfig};
pub use sam::{Perturbed, Sam, SamConfig, SamError};
pub use scale_by::{
    ScaleByAdadelta, ScaleByAdam, ScaleByAdamax, ScaleByLion, ScaleByMuon, ScaleByNAdam,
    ScaleByRAdam, ScaleByRms, ScaleByRss, Trace,
};
pub use schedule_free::{ScheduleFree, ScheduleFreeConfig};
pub use scheduled::Scheduled;
pub use sgd::{Sgd, SgdConfig};
pub use stages::{AddDecayedWeights, ApplyUpdates, Scale, ScaleBySign};
pub use swa::{Lawa, Swa, SwaConfig};
pub use swapped::Swapped;
pub use trust_ratio::ScaleByTrustRatio;
