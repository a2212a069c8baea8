//! Convolutions.

use gradus_tensor::ConvOptions;

use crate::Var;

impl Var {
    /// Cross-correlation of images with zero padding: `y[n, o] = bias[o] + sum_c weight[o, c] * x[n, c]`.
    ///
    /// # Shapes
    /// `x` (this value) `[N, C, H, W]`, `weight` `[O, C / groups, kh, kw]`, `bias` `[O]`, result `[N, O, H', W']` with
    /// `H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1`.
    ///
    /// # Panics
    /// When shapes, groups or types do not fit.
    #[must_use]
    #[track_caller]
    pub fn conv2d(&self, weight: &Self, bias: Option<&Self>, options: ConvOptions<2>) -> Self {
        let y = self.value().conv2d(weight.value(), bias.map(Self::value), options);
        let (x, w) = (self.value().clone(), weight.value().clone());
        let inputs: Vec<&Self> = [Some(self), Some(weight), bias].into_iter().flatten().collect();
        let has_bias = bias.is_some();
        Self::op("conv2d", &inputs, y, move |g, sink| {
            let g = g.contiguous();
            if sink.needs(0) {
                sink.add(0, g.conv2d_grad_input(&w, x.shape(), options));
            }
            if sink.needs(1) {
                sink.add(1, g.conv2d_grad_weight(&x, w.shape(), options));
            }
            if has_bias && sink.needs(2) {
                sink.add(2, g.sum(&[0, 2, 3], false));
            }
        })
    }

    /// Cross-correlation over one dimension: [`conv2d`](Self::conv2d) of images of height 1.
    ///
    /// # Shapes
    /// `x` (this value) `[N, C, L]`, `weight` `[O, C / groups, k]`, `bias` `[O]`, result `[N, O, L']`.
    ///
    /// # Panics
    /// When shapes, groups or types do not fit.
    #[must_use]
    #[track_caller]
    pub fn conv1d(&self, weight: &Self, bias: Option<&Self>, options: ConvOptions<1>) -> Self {
        for (what, t) in [("input", self), ("weight", weight)] {
            assert_eq!(t.shape().len(), 3, "conv1d: an {what} of shape {:?}, expected 3 dimensions", t.shape());
        }
        let wide = ConvOptions::default()
            .with_stride([1, options.stride[0]])
            .with_padding([0, options.padding[0]])
            .with_dilation([1, options.dilation[0]])
            .with_groups(options.groups);
        self.unsqueeze(2).conv2d(&weight.unsqueeze(2), bias, wide).squeeze(2)
    }
}
