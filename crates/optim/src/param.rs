//! One parameter's name, value and gradient, checked once and as typed slices.

use gradus_core::{FloatElement, ParamKind, ParamMut, Parameters, StepError, bf16, f16};

use crate::slots::Work;

/// What a rule may know of a parameter besides its numbers.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: &'a [usize],
    pub(crate) kind: ParamKind,
}

impl<'a> Site<'a> {
    pub(crate) fn of(p: &ParamMut<'a>) -> Self {
        Self { name: p.name, shape: p.shape, kind: p.kind }
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

/// Runs `$body` on the value and the gradient of a parameter as slices of one type, which [`check`] has seen to.
macro_rules! with_pair {
    ($pair:expr, $p:ident, $g:ident => $body:expr) => {
        match $pair {
            (gradus_core::SliceMut::F32($p), gradus_core::SliceMut::F32($g)) => $body,
            (gradus_core::SliceMut::F64($p), gradus_core::SliceMut::F64($g)) => $body,
            (gradus_core::SliceMut::F16($p), gradus_core::SliceMut::F16($g)) => $body,
            (gradus_core::SliceMut::BF16($p), gradus_core::SliceMut::BF16($g)) => $body,
            _ => unreachable!("value and gradient are of one type"),
        }
    };
}
pub(crate) use with_pair;

/// Checks that a parameter with a gradient has a value, if the rule needs it, and that what there is fits together.
pub(crate) fn check(p: &ParamMut<'_>, needs_value: bool) -> Result<(), StepError> {
    let name = || p.name.into();
    let Some(grad) = &p.grad else { return Ok(()) };
    let expected = p.shape.iter().product();
    let lengths = [p.value.as_ref().map(|v| v.len()), Some(grad.len())];
    if let Some(found) = lengths.into_iter().flatten().find(|&found| found != expected) {
        return Err(StepError::LengthMismatch { name: name(), expected, found });
    }
    match &p.value {
        None if needs_value => Err(StepError::MissingValue { name: name() }),
        Some(value) if value.dtype() != grad.dtype() => {
            let (value, grad) = (value.dtype(), grad.dtype());
            Err(StepError::DTypeMismatch { name: name(), value, grad })
        }
        _ => Ok(()),
    }
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
