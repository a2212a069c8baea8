//! Other looks at the same buffer: nothing here copies unless it says so.

use crate::{
    Tensor, normalize_dim,
    shape::{Dims, Strides, numel, row_major},
};

impl Tensor {
    /// Swaps two dimensions (negative ones count from the end). A scalar takes 0 and -1, and stays as it is.
    ///
    /// # Panics
    /// When one does not exist.
    #[must_use]
    #[track_caller]
    pub fn transpose(&self, dim0: isize, dim1: isize) -> Self {
        let [a, b] = [dim0, dim1].map(|d| normalize_dim("transpose", d, self.ndim().max(1)));
        let mut t = self.clone();
        if a != b {
            t.shape.swap(a, b);
            t.strides.swap(a, b);
        }
        t
    }

    /// The dimensions in a new order: dimension `i` of the result is `dims[i]` of this tensor.
    ///
    /// # Panics
    /// When `dims` is not a permutation.
    #[must_use]
    #[track_caller]
    pub fn permute(&self, dims: &[isize]) -> Self {
        assert_eq!(
            dims.len(),
            self.ndim(),
            "permute: {dims:?} for a tensor of shape {:?}",
            self.shape()
        );
        let order: Vec<usize> =
            dims.iter().map(|&d| normalize_dim("permute", d, self.ndim())).collect();
        let mut seen = vec![false; order.len()];
        for &d in &order {
            assert!(
                !std::mem::replace(&mut seen[d], true),
                "permute: dimension {d} is named twice in {dims:?}"
            );
        }
        let mut t = self.clone();
        t.shape = order.iter().map(|&d| self.shape[d]).collect();
        t.strides = order.iter().map(|&d| self.strides[d]).collect();
        t
    }

    /// The same elements in row-major order under another shape; one dimension may be -1.
    /// Shares the buffer where the elements lie densely, copies otherwise.
    ///
    /// # Panics
    /// When the number of elements does not fit.
    #[must_use]
    #[track_caller]
    pub fn reshape(&self, shape: &[isize]) -> Self {
        let n = self.numel();
        let known: Dims = shape.iter().filter(|&&d| d >= 0).map(|&d| d as usize).collect();
        let (known, unknown) = (numel(&known), shape.len() - known.len());
        let fits = match unknown {
            0 => known == n,
            1 => shape.contains(&-1) && known != 0 && n.is_multiple_of(known),
            _ => false,
        };
        assert!(fits, "reshape: cannot view shape {:?} ({n} elements) as {shape:?}", self.shape());
        let dims: Dims =
            shape.iter().map(|&d| if d < 0 { n / known } else { d as usize }).collect();
        self.with_shape(dims)
    }

    /// As [`reshape`](Self::reshape), for a shape that is known whole.
    ///
    /// # Panics
    /// When the number of elements does not fit.
    #[must_use]
    #[track_caller]
    pub fn view(&self, shape: &[usize]) -> Self {
        assert_eq!(
            numel(shape),
            self.numel(),
            "view: cannot view shape {:?} as {shape:?}",
            self.shape()
        );
        self.with_shape(Dims::from_slice(shape))
    }

    fn with_shape(&self, shape: Dims) -> Self {
        let mut t = self.contiguous();
        t.strides = row_major(&shape);
        t.shape = shape;
        t
    }

    /// Elements `start..end` of one dimension, every `step`-th, by Python's rules: negative positions count from
    /// the end, positions out of range are clipped, no `end` means to the end.
    ///
    /// # Panics
    /// When the dimension does not exist or `step` is not positive.
    #[must_use]
    #[track_caller]
    pub fn slice(&self, dim: isize, start: isize, end: Option<isize>, step: isize) -> Self {
        let d = normalize_dim("slice", dim, self.ndim());
        assert!(step > 0, "slice: a step of {step}; it has to be positive");
        let n = self.shape[d] as isize;
        let clip = |i: isize| if i < 0 { (i + n).max(0) } else { i.min(n) };
        let (start, end) = (clip(start), clip(end.unwrap_or(n)));
        let len = if end > start { (end - start - 1) / step + 1 } else { 0 };
        let mut t = self.clone();
        if len > 0 {
            t.offset = (t.offset as isize + start * t.strides[d]) as usize;
        }
        t.shape[d] = len as usize;
        // A stride that is never taken may overflow: a step can be as long as one likes.
        t.strides[d] = t.strides[d].wrapping_mul(step);
        t
    }

    /// `len` neighbours of one dimension, from `start` on.
    ///
    /// # Panics
    /// When they do not all exist.
    #[must_use]
    #[track_caller]
    pub fn narrow(&self, dim: isize, start: usize, len: usize) -> Self {
        let d = normalize_dim("narrow", dim, self.ndim());
        assert!(
            start <= self.shape[d] && len <= self.shape[d] - start,
            "narrow: {len} from {start} on of dimension {d} of shape {:?}",
            self.shape()
        );
        self.slice(dim, start as isize, Some((start + len) as isize), 1)
    }

    /// A dimension of size 1 inserted before `dim` (-1 appends).
    ///
    /// # Panics
    /// When `dim` does not exist in the result.
    #[must_use]
    #[track_caller]
    pub fn unsqueeze(&self, dim: isize) -> Self {
        let d = normalize_dim("unsqueeze", dim, self.ndim() + 1);
        let mut t = self.clone();
        t.shape.insert(d, 1);
        t.strides.insert(d, 0);
        t
    }

    /// A dimension of size 1 removed.
    ///
    /// # Panics
    /// When the dimension does not exist or is not of size 1.
    #[must_use]
    #[track_caller]
    pub fn squeeze(&self, dim: isize) -> Self {
        let d = normalize_dim("squeeze", dim, self.ndim());
        assert_eq!(self.shape[d], 1, "squeeze: dimension {d} of shape {:?}", self.shape());
        let mut t = self.clone();
        t.shape.remove(d);
        t.strides.remove(d);
        t
    }

    /// Repeats dimensions of size 1 (and new leading ones) to `shape` without copying.
    ///
    /// # Panics
    /// When a dimension is neither 1 nor that of `shape`.
    #[must_use]
    #[track_caller]
    pub fn broadcast_to(&self, shape: &[usize]) -> Self {
        let strides = self.broadcast_strides(shape);
        let strides = strides.unwrap_or_else(|| {
            panic!(
                "broadcast_to: a tensor of shape {:?} does not broadcast to {shape:?}",
                self.shape()
            )
        });
        Self { buf: self.buf.clone(), shape: Dims::from_slice(shape), strides, offset: self.offset }
    }

    pub(crate) fn broadcast_strides(&self, shape: &[usize]) -> Option<Strides> {
        let lead = shape.len().checked_sub(self.ndim())?;
        let mut strides: Strides = smallvec::SmallVec::from_elem(0, shape.len());
        for (i, (&d, &s)) in self.shape.iter().zip(&self.strides).enumerate() {
            if d == shape[lead + i] {
                strides[lead + i] = s;
            } else if d != 1 {
                return None;
            }
        }
        Some(strides)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iota(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_slice(&(0..n as i64).collect::<Vec<_>>(), shape)
    }

    #[test]
    fn views_show_the_right_elements() {
        let t = iota(&[2, 3]);
        assert_eq!(t.transpose(0, -1).to_vec::<i64>(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(t.permute(&[1, 0]).reshape(&[-1]).to_vec::<i64>(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(t.slice(1, -2, None, 1).to_vec::<i64>(), [1, 2, 4, 5]);
        assert_eq!(t.slice(1, 0, Some(100), 2).to_vec::<i64>(), [0, 2, 3, 5]);
        assert_eq!(t.slice(0, 2, Some(1), 1).shape(), [0, 3]);
        assert_eq!(t.slice(1, 1, None, isize::MAX).to_vec::<i64>(), [1, 4]);
        assert_eq!(t.narrow(0, 1, 1).broadcast_to(&[2, 3]).to_vec::<i64>(), [3, 4, 5, 3, 4, 5]);
        assert_eq!(t.unsqueeze(-1).shape(), [2, 3, 1]);
        assert_eq!(t.unsqueeze(0).squeeze(0).to_vec::<i64>(), t.to_vec::<i64>());
        assert!(t.transpose(0, 1).shares_buffer_with(&t));
    }

    #[test]
    fn a_scalar_transposes_to_itself() {
        assert_eq!(iota(&[]).transpose(0, -1).shape(), [0usize; 0]);
    }

    #[test]
    fn writing_to_a_view_leaves_its_source_alone() {
        let t = iota(&[2, 3]);
        let mut v = t.slice(1, 1, None, 1);
        v.make_mut::<i64>()[0] = 100;
        assert_eq!(v.to_vec::<i64>(), [100, 2, 4, 5]);
        assert_eq!(t.to_vec::<i64>(), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    #[should_panic(expected = "as [2, -3]")]
    fn only_minus_one_stands_for_the_rest() {
        let _ = iota(&[2, 3]).reshape(&[2, -3]);
    }

    #[test]
    #[should_panic(expected = "reshape: cannot view shape [2, 3] (6 elements) as [4, -1]")]
    fn a_wrong_reshape_panics_with_both_shapes() {
        let _ = iota(&[2, 3]).reshape(&[4, -1]);
    }
}
