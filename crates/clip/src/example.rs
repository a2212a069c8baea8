//! Clipping the gradient of every example by itself.

use alloc::{string::String, vec, vec::Vec};

use gradus_core::{ParamMut, Parameters, SliceMut, with_slice};

use crate::{
    ClipError, ClipNorm, OnNonFinite,
    clip::{coefficient, scale},
    error::check_bound,
    sums::{Sums, sums},
};

/// What [`clip_example_norm`] found and did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExampleClipReport {
    /// The norm of each example's gradient before clipping, over all parameters together.
    pub norms: Vec<f64>,
    /// Number of examples whose gradient was scaled, or set to 0.
    pub clipped: usize,
    /// Number of elements that were NaN or infinite.
    pub nonfinite: usize,
    /// Whether the update has to be left out, see [`OnNonFinite::Skip`].
    pub skip: bool,
}

/// Bounds the norm of each example's gradient, where every gradient is `[examples, ..]`: one for each example of the
/// batch along the first dimension.
///
/// The norm of an example is that of its rows in all parameters together, and all of them are scaled by
/// `min(1, max_norm / (norm + 1e-6))`. Then no example moves the sum by more than `max_norm`: what differentially
/// private training (DP-SGD) adds its noise to, and what one mislabelled example can do at most. Summing over the
/// examples, and noise, are the caller's. With [`OnNonFinite::Zero`] an example with an element that is NaN or
/// infinite counts for nothing: all of its gradient is set to 0.
///
/// # Errors
/// Those of [`clip_grad_norm`](crate::clip_grad_norm); the gradients are unchanged then.
///
/// # Panics
/// When a gradient has no dimensions, or not as many examples as the first one.
///
/// # References
/// Abadi et al.: Deep learning with differential privacy (2016).
///
/// ```
/// use gradus_clip::{ClipNorm, clip_example_norm};
/// use gradus_core::VecParam;
///
/// let grads = |name, g: Vec<f64>| VecParam::new(name, &[2, 1], vec![0.0; 2]).with_grad(g);
/// let mut params = vec![grads("a", vec![3.0, 0.3]), grads("b", vec![4.0, 0.4])];
/// let report = clip_example_norm(&mut params, &ClipNorm::new(1.0))?;
/// assert_eq!((report.norms, report.clipped), (vec![5.0, 0.5], 1));
/// assert!((params[1].grad.as_ref().unwrap()[0] - 0.8).abs() < 1e-6);
/// assert_eq!(params[1].grad.as_ref().unwrap()[1], 0.4);
/// # Ok::<(), gradus_clip::ClipError>(())
/// ```
#[track_caller]
pub fn clip_example_norm(
    params: &mut dyn Parameters,
    clip: &ClipNorm,
) -> Result<ExampleClipReport, ClipError> {
    let max_norm = check_bound(clip.max_norm)?;
    let norm_type = clip.norm_type.check()?;
    let (mut totals, mut first_bad) = (Vec::new(), String::new());
    each_row(params, &mut |name, examples, example, row| {
        totals.resize(examples, Sums::default());
        let found = sums(&row, norm_type);
        if found.nan + found.inf > 0 && first_bad.is_empty() {
            first_bad = name.into();
        }
        totals[example].add(found);
    });
    let norms: Vec<f64> = totals.iter().map(|total| total.norm(norm_type)).collect();
    let nonfinite = totals.iter().map(|total| total.nan + total.inf).sum();
    let bad = norms.iter().copied().find(|norm| !norm.is_finite());
    let mut report = ExampleClipReport { norms, clipped: 0, nonfinite, skip: false };
    match (bad, clip.on_nonfinite) {
        (Some(norm), OnNonFinite::Error) => {
            return Err(ClipError::NonFinite { norm, count: nonfinite, name: first_bad });
        }
        (Some(_), OnNonFinite::Skip) => return Ok(ExampleClipReport { skip: true, ..report }),
        _ => {}
    }
    let factor = |&norm: &f64| match clip.on_nonfinite {
        OnNonFinite::Zero if !norm.is_finite() => None,
        _ => Some(coefficient(norm, max_norm)),
    };
    let factors: Vec<Option<f64>> = report.norms.iter().map(factor).collect();
    report.clipped = factors.iter().filter(|&&factor| factor != Some(1.0)).count();
    each_row(params, &mut |_, _, example, row| match factors[example] {
        Some(1.0) => {}
        Some(factor) => scale(row, factor),
        // Not a product: 0 times infinity is NaN.
        None => with_slice!(row, row => row.fill(Default::default())),
    });
    Ok(report)
}

/// Calls `f` with the parameter's name, the number of examples, the example and its row, for all rows of all gradients.
#[track_caller]
fn each_row(params: &mut dyn Parameters, f: &mut dyn FnMut(&str, usize, usize, SliceMut<'_>)) {
    let mut expected = None;
    params.visit(&mut |p| {
        let ParamMut { name, shape, grad: Some(grad), .. } = p else { return };
        let examples = shape.first().copied();
        let same = examples.is_some_and(|n| *expected.get_or_insert(n) == n);
        let want = expected.map_or_else(|| String::from("examples"), |n| alloc::format!("{n}"));
        assert!(same, "clip_example_norm: gradient {name} is {shape:?}, not [{want}, ..]");
        let examples = examples.unwrap_or(0);
        let width = grad.len() / examples.max(1);
        // Without elements there are rows all the same: every example has a norm.
        let mut empty = vec![[0.0f32; 0]; if width == 0 { examples } else { 0 }];
        for (example, row) in empty.iter_mut().enumerate() {
            f(name, examples, example, row.as_mut_slice().into());
        }
        with_slice!(grad, g => {
            for (example, row) in g.chunks_exact_mut(width.max(1)).enumerate() {
                f(name, examples, example, row.into());
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use gradus_core::VecParam;

    use super::*;
    use crate::{GradSlices, NormType, clip_grad_norm};

    fn params(first: &[f32]) -> Vec<VecParam> {
        let param = |name: &str, shape: &[usize], g: &[f32]| {
            VecParam::new(name, shape, g.to_vec()).with_grad(g.to_vec())
        };
        vec![
            param("w", &[3, 2], first),
            param("none", &[3, 0], &[]),
            param("b", &[3], &[1.0, -2.0, 4.0]),
        ]
    }

    #[test]
    fn every_example_is_clipped_as_if_alone() {
        let before = [3.0, 4.0, 0.1, 0.2, -6.0, 7.0];
        for t in [NormType::L1, NormType::L2, NormType::Inf, NormType::Lp(3.0)] {
            let clip = ClipNorm::new(2.5).with_norm_type(t);
            let mut p = params(&before);
            let report = clip_example_norm(&mut p, &clip).unwrap();
            let b = [1.0, -2.0, 4.0];
            let mut clipped = 0;
            for i in 0..3 {
                let mut alone = vec![before[2 * i], before[2 * i + 1], b[i]];
                let mut slices = [alone.as_mut_slice().into()];
                let one = clip_grad_norm(&mut GradSlices(&mut slices), &clip).unwrap();
                clipped += usize::from(one.clipped);
                assert!((report.norms[i] - one.norm).abs() <= 1e-6 * one.norm, "{t:?} {i}");
                let (w, b) = (p[0].grad.as_ref().unwrap(), p[2].grad.as_ref().unwrap());
                for (got, want) in [w[2 * i], w[2 * i + 1], b[i]].into_iter().zip(alone) {
                    assert!((got - want).abs() <= 1e-6 * want.abs(), "{t:?} {i}: {got} {want}");
                }
            }
            assert_eq!(report.clipped, clipped);
        }
    }

    #[test]
    fn a_bad_example_is_an_error_or_skipped_or_zeroed_alone() {
        let bad = [3.0, 4.0, f32::NAN, 0.2, 0.0, 0.0];
        let clip = |policy| {
            let mut p = params(&bad);
            (clip_example_norm(&mut p, &ClipNorm::new(5.0).with_on_nonfinite(policy)), p)
        };
        let (error, _) = clip(OnNonFinite::Error);
        assert!(
            matches!(&error, Err(ClipError::NonFinite { count: 1, name, .. }) if name == "w"),
            "{error:?}"
        );
        let (report, p) = clip(OnNonFinite::Skip);
        assert!(report.unwrap().skip);
        assert_eq!(p[2].grad, Some(vec![1.0, -2.0, 4.0]));
        let (report, p) = clip(OnNonFinite::Zero);
        let report = report.unwrap();
        assert_eq!((report.clipped, report.nonfinite, report.skip), (2, 1, false));
        assert_eq!(p[0].grad.as_ref().unwrap()[2..], [0.0; 4]);
        assert_eq!(p[2].grad.as_ref().unwrap()[1..], [0.0, 4.0]);
        let (report, p) = clip(OnNonFinite::Propagate);
        assert!(report.unwrap().norms[1].is_nan() && p[2].grad.as_ref().unwrap()[1].is_nan());
        assert_eq!(p[2].grad.as_ref().unwrap()[2], 4.0);
    }

    #[test]
    fn no_examples_have_no_norms() {
        let mut none: Vec<VecParam> = Vec::new();
        assert!(clip_example_norm(&mut none, &ClipNorm::new(1.0)).unwrap().norms.is_empty());
        let empty = |shape: &[usize]| VecParam::new("e", shape, vec![0.0f32; 0]).with_grad(vec![]);
        let mut p = vec![empty(&[0, 3])];
        assert!(clip_example_norm(&mut p, &ClipNorm::new(1.0)).unwrap().norms.is_empty());
        let mut p = vec![empty(&[2, 0])];
        assert_eq!(clip_example_norm(&mut p, &ClipNorm::new(1.0)).unwrap().norms, [0.0, 0.0]);
        assert!(clip_example_norm(&mut p, &ClipNorm::new(-1.0)).is_err());
    }

    #[test]
    #[should_panic(expected = "gradient b is [2], not [3, ..]")]
    fn another_number_of_examples_panics() {
        let mut p = params(&[0.0; 6]);
        p[2] = VecParam::new("b", &[2], vec![0.0; 2]).with_grad(vec![0.0; 2]);
        let _ = clip_example_norm(&mut p, &ClipNorm::new(1.0));
    }

    #[test]
    #[should_panic(expected = "gradient s is [], not [examples, ..]")]
    fn a_gradient_without_dimensions_panics() {
        let mut p = vec![VecParam::new("s", &[], vec![0.0]).with_grad(vec![0.0])];
        let _ = clip_example_norm(&mut p, &ClipNorm::new(1.0));
    }
}
