//! Clipping every gradient by itself.

use alloc::{string::String, vec::Vec};

use gradus_core::Parameters;
use num_traits::Float;

use crate::{
    ClipError, ClipNorm, GradNorm, NormType, OnNonFinite,
    clip::{coefficient, scale},
    error::check_bound,
    nonfinite::{Guarded, guard},
};

/// What [`clip_param_norm`] and [`clip_block_rms`] found and did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ParamClipReport {
    /// What is bounded, of each gradient before clipping, in the order of the walk; after
    /// [`OnNonFinite::Zero`] that of its finite elements.
    pub norms: Vec<f64>,
    /// Number of gradients that were scaled.
    pub clipped: usize,
    /// Number of elements that were NaN or infinite.
    pub nonfinite: usize,
    /// The tensor to look at, see [`GradNorm::worst`].
    pub worst: Option<String>,
    /// Whether the update has to be left out, see [`OnNonFinite::Skip`].
    pub skip: bool,
}

/// Bounds the norm of each gradient by itself: [`clip_grad_norm`](crate::clip_grad_norm) tensor by tensor.
///
/// Unlike the global norm this changes the direction of the update. With [`OnNonFinite::Propagate`] only the
/// tensors concerned become NaN or 0.
///
/// # Errors
/// Those of [`clip_grad_norm`](crate::clip_grad_norm); the gradients are unchanged then.
///
/// ```
/// use gradus_clip::{ClipNorm, GradSlices, clip_param_norm};
///
/// let (mut a, mut b) = (vec![30.0f64, 40.0], vec![0.5f64]);
/// let mut grads = [a.as_mut_slice().into(), b.as_mut_slice().into()];
/// let report = clip_param_norm(&mut GradSlices(&mut grads), &ClipNorm::new(5.0))?;
/// assert_eq!((report.norms, report.clipped), (vec![50.0, 0.5], 1));
/// assert!((a[0] - 3.0).abs() < 1e-6 && b[0] == 0.5);
/// # Ok::<(), gradus_clip::ClipError>(())
/// ```
pub fn clip_param_norm(
    params: &mut dyn Parameters,
    clip: &ClipNorm,
) -> Result<ParamClipReport, ClipError> {
    let max_norm = check_bound(clip.max_norm)?;
    clip_each(params, clip.norm_type, clip.on_nonfinite, |norm, _| {
        (norm, coefficient(norm, max_norm))
    })
}

/// Bounds the root mean square of each gradient by itself: `g / max(1, rms(g) / threshold)`, as optax's
/// `clip_by_block_rms`.
///
/// `norms` in the report are the root mean squares; that of an empty gradient is 0.
///
/// # Errors
/// [`ClipError::Bound`] for a threshold that is NaN or negative and, with [`OnNonFinite::Error`],
/// [`ClipError::NonFinite`]. The gradients are unchanged then.
///
/// ```
/// use gradus_clip::{GradSlices, OnNonFinite, clip_block_rms};
///
/// let mut g = vec![4.0f32; 100];
/// clip_block_rms(&mut GradSlices(&mut [g.as_mut_slice().into()]), 1.0, OnNonFinite::Error)?;
/// assert_eq!(g, [1.0; 100]);
/// # Ok::<(), gradus_clip::ClipError>(())
/// ```
pub fn clip_block_rms(
    params: &mut dyn Parameters,
    threshold: f64,
    on_nonfinite: OnNonFinite,
) -> Result<ParamClipReport, ClipError> {
    let threshold = check_bound(threshold)?;
    clip_each(params, NormType::L2, on_nonfinite, |norm, len| {
        let rms = if len == 0 { 0.0 } else { norm / Float::sqrt(len as f64) };
        (rms, if rms <= threshold { 1.0 } else { threshold / rms })
    })
}

/// Multiplies each gradient; `bound` makes what is reported and the factor of a norm and a length.
fn clip_each(
    params: &mut dyn Parameters,
    norm_type: NormType,
    on_nonfinite: OnNonFinite,
    bound: impl Fn(f64, usize) -> (f64, f64),
) -> Result<ParamClipReport, ClipError> {
    let mut norms = Vec::new();
    let Guarded { found, skip } = guard(params, norm_type, on_nonfinite, Some(&mut norms))?;
    let GradNorm { nonfinite, worst, .. } = found;
    let (mut i, mut clipped) = (0, 0);
    params.visit(&mut |p| {
        let Some(grad) = p.grad else { return };
        let (measured, factor) = bound(norms[i], grad.len());
        norms[i] = measured;
        i += 1;
        if factor != 1.0 && !skip {
            scale(grad, factor);
            clipped += 1;
        }
    });
    Ok(ParamClipReport { norms, clipped, nonfinite, worst, skip })
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::VecParam;

    use super::*;

    fn params() -> Vec<VecParam> {
        let param = |name: &str, g: &[f32]| {
            VecParam::new(name, &[g.len()], g.to_vec()).with_grad(g.to_vec())
        };
        vec![param("a", &[6.0, 8.0]), param("b", &[]), param("c", &[f32::INFINITY, 1.0])]
    }

    #[test]
    fn tensors_do_not_hurt_each_other() {
        let clip = ClipNorm::new(5.0).with_on_nonfinite(OnNonFinite::Propagate);
        let mut p = params();
        let report = clip_param_norm(&mut p, &clip).unwrap();
        assert_eq!((report.norms, report.clipped), (vec![10.0, 0.0, f64::INFINITY], 2));
        let a = p[0].grad.as_ref().unwrap();
        assert!((a[0] - 3.0).abs() < 1e-6 && (a[1] - 4.0).abs() < 1e-6);
        assert_eq!(p[2].grad.as_ref().unwrap()[1], 0.0);
    }

    #[test]
    fn the_policy_is_kept() {
        let clip = |policy| {
            let mut p = params();
            let clip = ClipNorm::new(5.0).with_on_nonfinite(policy);
            let report = clip_param_norm(&mut p, &clip);
            (report, p)
        };
        let (report, p) = clip(OnNonFinite::Error);
        assert!(matches!(report, Err(ClipError::NonFinite { count: 1, .. })));
        assert_eq!(p, params());
        let (report, p) = clip(OnNonFinite::Skip);
        let report = report.unwrap();
        assert!(report.skip && report.clipped == 0 && report.worst.as_deref() == Some("c"));
        assert_eq!(p, params());
        let (report, p) = clip(OnNonFinite::Zero);
        assert_eq!(report.unwrap().norms, [10.0, 0.0, 1.0]);
        assert_eq!(p[2].grad, Some(vec![0.0, 1.0]));
    }

    #[test]
    fn a_threshold_of_zero_makes_zeros() {
        let mut p = params();
        p.pop();
        let report = clip_block_rms(&mut p, 0.0, OnNonFinite::Error).unwrap();
        assert_eq!((report.norms, report.clipped), (vec![10.0 / 2f64.sqrt(), 0.0], 1));
        assert_eq!(p[0].grad, Some(vec![0.0, 0.0]));
        assert_eq!(
            clip_block_rms(&mut p, -1.0, OnNonFinite::Error),
            Err(ClipError::Bound { bound: -1.0 })
        );
    }
}
