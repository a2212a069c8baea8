//! One parameter's value and gradient as typed slices, checked once.

use alloc::string::String;

use gradus_core::{FloatElement, ParamMut, Parameters, SliceMut, StepError, bf16, f16};

use crate::slots::Work;

/// Which parameters weight decay applies to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum DecayMask {
    /// All of them, as in PyTorch.
    #[default]
    All,
    /// Those with two or more dimensions: no decay for biases and for scales of normalization layers.
    NoDecay1d,
}

impl DecayMask {
    /// The weight decay of a parameter of this shape.
    pub(crate) fn decay(self, weight_decay: f64, shape: &[usize]) -> f64 {
        match self {
            Self::NoDecay1d if shape.len() < 2 => 0.0,
            _ => weight_decay,
        }
    }
}

/// A parameter's element type together with the type that its update is computed in, which is also that
/// of its state.
pub(crate) trait Value: FloatElement {
    /// f64 for f64, f32 for all others.
    type Work: Work;
    fn load(self) -> Self::Work;
    fn store(work: Self::Work) -> Self;
}

macro_rules! value {
    ($t:ty, $work:ty, $load:expr, $store:expr) => {
        impl Value for $t {
            type Work = $work;
            #[inline(always)]
            fn load(self) -> $work {
                $load(self)
            }
            #[inline(always)]
            fn store(work: $work) -> Self {
                $store(work)
            }
        }
    };
}
value!(f32, f32, |x| x, |x| x);
value!(f64, f64, |x| x, |x| x);
value!(f16, f32, FloatElement::to_f32, FloatElement::from_f32);
value!(bf16, f32, FloatElement::to_f32, FloatElement::from_f32);

/// The gradient with an L2 penalty. Without one, a parameter that is infinite keeps out of it.
#[inline(always)]
pub(crate) fn l2_gradient<W: Work>(g: W, weight_decay: W, p: W) -> W {
    if weight_decay == W::zero() { g } else { g + weight_decay * p }
}

/// Runs `$body` on the value and the gradient of a parameter as slices of one type.
///
/// `$pair` is what [`value_and_grad`] returned.
macro_rules! with_pair {
    ($pair:expr, $p:ident, $g:ident => $body:expr) => {
        match $pair {
            (gradus_core::SliceMut::F32($p), gradus_core::SliceMut::F32($g)) => $body,
            (gradus_core::SliceMut::F64($p), gradus_core::SliceMut::F64($g)) => $body,
            (gradus_core::SliceMut::F16($p), gradus_core::SliceMut::F16($g)) => $body,
            (gradus_core::SliceMut::BF16($p), gradus_core::SliceMut::BF16($g)) => $body,
            _ => unreachable!("value_and_grad returns two slices of one type"),
        }
    };
}
pub(crate) use with_pair;

/// Value and gradient, of one type and length; `None` for a parameter without a gradient.
pub(crate) fn value_and_grad<'a>(
    p: ParamMut<'a>,
) -> Result<Option<(SliceMut<'a>, SliceMut<'a>)>, StepError> {
    let Some(grad) = p.grad else { return Ok(None) };
    let name = || String::from(p.name);
    let Some(value) = p.value else { return Err(StepError::MissingValue { name: name() }) };
    if value.dtype() != grad.dtype() {
        return Err(StepError::DTypeMismatch {
            name: name(),
            value: value.dtype(),
            grad: grad.dtype(),
        });
    }
    if value.len() != grad.len() {
        return Err(StepError::LengthMismatch {
            name: name(),
            expected: value.len(),
            found: grad.len(),
        });
    }
    Ok(Some((value, grad)))
}

/// Walks the parameters until one fails, and returns that failure.
pub(crate) fn try_visit(
    params: &mut dyn Parameters,
    mut f: impl FnMut(ParamMut<'_>) -> Result<(), StepError>,
) -> Result<(), StepError> {
    let mut result = Ok(());
    params.visit(&mut |p| {
        if result.is_ok() {
            result = f(p);
        }
    });
    result
}

/// Refuses a learning rate that would spoil every parameter.
pub(crate) fn check_lr(lr: f64) -> Result<(), StepError> {
    if lr >= 0.0 && lr.is_finite() { Ok(()) } else { Err(StepError::LearningRate { lr }) }
}
