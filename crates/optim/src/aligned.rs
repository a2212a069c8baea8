//! Arrays that start at a cache line, so that no vector of a walk over them lies across two.

use alloc::{vec, vec::Vec};
use core::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the widest vectors.
const LINE: usize = 64;

/// An array of state. Its length never changes.
#[derive(Debug)]
pub(crate) struct Aligned<W> {
    /// The array, with some room before and after it.
    all: Vec<W>,
    start: usize,
    len: usize,
}

impl<W: Copy + Default> Aligned<W> {
    /// Zeros, or what else the default is.
    pub(crate) fn zeros(len: usize) -> Self {
        let all = vec![W::default(); len + LINE / size_of::<W>()];
        let start = all.as_ptr().align_offset(LINE).min(all.len() - len);
        Self { all, start, len }
    }
}

impl<W> Deref for Aligned<W> {
    type Target = [W];
    fn deref(&self) -> &[W] {
        &self.all[self.start..self.start + self.len]
    }
}

impl<W> DerefMut for Aligned<W> {
    fn deref_mut(&mut self) -> &mut [W] {
        &mut self.all[self.start..self.start + self.len]
    }
}

impl<W: Copy + Default> From<&[W]> for Aligned<W> {
    fn from(values: &[W]) -> Self {
        let mut all = Self::zeros(values.len());
        all.copy_from_slice(values);
        all
    }
}

impl<W: Copy + Default> FromIterator<W> for Aligned<W> {
    fn from_iter<I: IntoIterator<Item = W>>(values: I) -> Self {
        Self::from(values.into_iter().collect::<Vec<W>>().as_slice())
    }
}

impl<W: Copy + Default> Clone for Aligned<W> {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_start_at_a_line_and_hold_what_they_are_made_of() {
        for len in [0u16, 1, 15, 16, 17, 1000] {
            let made: Aligned<f32> = (0..len).map(f32::from).collect();
            let copy = made.clone();
            for array in [&made, &copy] {
                assert_eq!(array.as_ptr() as usize % LINE, 0);
                assert!(array.iter().copied().eq((0..len).map(f32::from)));
            }
            assert_eq!(*Aligned::<f64>::zeros(usize::from(len)), vec![0.0; usize::from(len)]);
        }
    }
}
