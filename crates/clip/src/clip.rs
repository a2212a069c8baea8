//! Clipping by global norm.

use alloc::string::String;

use gradus_core::{
    FloatElement, GradientTransform, Parameters, SliceMut, State, StateDict, StateError, StepError,
};

use gradus_kernel::kernel;

use crate::{
    ClipError, GradNorm, NormType, OnNonFinite,
    error::{check, check_bound},
    nonfinite::{Guarded, guard, staged},
    pieces,
};

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
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields)
)]
pub struct ClipNorm {
    /// The bound.
    pub max_norm: f64,
    /// The norm that is bounded.
    #[cfg_attr(feature = "serde", serde(default))]
    pub norm_type: NormType,
    /// What to do about a norm that is NaN or infinite.
    #[cfg_attr(feature = "serde", serde(default))]
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
    /// The norm before clipping; after [`OnNonFinite::Zero`] that of the finite elements.
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
    /// Whether the update has to be left out, see [`OnNonFinite::Skip`].
    pub skip: bool,
}

impl ClipReport {
    fn unchanged(found: GradNorm) -> Self {
        let GradNorm { norm, max_abs, nonfinite, worst, .. } = found;
        Self { norm, norm_after: norm, clipped: false, max_abs, nonfinite, worst, skip: false }
    }

    pub(crate) fn skipped(found: GradNorm) -> Self {
        Self { skip: true, ..Self::unchanged(found) }
    }
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
    let Guarded { found, skip } = guard(params, clip.norm_type, clip.on_nonfinite, None)?;
    Ok(if skip { ClipReport::skipped(found) } else { bound_norm(params, found, max_norm) })
}

/// Scales all gradients so that their norm, which is that of `found`, is at most `max_norm`.
pub(crate) fn bound_norm(
    params: &mut dyn Parameters,
    found: GradNorm,
    max_norm: f64,
) -> ClipReport {
    let norm = found.norm;
    let coefficient = coefficient(norm, max_norm);
    let clipped = coefficient != 1.0;
    scale_all(params, coefficient);
    let norm_after = if clipped { norm * coefficient } else { norm };
    ClipReport { norm_after, clipped, ..ClipReport::unchanged(found) }
}

/// The second half of [`clip_grad_norm`]: scales all gradients by `min(1, max_norm / (norm + 1e-6))` for a norm that
/// was measured before, and returns that coefficient.
///
/// For gradients of which this process holds a part (the norm is that of all parts together, see [`GradNorm::merge`]),
/// or that are measured at one time and scaled at another. [`global_norm`](crate::global_norm) is the first half.
/// PyTorch's `get_total_norm` and `clip_grads_with_norm_`.
///
/// ```
/// use gradus_clip::{GradSlices, NormType, clip_grads_with_norm, global_norm};
///
/// // Two shards of one model.
/// let (mut a, mut b) = (vec![3.0f32], vec![4.0f32]);
/// let norm = |g: &mut Vec<f32>| {
///     global_norm(&mut GradSlices(&mut [g.as_mut_slice().into()]), NormType::L2)
/// };
/// let all = norm(&mut a)?.merge(norm(&mut b)?, NormType::L2);
/// assert_eq!(all.norm, 5.0);
/// for shard in [&mut a, &mut b] {
///     clip_grads_with_norm(&mut GradSlices(&mut [shard.as_mut_slice().into()]), all.norm, 1.0)?;
/// }
/// assert!((a[0] - 0.6).abs() < 1e-6 && (b[0] - 0.8).abs() < 1e-6);
/// # Ok::<(), gradus_clip::ClipError>(())
/// ```
///
/// # Errors
/// [`ClipError::Bound`] for a `max_norm` that is NaN or negative, [`ClipError::OutOfRange`] for a norm that is not
/// finite or is negative. The gradients are unchanged then.
pub fn clip_grads_with_norm(
    params: &mut dyn Parameters,
    norm: f64,
    max_norm: f64,
) -> Result<f64, ClipError> {
    let max_norm = check_bound(max_norm)?;
    check((0.0..f64::INFINITY).contains(&norm), "norm", norm, "[0, inf)")?;
    let coefficient = coefficient(norm, max_norm);
    scale_all(params, coefficient);
    Ok(coefficient)
}

/// Multiplies every gradient by the same number: a mean of sums, an unscaled loss.
///
/// f16 and bf16 are multiplied in f32 and rounded once.
///
/// # Errors
/// [`ClipError::OutOfRange`] for a factor that is NaN or infinite; the gradients are unchanged then.
pub fn scale_grads(params: &mut dyn Parameters, factor: f64) -> Result<(), ClipError> {
    check(factor.is_finite(), "factor", factor, "(-inf, inf)")?;
    scale_all(params, factor);
    Ok(())
}

fn scale_all(params: &mut dyn Parameters, factor: f64) {
    if factor != 1.0 {
        params.visit(&mut |p| {
            if let Some(grad) = p.grad {
                scale(grad, factor);
            }
        });
    }
}

/// `min(1, max_norm / (norm + 1e-6))`; NaN for a NaN norm.
pub(crate) fn coefficient(norm: f64, max_norm: f64) -> f64 {
    let coefficient = max_norm / (norm + 1e-6);
    if coefficient >= 1.0 { 1.0 } else { coefficient }
}

/// Multiplies every element.
pub(crate) fn scale(grad: SliceMut<'_>, coefficient: f64) {
    match grad {
        SliceMut::F32(g) => pieces::change(g, |g| times(g, coefficient as f32)),
        SliceMut::F64(g) => pieces::change(g, |g| times(g, coefficient)),
        SliceMut::F16(g) => scale_half(g, coefficient as f32),
        SliceMut::BF16(g) => scale_half(g, coefficient as f32),
    }
}

/// Has no state.
impl State for ClipNorm {
    fn save_state(&self) -> StateDict {
        StateDict::new()
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        no_state(state)
    }
}

/// As a stage before an optimizer. The learning rate is not used.
impl GradientTransform for ClipNorm {
    fn step(&mut self, _lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        let report = clip_grad_norm(params, self)?;
        staged(report.skip, report.worst, report.nonfinite)
    }
}

/// Refuses any entry.
pub(crate) fn no_state(state: &StateDict) -> Result<(), StateError> {
    match state.iter().next() {
        Some((name, _)) => {
            Err(StateError::Invalid { name: name.into(), expected: "no state of this clip" })
        }
        None => Ok(()),
    }
}

fn scale_half<T: FloatElement>(g: &mut [T], coefficient: f32) {
    pieces::change(g, |g| {
        for x in g {
            *x = T::from_f32(FloatElement::to_f32(*x) * coefficient);
        }
    });
}

kernel! {
    fn times['a, T: FloatElement]['a, T](g: &'a mut [T], coefficient: T) -> () {
        for x in g {
            *x = *x * coefficient;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{VecParam, bf16};

    use super::*;
    use crate::{GradSlices, global_norm};

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
            skip: false,
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
    fn skipping_leaves_everything_and_says_so() {
        let clip = ClipNorm::new(1.0).with_on_nonfinite(OnNonFinite::Skip);
        let mut p = params(&[("a", &[8.0]), ("b", &[f32::INFINITY])]);
        let report = clip_grad_norm(&mut p, &clip).unwrap();
        assert!(report.skip && !report.clipped);
        assert_eq!((report.nonfinite, report.worst.as_deref()), (1, Some("b")));
        assert_eq!(grads(&p), [[8.0], [f32::INFINITY]]);
        p[1].grad = Some(vec![6.0]);
        assert!(!clip_grad_norm(&mut p, &clip).unwrap().skip);
    }

    #[test]
    fn zeroing_clips_what_remains() {
        let clip = ClipNorm::new(5.0).with_on_nonfinite(OnNonFinite::Zero);
        let mut p = params(&[("a", &[8.0, f32::NAN]), ("b", &[f32::NEG_INFINITY, 6.0])]);
        let report = clip_grad_norm(&mut p, &clip).unwrap();
        assert_eq!((report.norm, report.nonfinite, report.clipped), (10.0, 2, true));
        let coefficient = (5.0 / (10.0 + 1e-6)) as f32;
        assert_eq!(grads(&p), [[8.0 * coefficient, 0.0], [0.0, 6.0 * coefficient]]);
    }

    #[test]
    fn as_a_stage_it_refuses_what_is_not_finite() {
        for policy in [OnNonFinite::Error, OnNonFinite::Skip] {
            let mut clip = ClipNorm::new(1.0).with_on_nonfinite(policy);
            let mut p = params(&[("a", &[f32::NAN, 1.0])]);
            let error = clip.step(0.1, &mut p).unwrap_err();
            assert_eq!(error, StepError::NonFiniteGradient { name: "a".into(), count: 1 });
        }
        let error = ClipNorm::new(-1.0).step(0.1, &mut params(&[])).unwrap_err();
        assert_eq!(error, StepError::HyperParameter { name: "bound", value: -1.0 });
    }

    #[test]
    fn bounds_that_are_none_are_errors() {
        let mut p = params(&[("a", &[2.0])]);
        for bound in [-1.0, f64::NEG_INFINITY] {
            let error = clip_grad_norm(&mut p, &ClipNorm::new(bound));
            assert_eq!(error, Err(ClipError::Bound { bound }));
        }
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
    fn the_two_halves_are_the_whole() {
        let grads_of = |n: usize| (0..n).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
        let (a, b) = (grads_of(700), grads_of(300));
        let mut whole = params(&[("a", &a), ("b", &b)]);
        let report = clip_grad_norm(&mut whole, &ClipNorm::new(2.0)).unwrap();
        let mut halves = params(&[("a", &a), ("b", &b)]);
        let found = global_norm(&mut halves, NormType::L2).unwrap();
        let coefficient = clip_grads_with_norm(&mut halves, found.norm, 2.0).unwrap();
        assert_eq!(grads(&halves), grads(&whole));
        assert_eq!((found.norm, found.norm * coefficient), (report.norm, report.norm_after));
        assert_eq!(clip_grads_with_norm(&mut halves, 1.0, 2.0), Ok(1.0));
        for norm in [-1.0, f64::NAN, f64::INFINITY] {
            let error = clip_grads_with_norm(&mut halves, norm, 2.0).unwrap_err();
            assert!(matches!(error, ClipError::OutOfRange { name: "norm", .. }), "{error}");
        }
        assert!(clip_grads_with_norm(&mut halves, 1.0, -2.0).is_err());
        assert_eq!(grads(&halves), grads(&whole));
    }

    #[test]
    fn scaling_is_a_product() {
        let mut p = params(&[("a", &[3.0, -4.0])]);
        scale_grads(&mut p, -0.5).unwrap();
        assert_eq!(grads(&p), [[-1.5, 2.0]]);
        assert!(scale_grads(&mut p, f64::NAN).is_err());
        assert_eq!(grads(&p), [[-1.5, 2.0]]);
    }

    #[test]
    fn the_golden_numbers_of_pytorch() {
        let mut p = params(&[("a", &[3.0, 4.0])]);
        let report = clip_grad_norm(&mut p, &ClipNorm::new(1.0)).unwrap();
        assert_eq!(report.norm, 5.0);
        assert!((report.norm_after / 5.0 - 0.19999996).abs() < 1e-12, "{report:?}");
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
