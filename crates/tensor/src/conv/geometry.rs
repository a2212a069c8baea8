//! The sizes of a convolution.

use crate::{ConvOptions, gemm::MULTIPLY_ADD_NS};

/// Elements of one block of columns: half a megabyte of f32, which an L2 cache holds.
const BLOCK: usize = 1 << 17;

/// All the sizes of one convolution.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub(super) images: usize,
    /// Channels of one group: of the input, of the output.
    pub(super) channels: [usize; 2],
    pub(super) input: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) options: ConvOptions<2>,
}

impl Geometry {
    #[track_caller]
    pub(super) fn new(op: &str, x: &[usize], weight: &[usize], options: ConvOptions<2>) -> Self {
        let ConvOptions { stride, padding, dilation, groups } = options;
        assert!(
            x.len() == 4 && weight.len() == 4,
            "{op}: input {x:?} and weight {weight:?} have to be 4-d"
        );
        assert!(
            groups > 0 && !stride.contains(&0) && !dilation.contains(&0),
            "{op}: stride, dilation and groups have to be positive in {options:?}"
        );
        assert!(
            x[1] == weight[1] * groups && weight[0].is_multiple_of(groups),
            "{op}: channels of input {x:?} and weight {weight:?} do not fit {groups} groups"
        );
        let output = [0, 1].map(|d| {
            let (padded, size) = (x[2 + d] + 2 * padding[d], weight[2 + d]);
            let span = size.saturating_sub(1) * dilation[d] + 1;
            assert!(
                size > 0 && span <= padded,
                "{op}: weight {weight:?} with {options:?} does not fit into input {x:?}"
            );
            (padded - span) / stride[d] + 1
        });
        Self {
            images: x[0],
            channels: [weight[1], weight[0] / groups],
            input: [x[2], x[3]],
            kernel: [weight[2], weight[3]],
            output,
            options,
        }
    }

    /// Elements of one channel of the output.
    pub(super) fn plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Elements of the patch behind one element of the output.
    pub(super) fn patch(&self) -> usize {
        self.channels[0] * self.kernel[0] * self.kernel[1]
    }

    /// Elements of one group of the input.
    pub(super) fn group_in(&self) -> usize {
        self.channels[0] * self.input[0] * self.input[1]
    }

    /// Elements of one group of the output.
    pub(super) fn group_out(&self) -> usize {
        self.channels[1] * self.plane()
    }

    /// Elements of one group of the weight.
    pub(super) fn group_weight(&self) -> usize {
        self.channels[1] * self.patch()
    }

    pub(super) fn image_in(&self) -> usize {
        self.options.groups * self.group_in()
    }

    pub(super) fn image_out(&self) -> usize {
        self.options.groups * self.group_out()
    }

    /// Height and width with the padding.
    #[inline(always)]
    pub(super) fn padded(&self) -> [usize; 2] {
        [0, 1].map(|d| self.input[d] + 2 * self.options.padding[d])
    }

    /// Elements of one group of the padded input.
    pub(super) fn padded_group(&self) -> usize {
        let [h, w] = self.padded();
        self.channels[0] * h * w
    }

    /// Where in the padded input the `i`-th element of the patches behind row `y` of the output begins.
    #[inline(always)]
    pub(super) fn position(&self, i: usize, y: usize) -> usize {
        let [kh, kw] = self.kernel;
        let (c, ky, kx) = (i / (kh * kw), i / kw % kh, i % kw);
        let [h, w] = self.padded();
        let ConvOptions { stride, dilation, .. } = self.options;
        (c * h + y * stride[0] + ky * dilation[0]) * w + kx * dilation[1]
    }

    pub(super) fn is_padded(&self) -> bool {
        self.options.padding != [0, 0]
    }

    /// Whether the input is its own matrix of columns.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.options.stride == [1, 1] && !self.is_padded()
    }

    /// Rows of the output whose columns are made at once.
    pub(super) fn block_rows(&self) -> usize {
        if self.is_pointwise() {
            return self.output[0];
        }
        (BLOCK / (self.patch() * self.output[1]).max(1)).clamp(1, self.output[0])
    }

    /// Blocks of output rows: the first row and how many.
    pub(super) fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        let (rows, n) = (self.output[0], self.block_rows());
        (0..rows).step_by(n).map(move |first| (first, n.min(rows - first)))
    }

    /// Nanoseconds of one image, roughly.
    pub(super) fn image_ns(&self) -> f64 {
        let columns = self.options.groups * self.plane() * self.patch();
        columns as f64 * (self.channels[1] as f64 * MULTIPLY_ADD_NS + 0.3)
    }
}
