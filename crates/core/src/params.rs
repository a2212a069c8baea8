//! The one door to parameters: a walk that shows each as named slices.

use alloc::{boxed::Box, string::String, vec::Vec};

use half::{bf16, f16};

use crate::{DType, FloatElement};

/// A mutable slice of any floating-point type.
#[derive(Debug)]
pub enum SliceMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// 64-bit floats.
    F64(&'a mut [f64]),
    /// Half precision.
    F16(&'a mut [f16]),
    /// bfloat16.
    BF16(&'a mut [bf16]),
}

/// Runs `$body` with `$s` bound to the typed slice inside a [`SliceMut`], whatever its element type.
#[macro_export]
macro_rules! with_slice {
    ($slice:expr, $s:ident => $body:expr) => {
        match $slice {
            $crate::SliceMut::F32($s) => $body,
            $crate::SliceMut::F64($s) => $body,
            $crate::SliceMut::F16($s) => $body,
            $crate::SliceMut::BF16($s) => $body,
        }
    };
}

impl SliceMut<'_> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        with_slice!(self, s => s.len())
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::F16(_) => DType::F16,
            Self::BF16(_) => DType::BF16,
        }
    }

    /// The same slice for a shorter time, so that it can be handed on and used again.
    #[must_use]
    pub fn reborrow(&mut self) -> SliceMut<'_> {
        match self {
            Self::F32(s) => SliceMut::F32(s),
            Self::F64(s) => SliceMut::F64(s),
            Self::F16(s) => SliceMut::F16(s),
            Self::BF16(s) => SliceMut::BF16(s),
        }
    }
}

impl<'a> From<&'a mut [f32]> for SliceMut<'a> {
    fn from(s: &'a mut [f32]) -> Self {
        Self::F32(s)
    }
}
impl<'a> From<&'a mut [f64]> for SliceMut<'a> {
    fn from(s: &'a mut [f64]) -> Self {
        Self::F64(s)
    }
}
impl<'a> From<&'a mut [f16]> for SliceMut<'a> {
    fn from(s: &'a mut [f16]) -> Self {
        Self::F16(s)
    }
}
impl<'a> From<&'a mut [bf16]> for SliceMut<'a> {
    fn from(s: &'a mut [bf16]) -> Self {
        Self::BF16(s)
    }
}

/// What a parameter is for; weight-decay masks and initializers ask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum ParamKind {
    /// A matrix or a convolution kernel.
    #[default]
    Weight,
    /// An additive offset.
    Bias,
    /// Scale or shift of a normalization layer.
    Norm,
    /// A table of vectors looked up by index.
    Embedding,
}

/// One parameter during a [`Parameters::visit`].
#[derive(Debug)]
pub struct ParamMut<'a> {
    /// Path of the parameter, unique within a walk: `encoder.0.weight`.
    pub name: &'a str,
    /// Its dimensions, row-major.
    pub shape: &'a [usize],
    /// What it is for.
    pub kind: ParamKind,
    /// Its value; absent where only gradients are walked (a `Gradients` without its model).
    pub value: Option<SliceMut<'a>>,
    /// Its gradient; absent where only values are walked. A [`GradientTransform`](crate::GradientTransform)
    /// refuses a parameter that has a value and no gradient; [`PresentGradients`] hides such.
    pub grad: Option<SliceMut<'a>>,
}

/// Anything that holds named parameters: our models and gradients, or ten lines around foreign tensors.
///
/// Clipping, optimizers, initializers, averages and checkpoints all go through this door.
/// Every call visits the same parameters in the same order: a global norm takes two passes, and
/// optimizer state is kept by name and position.
///
/// ```
/// use gradus_core::{ParamKind, ParamMut, Parameters};
///
/// struct Mine { w: Vec<f32>, dw: Vec<f32> }
/// impl Parameters for Mine {
///     fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
///         f(ParamMut {
///             name: "w",
///             shape: &[2, 2],
///             kind: ParamKind::Weight,
///             value: Some(self.w.as_mut_slice().into()),
///             grad: Some(self.dw.as_mut_slice().into()),
///         });
///     }
/// }
/// let mut mine = Mine { w: vec![0.0; 4], dw: vec![1.0; 4] };
/// let mut total = 0;
/// mine.visit(&mut |p| total += p.value.unwrap().len());
/// assert_eq!(total, 4);
/// ```
pub trait Parameters {
    /// Calls `f` once for each parameter, in an order that never changes.
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>));
}

impl<T: Parameters + ?Sized> Parameters for &mut T {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        (**self).visit(f);
    }
}

impl<T: Parameters + ?Sized> Parameters for Box<T> {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        (**self).visit(f);
    }
}

/// A walk over those parameters only that have a gradient, for models that use a part of themselves in each step.
///
/// A parameter whose gradient is missing is an error for every optimizer, since its training has silently stopped.
/// Hidden behind this adapter it keeps its value, its state and its step count.
///
/// ```
/// use gradus_core::{Parameters, PresentGradients, VecParam};
///
/// let mut params =
///     vec![VecParam::new("used", &[1], vec![1.0f32]).with_grad(vec![0.5]), VecParam::new("idle", &[1], vec![2.0])];
/// let mut seen = Vec::new();
/// PresentGradients(&mut params).visit(&mut |p| seen.push(p.name.to_string()));
/// assert_eq!(seen, ["used"]);
/// ```
#[derive(Debug)]
pub struct PresentGradients<P>(pub P);

impl<P: Parameters> Parameters for PresentGradients<P> {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.0.visit(&mut |p| {
            if p.grad.is_some() {
                f(p);
            }
        });
    }
}

/// A parameter held in plain vectors: the simplest thing that implements [`Parameters`] (as `[VecParam]`).
#[derive(Clone, Debug, PartialEq)]
pub struct VecParam<T = f32> {
    /// Unique name.
    pub name: String,
    /// Dimensions; their product is `value.len()`.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: ParamKind,
    /// The value.
    pub value: Vec<T>,
    /// The gradient, as long as the value; `None` where there is none this step.
    pub grad: Option<Vec<T>>,
}

impl<T: FloatElement> VecParam<T> {
    /// A weight without a gradient yet.
    ///
    /// # Panics
    /// When `shape` does not hold exactly `value.len()` elements.
    #[must_use]
    #[track_caller]
    pub fn new(name: impl Into<String>, shape: &[usize], value: Vec<T>) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            value.len(),
            "VecParam::new: shape {shape:?} does not hold {} values",
            value.len()
        );
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            kind: ParamKind::Weight,
            value,
            grad: None,
        }
    }

    /// The same parameter with this gradient.
    ///
    /// # Panics
    /// When the gradient is not as long as the value.
    #[must_use]
    #[track_caller]
    pub fn with_grad(mut self, grad: Vec<T>) -> Self {
        assert_eq!(
            grad.len(),
            self.value.len(),
            "VecParam::with_grad: gradient and value differ in length"
        );
        self.grad = Some(grad);
        self
    }

    /// The same parameter with another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ParamKind) -> Self {
        self.kind = kind;
        self
    }
}

impl<T> Parameters for [VecParam<T>]
where
    T: FloatElement,
    for<'a> SliceMut<'a>: From<&'a mut [T]>,
{
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        for p in self {
            f(ParamMut {
                name: &p.name,
                shape: &p.shape,
                kind: p.kind,
                value: Some(p.value.as_mut_slice().into()),
                grad: p.grad.as_mut().map(|g| g.as_mut_slice().into()),
            });
        }
    }
}

impl<T> Parameters for Vec<VecParam<T>>
where
    T: FloatElement,
    for<'a> SliceMut<'a>: From<&'a mut [T]>,
{
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.as_mut_slice().visit(f);
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use super::*;

    #[test]
    fn a_vec_of_parameters_is_walked_in_order() {
        let mut params = vec![
            VecParam::new("a", &[2], vec![1.0f32, 2.0]).with_grad(vec![0.5, 0.5]),
            VecParam::new("b", &[], vec![3.0f32]).with_kind(ParamKind::Bias),
        ];
        let mut seen = Vec::new();
        params.visit(&mut |p| seen.push((p.name.to_string(), p.shape.len(), p.grad.is_some())));
        assert_eq!(seen, [("a".to_string(), 1, true), ("b".to_string(), 0, false)]);
    }

    #[test]
    #[should_panic(expected = "does not hold")]
    fn a_wrong_shape_panics() {
        let _ = VecParam::new("a", &[3], vec![1.0f32]);
    }
}
