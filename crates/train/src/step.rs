//! One update of the parameters.

use std::fmt;

use gradus_amp::{Finite, LossScaler, MasterWeights, Outcome, Rounding, ScaleUpdate, Skipped};
use gradus_autograd::{Module, Var};
use gradus_clip::{ClipNorm, ClipReport, clip_grad_norm};
use gradus_core::{GradientTransform, Parameters};

use crate::TrainError;

/// What one step did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepReport {
    /// The loss before the update, without the scale.
    pub loss: f64,
    /// The global norm of the gradients before clipping; NaN in a skipped step.
    pub grad_norm: f64,
    /// Whether they were clipped.
    pub clipped: bool,
    /// Why nothing was updated: scaled gradients were not finite. A schedule does not advance then.
    pub skipped: Option<Skipped>,
    /// What became of the loss's scale: 1 and 1 without a scaler.
    pub scale: ScaleUpdate,
}

/// How parameters are updated: an optimizer at a learning rate, and what there is besides.
pub struct Update<'a> {
    optimizer: &'a mut dyn GradientTransform,
    lr: f64,
    clip: Option<&'a ClipNorm>,
    scaler: Option<&'a mut LossScaler>,
    masters: Option<&'a mut MasterWeights>,
}

impl<'a> Update<'a> {
    /// By this optimizer at this learning rate.
    #[must_use]
    pub fn new(optimizer: &'a mut dyn GradientTransform, lr: f64) -> Self {
        Self { optimizer, lr, clip: None, scaler: None, masters: None }
    }

    /// With a bound on the gradients' global norm.
    #[must_use]
    pub fn with_clip(mut self, clip: Option<&'a ClipNorm>) -> Self {
        self.clip = clip;
        self
    }

    /// With a scale for the loss, so that gradients in f16 do not vanish.
    #[must_use]
    pub fn with_scaler(mut self, scaler: &'a mut LossScaler) -> Self {
        self.scaler = Some(scaler);
        self
    }

    /// With weights in f32 behind those of a model that is stored in 16 bits. They were made of `Values(&mut model)`.
    #[must_use]
    pub fn with_masters(mut self, masters: Option<&'a mut MasterWeights>) -> Self {
        self.masters = masters;
        self
    }
}

impl fmt::Debug for Update<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lr, clip, scaler, .. } = self;
        let mut f = f.debug_struct("Update");
        f.field("lr", lr).field("clip", clip).field("scaler", scaler).finish_non_exhaustive()
    }
}

/// Backward from `loss`, unscale, clip, update: one step of a loop of your own.
///
/// Nothing is updated with numbers that are not finite, unless a clip without a scaler is told to propagate them. With a
/// scaler, gradients that are not finite skip the step, and the report says so; the loss itself has to be finite, since no
/// scale of it mends that.
///
/// # Errors
/// [`TrainError`] for a loss or a norm that is not finite, a parameter that got no gradient, a learning rate that is none,
/// a scale that cannot back off any further, or an optimizer that refuses.
///
/// # Panics
/// When `loss` has more than one element.
#[track_caller]
pub fn train_step<M: Module + ?Sized>(
    model: &mut M,
    loss: &Var,
    update: Update<'_>,
    step: u64,
) -> Result<StepReport, TrainError> {
    let Update { optimizer, lr, clip, scaler, masters } = update;
    let value = loss.item();
    if !value.is_finite() {
        return Err(TrainError::NonFiniteLoss { step, loss: value });
    }
    if !(lr.is_finite() && lr >= 0.0) {
        return Err(TrainError::LearningRate { step, lr });
    }
    let mut plain = LossScaler::none();
    let scaler = scaler.unwrap_or(&mut plain);
    let mut grads = match scaler.is_enabled() {
        true => loss.mul_scalar(scaler.scale().into()).backward(),
        false => loss.backward(),
    };
    let mut bound = grads.bind(model)?;
    let outcome = match masters {
        None => scaler.step(&mut bound, |finite| apply(finite, optimizer, lr, clip, step)),
        Some(masters) => {
            let amp = |source| TrainError::Amp { step, source };
            let mut wide = masters.widen(&mut bound).map_err(amp)?;
            let outcome = scaler.step(&mut wide, |finite| apply(finite, optimizer, lr, clip, step));
            wide.round(Rounding::Nearest);
            outcome
        }
    };
    let outcome = outcome.map_err(|error| match error {
        TrainError::Amp { source, .. } => TrainError::Amp { step, source },
        other => other,
    })?;
    Ok(match outcome {
        Outcome::Stepped { result, scale } => StepReport {
            loss: value,
            grad_norm: result.norm,
            clipped: result.clipped,
            skipped: None,
            scale,
        },
        Outcome::Skipped { skipped, scale } => {
            if scale.at_floor {
                return Err(TrainError::Scale { step, scale: scale.before, source: skipped });
            }
            let grad_norm = f64::NAN;
            StepReport { loss: value, grad_norm, clipped: false, skipped: Some(skipped), scale }
        }
    })
}

/// Clips and updates.
fn apply<P: Parameters>(
    mut finite: Finite<P>,
    optimizer: &mut dyn GradientTransform,
    lr: f64,
    clip: Option<&ClipNorm>,
    step: u64,
) -> Result<ClipReport, TrainError> {
    // Without a bound gradients are measured all the same, and refused if they are not finite.
    let unbounded = ClipNorm::new(f64::INFINITY);
    let report = finite
        .clip(|grads| clip_grad_norm(grads, clip.unwrap_or(&unbounded)))
        .map_err(|source| TrainError::Clip { step, source })?;
    if !report.skip {
        finite
            .step(|params| optimizer.step(lr, params))
            .map_err(|source| TrainError::Step { step, source })?;
    }
    Ok(report)
}
