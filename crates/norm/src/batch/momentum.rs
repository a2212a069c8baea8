use crate::NormError;

/// How far running statistics move towards a batch's. PyTorch and Keras both call this *momentum* and mean
/// opposite things; here the name says which.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Momentum {
    /// `running += m (batch - running)`: the weight of the new (PyTorch; default 0.1).
    New(f64),
    /// `running = m running + (1 - m) batch`: the weight of the old (Keras, flax).
    Old(f64),
    /// The plain average over all batches (PyTorch's `momentum=None`).
    Cumulative,
}

impl Momentum {
    pub(crate) fn check(self) -> Result<(), NormError> {
        match self {
            Self::New(m) | Self::Old(m) if !(0.0..=1.0).contains(&m) => {
                Err(NormError::OutOfRange { name: "momentum", value: m, range: "[0, 1]" })
            }
            _ => Ok(()),
        }
    }

    /// The weight of batch number `count` (from 1).
    pub(crate) fn weight(self, count: i64) -> f64 {
        match self {
            Self::New(m) => m,
            Self::Old(m) => 1.0 - m,
            Self::Cumulative => 1.0 / count as f64,
        }
    }
}
