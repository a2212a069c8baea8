#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod alpha;
mod constraint;
mod depth;
mod draws;
mod drop_block;
mod drop_connect;
mod dropout;
mod erasing;
mod error;
mod gaussian;
mod groups;
mod mask;
mod mixing;
mod mixup;
mod monte_carlo;
mod patch;
mod penalty;
mod probability;
mod r_drop;
mod rate;
mod shared;
mod smoothing;

#[cfg(test)]
mod testing;

pub use alpha::{
    AlphaCoefficients, AlphaDropout, FeatureAlphaDropout, alpha_dropout, feature_alpha_dropout,
};
pub use constraint::Constraint;
pub use depth::{
    DepthMode, StochasticDepth, add_kept, depth_rates, drop_path, stagewise_depth_rates,
};
pub use drop_block::{BlockError, DropBlock, DropBlockConfig};
pub use drop_connect::{DropConnect, drop_connect};
pub use dropout::{Dropout, dropout, dropout_with};
pub use erasing::{Fill, RandomErasing, RandomErasingConfig};
pub use error::RangeError;
pub use gaussian::{GaussianDropout, GaussianNoise, gaussian_dropout, gaussian_noise};
pub use mixing::{Blend, CutBox, MixError, Mixing};
pub use mixup::{MixMode, Mixup, MixupConfig};
pub use monte_carlo::{MonteCarlo, monte_carlo};
pub use patch::{PatchDropout, patch_dropout};
pub use penalty::{activity_penalty, elastic_net, l1_penalty, l2_penalty};
pub use probability::{Probability, ProbabilityError};
pub use r_drop::{RDrop, symmetric_kl};
pub use rate::{Rate, RateError};
pub use shared::{
    ChannelDropout, VariationalDropout, channel_dropout, shared_dropout, shared_dropout_with,
    variational_dropout,
};
pub use smoothing::{LabelError, smooth_labels, smooth_targets};
