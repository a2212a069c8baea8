//! Folding rows and columns: where the arithmetic of reductions is done.

use std::hint::black_box;

use crate::{Real, Tensor, kernel, par, shape::Dims};

/// Independent accumulators of a row.
const LANES: usize = 32;
/// Columns that one pass over the rows keeps at hand.
const TILE: usize = 256;
/// Elements of one task.
const PIECE: usize = 1 << 16;
/// Nanoseconds an element takes, roughly.
const COST: f64 = 0.1;

/// A reduction that can be taken in parts: `all` of the parts' results is the result of all.
pub(crate) trait Fold: Copy + Send + Sync {
    const NAME: &'static str;
    /// One value from a row.
    fn all<T: Real>(self, x: &[T]) -> T;
    /// `out[j]` from column `first + j` of rows of `width` elements.
    fn columns<T: Real>(self, x: &[T], width: usize, first: usize, out: &mut [T]);
}

/// The sum; 0 over nothing.
#[derive(Clone, Copy)]
pub(crate) struct Sum;

impl Fold for Sum {
    const NAME: &'static str = "sum";

    #[inline(always)]
    fn all<T: Real>(self, x: &[T]) -> T {
        sum_row(x)
    }

    #[inline(always)]
    fn columns<T: Real>(self, x: &[T], width: usize, first: usize, out: &mut [T]) {
        for (tile, out) in out.chunks_mut(TILE).enumerate() {
            let columns = first + tile * TILE..first + tile * TILE + out.len();
            let mut total = [0f64; TILE];
            for row in x.chunks_exact(width) {
                for (t, &x) in total.iter_mut().zip(&row[columns.clone()]) {
                    *t += x.to_f64();
                }
            }
            for (o, &t) in out.iter_mut().zip(&total) {
                *o = T::from_f64(t);
            }
        }
    }
}

/// The sum of a row, accumulated in f64: for use inside a [`kernel!`].
#[inline(always)]
#[must_use]
pub fn sum_row<T: Real>(x: &[T]) -> T {
    T::from_f64(fold_lanes(x, (T::ZERO, 0.0), |sum, x| sum + x.to_f64(), |a, b| a + b))
}

/// Folds a row in lanes by `step`, and the lanes pairwise by `join`; `neutral` changes nothing.
#[inline(always)]
pub(crate) fn fold_lanes<T: Copy, A: Copy>(
    x: &[T],
    (neutral, start): (T, A),
    step: impl Fn(A, T) -> A,
    join: impl Fn(A, A) -> A,
) -> A {
    let mut lanes = [start; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (a, &x) in lanes.iter_mut().zip(chunk) {
            *a = step(*a, x);
        }
    }
    if !rest.is_empty() {
        if chunks.is_empty() && rest.len() < LANES / 2 {
            return rest.iter().fold(start, |a, &x| step(a, x));
        }
        let mut last = [neutral; LANES];
        last[..rest.len()].copy_from_slice(rest);
        for (a, &x) in lanes.iter_mut().zip(&last) {
            *a = step(*a, x);
        }
    }
    // Kept apart from the loop, whose lanes the compiler else cuts into vectors of every size.
    let mut lanes = black_box(lanes);
    for i in 0..16 {
        lanes[i] = join(lanes[i], lanes[i + 16]);
    }
    for i in 0..8 {
        lanes[i] = join(lanes[i], lanes[i + 8]);
    }
    for i in 0..4 {
        lanes[i] = join(lanes[i], lanes[i + 4]);
    }
    join(join(lanes[0], lanes[2]), join(lanes[1], lanes[3]))
}

/// The largest element or the smallest; NaN if there is one.
#[derive(Clone, Copy)]
pub(crate) struct Extreme<const MAX: bool>;

impl<const MAX: bool> Extreme<MAX> {
    #[inline(always)]
    fn pick<T: Real>(a: T, b: T) -> T {
        if MAX { a.max_nan(b) } else { a.min_nan(b) }
    }
}

impl<const MAX: bool> Fold for Extreme<MAX> {
    const NAME: &'static str = if MAX { "amax" } else { "amin" };

    #[inline(always)]
    fn all<T: Real>(self, x: &[T]) -> T {
        let worst = if MAX { T::neg_infinity() } else { T::infinity() };
        fold_lanes(x, (worst, worst), Self::pick, Self::pick)
    }

    #[inline(always)]
    fn columns<T: Real>(self, x: &[T], width: usize, first: usize, out: &mut [T]) {
        for (i, row) in x.chunks_exact(width).enumerate() {
            let row = &row[first..first + out.len()];
            if i == 0 {
                out.copy_from_slice(row);
            } else {
                for (o, &x) in out.iter_mut().zip(row) {
                    *o = Self::pick(*o, x);
                }
            }
        }
    }
}

kernel! {
    fn fold_rows['a, T: Real, F: Fold]['a, T, F](f: F, x: &'a [T], n: usize, out: &'a mut [T]) -> () {
        for (o, row) in out.iter_mut().zip(x.chunks_exact(n)) {
            *o = f.all(row);
        }
    }
}

kernel! {
    fn fold_columns['a, T: Real, F: Fold]['a, T, F](f: F, x: &'a [T], width: usize, first: usize, out: &'a mut [T]) -> () {
        f.columns(x, width, first, out);
    }
}

/// Folds one row of any length.
fn fold_long<T: Real, F: Fold>(f: F, x: &[T]) -> T {
    if x.len() > PIECE {
        let pieces = x.len().div_ceil(PIECE);
        let parts = par::map(pieces, PIECE as f64 * COST, |i| {
            fold_long(f, &x[i * PIECE..x.len().min((i + 1) * PIECE)])
        });
        return fold_long(f, &parts);
    }
    let mut out = [T::ZERO];
    fold_rows::<T, F>(f, x, x.len(), &mut out);
    out[0]
}

/// Folds rows of `out.len()` elements into one.
fn fold_tall<T: Real, F: Fold>(f: F, x: &[T], out: &mut [T]) {
    let width = out.len();
    let rows = x.len() / width;
    // Wide rows are shared by columns, many rows by rows.
    if width >= PIECE / 16 {
        par::for_each_mut(out, 1, rows as f64 * COST, |first, out| {
            fold_columns::<T, F>(f, x, width, first, out)
        });
        return;
    }
    let piece = PIECE / width;
    if rows > 2 * piece {
        let parts = par::map(rows.div_ceil(piece), PIECE as f64 * COST, |i| {
            let mut part = vec![T::ZERO; width];
            fold_tall(f, &x[i * piece * width..x.len().min((i + 1) * piece * width)], &mut part);
            part
        });
        return fold_tall(f, &parts.concat(), out);
    }
    // Several narrow rows side by side make one that fills the vectors.
    let together = TILE / width;
    if together > 1 && rows >= 4 * together {
        let (most, rest) = x.split_at(rows / together * together * width);
        let mut few = vec![T::ZERO; together * width];
        fold_columns::<T, F>(f, most, together * width, 0, &mut few);
        few.extend_from_slice(rest);
        return fold_columns::<T, F>(f, &few, width, 0, out);
    }
    fold_columns::<T, F>(f, x, width, 0, out);
}

/// Folds the sorted dimensions `dims`, which keep size 1.
pub(crate) fn fold_dims<T: Real, F: Fold>(f: F, t: &Tensor, dims: &[usize]) -> Tensor {
    let mut t = t.contiguous();
    // Dimensions that are neighbours fold together, the last ones first.
    for run in dims.chunk_by(|a, b| a + 1 == *b).rev() {
        let (from, to) = (run[0], run[run.len() - 1] + 1);
        let n: usize = t.shape()[from..to].iter().product();
        let inner: usize = t.shape()[to..].iter().product();
        let mut shape = Dims::from_slice(t.shape());
        shape[from..to].fill(1);
        t = if n == 1 {
            t.view(&shape)
        } else {
            let x = t.as_slice::<T>();
            Tensor::build(&shape, |out: &mut [T]| {
                par::for_each_mut(out, inner, (n * inner) as f64 * COST, |first, out| {
                    let x = &x[first * n * inner..];
                    if inner == 1 && n <= PIECE {
                        return fold_rows::<T, F>(f, x, n, out);
                    }
                    for (x, out) in x.chunks_exact(n * inner).zip(out.chunks_exact_mut(inner)) {
                        match out {
                            [out] => *out = fold_long(f, x),
                            _ => fold_tall(f, x, out),
                        }
                    }
                });
            })
        };
    }
    t
}
