//! One update of the parameters.

use gradus_autograd::{Module, Var};
use gradus_clip::{ClipNorm, clip_grad_norm};
use gradus_core::GradientTransform;

use crate::TrainError;

/// What one step did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepReport {
    /// The loss before the update.
    pub loss: f64,
    /// The global norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Whether they were clipped.
    pub clipped: bool,
}

/// Backward from `loss`, clip, update: one step of a loop of your own.
///
/// Nothing is updated with numbers that are not finite, unless `clip` is told to propagate them.
///
/// # Errors
/// [`TrainError`] for a loss or a norm that is not finite, a parameter that got no gradient, a learning rate that
/// is none, or an optimizer that refuses.
///
/// # Panics
/// When `loss` has more than one element.
#[track_caller]
pub fn train_step<M: Module + ?Sized>(
    model: &mut M,
    loss: &Var,
    optimizer: &mut dyn GradientTransform,
    lr: f64,
    clip: Option<&ClipNorm>,
    step: u64,
) -> Result<StepReport, TrainError> {
    let value = loss.item();
    if !value.is_finite() {
        return Err(TrainError::NonFiniteLoss { step, loss: value });
    }
    if !(lr.is_finite() && lr >= 0.0) {
        return Err(TrainError::LearningRate { step, lr });
    }
    let mut grads = loss.backward();
    let mut bound = grads.bind(model)?;
    // Without a bound gradients are measured all the same, and refused if they are not finite.
    let unbounded = ClipNorm::new(f64::INFINITY);
    let report = clip_grad_norm(&mut bound, clip.unwrap_or(&unbounded))
        .map_err(|source| TrainError::Clip { step, source })?;
    if !report.skip {
        optimizer.step(lr, &mut bound).map_err(|source| TrainError::Step { step, source })?;
    }
    Ok(StepReport { loss: value, grad_norm: report.norm, clipped: report.clipped })
}
