//! A model without gradients, for those who take parameters.

use gradus_core::{ParamMut, Parameters};

use crate::{Module, gradients::slice_mut};

/// The values of a model's trainable parameters, by name, in the order of its walk: for averages, initializers and
/// whoever else needs no gradients. They are the parameters that [`Gradients::bind`](crate::Gradients::bind) shows.
///
/// ```
/// use gradus_autograd::{Module, Param, ParamKind, Tensor, Values, module};
/// use gradus_core::Parameters;
///
/// struct Scale { factor: Param }
/// module!(Scale { factor });
///
/// let mut model = Scale { factor: Param::new(Tensor::from_slice(&[2f32], &[1]), ParamKind::Weight) };
/// let mut seen = Vec::new();
/// Values(&mut model).visit(&mut |p| seen.push((p.name.to_owned(), p.value.unwrap().len(), p.grad.is_some())));
/// assert_eq!(seen, [("factor".to_owned(), 1, false)]);
/// ```
#[derive(Debug)]
pub struct Values<'a, M: ?Sized>(
    /// The model.
    pub &'a mut M,
);

impl<M: Module + ?Sized> Parameters for Values<'_, M> {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.0.for_each_param_mut(&mut |name, p| {
            if p.is_trainable() {
                let (shape, kind) = (p.value().shape().to_vec(), p.kind());
                let value = Some(slice_mut(p.value_mut()));
                f(ParamMut { name, shape: &shape, kind, value, grad: None });
            }
        });
    }
}
