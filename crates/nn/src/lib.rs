#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod activation;
mod attention;
mod conv;
mod embedding;
mod linear;
mod pool;
mod recurrent;
mod seeds;
mod sequential;
mod transformer;

pub use activation::Activation;
pub use attention::MultiHeadAttention;
pub use conv::{Conv1d, Conv2d};
pub use embedding::Embedding;
pub use gradus_autograd::{Layer, Module, Param};
pub use gradus_norm::{
    BatchNorm, DyT, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm, RmsNorm,
};
pub use gradus_regularize::{
    ChannelDropout, DropBlock, Dropout, Probability, Rate, StochasticDepth,
};
pub use linear::Linear;
pub use pool::{AvgPool2d, Flatten, GlobalAvgPool2d, MaxPool2d};
pub use recurrent::{Gru, Lstm};
pub use seeds::Seeds;
pub use sequential::Sequential;
pub use transformer::TransformerBlock;
