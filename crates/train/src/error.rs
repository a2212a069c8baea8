use std::{fmt, io, path::PathBuf};

use gradus_amp::{AmpError, Skipped};
use gradus_autograd::MissingGradients;
use gradus_clip::ClipError;
use gradus_core::StepError;

/// Why training ended early.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrainError {
    /// The loss is NaN or infinite; the model has not been updated with it.
    NonFiniteLoss {
        /// The step, from 0.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A trainable parameter got no gradient.
    MissingGradients(MissingGradients),
    /// The gradients are not finite, or the bound to which they should be clipped is wrong.
    Clip {
        /// The step, from 0.
        step: u64,
        /// Why.
        source: ClipError,
    },
    /// The optimizer refused the step.
    Step {
        /// The step, from 0.
        step: u64,
        /// Why.
        source: StepError,
    },
    /// Scaled gradients are not finite, and the scale is at its floor already: it is not the scale that makes them so.
    Scale {
        /// The step, from 0.
        step: u64,
        /// The scale.
        scale: f32,
        /// The first parameter whose gradient is not finite.
        source: Skipped,
    },
    /// The scaler or the master weights refused the gradients.
    Amp {
        /// The step, from 0; 0 for what was wrong before the first one.
        step: u64,
        /// Why.
        source: AmpError,
    },
    /// There is nothing to train or evaluate on.
    NoBatches {
        /// Examples in the dataset.
        examples: usize,
        /// Examples in a batch.
        batch_size: usize,
    },
    /// A run of no epoch trains nothing.
    NoEpochs,
    /// The learning rate is NaN, infinite or negative.
    LearningRate {
        /// The step, from 0.
        step: u64,
        /// The rate.
        lr: f64,
    },
    /// The metrics file could not be written.
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread pool could not be made.
    Threads(rayon::ThreadPoolBuildError),
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonFiniteLoss { step, loss } => write!(f, "step {step}: the loss is {loss}"),
            Self::MissingGradients(e) => e.fmt(f),
            Self::Clip { step, source } => write!(f, "step {step}: {source}"),
            Self::Step { step, source } => write!(f, "step {step}: {source}"),
            Self::Scale { step, scale, source } => {
                write!(f, "step {step}: {source}, with a scale of {scale}, which is the least")
            }
            Self::Amp { step, source } => write!(f, "step {step}: {source}"),
            Self::NoBatches { examples, batch_size } => {
                write!(f, "a dataset of {examples} examples gives no batch of {batch_size}")
            }
            Self::NoEpochs => f.write_str("expected at least 1 epoch, found 0"),
            Self::LearningRate { step, lr } => write!(f, "step {step}: a learning rate of {lr}"),
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Threads(e) => write!(f, "no thread pool: {e}"),
        }
    }
}

impl std::error::Error for TrainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::MissingGradients(e) => Some(e),
            Self::Clip { source, .. } => Some(source),
            Self::Step { source, .. } => Some(source),
            Self::Scale { source, .. } => Some(source),
            Self::Amp { source, .. } => Some(source),
            Self::Io { source, .. } => Some(source),
            Self::Threads(e) => Some(e),
            _ => None,
        }
    }
}

impl From<MissingGradients> for TrainError {
    fn from(e: MissingGradients) -> Self {
        Self::MissingGradients(e)
    }
}

/// What the scaler refuses inside a step; the trainer adds the step.
impl From<AmpError> for TrainError {
    fn from(source: AmpError) -> Self {
        Self::Amp { step: 0, source }
    }
}
