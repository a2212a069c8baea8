use gradus_autograd::{Layer, Var, module};
use gradus_tensor::{AvgPoolOptions, MaxPoolOptions};

/// The largest value of each window of an image, `[N, C, H, W]` to `[N, C, H', W']`.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool2d {
    options: MaxPoolOptions,
}
module!(MaxPool2d {});

impl MaxPool2d {
    /// Windows of this size side by side.
    #[must_use]
    pub fn new(kernel: [usize; 2]) -> Self {
        Self::with_options(MaxPoolOptions::new(kernel))
    }

    /// With options.
    #[must_use]
    pub fn with_options(options: MaxPoolOptions) -> Self {
        Self { options }
    }
}

impl Layer for MaxPool2d {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        x.max_pool2d(self.options)
    }
}

/// The mean of each window of an image, `[N, C, H, W]` to `[N, C, H', W']`.
#[derive(Clone, Copy, Debug)]
pub struct AvgPool2d {
    options: AvgPoolOptions,
}
module!(AvgPool2d {});

impl AvgPool2d {
    /// Windows of this size side by side.
    #[must_use]
    pub fn new(kernel: [usize; 2]) -> Self {
        Self::with_options(AvgPoolOptions::new(kernel))
    }

    /// With options.
    #[must_use]
    pub fn with_options(options: AvgPoolOptions) -> Self {
        Self { options }
    }
}

impl Layer for AvgPool2d {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        x.avg_pool2d(self.options)
    }
}

/// The mean of each channel, `[N, C, H, W]` to `[N, C]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct GlobalAvgPool2d;
module!(GlobalAvgPool2d {});

impl Layer for GlobalAvgPool2d {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        assert_eq!(
            x.shape().len(),
            4,
            "GlobalAvgPool2d: expected [N, C, H, W], got shape {:?}",
            x.shape()
        );
        x.mean(&[2, 3], false)
    }
}

/// All dimensions after the first in one, `[N, ...]` to `[N, D]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flatten;
module!(Flatten {});

impl Layer for Flatten {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        assert!(!x.shape().is_empty(), "Flatten: expected [N, ...], got a scalar");
        let width: usize = x.shape()[1..].iter().product();
        x.reshape(&[x.shape()[0] as isize, width as isize])
    }
}
