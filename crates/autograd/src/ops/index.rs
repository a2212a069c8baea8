//! Look-ups by index and choices by mask. Indices are tensors of i64, masks tensors of bytes.

use gradus_tensor::Tensor;

use crate::Var;

impl Var {
    /// One element for each index along a dimension: for `dim` 0 of a matrix, `y[i][j] = x[index[i][j]][j]`.
    /// `index` (i64) has as many dimensions as this value, none but `dim` larger; the result has its shape.
    /// Gradients of an element named twice add up.
    ///
    /// # Panics
    /// When the shapes do not fit or an index is negative or too large.
    #[must_use]
    #[track_caller]
    pub fn gather(&self, dim: isize, index: &Tensor) -> Self {
        let [x] = Self::autocast("gather", [self]);
        let y = x.value().gather(dim, index);
        let (shape, index) = (self.shape().to_vec(), index.clone());
        Self::op("gather", &[&x], y, move |g, sink| sink.add(0, g.scatter_sum(&shape, dim, &index)))
    }

    /// The slices that `index` (i64, 1-dimensional) names along a dimension, in its order.
    ///
    /// # Panics
    /// When `index` is not 1-dimensional, or an index is negative or too large.
    #[must_use]
    #[track_caller]
    pub fn index_select(&self, dim: isize, index: &Tensor) -> Self {
        let [x] = Self::autocast("index_select", [self]);
        let y = x.value().index_select(dim, index);
        let (shape, index) = (self.shape().to_vec(), index.clone());
        let size = shape[gradus_tensor::normalize_dim("index_select", dim, shape.len())];
        Self::op("index_select", &[&x], y, move |g, sink| {
            sink.add(0, g.index_sum(dim, size, &index, None))
        })
    }

    /// Rows of this table `[V, D]`, one for each index (i64) of any shape: the result is `[index.., D]`.
    /// The row `padding_idx` (negative: from the end) is returned as it is and gets no gradient.
    ///
    /// # Panics
    /// When this is no matrix, an index is negative or too large, or the row `padding_idx` does not exist.
    #[must_use]
    #[track_caller]
    pub fn embedding(&self, index: &Tensor, padding_idx: Option<isize>) -> Self {
        let &[rows, width] = self.shape() else {
            panic!("embedding: a table of shape {:?} is no matrix", self.shape());
        };
        let skip = padding_idx.map(|p| {
            let row = if p < 0 { p + rows as isize } else { p };
            assert!(
                (0..rows as isize).contains(&row),
                "embedding: padding_idx {p} in a table of {rows} rows"
            );
            row as usize
        });
        let mut shape = index.shape().to_vec();
        shape.push(width);
        let flat = index.view(&[index.numel()]);
        let [table] = Self::autocast("embedding", [self]);
        let y = table.value().index_select(0, &flat).view(&shape);
        Self::op("embedding", &[&table], y, move |g, sink| {
            sink.add(0, g.view(&[flat.numel(), width]).index_sum(0, rows, &flat, skip));
        })
    }

    /// `a` where `cond` (bytes) is not 0 and `b` elsewhere, all broadcast to each other. What is not taken has no
    /// influence on the result or on a gradient, not even as NaN.
    ///
    /// # Panics
    /// When `cond` is no tensor of bytes, the shapes do not broadcast, or the values lie on different tapes.
    #[must_use]
    #[track_caller]
    pub fn where_cond(cond: &Tensor, a: &Self, b: &Self) -> Self {
        let [a, b] = Self::promoted("where", [a, b]);
        let y = cond.choose(a.value(), b.value());
        let cond = cond.clone();
        Self::op("where_cond", &[&a, &b], y, move |g, sink| {
            let zero = Tensor::zeros(&[], g.dtype());
            if sink.needs(0) {
                sink.add_broadcast(0, cond.choose(&g, &zero));
            }
            if sink.needs(1) {
                sink.add_broadcast(1, cond.choose(&zero, &g));
            }
        })
    }
}
