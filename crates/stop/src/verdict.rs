//! What one observation leads to.

use core::fmt;

/// The answer to one observation, from every criterion here.
///
/// Not an enum: an epoch may be the best so far and the last one at once (better than all before it, but
/// short of the baseline when the patience ends), and then its weights are worth keeping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub struct Verdict {
    /// This metric is the best so far: keep the weights it belongs to.
    pub improved: bool,
    /// Observations since the last one that counted, 0 if this one did.
    pub waiting: u64,
    /// Learning rates were cut: read them again. Set by [`ReduceOnPlateau`](crate::ReduceOnPlateau) alone.
    pub reduced: bool,
    /// Learning rates were raised: read them again. Set by [`ReduceOnPlateau`](crate::ReduceOnPlateau) alone.
    pub increased: bool,
    /// This batch stands out: leave its update out. Set by [`SpikeDetector`](crate::SpikeDetector) alone.
    pub spike: bool,
    /// Why training should end, if it should.
    pub stop: Option<Reason>,
}

impl Verdict {
    /// What both say together; for the end of training the first one's reason counts, if it has one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            improved: self.improved | other.improved,
            waiting: self.waiting.max(other.waiting),
            reduced: self.reduced | other.reduced,
            increased: self.increased | other.increased,
            spike: self.spike | other.spike,
            stop: self.stop.or(other.stop),
        }
    }
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
    /// The error is too far above its best (Prechelt's GL).
    GeneralizationLoss,
    /// The error is too far above its best for what training still gains (Prechelt's PQ).
    ProgressQuotient,
    /// The error has risen from strip to strip too often in a row (Prechelt's UP).
    SuccessiveIncreases,
    /// Too many spikes in a row.
    TooManySpikes,
    /// The steps are used up.
    StepBudget,
    /// The tokens, or samples, are used up.
    TokenBudget,
    /// The time is used up.
    TimeBudget,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NonFiniteMetric => "the metric is not finite",
            Self::StoppingThreshold => "the metric is better than the stopping threshold",
            Self::DivergenceThreshold => "the metric is worse than the divergence threshold",
            Self::PatienceExhausted => "the metric has stopped improving",
            Self::GeneralizationLoss => "the error is too far above its best",
            Self::ProgressQuotient => {
                "the error is too far above its best for what training still gains"
            }
            Self::SuccessiveIncreases => "the error has risen too often in a row",
            Self::TooManySpikes => "too many spikes in a row",
            Self::StepBudget => "the budget of steps is used up",
            Self::TokenBudget => "the budget of tokens is used up",
            Self::TimeBudget => "the budget of time is used up",
        })
    }
}
