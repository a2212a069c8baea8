//! Changes of shape: views where the tensor allows it, copies where not.

use gradus_tensor::{Tensor, normalize_dim};

use crate::Var;

impl Var {
    /// Swaps two dimensions (negative ones count from the end).
    ///
    /// # Panics
    /// When one does not exist.
    #[must_use]
    #[track_caller]
    pub fn transpose(&self, dim0: isize, dim1: isize) -> Self {
        let y = self.value().transpose(dim0, dim1);
        Self::op("transpose", &[self], y, move |g, sink| sink.add(0, g.transpose(dim0, dim1)))
    }

    /// The dimensions in a new order: dimension `i` of the result is `dims[i]` of this value.
    ///
    /// # Panics
    /// When `dims` is not a permutation.
    #[must_use]
    #[track_caller]
    pub fn permute(&self, dims: &[isize]) -> Self {
        let y = self.value().permute(dims);
        let mut inverse = vec![0; dims.len()];
        for (i, &d) in dims.iter().enumerate() {
            inverse[normalize_dim("permute", d, dims.len())] = i as isize;
        }
        Self::op("permute", &[self], y, move |g, sink| sink.add(0, g.permute(&inverse)))
    }

    /// The same elements in row-major order under another shape; one dimension may be -1.
    ///
    /// # Panics
    /// When the number of elements does not fit.
    #[must_use]
    #[track_caller]
    pub fn reshape(&self, shape: &[isize]) -> Self {
        self.reshaped("reshape", self.value().reshape(shape))
    }

    /// A dimension of size 1 inserted before `dim` (-1 appends).
    ///
    /// # Panics
    /// When `dim` does not exist in the result.
    #[must_use]
    #[track_caller]
    pub fn unsqueeze(&self, dim: isize) -> Self {
        self.reshaped("unsqueeze", self.value().unsqueeze(dim))
    }

    /// A dimension of size 1 removed.
    ///
    /// # Panics
    /// When the dimension does not exist or is not of size 1.
    #[must_use]
    #[track_caller]
    pub fn squeeze(&self, dim: isize) -> Self {
        self.reshaped("squeeze", self.value().squeeze(dim))
    }

    fn reshaped(&self, name: &'static str, y: Tensor) -> Self {
        let shape = self.shape().to_vec();
        Self::op(name, &[self], y, move |g, sink| sink.add(0, g.view(&shape)))
    }

    /// Repeats dimensions of size 1 (and new leading ones) to `shape` without copying.
    ///
    /// # Panics
    /// When a dimension is neither 1 nor that of `shape`.
    #[must_use]
    #[track_caller]
    pub fn broadcast_to(&self, shape: &[usize]) -> Self {
        let y = self.value().broadcast_to(shape);
        Self::op("broadcast_to", &[self], y, |g, sink| sink.add_broadcast(0, g))
    }

    /// Elements `start..end` of one dimension, every `step`-th, by Python's rules: negative positions count from
    /// the end, positions out of range are clipped, no `end` means to the end.
    ///
    /// # Panics
    /// When the dimension does not exist or `step` is not positive.
    #[must_use]
    #[track_caller]
    pub fn slice(&self, dim: isize, start: isize, end: Option<isize>, step: isize) -> Self {
        let y = self.value().slice(dim, start, end, step);
        let shape = self.shape().to_vec();
        let n = shape[normalize_dim("slice", dim, shape.len())] as isize;
        let start = if start < 0 { (start + n).max(0) } else { start.min(n) } as usize;
        Self::op("slice", &[self], y, move |g, sink| {
            sink.add(0, g.unslice(&shape, dim, start, step as usize));
        })
    }

    /// `len` neighbours of one dimension, from `start` on.
    ///
    /// # Panics
    /// When they do not all exist.
    #[must_use]
    #[track_caller]
    pub fn narrow(&self, dim: isize, start: usize, len: usize) -> Self {
        let y = self.value().narrow(dim, start, len);
        let shape = self.shape().to_vec();
        Self::op("narrow", &[self], y, move |g, sink| sink.add(0, g.unslice(&shape, dim, start, 1)))
    }

    /// Cuts a dimension into parts of these sizes, as views. The reverse of [`concat`](Self::concat): backward joins
    /// the gradients of all parts in one pass, where one [`slice`](Self::slice) a part would pass over all of it
    /// each time.
    ///
    /// # Panics
    /// When the dimension does not exist or the sizes do not sum to its size.
    #[must_use]
    #[track_caller]
    pub fn split(&self, sizes: &[usize], dim: isize) -> Vec<Self> {
        let d = normalize_dim("split", dim, self.shape().len());
        let n = self.shape()[d];
        assert_eq!(
            sizes.iter().sum::<usize>(),
            n,
            "split: parts {sizes:?} of dimension {d} of {:?}",
            self.shape()
        );
        let mut start = 0;
        let cut = |&size: &usize| {
            let part = self.value().narrow(d as isize, start, size);
            start += size;
            part
        };
        let parts: Vec<Tensor> = sizes.iter().map(cut).collect();
        let shapes: Vec<Vec<usize>> = parts.iter().map(|p| p.shape().to_vec()).collect();
        let dtype = self.dtype();
        Self::op_multi("split", &[self], parts, move |grads, sink| {
            let all = grads.into_iter().zip(&shapes);
            let all: Vec<Tensor> =
                all.map(|(g, s)| g.unwrap_or_else(|| Tensor::zeros(s, dtype))).collect();
            sink.add(0, Tensor::concat(&all.iter().collect::<Vec<_>>(), d as isize));
        })
    }

    /// Values behind each other along a dimension that they have; the other dimensions are equal.
    ///
    /// # Panics
    /// When there is none, the dimension does not exist, types or other dimensions differ, or the values lie on
    /// different tapes.
    #[must_use]
    #[track_caller]
    pub fn concat(parts: &[&Self], dim: isize) -> Self {
        let parts = Self::autocast_all("concat", parts);
        let parts: Vec<&Self> = parts.iter().map(|v| &**v).collect();
        let values: Vec<&Tensor> = parts.iter().map(|v| v.value()).collect();
        let y = Tensor::concat(&values, dim);
        let d = normalize_dim("concat", dim, y.ndim());
        let sizes: Vec<usize> = values.iter().map(|v| v.shape()[d]).collect();
        Self::op("concat", &parts, y, move |g, sink| {
            let mut start = 0;
            for (i, &size) in sizes.iter().enumerate() {
                sink.add(i, g.narrow(d as isize, start, size));
                start += size;
            }
        })
    }

    /// Values of one shape along a new dimension, which is `dim` of the result.
    ///
    /// # Panics
    /// When there is none, the result has no such dimension, shapes or types differ, or the values lie on
    /// different tapes.
    #[must_use]
    #[track_caller]
    pub fn stack(parts: &[&Self], dim: isize) -> Self {
        let parts = Self::autocast_all("stack", parts);
        let parts: Vec<&Self> = parts.iter().map(|v| &**v).collect();
        let values: Vec<&Tensor> = parts.iter().map(|v| v.value()).collect();
        let y = Tensor::stack(&values, dim);
        let n = parts.len();
        Self::op("stack", &parts, y, move |g, sink| {
            for i in 0..n {
                sink.add(i, g.narrow(dim, i, 1).squeeze(dim));
            }
        })
    }
}
