//! Parameters that hold other values for a while.

use core::ops::{Deref, DerefMut};

use gradus_core::{ParamMut, Parameters};

use crate::backup::Backup;

/// Parameters that hold averaged values until this is dropped, from [`Average::swap_into`](crate::Average::swap_into).
///
/// It can be used as the parameters themselves. When it is dropped, at the end of its scope or because of a
/// panic, the values from before come back to the bit, whatever was written in between; gradients are left alone.
///
/// # Panics
/// Never: parameters that were replaced meanwhile by some of another length or type are left as they are.
#[derive(Debug)]
#[must_use = "the values from before come back as soon as this is dropped"]
pub struct Swapped<'a, P: Parameters + ?Sized> {
    params: &'a mut P,
    before: Backup,
}

impl<'a, P: Parameters + ?Sized> Swapped<'a, P> {
    /// Parameters that are about to change.
    pub(crate) fn new(params: &'a mut P) -> Self {
        let mut before = Backup::default();
        params.visit(&mut |p| {
            if let Some(value) = &p.value {
                before.save(p.name, value);
            }
        });
        Self { params, before }
    }
}

impl<P: Parameters + ?Sized> Drop for Swapped<'_, P> {
    fn drop(&mut self) {
        self.before.write(&mut self.params);
    }
}

impl<P: Parameters + ?Sized> Deref for Swapped<'_, P> {
    type Target = P;
    fn deref(&self) -> &P {
        self.params
    }
}

impl<P: Parameters + ?Sized> DerefMut for Swapped<'_, P> {
    fn deref_mut(&mut self) -> &mut P {
        self.params
    }
}

impl<P: Parameters + ?Sized> Parameters for Swapped<'_, P> {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.params.visit(f);
    }
}
