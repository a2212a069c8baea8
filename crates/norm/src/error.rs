use std::fmt;

/// Why a batch cannot be normalized.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NormError {
    /// In training each channel needs two values at least: one alone has no variance.
    BatchTooSmall {
        /// Shape of the input.
        shape: Vec<usize>,
    },
}

impl fmt::Display for NormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BatchTooSmall { shape } => {
                write!(
                    f,
                    "batch_norm: expected more than 1 value per channel when training, got input of shape {shape:?}"
                )
            }
        }
    }
}

impl std::error::Error for NormError {}
