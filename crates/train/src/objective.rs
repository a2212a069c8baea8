//! What a training run minimises.

use gradus_autograd::{CrossEntropy, Layer, Tape, Tensor, Var};
use gradus_data::Batch;

/// What a model makes of a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// The mean loss over the batch, one element.
    pub loss: Var,
    /// How many answers the loss is the mean of: examples, or tokens.
    pub count: usize,
    /// How many of them were right, where that has a meaning.
    pub correct: Option<usize>,
}

impl Outcome {
    /// A mean loss over `count` answers.
    #[must_use]
    pub fn new(loss: Var, count: usize) -> Self {
        Self { loss, count, correct: None }
    }

    /// With how many answers were right.
    #[must_use]
    pub fn with_correct(mut self, correct: usize) -> Self {
        self.correct = Some(correct);
        self
    }
}

/// What to minimise: any closure `|model, batch, tape| Outcome`.
pub trait Objective<M: ?Sized> {
    /// Runs the model on a batch.
    fn outcome(&self, model: &M, batch: &Batch, tape: &Tape) -> Outcome;
}

impl<M: ?Sized, F: Fn(&M, &Batch, &Tape) -> Outcome> Objective<M> for F {
    fn outcome(&self, model: &M, batch: &Batch, tape: &Tape) -> Outcome {
        self(model, batch, tape)
    }
}

/// Cross-entropy between the model's logits `[B, classes]` and labels `[B]`, smoothed in training and in evaluation
/// alike: a stopper should watch what is minimised.
///
/// # Panics
/// In use, when `label_smoothing` lies outside of [0, 1] or a label is none of the classes.
pub fn classification<M: Layer + ?Sized>(
    label_smoothing: f64,
) -> impl Fn(&M, &Batch, &Tape) -> Outcome {
    move |model, batch, tape| {
        let logits = model.forward(&tape.constant(batch.inputs.clone()));
        let options = CrossEntropy::default().with_label_smoothing(label_smoothing);
        let loss = logits.cross_entropy(&batch.targets, &options);
        let correct = count_correct(logits.value(), &batch.targets);
        Outcome::new(loss, batch.indices.len()).with_correct(correct)
    }
}

fn count_correct(logits: &Tensor, labels: &Tensor) -> usize {
    let predicted = logits.argmax(Some(1), false).to_vec::<i64>();
    predicted.iter().zip(labels.contiguous().as_slice::<i64>()).filter(|(p, l)| p == l).count()
}
