//! The adapter: arrays of ndarray as a walk of gradus. Copy this file.

use gradus_core::{ParamKind, ParamMut, SliceMut};
use ndarray::{Array, Dimension};

/// Shows an array and its gradient to `f`, which is the function that `Parameters::visit` was given.
///
/// # Panics
/// When one of the two is not in standard layout (row-major, without gaps). Whatever `Array::zeros` made is, and a
/// product that was added to it leaves it so.
pub fn show<T, D: Dimension>(
    f: &mut dyn FnMut(ParamMut<'_>),
    name: &str,
    kind: ParamKind,
    value: &mut Array<T, D>,
    grad: &mut Array<T, D>,
) where
    for<'a> SliceMut<'a>: From<&'a mut [T]>,
{
    let shape = value.shape().to_vec();
    let value = value.as_slice_mut().expect("the value is in standard layout");
    let grad = grad.as_slice_mut().expect("the gradient is in standard layout");
    f(ParamMut { name, shape: &shape, kind, value: Some(value.into()), grad: Some(grad.into()) });
}
