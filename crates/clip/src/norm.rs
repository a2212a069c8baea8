//! The norm of all gradients together.

use alloc::{string::String, vec::Vec};

use gradus_core::Parameters;

use crate::{
    ClipError,
    sums::{Sums, sums},
};

/// The order of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
#[non_exhaustive]
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
    })
}
