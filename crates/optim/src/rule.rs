//! What the transforms share: the walk over the parameters and their state.

use gradus_core::{Parameters, StepError, require_gradients, with_slice};

use crate::{
    DecayMask, OptimError,
    param::{Site, Value, check, check_lr, try_visit, with_pair},
    pass::{Around, Out},
    slots::{Slot, Slots},
};

/// The state that a rule keeps for a parameter, and the parameters that it takes.
pub(crate) trait Layout {
    /// Refuses hyper-parameters that no step can be done with.
    fn check(&self) -> Result<(), OptimError> {
        Ok(())
    }

    /// Names of the buffers, besides the step count; `None` for a rule without any state.
    fn fields(&self) -> Option<&'static [&'static str]>;

    /// Length of the buffer at position `field` for a parameter of this shape and length.
    fn buffer_len(&self, _field: usize, _shape: &[usize], len: usize) -> usize {
        len
    }

    /// Refuses a shape that the rule has no meaning for.
    fn accepts(&self, _site: Site<'_>) -> Result<(), StepError> {
        Ok(())
    }
}

/// How one parameter is updated; [`step`] does the rest.
pub(crate) trait Rule: Layout {
    /// Whether it reads or moves the value. A rule that does not also takes a walk over gradients alone.
    const NEEDS_VALUE: bool = true;

    /// One parameter's update.
    fn update<T: Value>(&self, turn: Turn<'_, T>);
}

/// One parameter in its turn.
pub(crate) struct Turn<'a, T> {
    pub(crate) lr: f64,
    pub(crate) site: Site<'a>,
    /// Its `step` is the number of this update, from 1.
    pub(crate) slot: &'a mut Slot,
    /// As long as the shape says; empty where the walk shows no value.
    pub(crate) value: &'a mut [T],
    /// As long as the shape says.
    pub(crate) grad: &'a mut [T],
}

/// An optimizer whose every element goes its own way: a direction, made of the gradient and some state, between a
/// sign and a penalty before it and a decay and the rate after it.
pub(crate) trait Direction: Layout {
    /// What comes before and after.
    fn frame(&self) -> Frame;

    /// The directions of one parameter: one pass.
    fn send<T: Value>(&self, out: Out<'_, T>, shape: &[usize], slot: &mut Slot);
}

/// What comes before and after a direction.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) weight_decay: f64,
    pub(crate) decoupled: bool,
    pub(crate) mask: DecayMask,
    pub(crate) maximize: bool,
}

impl<D: Direction> Rule for D {
    fn update<T: Value>(&self, turn: Turn<'_, T>) {
        let Frame { weight_decay, decoupled, mask, maximize } = self.frame();
        let decay = mask.decay(weight_decay, turn.site);
        let around = Around::new(turn.lr, maximize, decay, decoupled);
        let out = Out::Value { value: turn.value, grad: turn.grad, around };
        self.send(out, turn.site.shape, turn.slot);
    }
}

/// One step of every parameter. Looks at all of them before it changes any.
pub(crate) fn step<R: Rule>(
    rule: &R,
    slots: &mut Slots,
    lr: f64,
    params: &mut dyn Parameters,
) -> Result<(), StepError> {
    check_lr(lr)?;
    require_gradients(params)?;
    let mut place = 0;
    try_visit(params, |p| {
        check(&p, R::NEEDS_VALUE)?;
        let Some(grad) = &p.grad else { return Ok(()) };
        let site = Site::of(&p);
        rule.accepts(site)?;
        place += 1;
        slots.check(place - 1, site.name, |field| rule.buffer_len(field, site.shape, grad.len()))
    })?;
    slots.rewind();
    params.visit(&mut |p| {
        let site = Site::of(&p);
        match (p.value, p.grad) {
            (_, None) => {}
            (None, Some(grad)) => with_slice!(grad, g => update(rule, slots, lr, site, &mut [], g)),
            (Some(value), Some(grad)) => {
                with_pair!((value, grad), p, g => update(rule, slots, lr, site, p, g));
            }
        }
    });
    Ok(())
}

fn update<T: Value, R: Rule>(
    rule: &R,
    slots: &mut Slots,
    lr: f64,
    site: Site<'_>,
    value: &mut [T],
    grad: &mut [T],
) {
    let slot =
        slots.next::<T::Work>(site.name, |field| rule.buffer_len(field, site.shape, grad.len()));
    slot.step += 1;
    rule.update(Turn { lr, site, slot, value, grad });
}

/// The traits of a transform that is a [`Rule`] in the field `$rule` with its `slots`; `$state` says what is saved.
macro_rules! transform {
    ($transform:ident { $rule:ident }, $state:literal) => {
        impl gradus_core::State for $transform {
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

        impl gradus_core::GradientTransform for $transform {
            fn step(
                &mut self,
                lr: f64,
                params: &mut dyn gradus_core::Parameters,
            ) -> Result<(), gradus_core::StepError> {
                crate::rule::step(&self.$rule, &mut self.slots, lr, params)
            }
        }
    };
}
pub(crate) use transform;

/// The traits of an optimizer that is a `config` with its `slots`.
macro_rules! optimizer {
    ($optimizer:ident, $config:ident, $state:literal) => {
        impl $optimizer {
            /// The hyper-parameters.
            #[must_use]
            pub fn config(&self) -> &$config {
                &self.config
            }
        }

        crate::rule::transform!($optimizer { config }, $state);
    };
}
pub(crate) use optimizer;
