//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Trains a small network on handwritten digits.
#[derive(Parser, Debug)]
pub(crate) struct Args {
    /// What to train.
    #[arg(long, value_enum, default_value_t = Model::Cnn)]
    pub(crate) model: Model,
    /// A directory of MNIST-format files (also gzipped) to use instead of the digits that come with the project.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Seed of the split, the weights, the order of the images and dropout.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads that compute; all cores by default. The weights are the same for any number.
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Passes over the training images, at most.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) epochs: u64,
    /// Only a few epochs, to see that all works.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Images in a batch.
    #[arg(long, default_value_t = 32)]
    pub(crate) batch_size: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 3e-3)]
    pub(crate) lr: f64,
    /// Epochs without a better validation loss before the run ends.
    #[arg(long, default_value_t = 12)]
    pub(crate) patience: u64,
    /// Where metrics.jsonl, weights.safetensors and curve.svg go.
    #[arg(long, value_name = "DIR", default_value = "runs/digits")]
    pub(crate) out: PathBuf,
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1024) => Ok(n),
        _ => Err("expected a number from 1 to 1024".into()),
    }
}

/// The networks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Model {
    /// Two hidden layers with batch norm and dropout.
    Mlp,
    /// Three convolutions with batch norm, and dropout before the last layer.
    Cnn,
    /// Two pre-norm blocks over the rows of the image.
    Transformer,
}
