//! What happens to gradients that are NaN or infinite.

use alloc::{string::String, vec::Vec};

use gradus_core::{FloatElement, Parameters, StepError, with_slice};

use crate::{ClipError, GradNorm, NormType, norm::measure};

/// What to do about a norm that is NaN or infinite.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum OnNonFinite {
    /// Return [`ClipError::NonFinite`] and leave the gradients as they are; whoever called stops or raises.
    #[default]
    Error,
    /// Leave the gradients as they are and set `skip` in the report: the caller has to leave the update out.
    /// As a stage, which cannot keep later stages from running, the same as `Error`.
    Skip,
    /// Set the elements that are NaN or infinite to 0 and clip what remains.
    Zero,
    /// Clip nevertheless: a NaN norm makes every gradient NaN; an infinite one makes finite elements 0
    /// and infinite ones NaN. PyTorch's default.
    Propagate,
}

/// Gradients as they are to be clipped.
pub(crate) struct Guarded {
    /// The norm, of the finite elements alone after [`OnNonFinite::Zero`]; everything else is as found.
    pub(crate) found: GradNorm,
    /// Nothing may be changed, see [`OnNonFinite::Skip`].
    pub(crate) skip: bool,
}

/// Measures the gradients and applies the policy; `each` receives the norm of every one of them.
pub(crate) fn guard(
    params: &mut dyn Parameters,
    norm_type: NormType,
    policy: OnNonFinite,
    mut each: Option<&mut Vec<f64>>,
) -> Result<Guarded, ClipError> {
    let found = measure(params, norm_type, each.as_deref_mut())?;
    if found.norm.is_finite() {
        return Ok(Guarded { found, skip: false });
    }
    match policy {
        OnNonFinite::Error => {
            let GradNorm { norm, nonfinite: count, worst, .. } = found;
            Err(ClipError::NonFinite { norm, count, name: worst.unwrap_or_default() })
        }
        OnNonFinite::Skip => Ok(Guarded { found, skip: true }),
        OnNonFinite::Zero => {
            zero(params);
            let norm = measure(params, norm_type, each)?.norm;
            Ok(Guarded { found: GradNorm { norm, ..found }, skip: false })
        }
        OnNonFinite::Propagate => Ok(Guarded { found, skip: false }),
    }
}

fn zero(params: &mut dyn Parameters) {
    fn finite_or_zero<T: FloatElement>(g: &mut [T]) {
        for x in g {
            if !x.is_finite() {
                *x = T::zero();
            }
        }
    }
    params.visit(&mut |p| {
        if let Some(grad) = p.grad {
            with_slice!(grad, g => finite_or_zero(g));
        }
    });
}

/// A clip as a stage of a chain: what a report says as what a step says.
pub(crate) fn staged(skip: bool, worst: Option<String>, count: usize) -> Result<(), StepError> {
    if skip {
        return Err(StepError::NonFiniteGradient { name: worst.unwrap_or_default(), count });
    }
    Ok(())
}
