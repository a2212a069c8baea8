//! Label smoothing.

use std::fmt;

use gradus_autograd::{DType, Tensor};

use crate::{Probability, groups::in_real};

/// Class probabilities `(1 - smoothing) onehot(label) + smoothing / classes`, in f32.
///
/// `cross_entropy` has smoothing of its own; this is for losses that take probabilities, and for mixing targets.
///
/// # Shapes
/// `labels` i64 `[N]`, result `[N, classes]`.
///
/// # Errors
/// [`LabelError`] for a label outside of `0..classes`.
///
/// # Panics
/// When `labels` is not a 1-d tensor of i64.
///
/// # References
/// Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception architecture (2016), arXiv:1512.00567.
#[track_caller]
pub fn smooth_labels(
    labels: &Tensor,
    classes: usize,
    smoothing: Probability,
) -> Result<Tensor, LabelError> {
    assert_eq!(labels.ndim(), 1, "smooth_labels: labels of shape {:?}", labels.shape());
    let labels = labels.to_vec::<i64>();
    let outside = |label: &i64| usize::try_from(*label).map_or(true, |label| label >= classes);
    if let Some(row) = labels.iter().position(outside) {
        return Err(LabelError { row, label: labels[row], classes });
    }
    let e = smoothing.get();
    let low = e / classes as f64;
    let mut out = Tensor::full(&[labels.len(), classes], low, DType::F32);
    for (row, &label) in out.make_mut::<f32>().chunks_mut(classes.max(1)).zip(&labels) {
        row[label as usize] = (1.0 - e + low) as f32;
    }
    Ok(out)
}

/// `(1 - smoothing) targets + smoothing / K`: the smoothing of targets that are probabilities already.
///
/// # Shapes
/// `targets` `[.., K]` of floats, the result as they.
///
/// # Panics
/// When there is no last dimension or the elements are not floats.
#[must_use]
#[track_caller]
pub fn smooth_targets(targets: &Tensor, smoothing: Probability) -> Tensor {
    let classes = *targets.shape().last().expect("smooth_targets: targets of shape []");
    let e = smoothing.get();
    in_real(targets.clone(), |t| t.affine(1.0 - e, e / classes as f64))
}

/// A label that is none of the classes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LabelError {
    /// Its row.
    pub row: usize,
    /// The label.
    pub label: i64,
    /// Number of classes.
    pub classes: usize,
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}: label {} is not one of {} classes", self.row, self.label, self.classes)
    }
}

impl std::error::Error for LabelError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_distributions() {
        let e = Probability::new(0.1).unwrap();
        let t = smooth_labels(&Tensor::from_slice(&[2i64, 0], &[2]), 4, e).unwrap();
        assert_eq!(t.shape(), [2, 4]);
        let v = t.to_vec::<f32>();
        assert!((v[2] - 0.925).abs() < 1e-6 && (v[0] - 0.025).abs() < 1e-7);
        assert!((v[..4].iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn smoothing_hard_targets_is_smoothing_labels() {
        let labels = Tensor::from_slice(&[2i64, 0], &[2]);
        let e = Probability::new(0.3).unwrap();
        let hard = smooth_labels(&labels, 4, Probability::ZERO).unwrap();
        let (a, b) = (smooth_targets(&hard, e), smooth_labels(&labels, 4, e).unwrap());
        assert!(a.to_vec::<f32>().iter().zip(b.to_vec::<f32>()).all(|(a, b)| (a - b).abs() < 1e-7));
    }

    #[test]
    fn a_wrong_label_is_named() {
        let bad = smooth_labels(&Tensor::from_slice(&[0i64, 4], &[2]), 4, Probability::ZERO);
        assert_eq!(bad.unwrap_err(), LabelError { row: 1, label: 4, classes: 4 });
        let of = |label: i64, classes| {
            smooth_labels(&Tensor::from_slice(&[label], &[1]), classes, Probability::ZERO)
        };
        assert!(of(-1, 4).is_err() && of(0, 0).is_err() && of(i64::MIN, 4).is_err());
        let none = smooth_labels(&Tensor::zeros(&[0], DType::I64), 0, Probability::HALF);
        assert_eq!(none.unwrap().shape(), [0, 0]);
    }
}
