//! One update of the parameters.

use gradus_autograd::{Module, Var};
use gradus_clip::{ClipNorm, NormType, clip_grad_norm, global_norm};
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
/// Nothing is updated with numbers that are not finite.
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
    let failed = |source| TrainError::Clip { step, source };
    let (grad_norm, clipped) = match clip {
        Some(clip) => {
            let report = clip_grad_norm(&mut bound, clip).map_err(failed)?;
            (report.norm, report.clipped)
        }
        None => (global_norm(&mut bound, NormType::L2).map_err(failed)?.norm, false),
    };
    optimizer.step(lr, &mut bound)?;
    Ok(StepReport { loss: value, grad_norm, clipped })
}
