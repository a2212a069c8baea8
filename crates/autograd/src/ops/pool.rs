//! Pooling.

use gradus_tensor::{AvgPoolOptions, MaxPoolOptions};

use crate::Var;

impl Var {
    /// The largest element of each window of `[N, C, H, W]`. Padding counts as negative infinity; the first of equals
    /// (row by row) takes the gradient.
    ///
    /// # Panics
    /// When the input is not 4-d, H or W is 0, no window fits, or the options make no sense (see
    /// `Tensor::max_pool2d`).
    #[must_use]
    #[track_caller]
    pub fn max_pool2d(&self, options: MaxPoolOptions) -> Self {
        let [x] = Self::autocast("max_pool2d", [self]);
        if !x.is_tracked() {
            return self.constant(x.value().max_pool2d(options));
        }
        let (y, places) = x.value().max_pool2d_with_places(options);
        let shape = self.shape().to_vec();
        Self::op("max_pool2d", &[&x], y, move |g, sink| {
            sink.add(0, g.max_pool2d_grad(&places, &shape, options))
        })
    }

    /// The mean of each window of `[N, C, H, W]`; padding counts as zeros.
    ///
    /// # Panics
    /// As [`max_pool2d`](Self::max_pool2d), and when the divisor is 0.
    #[must_use]
    #[track_caller]
    pub fn avg_pool2d(&self, options: AvgPoolOptions) -> Self {
        let shape = self.shape().to_vec();
        let [x] = Self::autocast("avg_pool2d", [self]);
        let y = x.value().avg_pool2d(options);
        Self::op("avg_pool2d", &[&x], y, move |g, sink| {
            sink.add(0, g.avg_pool2d_grad(&shape, options))
        })
    }

    /// The means of `output[0]` by `output[1]` windows that cover `[N, C, H, W]`: window `i` of `m` along a dimension
    /// of size `n` is `floor(i n / m) .. ceil((i + 1) n / m)`.
    ///
    /// # Panics
    /// When the input is not 4-d or H or W is 0.
    #[must_use]
    #[track_caller]
    pub fn adaptive_avg_pool2d(&self, output: [usize; 2]) -> Self {
        let shape = self.shape().to_vec();
        let [x] = Self::autocast("adaptive_avg_pool2d", [self]);
        let y = x.value().adaptive_avg_pool2d(output);
        Self::op("adaptive_avg_pool2d", &[&x], y, move |g, sink| {
            sink.add(0, g.adaptive_avg_pool2d_grad(&shape))
        })
    }
}
