//! How a kernel moves over its input.

/// How a kernel moves over an input of `D` spatial dimensions. The defaults are stride 1, no padding,
/// dilation 1, one group.
///
/// ```
/// use gradus_tensor::ConvOptions;
///
/// let halve = ConvOptions::default().with_stride([2, 2]).with_padding([1, 1]);
/// assert_eq!(halve.dilation, [1, 1]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConvOptions<const D: usize> {
    /// Steps of the kernel. Default 1.
    pub stride: [usize; D],
    /// Zeros on both sides of the input. Default 0.
    pub padding: [usize; D],
    /// Distance between neighbouring elements of the kernel. Default 1.
    pub dilation: [usize; D],
    /// Parts that the channels fall into; each part of the output sees its own part of the input. Default 1.
    pub groups: usize,
}

impl<const D: usize> Default for ConvOptions<D> {
    fn default() -> Self {
        Self { stride: [1; D], padding: [0; D], dilation: [1; D], groups: 1 }
    }
}

impl<const D: usize> ConvOptions<D> {
    /// Sets the steps of the kernel.
    #[must_use]
    pub fn with_stride(self, stride: [usize; D]) -> Self {
        Self { stride, ..self }
    }

    /// Sets the zeros on both sides of the input.
    #[must_use]
    pub fn with_padding(self, padding: [usize; D]) -> Self {
        Self { padding, ..self }
    }

    /// Sets the distance between neighbouring elements of the kernel.
    #[must_use]
    pub fn with_dilation(self, dilation: [usize; D]) -> Self {
        Self { dilation, ..self }
    }

    /// Sets the number of groups.
    #[must_use]
    pub fn with_groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }
}

/// The same movement over an image of height 1.
impl From<ConvOptions<1>> for ConvOptions<2> {
    fn from(o: ConvOptions<1>) -> Self {
        Self {
            stride: [1, o.stride[0]],
            padding: [0, o.padding[0]],
            dilation: [1, o.dilation[0]],
            groups: o.groups,
        }
    }
}
