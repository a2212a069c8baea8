//! Sums, extremes and moments along dimensions.
//!
//! Sums accumulate in f64 lanes, which costs no more than reading the numbers does: an f32 sum of millions of values
//! is right to the last place. Work is cut by size alone, so that the result is the same bits for any number of
//! threads.

use std::hint::black_box;

use gradus_core::FloatElement;

use crate::{Real, Tensor, elementwise_ops, kernel, normalize_dim, normalize_dims, par, shape::Dims, with_real};

/// Independent accumulators of a row.
const LANES: usize = 32;
/// Columns that one pass over the rows keeps at hand.
const TILE: usize = 256;
/// Elements of one task.
const PIECE: usize = 1 << 16;
/// Nanoseconds an element takes, roughly.
const COST: f64 = 0.1;

/// A reduction that can be taken in parts: `all` of the parts' results is the result of all.
trait Fold: Copy + Send + Sync {
    const NAME: &'static str;
    /// One value from a row.
    fn all<T: Real>(self, x: &[T]) -> T;
    /// `out[j]` from column `first + j` of rows of `width` elements.
    fn columns<T: Real>(self, x: &[T], width: usize, first: usize, out: &mut [T]);
}

#[derive(Clone, Copy)]
struct Sum;

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
struct Extreme<const MAX: bool>;

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
        let parts = par::map(pieces, PIECE as f64 * COST, |i| fold_long(f, &x[i * PIECE..x.len().min((i + 1) * PIECE)]));
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
        par::for_each_mut(out, 1, rows as f64 * COST, |first, out| fold_columns::<T, F>(f, x, width, first, out));
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
fn fold_dims<T: Real, F: Fold>(f: F, t: &Tensor, dims: &[usize]) -> Tensor {
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

#[track_caller]
fn reduce<F: Fold>(f: F, t: &Tensor, dims: &[usize], keepdim: bool) -> Tensor {
    let y = with_real!(F::NAME, t.dtype(), T => {
        if t.numel() == 0 {
            let mut shape = Dims::from_slice(t.shape());
            dims.iter().for_each(|&d| shape[d] = 1);
            Tensor::zeros(&shape, t.dtype())
        } else {
            fold_dims::<T, F>(f, t, dims)
        }
    });
    if keepdim { y } else { without_dims(&y, dims) }
}

/// The tensor without dimensions of size 1.
pub(crate) fn without_dims(t: &Tensor, dims: &[usize]) -> Tensor {
    let kept: Dims = (0..t.ndim()).filter(|d| !dims.contains(d)).map(|d| t.shape()[d]).collect();
    t.view(&kept)
}

elementwise_ops! {
    SquaredDifference() "var" 0.3 |self, a, b| (a - b) * (a - b);
    DivideBy(n) "mean" 0.3 |self, x| x / T::lit(self.n);
}

/// Number of elements along some dimensions.
fn count(t: &Tensor, dims: &[usize]) -> usize {
    dims.iter().map(|&d| t.shape()[d]).product()
}

impl Tensor {
    /// The sum along `dims` (none given: along all), 0 over nothing. `keepdim` leaves the summed dimensions with
    /// size 1.
    ///
    /// ```
    /// # use gradus_tensor::Tensor;
    /// let x = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0], &[2, 2]);
    /// assert_eq!(x.sum(&[], false).item(), 10.0);
    /// assert_eq!(x.sum(&[-1], false).to_vec::<f32>(), [3.0, 7.0]);
    /// assert_eq!(x.sum(&[0], true).shape(), [1, 2]);
    /// ```
    ///
    /// # Panics
    /// When a dimension does not exist or is named twice, or the elements are neither f32 nor f64.
    #[must_use]
    #[track_caller]
    pub fn sum(&self, dims: &[isize], keepdim: bool) -> Self {
        reduce(Sum, self, &normalize_dims("sum", dims, self.ndim()), keepdim)
    }

    /// The sum divided by the number of elements summed; NaN over nothing. Dimensions as in [`sum`](Self::sum).
    ///
    /// # Panics
    /// As [`sum`](Self::sum).
    #[must_use]
    #[track_caller]
    pub fn mean(&self, dims: &[isize], keepdim: bool) -> Self {
        let dims = normalize_dims("mean", dims, self.ndim());
        let mut y = reduce(Sum, self, &dims, keepdim);
        y.map_mut(DivideBy { n: count(self, &dims) as f64 });
        y
    }

    /// Sums a broadcast result back to `shape`: the gradient of broadcasting.
    ///
    /// # Panics
    /// When `shape` does not broadcast to the shape of this tensor, or the elements are neither f32 nor f64.
    #[must_use]
    #[track_caller]
    pub fn sum_to(&self, shape: &[usize]) -> Self {
        if self.shape() == shape {
            return self.clone();
        }
        let fits = self.ndim() >= shape.len()
            && shape.iter().rev().zip(self.shape().iter().rev()).all(|(&s, &d)| s == d || s == 1);
        assert!(fits, "sum_to: shape {shape:?} does not broadcast to {:?}", self.shape());
        let lead = self.ndim() - shape.len();
        let dims: Dims = (0..self.ndim()).filter(|&d| d < lead || shape[d - lead] != self.shape()[d]).collect();
        reduce(Sum, self, &dims, true).view(shape)
    }

    /// The variance along `dims`, dimensions as in [`sum`](Self::sum): squared distances from the mean (two passes,
    /// so that a large mean costs no digits), added and divided by `n - correction`, or by 0 where that is negative.
    /// Correction 1 is the unbiased estimate, PyTorch's default.
    ///
    /// # Panics
    /// As [`sum`](Self::sum).
    #[must_use]
    #[track_caller]
    pub fn var(&self, dims: &[isize], correction: usize, keepdim: bool) -> Self {
        let along = normalize_dims("var", dims, self.ndim());
        let squares = self.zip(&self.mean(dims, true), SquaredDifference {});
        let mut y = reduce(Sum, &squares, &along, keepdim);
        y.map_mut(DivideBy { n: count(self, &along).saturating_sub(correction) as f64 });
        y
    }

    /// The largest element along `dims`, dimensions as in [`sum`](Self::sum); NaN if there is one.
    ///
    /// # Panics
    /// When there is nothing to choose from, and as [`sum`](Self::sum).
    #[must_use]
    #[track_caller]
    pub fn amax(&self, dims: &[isize], keepdim: bool) -> Self {
        extreme::<true>(self, dims, keepdim)
    }

    /// The smallest element along `dims`, dimensions as in [`sum`](Self::sum); NaN if there is one.
    ///
    /// # Panics
    /// When there is nothing to choose from, and as [`sum`](Self::sum).
    #[must_use]
    #[track_caller]
    pub fn amin(&self, dims: &[isize], keepdim: bool) -> Self {
        extreme::<false>(self, dims, keepdim)
    }

    /// The largest element along one dimension and its index (i64): the first of equals, and of NaNs.
    ///
    /// # Panics
    /// When the dimension does not exist or is empty, or the elements are neither f32 nor f64.
    #[must_use]
    #[track_caller]
    pub fn max_dim(&self, dim: isize, keepdim: bool) -> (Self, Self) {
        extreme_dim::<true>("max_dim", self, dim, keepdim)
    }

    /// The smallest element along one dimension and its index (i64): the first of equals, and of NaNs.
    ///
    /// # Panics
    /// As [`max_dim`](Self::max_dim).
    #[must_use]
    #[track_caller]
    pub fn min_dim(&self, dim: isize, keepdim: bool) -> (Self, Self) {
        extreme_dim::<false>("min_dim", self, dim, keepdim)
    }

    /// The index (i64) of the largest element along a dimension, or in row-major order where none is given: the
    /// first of equals; NaN counts as the largest.
    ///
    /// # Panics
    /// As [`max_dim`](Self::max_dim).
    #[must_use]
    #[track_caller]
    pub fn argmax(&self, dim: Option<isize>, keepdim: bool) -> Self {
        match dim {
            Some(dim) => extreme_dim::<true>("argmax", self, dim, keepdim).1,
            None => {
                let index = extreme_dim::<true>("argmax", &self.reshape(&[-1]), 0, false).1;
                if keepdim { index.view(&vec![1; self.ndim()]) } else { index }
            }
        }
    }

    /// Running sums along a dimension, accumulated in f64.
    ///
    /// # Panics
    /// When the dimension does not exist, or the elements are neither f32 nor f64.
    #[must_use]
    #[track_caller]
    pub fn cumsum(&self, dim: isize) -> Self {
        running_sum(self, dim, false)
    }

    /// Sums of every element and those behind it along a dimension: the gradient of [`cumsum`](Self::cumsum).
    ///
    /// # Panics
    /// As [`cumsum`](Self::cumsum).
    #[must_use]
    #[track_caller]
    pub fn cumsum_reversed(&self, dim: isize) -> Self {
        running_sum(self, dim, true)
    }
}

#[track_caller]
fn extreme<const MAX: bool>(t: &Tensor, dims: &[isize], keepdim: bool) -> Tensor {
    let name = Extreme::<MAX>::NAME;
    let dims = normalize_dims(name, dims, t.ndim());
    assert!(count(t, &dims) > 0, "{name}: nothing to choose from along {dims:?} of shape {:?}", t.shape());
    reduce(Extreme::<MAX>, t, &dims, keepdim)
}

#[track_caller]
fn extreme_dim<const MAX: bool>(name: &str, t: &Tensor, dim: isize, keepdim: bool) -> (Tensor, Tensor) {
    let d = normalize_dim(name, dim, t.ndim());
    let n = t.shape()[d];
    assert!(n > 0, "{name}: nothing to choose from along dimension {d} of shape {:?}", t.shape());
    let rows = t.transpose(dim, -1).contiguous();
    let values = reduce(Extreme::<MAX>, &rows, &[t.ndim() - 1], true);
    let index = with_real!(name, t.dtype(), T => {
        let (x, values) = (rows.as_slice::<T>(), values.as_slice::<T>());
        Tensor::build(&shape_with(rows.shape(), t.ndim() - 1, 1), |out: &mut [i64]| {
            par::for_each_mut(out, 1, n as f64, |first, out| {
                for (i, out) in out.iter_mut().enumerate() {
                    let (row, value) = (&x[(first + i) * n..(first + i + 1) * n], values[first + i]);
                    let at = row.iter().position(|x| *x == value || x.is_nan());
                    *out = at.expect("an extreme is one of the elements") as i64;
                }
            });
        })
    });
    let back = |t: Tensor| {
        let t = t.transpose(dim, -1).contiguous();
        if keepdim { t } else { t.squeeze(dim) }
    };
    (back(values), back(index))
}

fn shape_with(shape: &[usize], dim: usize, size: usize) -> Dims {
    let mut shape = Dims::from_slice(shape);
    shape[dim] = size;
    shape
}

#[track_caller]
fn running_sum(t: &Tensor, dim: isize, reversed: bool) -> Tensor {
    let n = t.shape()[normalize_dim("cumsum", dim, t.ndim())];
    let rows = t.transpose(dim, -1).contiguous();
    let y = with_real!("cumsum", t.dtype(), T => {
        let x = rows.as_slice::<T>();
        Tensor::build(rows.shape(), |out: &mut [T]| {
            par::for_each_mut(out, n, n as f64, |first, out| {
                for (row, out) in x[first * n..].chunks_exact(n).zip(out.chunks_exact_mut(n)) {
                    let mut sum = 0.0;
                    let mut step = |(o, x): (&mut T, &T)| {
                        sum += x.to_f64();
                        *o = T::from_f64(sum);
                    };
                    if reversed {
                        out.iter_mut().zip(row).rev().for_each(&mut step);
                    } else {
                        out.iter_mut().zip(row).for_each(&mut step);
                    }
                }
            });
        })
    });
    y.transpose(dim, -1).contiguous()
}

#[cfg(test)]
mod tests {
    use gradus_core::DType;

    use super::*;

    /// Numbers that have nothing to do with each other, and whose f64 sums are exact.
    fn noise(n: usize) -> Vec<f64> {
        (0..n as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1 << 24) as f64 - 0.375).collect()
    }

    fn tensor(shape: &[usize], dtype: DType) -> Tensor {
        Tensor::from_slice(&noise(shape.iter().product()), shape).to_dtype(dtype)
    }

    /// The plain way: every element goes to where its index, without the reduced dimensions, says.
    fn naive(t: &Tensor, dims: &[usize], start: f64, op: fn(f64, f64) -> f64) -> Vec<f64> {
        let mut shape = t.shape().to_vec();
        dims.iter().for_each(|&d| shape[d] = 1);
        let mut out = vec![start; shape.iter().product()];
        for (i, x) in t.to_dtype(DType::F64).to_vec::<f64>().into_iter().enumerate() {
            let (mut rest, mut at, mut step) = (i, 0, 1);
            for d in (0..t.ndim()).rev() {
                let index = rest % t.shape()[d];
                rest /= t.shape()[d];
                at += if shape[d] == 1 { 0 } else { index * step };
                step *= shape[d];
            }
            out[at] = op(out[at], x);
        }
        out
    }

    fn near(got: &Tensor, want: &[f64], tolerance: f64) {
        let got = got.to_dtype(DType::F64).to_vec::<f64>();
        assert_eq!(got.len(), want.len());
        for (i, (g, w)) in got.iter().zip(want).enumerate() {
            assert!((g - w).abs() <= tolerance * (1.0 + w.abs()), "element {i}: {g}, want {w}");
        }
    }

    #[test]
    fn every_path_adds_the_right_elements() {
        let cases: &[(&[usize], &[isize])] = &[
            (&[], &[]),
            (&[7], &[]),
            (&[3, 4], &[0]),
            (&[3, 4], &[-1]),
            (&[2, 3, 4], &[-1, 0]),
            (&[2, 3, 4, 5], &[0, 2]),
            (&[2, 3, 4, 5], &[0, 2, 3]),
            (&[1, 3, 1, 5], &[0, 2]),
            (&[5, 1, 7], &[1]),
            (&[3000, 3], &[0]),
            (&[3001, 100], &[0]),
            (&[257, 300], &[0]),
            (&[5, 70_000], &[1]),
            (&[40, 5000], &[0]),
            (&[2, 70_000, 2], &[1]),
            (&[200_003], &[0]),
            (&[3, 65_537], &[]),
        ];
        for &(shape, dims) in cases {
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 3e-7)] {
                let t = tensor(shape, dtype);
                let along = normalize_dims("sum", dims, shape.len());
                near(&t.sum(dims, false), &naive(&t, &along, 0.0, |a, b| a + b), tolerance);
                near(&t.amax(dims, true), &naive(&t, &along, f64::NEG_INFINITY, f64::max), 0.0);
                near(&t.amin(dims, true), &naive(&t, &along, f64::INFINITY, f64::min), 0.0);
                assert_eq!(t.sum(dims, true).ndim(), shape.len());
            }
        }
    }

    #[test]
    fn views_reduce_as_their_copies_do() {
        let t = tensor(&[6, 5, 4], DType::F64);
        for view in [t.transpose(0, 2), t.slice(1, 1, None, 2), t.narrow(0, 2, 1).broadcast_to(&[3, 5, 4])] {
            let copy = view.to_contiguous();
            for dims in [&[0isize][..], &[1], &[2], &[0, 2], &[]] {
                assert_eq!(view.sum(dims, false).to_vec::<f64>(), copy.sum(dims, false).to_vec::<f64>());
            }
            assert_eq!(view.cumsum(1).to_vec::<f64>(), copy.cumsum(1).to_vec::<f64>());
            assert_eq!(view.argmax(Some(0), false).to_vec::<i64>(), copy.argmax(Some(0), false).to_vec::<i64>());
        }
    }

    #[test]
    fn nothing_adds_up_to_zero_and_averages_to_nan() {
        let t = Tensor::zeros(&[0, 3], DType::F32);
        assert_eq!(t.sum(&[0], false).to_vec::<f32>(), [0.0; 3]);
        assert_eq!(t.sum(&[], false).item(), 0.0);
        assert_eq!(t.sum(&[1], true).shape(), [0, 1]);
        assert!(t.mean(&[0], false).to_vec::<f32>().iter().all(|x| x.is_nan()));
        assert!(t.var(&[], 0, false).item().is_nan());
        assert_eq!(t.amax(&[1], false).shape(), [0]);
        assert_eq!(t.cumsum(0).shape(), [0, 3]);
    }

    #[test]
    fn a_long_f32_sum_keeps_its_digits() {
        let n = 3_000_000;
        let t = Tensor::full(&[n], 0.1, DType::F32);
        let want = n as f64 * f64::from(0.1f32);
        assert!((t.sum(&[], false).item() - want).abs() / want < 1e-7);
        let tall = t.view(&[n / 3, 3]).sum(&[0], false).to_vec::<f32>();
        assert!(tall.iter().all(|&s| (f64::from(s) - want / 3.0).abs() / want < 1e-7));
    }

    #[test]
    fn threads_and_instruction_sets_do_not_change_a_bit() {
        use crate::simd;
        let all = || -> Vec<Vec<f32>> {
            let (flat, tall, wide) = (tensor(&[300_000], DType::F32), [100_000, 3], [20, 15_000]);
            vec![
                flat.sum(&[], false).to_vec(),
                flat.view(&tall).sum(&[0], false).to_vec(),
                flat.view(&wide).sum(&[0], false).to_vec(),
                flat.view(&[3000, 100]).sum(&[0], false).to_vec(),
                flat.view(&tall).softmax(0).to_vec(),
                flat.view(&wide).logsumexp(&[1], false).to_vec(),
                flat.view(&wide).log_softmax(1).to_vec(),
            ]
        };
        let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        let alone = pool(1).install(all);
        assert_eq!(pool(3).install(all), alone);
        let widest = simd::level();
        for level in [simd::Level::Portable, simd::Level::Avx2, simd::Level::Avx512] {
            simd::force(level);
            assert_eq!(all(), alone, "{level:?}");
        }
        simd::force(widest);
    }

    #[test]
    fn extremes_take_the_first_of_equals_and_any_nan() {
        let nan = f32::NAN;
        let t = Tensor::from_slice(&[1f32, 5.0, 5.0, 2.0, 3.0, nan, 9.0, nan], &[2, 4]);
        let (values, index) = t.max_dim(1, false);
        assert_eq!(index.to_vec::<i64>(), [1, 1]);
        assert_eq!(values.to_vec::<f32>()[0], 5.0);
        assert!(values.to_vec::<f32>()[1].is_nan() && t.amin(&[1], false).to_vec::<f32>()[1].is_nan());
        assert_eq!(t.min_dim(-1, true).1.to_vec::<i64>(), [0, 1]);
        assert_eq!(t.argmax(None, false).item(), 5.0);
        assert_eq!(t.argmax(None, true).shape(), [1, 1]);
        assert_eq!(t.argmax(Some(0), true).shape(), [1, 4]);
        assert_eq!(t.argmax(Some(0), true).to_vec::<i64>(), [1, 1, 1, 1]);
        let low = Tensor::full(&[3, 40], f64::NEG_INFINITY, DType::F32);
        assert_eq!(low.max_dim(1, false).1.to_vec::<i64>(), [0, 0, 0]);
        assert_eq!(low.amax(&[0], false).to_vec::<f32>(), [f32::NEG_INFINITY; 40]);
    }

    #[test]
    fn variance_survives_a_large_mean() {
        let t = Tensor::from_slice(&[10_000.0f32, 10_001.0, 10_002.0, 10_003.0], &[4]);
        assert_eq!(t.var(&[], 1, false).item(), f64::from(5f32 / 3.0));
        assert_eq!(t.var(&[0], 0, true).to_vec::<f32>(), [1.25]);
        assert!(Tensor::scalar(2f32).var(&[], 1, false).item().is_nan());
        assert_eq!(t.var(&[], 4, false).item(), f64::INFINITY);
    }

    #[test]
    fn running_sums_run_both_ways() {
        let t = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        assert_eq!(t.cumsum(1).to_vec::<f32>(), [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
        assert_eq!(t.cumsum(0).to_vec::<f32>(), [1.0, 2.0, 3.0, 5.0, 7.0, 9.0]);
        assert_eq!(t.cumsum_reversed(-1).to_vec::<f32>(), [6.0, 5.0, 3.0, 15.0, 11.0, 6.0]);
    }

    #[test]
    fn sum_to_undoes_broadcasting() {
        let t = tensor(&[2, 3, 4], DType::F64);
        for shape in [&[2usize, 3, 4][..], &[3, 4], &[4], &[1], &[], &[1, 3, 1], &[2, 1, 4], &[3, 1]] {
            let y = t.sum_to(shape);
            assert_eq!(y.shape(), shape);
            assert!((y.sum(&[], false).item() - t.sum(&[], false).item()).abs() < 1e-12);
            assert_eq!(y.broadcast_to(t.shape()).shape(), t.shape());
        }
        assert_eq!(Tensor::zeros(&[0, 3], DType::F32).sum_to(&[3]).to_vec::<f32>(), [0.0; 3]);
        assert_eq!(Tensor::zeros(&[0], DType::F32).sum_to(&[1]).to_vec::<f32>(), [0.0]);
    }

    #[test]
    #[should_panic(expected = "sum_to: shape [2] does not broadcast to [3]")]
    fn sum_to_a_shape_that_does_not_fit_panics() {
        let _ = Tensor::zeros(&[3], DType::F32).sum_to(&[2]);
    }

    #[test]
    #[should_panic(expected = "amax: nothing to choose from along [0] of shape [0, 2]")]
    fn an_extreme_of_nothing_panics() {
        let _ = Tensor::zeros(&[0, 2], DType::F32).amax(&[0], false);
    }
}
