//! Adaptive gradient clipping: each unit's gradient in proportion to its weights.

use alloc::{string::String, vec::Vec};

use gradus_core::{
    GradientTransform, Parameters, SliceMut, State, StateDict, StateError, StepError, with_slice,
};

use crate::{
    ClipError, GradNorm, NormType, OnNonFinite,
    clip::{no_state, scale},
    error::check_bound,
    nonfinite::{Guarded, guard, staged},
    sums::sums,
};

/// How [`adaptive_grad_clip`] clips; as a stage of a chain, what it does there.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct AdaptiveClip {
    /// Largest norm of a unit's gradient, as a share of the norm of its weights.
    pub clip: f64,
    /// Norm that weights count as at least, so that those that start from 0 can move; 1e-3.
    #[cfg_attr(feature = "serde", serde(default = "default_eps"))]
    pub eps: f64,
    /// What to do about gradients that are NaN or infinite; an error.
    #[cfg_attr(feature = "serde", serde(default))]
    pub on_nonfinite: OnNonFinite,
}

impl AdaptiveClip {
    /// Bounds each unit's gradient to `clip` times its weights; the paper takes 0.01 for large batches.
    #[must_use]
    pub fn new(clip: f64) -> Self {
        Self { clip, eps: default_eps(), on_nonfinite: OnNonFinite::Error }
    }

    /// Sets the least norm of weights.
    #[must_use]
    pub fn with_eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets what to do about gradients that are NaN or infinite.
    #[must_use]
    pub fn with_on_nonfinite(mut self, on_nonfinite: OnNonFinite) -> Self {
        self.on_nonfinite = on_nonfinite;
        self
    }
}

fn default_eps() -> f64 {
    1e-3
}

/// What [`adaptive_grad_clip`] found and did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdaptiveReport {
    /// The global norm before clipping; after [`OnNonFinite::Zero`] that of the finite elements.
    pub norm: f64,
    /// Number of units.
    pub units: usize,
    /// Number of units whose gradient was scaled.
    pub clipped: usize,
    /// Number of elements that were NaN or infinite.
    pub nonfinite: usize,
    /// The tensor to look at, see [`GradNorm::worst`].
    pub worst: Option<String>,
    /// Whether the update has to be left out, see [`OnNonFinite::Skip`].
    pub skip: bool,
}

/// Bounds the gradient of each unit by a share of the norm of its weights.
///
/// A unit is an output row: an index of the first dimension with everything behind it; a tensor of fewer than two
/// dimensions is one unit. With Euclidean norms over the unit:
///
/// ```text
/// limit = clip max(norm(p), eps)
/// g = g limit / max(norm(g), 1e-6)          where norm(g) >= limit
/// ```
///
/// A NaN among a unit's weights makes its whole gradient NaN, as does one in the gradient that is propagated.
///
/// Leave the output layer out, as its authors do (walk the other parameters only).
///
/// # Errors
/// [`ClipError::Bound`] for a `clip` or `eps` that is NaN or negative, [`ClipError::Value`] for a gradient
/// without a value of its length, and, with [`OnNonFinite::Error`], [`ClipError::NonFinite`]. The gradients are
/// unchanged then, but after [`ClipError::Value`] those before the one named may have been clipped.
///
/// # References
/// Brock, De, Smith, Simonyan: High-performance large-scale image recognition without normalization (2021).
///
/// ```
/// use gradus_clip::{AdaptiveClip, adaptive_grad_clip};
/// use gradus_core::VecParam;
///
/// let weight = VecParam::new("w", &[2, 2], vec![3.0f64, 4.0, 3.0, 4.0]);
/// let mut params = vec![weight.with_grad(vec![0.0, 0.1, 0.0, -2.0])];
/// let report = adaptive_grad_clip(&mut params, &AdaptiveClip::new(0.1))?;
/// assert_eq!((report.units, report.clipped), (2, 1));
/// assert_eq!(params[0].grad, Some(vec![0.0, 0.1, 0.0, -0.5]));
/// # Ok::<(), gradus_clip::ClipError>(())
/// ```
pub fn adaptive_grad_clip(
    params: &mut dyn Parameters,
    clip: &AdaptiveClip,
) -> Result<AdaptiveReport, ClipError> {
    let (share, eps) = (check_bound(clip.clip)?, check_bound(clip.eps)?);
    let Guarded { found, skip } = guard(params, NormType::L2, clip.on_nonfinite, None)?;
    let GradNorm { norm, nonfinite, worst, .. } = found;
    let mut report = AdaptiveReport { norm, units: 0, clipped: 0, nonfinite, worst, skip };
    if skip {
        return Ok(report);
    }
    let mut result = Ok(());
    params.visit(&mut |p| {
        let Some(grad) = p.grad else { return };
        if result.is_err() || grad.is_empty() {
            return;
        }
        let (expected, found) = (grad.len(), p.value.as_ref().map(SliceMut::len));
        let Some(value) = p.value.filter(|v| v.len() == expected) else {
            result = Err(ClipError::Value { name: p.name.into(), expected, found });
            return;
        };
        let rows = if p.shape.len() < 2 { 1 } else { p.shape[0] };
        let unit = expected.div_ceil(rows);
        let limits = norms(value, unit).into_iter().map(|norm| share * at_least(norm, eps));
        report.units += rows;
        report.clipped += with_slice!(grad, g => {
            let mut clipped = 0;
            for (row, limit) in g.chunks_mut(unit).zip(limits) {
                let mut row = SliceMut::from(row);
                let norm = sums(&row, NormType::L2).norm(NormType::L2);
                if norm < limit {
                    continue;
                }
                scale(row.reborrow(), limit / at_least(norm, 1e-6));
                clipped += 1;
            }
            clipped
        });
    });
    result.map(|()| report)
}

/// The larger of the two; NaN stays.
fn at_least(norm: f64, least: f64) -> f64 {
    if norm < least { least } else { norm }
}

/// The norm of every `unit` elements.
fn norms(value: SliceMut<'_>, unit: usize) -> Vec<f64> {
    with_slice!(value, v => {
        v.chunks_mut(unit).map(|row| sums(&row.into(), NormType::L2).norm(NormType::L2)).collect()
    })
}

/// Has no state.
impl State for AdaptiveClip {
    fn save_state(&self) -> StateDict {
        StateDict::new()
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        no_state(state)
    }
}

/// As a stage before an optimizer. The learning rate is not used.
impl GradientTransform for AdaptiveClip {
    fn step(&mut self, _lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        let report = adaptive_grad_clip(params, self)?;
        staged(report.skip, report.worst, report.nonfinite)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::VecParam;

    use super::*;
    use crate::GradSlices;

    #[test]
    fn weights_of_zero_still_move() {
        let mut p = vec![VecParam::new("b", &[2], vec![0.0f64; 2]).with_grad(vec![3.0, 4.0])];
        adaptive_grad_clip(&mut p, &AdaptiveClip::new(0.5)).unwrap();
        let grad = p[0].grad.as_ref().unwrap();
        assert!((grad[0] - 3e-4).abs() < 1e-18 && (grad[1] - 4e-4).abs() < 1e-18);
    }

    #[test]
    fn a_nan_spreads_over_its_unit() {
        let (nan, clip) = (f32::NAN, AdaptiveClip::new(0.5));
        for (value, grad) in [([1.0, 1.0], [nan, 1.0]), ([nan, 1.0], [1.0, 1.0])] {
            let value = [&value[..], &[1.0, 1.0]].concat();
            let grad = [&grad[..], &[0.1, 0.1]].concat();
            let mut p = vec![VecParam::new("w", &[2, 2], value).with_grad(grad)];
            adaptive_grad_clip(&mut p, &clip.with_on_nonfinite(OnNonFinite::Propagate)).unwrap();
            let grad = p[0].grad.as_ref().unwrap();
            assert!(grad[0].is_nan() && grad[1].is_nan());
            assert_eq!(grad[2..], [0.1, 0.1]);
        }
    }

    #[test]
    fn gradients_without_values_are_errors() {
        let mut g = vec![1.0f32];
        let error = adaptive_grad_clip(
            &mut GradSlices(&mut [g.as_mut_slice().into()]),
            &AdaptiveClip::new(0.5),
        );
        assert_eq!(error, Err(ClipError::Value { name: "0".into(), expected: 1, found: None }));
    }

    #[test]
    fn empty_and_bad_input() {
        let empty = |shape: &[usize]| VecParam::new("e", shape, vec![0.0f32; 0]).with_grad(vec![]);
        let mut p = vec![empty(&[0]), empty(&[3, 0]), empty(&[0, 3])];
        let report = adaptive_grad_clip(&mut p, &AdaptiveClip::new(0.5)).unwrap();
        assert_eq!((report.units, report.clipped), (0, 0));
        for bad in [AdaptiveClip::new(-1.0), AdaptiveClip::new(0.1).with_eps(f64::NAN)] {
            assert!(matches!(adaptive_grad_clip(&mut p, &bad), Err(ClipError::Bound { .. })));
        }
        let mut p = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![f32::NAN])];
        let error = adaptive_grad_clip(&mut p, &AdaptiveClip::new(0.5));
        assert!(matches!(error, Err(ClipError::NonFinite { count: 1, .. })));
    }
}
