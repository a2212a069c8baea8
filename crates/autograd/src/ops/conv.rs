//! Convolutions.

use gradus_tensor::ConvOptions;

use crate::Var;

impl Var {
    /// Cross-correlation of images with zero padding: `y[n, o] = bias[o] + sum_c weight[o, c] * x[n, c]`, where `*`
    /// slides the kernel over the image without turning it round.
    ///
    /// The gradient of the weight correlates input and upstream gradient, the gradient of the input spreads the
    /// upstream gradient by the weight, and the gradient of the bias is a sum. Backward keeps the operands, and
    /// nothing made from them.
    ///
    /// # Shapes
    /// `x` (this value) `[N, C, H, W]`, `weight` `[O, C / groups, kh, kw]`, `bias` `[O]`, result `[N, O, H', W']` with
    /// `H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1`.
    ///
    /// # Panics
    /// When the shapes do not fit, the kernel is larger than the padded input, a stride, a dilation or the groups are
    /// 0, or the types differ or are neither f32 nor f64.
    #[must_use]
    #[track_caller]
    pub fn conv2d(&self, weight: &Self, bias: Option<&Self>, options: ConvOptions<2>) -> Self {
        self.correlate("conv2d", weight, bias, options)
    }

    #[track_caller]
    fn correlate(
        &self,
        op: &'static str,
        weight: &Self,
        bias: Option<&Self>,
        options: ConvOptions<2>,
    ) -> Self {
        // The bias is added to sums in f32; it needs no cast.
        let [input, weight] = Self::autocast(op, [self, weight]);
        let y = input.value().conv2d(weight.value(), bias.map(Self::value), options);
        let (x, w) = (input.value().clone(), weight.value().clone());
        let inputs: Vec<&Self> =
            [Some(&*input), Some(&*weight), bias].into_iter().flatten().collect();
        let has_bias = bias.is_some();
        Self::op(op, &inputs, y, move |g, sink| {
            let g = g.contiguous();
            if sink.needs(0) {
                sink.add(0, g.conv2d_grad_input(&w, x.shape(), options));
            }
            if sink.needs(1) {
                sink.add(1, g.conv2d_grad_weight(&x, w.shape(), options));
            }
            if has_bias && sink.needs(2) {
                let channels = g.shape()[1];
                sink.add(2, g.sum_to_wide(&[channels, 1, 1]).view(&[channels]));
            }
        })
    }

    /// Cross-correlation over one dimension: [`conv2d`](Self::conv2d) of images of height 1.
    ///
    /// # Shapes
    /// `x` (this value) `[N, C, L]`, `weight` `[O, C / groups, k]`, `bias` `[O]`, result `[N, O, L']`.
    ///
    /// # Panics
    /// When an operand is not 3-d, and as [`conv2d`](Self::conv2d).
    #[must_use]
    #[track_caller]
    pub fn conv1d(&self, weight: &Self, bias: Option<&Self>, options: ConvOptions<1>) -> Self {
        let (x, w) = (self.shape(), weight.shape());
        assert!(
            x.len() == 3 && w.len() == 3,
            "conv1d: input {x:?} and weight {w:?} have to be 3-d"
        );
        let [input, weight] = Self::autocast("conv1d", [self, weight]);
        let y = input.unsqueeze(2).correlate("conv1d", &weight.unsqueeze(2), bias, options.into());
        y.squeeze(2)
    }
}
