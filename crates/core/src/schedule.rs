//! A number as a pure function of the step.

use alloc::boxed::Box;

/// A hyper-parameter that depends on the step and on nothing else.
///
/// `step` counts from 0: `value(0)` is what the first optimizer step uses. Being pure, a schedule has no
/// state to save: a resumed run asks for the step that it stands at. Control by a metric (reduce on
/// plateau, early stopping) is another thing and lives in `gradus-stop`.
pub trait Schedule {
    /// The value that optimizer step number `step` uses.
    fn value(&self, step: u64) -> f64;
}

impl<T: Schedule + ?Sized> Schedule for &T {
    fn value(&self, step: u64) -> f64 {
        (**self).value(step)
    }
}

impl<T: Schedule + ?Sized> Schedule for Box<T> {
    fn value(&self, step: u64) -> f64 {
        (**self).value(step)
    }
}
