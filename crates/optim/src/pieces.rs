//! Slices cut into pieces by their length, which threads may share: the same bits for any number of them, and for any
//! instruction set that they are computed with.

use core::ops::Range;

use gradus_kernel::{
    par::join,
    simd::{self, Kernel},
};

/// Elements from which on threads share the work: some 50 us of it, less than which no thread is worth waking for.
const SHARED: usize = 1 << 16;
/// Elements of a piece then: few, so that no thread waits long for the last piece of another.
const PIECE: usize = 1 << 15;

/// Something of a length that can be cut in two: a slice, an index range, several of one length.
pub(crate) trait Cut: Sized + Send {
    fn len(&self) -> usize;
    fn cut_at(self, mid: usize) -> (Self, Self);
}

impl<T: Sync> Cut for &[T] {
    fn len(&self) -> usize {
        <[T]>::len(self)
    }
    fn cut_at(self, mid: usize) -> (Self, Self) {
        self.split_at(mid)
    }
}

impl<T: Send> Cut for &mut [T] {
    fn len(&self) -> usize {
        <[T]>::len(self)
    }
    fn cut_at(self, mid: usize) -> (Self, Self) {
        self.split_at_mut(mid)
    }
}

impl Cut for Range<usize> {
    fn len(&self) -> usize {
        self.end - self.start
    }
    fn cut_at(self, mid: usize) -> (Self, Self) {
        let mid = self.start + mid;
        (self.start..mid, mid..self.end)
    }
}

/// The rows of a matrix.
pub(crate) struct Rows<'a, T> {
    pub(crate) data: &'a mut [T],
    /// Elements of a row, at least one.
    pub(crate) width: usize,
}

impl<T: Send> Cut for Rows<'_, T> {
    fn len(&self) -> usize {
        self.data.len() / self.width
    }
    fn cut_at(self, mid: usize) -> (Self, Self) {
        let (a, b) = self.data.split_at_mut(mid * self.width);
        (Self { data: a, width: self.width }, Self { data: b, width: self.width })
    }
}

macro_rules! tuples {
    ($(($first:ident $($rest:ident)*))*) => {$(
        impl<$first: Cut, $($rest: Cut),*> Cut for ($first, $($rest,)*) {
            fn len(&self) -> usize {
                self.0.len()
            }
            #[allow(non_snake_case)] // The names of the types serve for the values.
            fn cut_at(self, mid: usize) -> (Self, Self) {
                let ($first, $($rest,)*) = self;
                let $first = $first.cut_at(mid);
                $(let $rest = $rest.cut_at(mid);)*
                (($first.0, $($rest.0,)*), ($first.1, $($rest.1,)*))
            }
        }
    )*};
}
tuples! { (A) (A B) (A B C) (A B C D) (A B C D E) }

/// What is done to a piece: a closure, or a struct where it matters that the loop is compiled for the instruction set
/// of the machine, which only what is inlined is, and only a method can be made to be.
pub(crate) trait Task<C>: Copy + Send + Sync {
    fn run(self, piece: C);
}

impl<C, F: Fn(C) + Copy + Send + Sync> Task<C> for F {
    #[inline(always)]
    fn run(self, piece: C) {
        self(piece);
    }
}

/// `work` on the elements of all slices, piece by piece; with the feature `rayon` by any threads. Let `work` own the
/// numbers that it uses (`move`): each piece gets a copy of them, which stays in registers.
pub(crate) fn in_pieces<C: Cut>(all: C, work: impl Task<C>) {
    in_rows(all, 1, work);
}

/// The same for rows of `width` elements.
pub(crate) fn in_rows<C: Cut>(all: C, width: usize, work: impl Task<C>) {
    let shared = all.len().saturating_mul(width) > SHARED;
    in_pieces_of(if shared { PIECE / width.max(1) } else { all.len() }, all, work);
}

/// The same with at most `piece` elements each, or 32. All pieces but the first start at a multiple of 16.
pub(crate) fn in_pieces_of<C: Cut>(piece: usize, all: C, work: impl Task<C>) {
    if all.len() <= piece.max(32) {
        return simd::run(Piece { all, work });
    }
    let mid = (all.len() / 2).next_multiple_of(16);
    let (a, b) = all.cut_at(mid);
    join(move || in_pieces_of(piece, a, work), move || in_pieces_of(piece, b, work));
}

/// What is compiled for each instruction set.
struct Piece<C, F> {
    all: C,
    work: F,
}

impl<C, F: Task<C>> Kernel for Piece<C, F> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        self.work.run(self.all);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn every_element_has_its_turn_once() {
        for len in [0, 1, 31, 33, 100, 1001] {
            let (mut x, y) = (vec![0usize; len], vec![1usize; len]);
            in_pieces_of(
                32,
                (x.as_mut_slice(), y.as_slice(), 0..len),
                |(x, y, at): (&mut [usize], &[usize], Range<usize>)| {
                    assert!(x.len() == y.len() && at.start.is_multiple_of(16));
                    for ((x, y), i) in x.iter_mut().zip(y).zip(at) {
                        *x += y + i;
                    }
                },
            );
            assert!(x.iter().enumerate().all(|(i, &x)| x == i + 1), "{len}");
        }
    }

    #[test]
    fn rows_are_cut_between_them() {
        let mut data = vec![0usize; 300];
        in_pieces_of(
            32,
            (Rows { data: &mut data, width: 3 }, 0..100),
            |(rows, at): (Rows<'_, usize>, Range<usize>)| {
                for (row, i) in rows.data.chunks_mut(3).zip(at) {
                    row.fill(i);
                }
            },
        );
        assert!(data.iter().enumerate().all(|(i, &x)| x == i / 3));
    }
}
