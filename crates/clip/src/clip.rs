//! Clipping by global norm and by value.

use alloc::string::String;

use gradus_core::{FloatElement, Parameters, SliceMut};

use crate::{ClipError, GradNorm, NormType, global_norm};

/// What to do about a norm that is NaN or infinite.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum OnNonFinite {
    /// Return [`ClipError::NonFinite`] and leave the gradients as they are; whoever called skips the step,
    /// stops, or raises.
    #[default]
    Error,
    /// Clip nevertheless: a NaN norm makes every gradient NaN; an infinite one makes finite elements 0
    /// and infinite ones NaN. PyTorch's default.
    Propagate,
}

/// How [`clip_grad_norm`] clips.
///
/// | field | default | PyTorch's |
/// |---|---|---|
/// | `norm_type` | `L2` | the same |
/// | `on_nonfinite` | `Error` | `Propagate` |
///
/// The difference is deliberate: one NaN would spoil every parameter in the next step, silently.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClipNorm {
    /// The bound.
    pub max_norm: f64,
    /// The norm that is bounded.
    pub norm_type: NormType,
    /// What to do about a norm that is NaN or infinite.
    pub on_nonfinite: OnNonFinite,
}

impl ClipNorm {
    /// Bounds the Euclidean norm; a norm that is not finite is an error.
    #[must_use]
    pub fn new(max_norm: f64) -> Self {
        Self { max_norm, norm_type: NormType::L2, on_nonfinite: OnNonFinite::Error }
    }

    /// Sets the norm.
    #[must_use]
    pub fn with_norm_type(mut self, norm_type: NormType) -> Self {
        self.norm_type = norm_type;
        self
    }

    /// Sets what to do about a norm that is NaN or infinite.
    #[must_use]
    pub fn with_on_nonfinite(mut self, on_nonfinite: OnNonFinite) -> Self {
        self.on_nonfinite = on_nonfinite;
        self
    }
}

/// What [`clip_grad_norm`] found and did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClipReport {
    /// The norm before clipping.
    pub norm: f64,
    /// The norm after it: `norm` times the coefficient (not measured again).
    pub norm_after: f64,
    /// Whether the gradients were scaled.
    pub clipped: bool,
    /// Largest absolute value among the finite elements, before clipping.
    pub max_abs: f64,
    /// Number of elements that were NaN or infinite.
    pub nonfinite: usize,
    /// The tensor to look at, see [`GradNorm::worst`].
    pub worst: Option<String>,
}

/// Scales all gradients by `min(1, max_norm / (norm + 1e-6))`, where `norm` is that of all of them together.
///
/// Gradients keep their element types; f16 and bf16 are scaled in f32 and rounded once. Gradients within
/// the bound are not touched at all. Without gradients the norm is 0.
///
/// # Errors
/// [`ClipError::Bound`] for a `max_norm` that is NaN or negative, [`ClipError::Order`] for an order that is
/// not a number above 0, and, with [`OnNonFinite::Error`], [`ClipError::NonFinite`] for a norm that is NaN
/// or infinite. The gradients are unchanged then.
///
/// # References
/// Pascanu, Mikolov, Bengio: On the difficulty of training recurrent neural networks (2013).
///
/// ```
/// use gradus_clip::{ClipNorm, clip_grad_norm};
/// use gradus_core::VecParam;
///
/// let mut params = vec![VecParam::new("w", &[2], vec![0.0f32; 2]).with_grad(vec![30.0, 40.0])];
/// let report = clip_grad_norm(&mut params, &ClipNorm::new(5.0))?;
/// assert_eq!((report.norm, report.clipped), (50.0, true));
/// let grad = params[0].grad.as_ref().unwrap();
/// assert!((grad[0] - 3.0).abs() < 1e-6 && (grad[1] - 4.0).abs() < 1e-6);
/// # Ok::<(), gradus_clip::ClipError>(())
/// ```
pub fn clip_grad_norm(
    params: &mut dyn Parameters,
    clip: &ClipNorm,
) -> Result<ClipReport, ClipError> {
    let max_norm = check_bound(clip.max_norm)?;
    let GradNorm { norm, max_abs, nonfinite, worst } = global_norm(params, clip.norm_type)?;
    if !norm.is_finite() && clip.on_nonfinite == OnNonFinite::Error {
        let name = worst.unwrap_or_default();
        return Err(ClipError::NonFinite { norm, count: nonfinite, name });
    }
    let coefficient = max_norm / (norm + 1e-6);
    // So that NaN counts as "not within".
    let within = coefficient >= 1.0;
    if within {
        return Ok(ClipReport {
            norm,
            norm_after: norm,
            clipped: false,
            max_abs,
            nonfinite,
            worst,
        });
    }
    params.visit(&mut |p| match p.grad {
        Some(SliceMut::F32(g)) => g.iter_mut().for_each(|x| *x *= coefficient as f32),
        Some(SliceMut::F64(g)) => g.iter_mut().for_each(|x| *x *= coefficient),
        Some(SliceMut::F16(g)) => scale_half(g, coefficient as f32),
        Some(SliceMut::BF16(g)) => scale_half(g, coefficient as f32),
        None => {}
    });
    let norm_after = norm * coefficient;
    Ok(ClipReport { norm, norm_after, clipped: true, max_abs, nonfinite, worst })
}

fn scale_half<T: FloatElement>(g: &mut [T], coefficient: f32) {
    for x in g {
        *x = T::from_f32(FloatElement::to_f32(*x) * coefficient);
    }
}

/// Bounds every element of every gradient to `[-clip_value, clip_value]`.
///
/// Infinities become the bound, NaN stays. The bound is rounded to the gradient's element type.
///
/// # Errors
/// [`ClipError::Bound`] for a `clip_value` that is NaN or negative; the gradients are unchanged then.
pub fn clip_grad_value(params: &mut dyn Parameters, clip_value: f64) -> Result<(), ClipError> {
    let bound = check_bound(clip_value)?;
    params.visit(&mut |p| {
        if let Some(grad) = p.grad {
            gradus_core::with_slice!(grad, g => clamp(g, bound));
        }
    });
    Ok(())
}

fn clamp<T: FloatElement>(g: &mut [T], bound: f64) {
    let high = T::from_f64(bound);
    let low = -high;
    for x in g {
        // NaN fails both comparisons.
        let below = if *x > high { high } else { *x };
        *x = if below < low { low } else { below };
    }
}

fn check_bound(bound: f64) -> Result<f64, ClipError> {
    if bound >= 0.0 { Ok(bound) } else { Err(ClipError::Bound { bound }) }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{VecParam, bf16};

    use super::*;
    use crate::GradSlices;

    fn params(grads: &[(&str, &[f32])]) -> Vec<VecParam> {
        grads
            .iter()
            .map(|(name, g)| VecParam::new(*name, &[g.len()], g.to_vec()).with_grad(g.to_vec()))
            .collect()
    }

    fn grads(params: &[VecParam]) -> Vec<Vec<f32>> {
        params.iter().filter_map(|p| p.grad.clone()).collect()
    }

    #[test]
    fn the_report_names_the_largest_gradient() {
        let mut p = params(&[("a", &[3.0, 0.0]), ("b", &[-4.0]), ("c", &[])]);
        p.push(VecParam::new("frozen", &[], vec![1e9]));
        let report = clip_grad_norm(&mut p, &ClipNorm::new(10.0)).unwrap();
        let want = ClipReport {
            norm: 5.0,
            norm_after: 5.0,
            clipped: false,
            max_abs: 4.0,
            nonfinite: 0,
            worst: Some("b".into()),
        };
        assert_eq!(report, want);
        assert_eq!(grads(&p), [vec![3.0, 0.0], vec![-4.0], vec![]]);
    }

    #[test]
    fn no_gradients_and_zero_gradients_have_norm_0() {
        for mut p in [params(&[]), params(&[("a", &[]), ("b", &[0.0, -0.0])])] {
            let before = grads(&p);
            let report = clip_grad_norm(&mut p, &ClipNorm::new(1.0)).unwrap();
            assert_eq!((report.norm, report.clipped, report.worst), (0.0, false, None));
            assert_eq!(grads(&p), before);
        }
    }

    #[test]
    fn a_norm_that_is_not_finite_is_an_error_and_names_the_first_culprit() {
        let inf = f32::INFINITY;
        let mut p = params(&[("big", &[9e9]), ("bad", &[1.0, inf]), ("worse", &[f32::NAN, inf])]);
        let error = clip_grad_norm(&mut p, &ClipNorm::new(1.0)).unwrap_err();
        let ClipError::NonFinite { norm, count, name } = error else { panic!("{error}") };
        assert!(norm.is_nan());
        assert_eq!((count, name.as_str()), (3, "bad"));
        assert_eq!(grads(&p)[1], [1.0, inf]);
    }

    #[test]
    fn propagating_does_what_pytorch_does() {
        let clip = ClipNorm::new(1.0).with_on_nonfinite(OnNonFinite::Propagate);
        let mut p = params(&[("a", &[1.0, f32::INFINITY]), ("b", &[2.0])]);
        let report = clip_grad_norm(&mut p, &clip).unwrap();
        assert_eq!((report.norm, report.nonfinite, report.clipped), (f64::INFINITY, 1, true));
        assert_eq!((grads(&p)[0][0], grads(&p)[1][0]), (0.0, 0.0));
        assert!(grads(&p)[0][1].is_nan());

        let mut p = params(&[("a", &[f32::NAN]), ("b", &[2.0])]);
        clip_grad_norm(&mut p, &clip).unwrap();
        assert!(grads(&p).concat().iter().all(|x| x.is_nan()));
    }

    #[test]
    fn bounds_that_are_none_are_errors() {
        let mut p = params(&[("a", &[2.0])]);
        for bound in [-1.0, f64::NEG_INFINITY] {
            let error = clip_grad_norm(&mut p, &ClipNorm::new(bound));
            assert_eq!(error, Err(ClipError::Bound { bound }));
            assert_eq!(clip_grad_value(&mut p, bound), Err(ClipError::Bound { bound }));
        }
        assert!(matches!(clip_grad_value(&mut p, f64::NAN), Err(ClipError::Bound { .. })));
        for order in [0.0, -2.0, f64::NAN] {
            let clip = ClipNorm::new(1.0).with_norm_type(NormType::Lp(order));
            assert!(matches!(clip_grad_norm(&mut p, &clip), Err(ClipError::Order { .. })));
        }
        assert_eq!(grads(&p), [[2.0]]);
    }

    #[test]
    fn extreme_bounds() {
        let mut p = params(&[("a", &[2.0, -3.0])]);
        clip_grad_norm(&mut p, &ClipNorm::new(f64::INFINITY)).unwrap();
        assert_eq!(grads(&p), [[2.0, -3.0]]);
        clip_grad_norm(&mut p, &ClipNorm::new(0.0)).unwrap();
        assert_eq!(grads(&p), [[0.0, 0.0]]);
    }

    #[test]
    fn values_are_bounded_and_nan_stays() {
        let mut p = params(&[("a", &[-7.0, 0.25, f32::INFINITY, f32::NAN])]);
        clip_grad_value(&mut p, 0.5).unwrap();
        assert_eq!(grads(&p)[0][..3], [-0.5, 0.25, 0.5]);
        assert!(grads(&p)[0][3].is_nan());
    }

    #[test]
    fn types_may_be_mixed() {
        let mut a = vec![3.0f64];
        let mut b = vec![bf16::from_f32(4.0)];
        let mut slices = [a.as_mut_slice().into(), b.as_mut_slice().into()];
        let report = clip_grad_norm(&mut GradSlices(&mut slices), &ClipNorm::new(2.5)).unwrap();
        assert_eq!((report.norm, report.worst.as_deref()), (5.0, Some("1")));
        assert!((a[0] - 1.5).abs() < 1e-6);
        assert_eq!(b[0], bf16::from_f32(2.0));
    }
}
