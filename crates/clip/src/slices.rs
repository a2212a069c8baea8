//! Plain slices as a walk.

use alloc::format;

use gradus_core::{ParamKind, ParamMut, Parameters, SliceMut};

/// Gradients in plain slices, as [`Parameters`] named by their position (`0`, `1`, ...).
///
/// ```
/// use gradus_clip::{GradSlices, clip_grad_value};
///
/// let mut a = vec![-3.0f32, 0.5];
/// clip_grad_value(&mut GradSlices(&mut [a.as_mut_slice().into()]), 1.0)?;
/// assert_eq!(a, [-1.0, 0.5]);
/// # Ok::<(), gradus_clip::ClipError>(())
/// ```
#[derive(Debug)]
pub struct GradSlices<'a, 'b>(
    /// The slices.
    pub &'a mut [SliceMut<'b>],
);

impl Parameters for GradSlices<'_, '_> {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        for (i, slice) in self.0.iter_mut().enumerate() {
            f(ParamMut {
                name: &format!("{i}"),
                shape: &[slice.len()],
                kind: ParamKind::Weight,
                value: None,
                grad: Some(slice.reborrow()),
            });
        }
    }
}
