//! Reductions.

use gradus_tensor::{Tensor, elementwise_ops, normalize_dim, normalize_dims, with_real};

use crate::Var;

elementwise_ops! {
    Equal() "extreme_grad" 0.3 |self, a, b| if a == b { T::ONE } else { T::ZERO };
    ScaledDifference(k) "var_grad" 0.3 |self, a, b| T::lit(self.k) * (a - b);
}

/// A reduced tensor of `shape`'s dimensions with the reduced ones at size 1, whether they were kept or not.
fn keep_dims(reduced: &Tensor, shape: &[usize], dims: &[usize]) -> Tensor {
    let kept: Vec<usize> =
        shape.iter().enumerate().map(|(i, &n)| if dims.contains(&i) { 1 } else { n }).collect();
    reduced.view(&kept)
}

impl Var {
    /// The sum along `dims` (none given: along all), 0 over nothing. `keepdim` leaves the summed dimensions with
    /// size 1.
    ///
    /// Gradient: that of the sum, repeated.
    ///
    /// # Panics
    /// When a dimension does not exist or is named twice.
    #[must_use]
    #[track_caller]
    pub fn sum(&self, dims: &[isize], keepdim: bool) -> Self {
        let along = normalize_dims("sum", dims, self.shape().len());
        let shape = self.shape().to_vec();
        let [x] = Self::autocast("sum", [self]);
        Self::op("sum", &[&x], x.value().sum(dims, keepdim), move |g, sink| {
            sink.add(0, keep_dims(&g, &shape, &along).broadcast_to(&shape));
        })
    }

    /// The sum divided by the number `n` of elements summed; NaN over nothing. Dimensions as in
    /// [`sum`](Self::sum).
    ///
    /// Gradient: that of the mean divided by `n`, repeated.
    ///
    /// # Panics
    /// As [`sum`](Self::sum).
    #[must_use]
    #[track_caller]
    pub fn mean(&self, dims: &[isize], keepdim: bool) -> Self {
        let along = normalize_dims("mean", dims, self.shape().len());
        let shape = self.shape().to_vec();
        let n: usize = along.iter().map(|&d| shape[d]).product();
        let [x] = Self::autocast("mean", [self]);
        Self::op("mean", &[&x], x.value().mean(dims, keepdim), move |mut g, sink| {
            g.scale_assign(1.0 / n as f64);
            sink.add(0, keep_dims(&g, &shape, &along).broadcast_to(&shape));
        })
    }

    /// The variance along `dims`: squared distances from the mean, added and divided by `n - correction` (by 0
    /// where that is negative, so that one element with correction 1 is NaN). Correction 1 is the unbiased
    /// estimate, PyTorch's default. Dimensions as in [`sum`](Self::sum).
    ///
    /// Gradient: `2 (x - mean) / (n - correction)`. As in PyTorch, that divisor may be negative where dimensions are
    /// given, and is at least 0 where not.
    ///
    /// # Panics
    /// As [`sum`](Self::sum).
    #[must_use]
    #[track_caller]
    pub fn var(&self, dims: &[isize], correction: usize, keepdim: bool) -> Self {
        let along = normalize_dims("var", dims, self.shape().len());
        let n: usize = along.iter().map(|&d| self.shape()[d]).product();
        let divisor = n as f64 - correction as f64;
        let [var] = Self::autocast("var", [self]);
        let (x, dims) = (var.value().clone(), dims.to_vec());
        Self::op("var", &[&var], x.var(&dims, correction, keepdim), move |g, sink| {
            let k = 2.0 / if dims.is_empty() || x.ndim() == 0 { divisor.max(0.0) } else { divisor };
            let mut dx = x.zip(&x.mean(&dims, true), ScaledDifference { k });
            let g = keep_dims(&g, x.shape(), &along);
            dx = dx.mul(&g);
            sink.add(0, dx);
        })
    }

    /// The largest element along `dims`, dimensions as in [`sum`](Self::sum); NaN if there is one.
    ///
    /// Gradient: shared evenly among equals.
    ///
    /// # Panics
    /// When there is nothing to choose from, and as [`sum`](Self::sum).
    #[must_use]
    #[track_caller]
    pub fn amax(&self, dims: &[isize], keepdim: bool) -> Self {
        let [x] = Self::autocast("amax", [self]);
        x.extreme("amax", x.value().amax(dims, keepdim), dims)
    }

    /// The smallest element along `dims`, dimensions as in [`sum`](Self::sum); NaN if there is one.
    ///
    /// Gradient: shared evenly among equals.
    ///
    /// # Panics
    /// When there is nothing to choose from, and as [`sum`](Self::sum).
    #[must_use]
    #[track_caller]
    pub fn amin(&self, dims: &[isize], keepdim: bool) -> Self {
        let [x] = Self::autocast("amin", [self]);
        x.extreme("amin", x.value().amin(dims, keepdim), dims)
    }

    #[track_caller]
    fn extreme(&self, name: &'static str, y: Tensor, dims: &[isize]) -> Self {
        let along = normalize_dims(name, dims, self.shape().len());
        let (x, saved) = (self.value().clone(), y.clone());
        Self::op(name, &[self], y, move |g, sink| {
            let y = keep_dims(&saved, x.shape(), &along);
            let g = keep_dims(&g, x.shape(), &along);
            let chosen = x.zip(&y, Equal {});
            let share = g.div(&chosen.sum_to(y.shape()));
            sink.add(0, chosen.mul(&share));
        })
    }

    /// The largest element along one dimension, and its index (i64): the first of equals, and of NaNs.
    ///
    /// Gradient: all of it to that one element.
    ///
    /// # Panics
    /// When the dimension does not exist or is empty.
    #[must_use]
    #[track_caller]
    pub fn max_dim(&self, dim: isize, keepdim: bool) -> (Self, Tensor) {
        if self.shape().is_empty() {
            return self.reshape(&[1]).max_dim(dim, false);
        }
        let (values, index) = self.value().max_dim(dim, keepdim);
        (self.chosen("max_dim", values, index.clone(), dim), index)
    }

    /// The smallest element along one dimension, and its index (i64): the first of equals, and of NaNs.
    ///
    /// Gradient: all of it to that one element.
    ///
    /// # Panics
    /// When the dimension does not exist or is empty.
    #[must_use]
    #[track_caller]
    pub fn min_dim(&self, dim: isize, keepdim: bool) -> (Self, Tensor) {
        if self.shape().is_empty() {
            return self.reshape(&[1]).min_dim(dim, false);
        }
        let (values, index) = self.value().min_dim(dim, keepdim);
        (self.chosen("min_dim", values, index.clone(), dim), index)
    }

    #[track_caller]
    fn chosen(&self, name: &'static str, values: Tensor, index: Tensor, dim: isize) -> Self {
        let d = normalize_dim(name, dim, self.shape().len());
        let shape = self.shape().to_vec();
        Self::op(name, &[self], values, move |g, sink| {
            let rows = |t: &Tensor| keep_dims(t, &shape, &[d]).transpose(dim, -1).contiguous();
            let (g, index) = (rows(&g.to_dtype(g.dtype().compute())), rows(&index));
            let mut swapped = shape.clone();
            swapped.swap(d, shape.len() - 1);
            let mut dx = Tensor::zeros(&swapped, g.dtype());
            with_real!(name, g.dtype(), T => {
                let pairs = g.as_slice::<T>().iter().zip(index.as_slice::<i64>());
                for (row, (&g, &i)) in dx.make_mut::<T>().chunks_exact_mut(shape[d]).zip(pairs) {
                    row[i as usize] = g;
                }
            });
            sink.add(0, dx.transpose(dim, -1));
        })
    }

    /// Running sums along a dimension: `y_i = x_0 + .. + x_i`.
    ///
    /// Gradient: running sums from the end.
    ///
    /// # Panics
    /// When the dimension does not exist.
    #[must_use]
    #[track_caller]
    pub fn cumsum(&self, dim: isize) -> Self {
        let [x] = Self::autocast("cumsum", [self]);
        Self::op("cumsum", &[&x], x.value().cumsum(dim), move |g, sink| {
            sink.add(0, g.cumsum_reversed(dim))
        })
    }
}
