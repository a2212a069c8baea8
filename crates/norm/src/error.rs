use std::fmt;

/// Why a batch cannot be normalized, or a layer not be made.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum NormError {
    /// What is normalized needs two values at least: one alone has no variance.
    BatchTooSmall {
        /// Shape of the input.
        shape: Vec<usize>,
    },
    /// Running statistics are asked for, and the layer keeps none.
    NoRunningStats,
    /// A weight cannot be kept as length and direction: a row of it has no direction.
    NoDirection {
        /// Which row is all zeros.
        row: usize,
    },
    /// Statistics are to be estimated again, from no batch at all.
    NoBatches,
    /// Channels that do not divide into groups of one size.
    Groups {
        /// How many groups were asked for.
        groups: usize,
        /// How many channels there are.
        channels: usize,
    },
    /// A number of the configuration makes no sense.
    OutOfRange {
        /// Its name.
        name: &'static str,
        /// What was given.
        value: f64,
        /// Where it has to lie.
        range: &'static str,
    },
}

/// Checks an eps: 0 is allowed, as in PyTorch.
pub(crate) fn check_eps(eps: f64) -> Result<f64, NormError> {
    let ok = eps >= 0.0 && eps.is_finite();
    if ok {
        Ok(eps)
    } else {
        Err(NormError::OutOfRange { name: "eps", value: eps, range: "[0, inf)" })
    }
}

impl fmt::Display for NormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { name, value, range } => {
                write!(f, "{name} has to lie in {range}, got {value}")
            }
            Self::NoRunningStats => {
                f.write_str("batch_norm: the layer keeps no running statistics")
            }
            Self::NoDirection { row } => {
                write!(f, "weight_norm: row {row} of the weight is all zeros and has no direction")
            }
            Self::NoBatches => {
                f.write_str("update_bn: there are no batches to estimate statistics from")
            }
            Self::Groups { groups, channels } => {
                write!(f, "{channels} channels do not divide into {groups} groups")
            }
            Self::BatchTooSmall { shape } => {
                write!(f, "expected more than 1 value per statistic, got input of shape {shape:?}")
            }
        }
    }
}

impl std::error::Error for NormError {}
