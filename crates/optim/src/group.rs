//! A rule for some of the parameters.

use alloc::boxed::Box;
use core::fmt;

use gradus_core::{
    GradientTransform, ParamKind, ParamMut, Parameters, State, StateDict, StateError, StepError,
};

type Select = Box<dyn Fn(&str, &[usize], ParamKind) -> bool + Send + Sync>;

/// A transform that sees only the parameters that a predicate selects, at its own share of the rate.
///
/// In [`Groups`](crate::Groups) every parameter is in exactly one of them. In a [`Chain`](crate::Chain) a group is a
/// mask: a stage for some parameters only. Parameters that it does not select are none of its business, with or
/// without a gradient.
pub struct Group<T> {
    select: Select,
    lr_scale: f64,
    transform: T,
}

impl<T: GradientTransform> Group<T> {
    /// The parameters for whose name, shape and kind `select` is true.
    pub fn new(
        select: impl Fn(&str, &[usize], ParamKind) -> bool + Send + Sync + 'static,
        transform: T,
    ) -> Self {
        Self { select: Box::new(select), lr_scale: 1.0, transform }
    }

    /// The same group at this multiple of the learning rate.
    #[must_use]
    pub fn with_lr_scale(mut self, lr_scale: f64) -> Self {
        self.lr_scale = lr_scale;
        self
    }

    pub(crate) fn selects(&self, name: &str, shape: &[usize], kind: ParamKind) -> bool {
        (self.select)(name, shape, kind)
    }

    /// The same group with another transform.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Group<U> {
        let Self { select, lr_scale, transform } = self;
        Group { select, lr_scale, transform: f(transform) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Group<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("lr_scale", &self.lr_scale)
            .field("transform", &self.transform)
            .finish_non_exhaustive()
    }
}

/// A walk over the selected parameters only.
struct Selected<'a> {
    params: &'a mut dyn Parameters,
    select: &'a Select,
}

impl Parameters for Selected<'_> {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        let select = self.select;
        self.params.visit(&mut |p| {
            if select(p.name, p.shape, p.kind) {
                f(p);
            }
        });
    }
}

impl<T: State> State for Group<T> {
    fn save_state(&self) -> StateDict {
        self.transform.save_state()
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        self.transform.load_state(state)
    }
}

impl<T: GradientTransform> GradientTransform for Group<T> {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        let mut selected = Selected { params, select: &self.select };
        self.transform.step(lr * self.lr_scale, &mut selected)
    }
}
