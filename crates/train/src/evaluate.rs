//! A model's mean loss and accuracy over a dataset.

use std::num::NonZeroUsize;

use gradus_autograd::Tape;
use gradus_data::{DataLoader, Dataset};

use crate::{Objective, Outcome, TrainError};

/// Mean loss and accuracy over everything seen so far, weighted by the number of answers.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Average {
    /// Mean loss.
    pub loss: f64,
    /// Share of right answers, where that has a meaning.
    pub accuracy: Option<f64>,
    /// Answers seen.
    pub count: usize,
}

impl Average {
    /// Takes one more batch in.
    pub fn add(&mut self, outcome: &Outcome) {
        let total = (self.count + outcome.count) as f64;
        if outcome.count == 0 {
            return;
        }
        let share = outcome.count as f64 / total;
        self.loss += (outcome.loss.item() - self.loss) * share;
        let right = outcome.correct.map(|c| c as f64 / outcome.count as f64);
        self.accuracy = match (self.accuracy, right) {
            (Some(old), Some(new)) => Some(old + (new - old) * share),
            (None, new) if self.count == 0 => new,
            _ => None,
        };
        self.count += outcome.count;
    }
}

/// Runs `model` over all of `data`, in its order, `batch_size` items at a time, each batch on a tape that `tape` makes:
/// `Tape::evaluation`, or one with the policy of mixed precision that the model was trained with.
///
/// # Errors
/// [`TrainError::NoBatches`] when there is nothing.
pub fn evaluate<M: ?Sized>(
    model: &M,
    objective: &impl Objective<M>,
    data: &Dataset,
    batch_size: NonZeroUsize,
    tape: impl Fn() -> Tape,
) -> Result<Average, TrainError> {
    let mut average = Average::default();
    for batch in DataLoader::from(batch_size).epoch(data, 0) {
        average.add(&objective.outcome(model, &batch, &tape()));
    }
    if average.count == 0 {
        Err(TrainError::NoBatches { examples: data.len(), batch_size: batch_size.get() })
    } else {
        Ok(average)
    }
}
