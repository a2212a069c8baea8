//! Patches of an image as the columns of a matrix, and back.

use super::geometry::Geometry;
use crate::{MatRef, Real, buffer::Buffer, kernel};

/// Elements copied at once; a power of two.
const CHUNK: usize = 16;

/// Memory for the columns and the padded input of one group.
pub(super) struct Scratch {
    columns: Buffer,
    padded: Buffer,
}

impl Scratch {
    pub(super) fn new<T: Real>(g: &Geometry) -> Self {
        let columns = if g.is_pointwise() { 0 } else { g.patch() * g.block_rows() * g.output[1] };
        let padded = if g.is_padded() { g.padded_group() } else { 0 };
        Self {
            columns: Buffer::uninit(T::DTYPE, columns),
            padded: Buffer::zeroed(T::DTYPE, padded),
        }
    }

    /// The columns and the padded input.
    pub(super) fn slices<T: Real>(&mut self) -> (&mut [T], &mut [T]) {
        let of_this_type = "the scratch memory was made for this type";
        (
            self.columns.as_mut_slice().expect(of_this_type),
            self.padded.as_mut_slice().expect(of_this_type),
        )
    }
}

/// Calls `f(first row of the output, columns)` for each block of output rows; the columns are a matrix
/// `[patch, rows * width]`.
pub(super) fn for_each_block<T: Real>(
    g: &Geometry,
    x: &[T],
    scratch: &mut Scratch,
    mut f: impl FnMut(usize, MatRef<'_, T>),
) {
    if g.is_pointwise() {
        f(0, MatRef::new(x, g.patch(), g.plane()));
        return;
    }
    let (columns, padded) = scratch.slices::<T>();
    let source = if g.is_padded() {
        // The border was zeroed once and stays.
        for_each_row(g, |at, inside, n| padded[inside..inside + n].copy_from_slice(&x[at..at + n]));
        &*padded
    } else {
        x
    };
    for (first, rows) in g.blocks() {
        let n = rows * g.output[1];
        let columns = &mut columns[..g.patch() * n];
        im2col::<T>(*g, first, rows, source, columns);
        f(first, MatRef::new(columns, g.patch(), n));
    }
}

/// Rows of the input: `f(position, position in the padded input, length)`.
pub(super) fn for_each_row(g: &Geometry, mut f: impl FnMut(usize, usize, usize)) {
    let ([h, w], [ph, pw]) = (g.input, g.options.padding);
    let [padded_h, padded_w] = g.padded();
    for c in 0..g.channels[0] {
        for y in 0..h {
            f((c * h + y) * w, (c * padded_h + ph + y) * padded_w + pw, w);
        }
    }
}

kernel! {
    /// Writes the columns of `rows` rows of the output from `first` on, reading the padded input `x`.
    fn im2col['a, T: Real]['a, T](g: Geometry, first: usize, rows: usize, x: &'a [T], columns: &'a mut [T]) -> () {
        let n = g.output[1];
        let step = g.options.stride[1];
        let reach = n.next_multiple_of(CHUNK);
        let mut at = 0;
        for i in 0..g.patch() {
            for y in first..first + rows {
                let from = g.position(i, y);
                if step > 1 {
                    for (c, &x) in columns[at..at + n].iter_mut().zip(x[from..].iter().step_by(step)) {
                        *c = x;
                    }
                } else if at + reach <= columns.len() && from + reach <= x.len() {
                    // Whole chunks are one move each. What they write too much, the next row overwrites.
                    let (columns, x) = (&mut columns[at..at + reach], &x[from..from + reach]);
                    for (c, x) in columns.as_chunks_mut::<CHUNK>().0.iter_mut().zip(x.as_chunks::<CHUNK>().0) {
                        *c = *x;
                    }
                } else {
                    columns[at..at + n].copy_from_slice(&x[from..from + n]);
                }
                at += n;
            }
        }
    }
}

kernel! {
    /// Adds the columns of `rows` rows of the output from `first` on to where `im2col` reads them.
    pub(super) fn col2im['a, T: Real]['a, T](g: Geometry, first: usize, rows: usize, columns: &'a [T], x: &'a mut [T]) -> () {
        let n = g.output[1];
        let step = g.options.stride[1];
        let mut at = 0;
        for i in 0..g.patch() {
            for y in first..first + rows {
                let to = g.position(i, y);
                let columns = &columns[at..at + n];
                if step > 1 {
                    for (x, &c) in x[to..].iter_mut().step_by(step).zip(columns) {
                        *x += c;
                    }
                } else {
                    for (x, &c) in x[to..to + n].iter_mut().zip(columns) {
                        *x += c;
                    }
                }
                at += n;
            }
        }
    }
}
