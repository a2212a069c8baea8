#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod adadelta;
mod adafactor;
mod adagrad;
mod adam;
mod adamax;
mod cautious;
mod centralize;
mod chain;
mod chains;
mod config;
mod error;
mod group;
mod groups;
mod lamb;
mod lanes;
mod lion;
mod mask;
mod matrix;
mod moments;
mod muon;
mod nadam;
mod noise;
mod param;
mod pass;
mod pieces;
mod radam;
mod rmsprop;
mod rule;
mod scale_by;
mod schedule_free;
mod scheduled;
mod sgd;
mod slots;
mod stages;
mod trust_ratio;

pub use adadelta::{Adadelta, AdadeltaConfig};
pub use adafactor::{Adafactor, AdafactorConfig};
pub use adagrad::{Adagrad, AdagradConfig};
pub use adam::{Adam, AdamConfig};
pub use adamax::{Adamax, AdamaxConfig};
pub use cautious::Cautious;
pub use centralize::Centralize;
pub use chain::Chain;
pub use error::OptimError;
pub use group::Group;
pub use groups::Groups;
pub use lamb::{Lamb, LambConfig};
pub use lion::{Lion, LionConfig};
pub use mask::DecayMask;
pub use muon::{Muon, MuonConfig, MuonScale};
pub use nadam::{NAdam, NAdamConfig};
pub use noise::AddNoise;
pub use radam::{RAdam, RAdamConfig};
pub use rmsprop::{RmsProp, RmsPropConfig};
pub use scale_by::{
    ScaleByAdadelta, ScaleByAdam, ScaleByAdamax, ScaleByLion, ScaleByMuon, ScaleByNAdam,
    ScaleByRAdam, ScaleByRms, ScaleByRss, Trace,
};
pub use schedule_free::{ScheduleFree, ScheduleFreeConfig};
pub use scheduled::Scheduled;
pub use sgd::{Sgd, SgdConfig};
pub use stages::{AddDecayedWeights, ApplyUpdates, Scale, ScaleBySign};
pub use trust_ratio::ScaleByTrustRatio;
