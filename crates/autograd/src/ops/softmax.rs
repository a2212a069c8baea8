//! Softmax and kin.

use gradus_tensor::{elementwise_ops, normalize_dims};

use crate::Var;

elementwise_ops! {
    ExpDifference() "logsumexp_grad" 0.6 |self, a, b| (a - b).exp_();
}

impl Var {
    /// `y_i = e^x_i / sum_j e^x_j` along a dimension, shifted by the maximum so that nothing overflows. A row that
    /// is all negative infinity, or has infinity, is NaN.
    ///
    /// Gradient: `y (g - sum g y)`.
    ///
    /// # Panics
    /// When the dimension does not exist.
    #[must_use]
    #[track_caller]
    pub fn softmax(&self, dim: isize) -> Self {
        let [x] = Self::autocast("softmax", [self]);
        let y = x.value().softmax(dim);
        let saved = y.clone();
        Self::op("softmax", &[&x], y, move |g, sink| sink.add(0, saved.softmax_grad(&g, dim)))
    }

    /// `y_i = x_i - ln sum_j e^x_j` along a dimension: the logarithm of [`softmax`](Self::softmax), without its
    /// overflow and underflow.
    ///
    /// Gradient: `g - e^y sum g`.
    ///
    /// # Panics
    /// When the dimension does not exist.
    #[must_use]
    #[track_caller]
    pub fn log_softmax(&self, dim: isize) -> Self {
        let [x] = Self::autocast("log_softmax", [self]);
        let y = x.value().log_softmax(dim);
        let saved = y.clone();
        Self::op("log_softmax", &[&x], y, move |g, sink| {
            sink.add(0, saved.log_softmax_grad(&g, dim))
        })
    }

    /// `y = ln sum e^x` along `dims` (none given: along all). All negative infinity, or nothing, gives negative
    /// infinity; infinity gives infinity. `keepdim` leaves the reduced dimensions with size 1.
    ///
    /// Gradient: `g e^(x - y)`, NaN where both are the same infinity, as in PyTorch.
    ///
    /// # Panics
    /// When a dimension does not exist or is named twice.
    #[must_use]
    #[track_caller]
    pub fn logsumexp(&self, dims: &[isize], keepdim: bool) -> Self {
        let along = normalize_dims("logsumexp", dims, self.shape().len());
        let [var] = Self::autocast("logsumexp", [self]);
        let y = var.value().logsumexp(dims, true);
        let (x, saved) = (var.value().clone(), y.clone());
        let out = if keepdim {
            y
        } else {
            let kept: Vec<usize> =
                (0..y.ndim()).filter(|d| !along.contains(d)).map(|d| y.shape()[d]).collect();
            y.view(&kept)
        };
        Self::op("logsumexp", &[&var], out, move |g, sink| {
            let g = g.view(saved.shape());
            sink.add(0, x.zip(&saved, ExpDifference {}).mul(&g));
        })
    }
}
