//! Sums, extremes and moments along dimensions.
//!
//! Sums accumulate in f64 lanes, which costs no more than reading the numbers does: an f32 sum of millions of values
//! is right to the last place. Work is cut by size alone, so that the result is the same bits for any number of
//! threads.

mod fold;

#[cfg(test)]
mod tests;

pub(crate) use fold::fold_lanes;
pub use fold::sum_row;
use fold::{Extreme, Fold, Sum, fold_dims};
use gradus_core::{DType, FloatElement};

use crate::{Tensor, elementwise_ops, normalize_dim, normalize_dims, par, shape::Dims, with_real};

/// Elements of 16 bits that are widened at a time, if they can be cut.
const WIDENED: usize = 1 << 17;

#[track_caller]
fn reduce<F: Fold>(f: F, t: &Tensor, dims: &[usize], keepdim: bool) -> Tensor {
    reduce_wide(f, t, dims, keepdim).to_dtype(t.dtype())
}

/// As [`reduce`], with the result of 16-bit floats in f32.
#[track_caller]
fn reduce_wide<F: Fold>(f: F, t: &Tensor, dims: &[usize], keepdim: bool) -> Tensor {
    if t.is_short() {
        let rows = t.shape().first().map_or(0, |&n| WIDENED * n / t.numel().max(1)).max(1);
        if !dims.contains(&0) || rows >= t.shape()[0] {
            return reduce(f, &t.to_dtype(DType::F32), dims, keepdim);
        }
        // Some rows at a time, so that few widened numbers exist; then the results of all of them.
        let n = t.shape()[0];
        let part = |first: usize| {
            let rows = t.narrow(0, first, rows.min(n - first)).to_dtype(DType::F32);
            reduce(f, &rows, dims, true)
        };
        let parts: Vec<Tensor> = (0..n).step_by(rows).map(part).collect();
        let parts = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0);
        return reduce(f, &parts, dims, keepdim);
    }
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
    /// When a dimension does not exist or is named twice, or the elements are no floats.
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
        let mut y = reduce_wide(Sum, self, &dims, keepdim);
        y.map_mut(DivideBy { n: count(self, &dims) as f64 });
        y.to_dtype(self.dtype())
    }

    /// Sums a broadcast result back to `shape`: the gradient of broadcasting.
    ///
    /// # Panics
    /// When `shape` does not broadcast to the shape of this tensor, or the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn sum_to(&self, shape: &[usize]) -> Self {
        self.sum_to_wide(shape).to_dtype(self.dtype())
    }

    /// As [`sum_to`](Self::sum_to), with sums of 16-bit floats left in f32.
    ///
    /// # Panics
    /// As [`sum_to`](Self::sum_to).
    #[must_use]
    #[track_caller]
    pub fn sum_to_wide(&self, shape: &[usize]) -> Self {
        if self.shape() == shape {
            return self.clone();
        }
        let fits = self.ndim() >= shape.len()
            && shape.iter().rev().zip(self.shape().iter().rev()).all(|(&s, &d)| s == d || s == 1);
        assert!(fits, "sum_to: shape {shape:?} does not broadcast to {:?}", self.shape());
        let lead = self.ndim() - shape.len();
        let dims: Dims =
            (0..self.ndim()).filter(|&d| d < lead || shape[d - lead] != self.shape()[d]).collect();
        reduce_wide(Sum, self, &dims, true).view(shape)
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
        if self.is_short() {
            return self.in_compute_type(|x| x.var(dims, correction, keepdim));
        }
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
    /// When the dimension does not exist or is empty, or the elements are no floats.
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
    /// When the dimension does not exist, or the elements are no floats.
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
    assert!(
        count(t, &dims) > 0,
        "{name}: nothing to choose from along {dims:?} of shape {:?}",
        t.shape()
    );
    reduce(Extreme::<MAX>, t, &dims, keepdim)
}

#[track_caller]
fn extreme_dim<const MAX: bool>(
    name: &str,
    t: &Tensor,
    dim: isize,
    keepdim: bool,
) -> (Tensor, Tensor) {
    if t.ndim() == 0 {
        return extreme_dim::<MAX>(name, &t.view(&[1]), dim, false);
    }
    if t.is_short() {
        let (values, index) = extreme_dim::<MAX>(name, &t.to_dtype(DType::F32), dim, keepdim);
        return (values.to_dtype(t.dtype()), index);
    }
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
    if t.ndim() == 0 {
        return running_sum(&t.view(&[1]), dim, reversed).view(&[]);
    }
    if t.is_short() {
        return t.in_compute_type(|t| running_sum(t, dim, reversed));
    }
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
