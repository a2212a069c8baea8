//! What one observation of a metric leads to.

use core::fmt;

/// The answer to one observation.
///
/// Not an enum: an epoch may be the best so far and the last one at once (better than all before it, but
/// short of the baseline when the patience ends), and then its weights are worth keeping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Verdict {
    /// This metric is the best so far: keep the weights it belongs to.
    pub improved: bool,
    /// Epochs since the last one that counted, 0 if this one did.
    pub waiting: u64,
    /// Learning rates were cut: read them again. Never set by early stopping.
    pub reduced: bool,
    /// Why training should end, if it should.
    pub stop: Option<Reason>,
}

/// Why training should end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The metric is NaN or infinite.
    NonFiniteMetric,
    /// The metric is better than the stopping threshold: the goal is reached.
    StoppingThreshold,
    /// The metric is worse than the divergence threshold: nothing will come of it.
    DivergenceThreshold,
    /// No improvement for as many epochs as the patience allows.
    PatienceExhausted,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NonFiniteMetric => "the metric is not finite",
            Self::StoppingThreshold => "the metric is better than the stopping threshold",
            Self::DivergenceThreshold => "the metric is worse than the divergence threshold",
            Self::PatienceExhausted => "the metric has stopped improving",
        })
    }
}
