//! The norm of all gradients together.

use alloc::{string::String, vec::Vec};

use gradus_core::Parameters;
use num_traits::Float;

use crate::{
    ClipError,
    sums::{Sums, sums},
};

/// The order of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum NormType {
    /// Sum of the absolute values.
    L1,
    /// Euclidean, the default.
    #[default]
    L2,
    /// `(sum abs(x)^p)^(1/p)`, for any p > 0. Takes a `powf` an element.
    Lp(f64),
    /// Largest absolute value.
    Inf,
}

impl NormType {
    /// The norm of order `p`, by its fastest form.
    ///
    /// ```
    /// use gradus_clip::NormType;
    /// assert_eq!(NormType::of_order(2.0)?, NormType::L2);
    /// assert_eq!(NormType::of_order(f64::INFINITY)?, NormType::Inf);
    /// # Ok::<(), gradus_clip::ClipError>(())
    /// ```
    ///
    /// # Errors
    /// [`ClipError::Order`] unless `p > 0`.
    pub fn of_order(p: f64) -> Result<Self, ClipError> {
        match Self::Lp(p).check()? {
            _ if p == 1.0 => Ok(Self::L1),
            _ if p == 2.0 => Ok(Self::L2),
            _ if p.is_infinite() => Ok(Self::Inf),
            general => Ok(general),
        }
    }

    /// Itself, if its order is one.
    pub(crate) fn check(self) -> Result<Self, ClipError> {
        match self {
            Self::Lp(p) if p.is_nan() || p <= 0.0 => Err(ClipError::Order { p }),
            Self::Lp(p) if p.is_infinite() => Ok(Self::Inf),
            other => Ok(other),
        }
    }
}

/// What one pass over all gradients finds.
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct GradNorm {
    /// The norm of all gradients together: NaN if an element is, otherwise infinite if an element is.
    /// 0 without gradients.
    pub norm: f64,
    /// Largest absolute value among the finite elements.
    pub max_abs: f64,
    /// Number of elements that are NaN or infinite.
    pub nonfinite: usize,
    /// The first gradient with an element that is NaN or infinite; if there is none, the gradient with
    /// the largest norm; `None` where every gradient is zero.
    pub worst: Option<String>,
    /// The norm of that gradient, infinite where an element is NaN or infinite; 0 where there is none.
    pub worst_norm: f64,
}

impl GradNorm {
    /// What one pass over the gradients of both would have found, up to rounding: for the shards of a model that
    /// lies in several places, or for a walk in parts.
    ///
    /// Both have to be of this `norm_type`. Merge in the same order everywhere: then all get the same bits.
    #[must_use]
    pub fn merge(self, other: Self, norm_type: NormType) -> Self {
        let bad = |found: &Self| found.nonfinite > 0;
        let other_is_worse = if bad(&self) { false } else { other.worst_norm > self.worst_norm };
        let (worst, worst_norm) = if other_is_worse {
            (other.worst, other.worst_norm)
        } else {
            (self.worst, self.worst_norm)
        };
        Self {
            norm: join(self.norm, other.norm, norm_type),
            max_abs: self.max_abs.max(other.max_abs),
            nonfinite: self.nonfinite + other.nonfinite,
            worst,
            worst_norm,
        }
    }
}

/// The norm of two parts with these norms; NaN if one is, otherwise infinite if one is.
fn join(a: f64, b: f64, norm_type: NormType) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    if high == 0.0 || high.is_infinite() {
        return high;
    }
    match norm_type {
        NormType::L1 => a + b,
        NormType::L2 => Float::hypot(a, b),
        NormType::Inf => high,
        NormType::Lp(p) if p.is_infinite() => high,
        // In proportion to the larger one: its own power may overflow.
        NormType::Lp(p) => high * Float::powf(1.0 + Float::powf(low / high, p), 1.0 / p),
    }
}

/// Measures all gradients in one pass; changes nothing.
///
/// The norm equals that of the norms of each tensor, as in PyTorch. It is computed in f64 from blocks that
/// are summed in f32, so that squares neither overflow nor vanish, and the order of additions depends on
/// the shapes alone. (f64 gradients above 1e154 do overflow, to infinity.)
///
/// ```
/// use gradus_clip::{NormType, global_norm};
/// use gradus_core::VecParam;
///
/// let param = |name, grad| VecParam::new(name, &[1], vec![0.0f32]).with_grad(vec![grad]);
/// let found = global_norm(&mut vec![param("a", 3.0), param("b", -4.0)], NormType::L2)?;
/// assert_eq!((found.norm, found.max_abs), (5.0, 4.0));
/// assert_eq!(found.worst.as_deref(), Some("b"));
/// # Ok::<(), gradus_clip::ClipError>(())
/// ```
///
/// # Errors
/// [`ClipError::Order`] for a [`NormType::Lp`] whose order is not a number above 0.
pub fn global_norm(
    params: &mut dyn Parameters,
    norm_type: NormType,
) -> Result<GradNorm, ClipError> {
    measure(params, norm_type, None)
}

/// The same; `each` receives the norm of every gradient.
pub(crate) fn measure(
    params: &mut dyn Parameters,
    norm_type: NormType,
    mut each: Option<&mut Vec<f64>>,
) -> Result<GradNorm, ClipError> {
    let norm_type = norm_type.check()?;
    let mut total = Sums::default();
    if let Some(each) = &mut each {
        each.clear();
    }
    // The name is written into one string: there are many tensors and one step in a few milliseconds.
    let (mut worst, mut worst_norm) = (String::new(), 0.0);
    params.visit(&mut |p| {
        let Some(grad) = p.grad else { return };
        let found = sums(&grad, norm_type);
        if let Some(each) = &mut each {
            each.push(found.norm(norm_type));
        }
        let nonfinite = found.nan + found.inf > 0;
        let norm = if nonfinite { f64::INFINITY } else { found.norm(norm_type) };
        let first_bad = nonfinite && total.nan + total.inf == 0;
        if first_bad || norm > worst_norm {
            worst.clear();
            worst.push_str(p.name);
            worst_norm = norm;
        }
        total.add(found);
    });
    Ok(GradNorm {
        norm: total.norm(norm_type),
        max_abs: total.max,
        nonfinite: total.nan + total.inf,
        worst: (worst_norm > 0.0).then_some(worst),
        worst_norm,
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use gradus_core::VecParam;

    use super::*;

    fn params(grads: &[(&str, &[f32])]) -> Vec<VecParam> {
        let param = |&(name, g): &(&str, &[f32])| {
            VecParam::new(name, &[g.len()], g.to_vec()).with_grad(g.to_vec())
        };
        grads.iter().map(param).collect()
    }

    #[test]
    fn shards_are_merged_into_what_one_pass_finds() {
        let (bad, small, big) =
            (("bad", &[f32::INFINITY, 1.0][..]), ("s", &[1.0f32][..]), ("b", &[-3.0f32, 2.0][..]));
        let zero = ("z", &[0.0f32][..]);
        for t in [NormType::L1, NormType::L2, NormType::Inf, NormType::Lp(3.0), NormType::Lp(0.5)] {
            for (left, right) in [(small, big), (big, small), (bad, big), (big, bad), (zero, zero)]
            {
                let one = |parts: &[_]| global_norm(&mut params(parts), t).unwrap();
                let (merged, whole) = (one(&[left]).merge(one(&[right]), t), one(&[left, right]));
                let close = (merged.norm - whole.norm).abs() <= 1e-14 * whole.norm;
                assert!(close || merged.norm == whole.norm, "{t:?} {merged:?} {whole:?}");
                assert_eq!(GradNorm { norm: whole.norm, ..merged }, whole);
            }
        }
        let nan = params(&[("n", &[f32::NAN])]);
        let found = global_norm(&mut nan.clone(), NormType::L2).unwrap();
        assert!(found.merge(GradNorm::default(), NormType::L2).norm.is_nan());
    }
}
