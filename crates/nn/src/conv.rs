use gradus_autograd::{Layer, Param, ParamKind, Var, module};
use gradus_init::Init;
use gradus_tensor::ConvOptions;

use crate::Seeds;

macro_rules! convolution {
    ($(#[$doc:meta])* $name:ident, $dims:literal, $op:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            weight: Param,
            bias: Option<Param>,
            options: ConvOptions<$dims>,
        }
        module!($name { weight, bias });

        impl $name {
            /// Stride 1, no padding, with PyTorch's start: weight and bias uniform within `1 / sqrt(fan_in)`.
            ///
            /// # Panics
            /// When `in_channels` or the kernel is 0.
            #[must_use]
            #[track_caller]
            pub fn new(in_channels: usize, out_channels: usize, kernel: [usize; $dims], seeds: &mut Seeds) -> Self {
                let options = ConvOptions::default();
                Self::with_init(in_channels, out_channels, kernel, options, &Init::torch_linear(), seeds)
            }

            /// With options and a weight drawn by `init`.
            ///
            /// # Panics
            /// When the channels do not divide into `options.groups`, or `init` cannot fill the weight.
            #[must_use]
            #[track_caller]
            pub fn with_init(
                in_channels: usize,
                out_channels: usize,
                kernel: [usize; $dims],
                options: ConvOptions<$dims>,
                init: &Init,
                seeds: &mut Seeds,
            ) -> Self {
                let groups = options.groups;
                assert!(
                    groups > 0 && in_channels.is_multiple_of(groups) && out_channels.is_multiple_of(groups),
                    "{}: {in_channels} and {out_channels} channels do not divide into {groups} groups",
                    stringify!($name)
                );
                let mut shape = vec![out_channels, in_channels / groups];
                shape.extend(kernel);
                let fan_in = shape[1..].iter().product();
                let weight = seeds.param(ParamKind::Weight, &shape, init);
                let bias = seeds.param(ParamKind::Bias, &[out_channels], &Init::torch_bias(fan_in));
                Self { weight, bias: Some(bias), options }
            }

            /// With other options; the number of groups is fixed by the weight.
            ///
            /// # Panics
            /// When the number of groups changes.
            #[must_use]
            #[track_caller]
            pub fn with_options(mut self, options: ConvOptions<$dims>) -> Self {
                assert_eq!(self.options.groups, options.groups, "{}: the number of groups", stringify!($name));
                self.options = options;
                self
            }

            /// Without the bias.
            #[must_use]
            pub fn without_bias(mut self) -> Self {
                self.bias = None;
                self
            }
        }

        impl Layer for $name {
            #[track_caller]
            fn forward(&self, x: &Var) -> Var {
                let tape = x.tape();
                let bias = self.bias.as_ref().map(|b| tape.watch(b));
                x.$op(&tape.watch(&self.weight), bias.as_ref(), self.options)
            }
        }
    };
}

convolution! {
    /// Cross-correlation over one dimension.
    ///
    /// # Shapes
    /// `x` `[N, in_channels, L]`, `weight` `[out_channels, in_channels / groups, k]`, `y` `[N, out_channels, L']`.
    Conv1d, 1, conv1d
}
convolution! {
    /// Cross-correlation over images.
    ///
    /// # Shapes
    /// `x` `[N, in_channels, H, W]`, `weight` `[out_channels, in_channels / groups, kh, kw]`,
    /// `y` `[N, out_channels, H', W']`.
    Conv2d, 2, conv2d
}
