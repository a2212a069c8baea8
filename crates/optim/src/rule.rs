//! What most optimizers share: the walk over the parameters, their state, their hyper-parameters.

use gradus_core::{Parameters, StepError};

use crate::{
    param::{Value, check_lr, try_visit, value_and_grad, with_pair},
    slots::{Slot, Slots},
};

/// How one parameter is updated; [`step`] does the rest.
pub(crate) trait Rule {
    /// Refuses a shape that the rule has no meaning for, before anything is changed.
    fn accepts(&self, _name: &str, _shape: &[usize]) -> Result<(), StepError> {
        Ok(())
    }

    /// Length of the state buffer at position `field` for a parameter of this shape and length.
    fn buffer_len(&self, _field: usize, _shape: &[usize], len: usize) -> usize {
        len
    }

    /// One parameter's update. `slot.step` is the number of it, from 1; `shape` holds `value.len()` elements.
    fn update<T: Value>(
        &self,
        lr: f64,
        shape: &[usize],
        slot: &mut Slot,
        value: &mut [T],
        grad: &[T],
    );
}

/// One step of every parameter that has a gradient.
pub(crate) fn step<R: Rule>(
    rule: &R,
    slots: &mut Slots,
    lr: f64,
    params: &mut dyn Parameters,
) -> Result<(), StepError> {
    check_lr(lr)?;
    slots.rewind();
    try_visit(params, |param| {
        let (name, shape) = (param.name, param.shape);
        let Some(pair) = value_and_grad(param)? else { return Ok(()) };
        rule.accepts(name, shape)?;
        with_pair!(pair, p, g => update(rule, slots, lr, name, shape, p, g))
    })
}

fn update<T: Value, R: Rule>(
    rule: &R,
    slots: &mut Slots,
    lr: f64,
    name: &str,
    shape: &[usize],
    value: &mut [T],
    grad: &[T],
) -> Result<(), StepError> {
    let (expected, found) = (shape.iter().product(), value.len());
    if expected != found {
        return Err(StepError::LengthMismatch { name: name.into(), expected, found });
    }
    let slot = slots.next::<T::Work>(name, |field| rule.buffer_len(field, shape, found))?;
    slot.step += 1;
    rule.update(lr, shape, slot, value, grad);
    Ok(())
}

/// The builder methods of a struct of hyper-parameters: `with_x => x: type`.
macro_rules! setters {
    ($config:ty { $($with:ident => $field:ident: $t:ty),* $(,)? }) => {
        impl $config {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $with(mut self, $field: $t) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}
pub(crate) use setters;

/// The traits of an optimizer that is a `config` with a [`Rule`] and its `slots`; `$state` says what is saved.
macro_rules! optimizer {
    ($optimizer:ident, $config:ident, $state:literal) => {
        impl $optimizer {
            /// The hyper-parameters.
            #[must_use]
            pub fn config(&self) -> &$config {
                &self.config
            }
        }

        impl gradus_core::State for $optimizer {
            #[doc = $state]
            fn save_state(&self) -> gradus_core::StateDict {
                self.slots.save()
            }

            fn load_state(
                &mut self,
                state: &gradus_core::StateDict,
            ) -> Result<(), gradus_core::StateError> {
                self.slots.load(state)
            }
        }

        impl gradus_core::GradientTransform for $optimizer {
            fn step(
                &mut self,
                lr: f64,
                params: &mut dyn gradus_core::Parameters,
            ) -> Result<(), gradus_core::StepError> {
                crate::rule::step(&self.config, &mut self.slots, lr, params)
            }
        }
    };
}
pub(crate) use optimizer;
