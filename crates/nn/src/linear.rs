use gradus_autograd::{Layer, Param, ParamKind, Tensor, Var, module};
use gradus_init::Init;

use crate::Seeds;

/// `y = x W^T + b`.
///
/// # Shapes
/// `x` `[.., in_features]`, `weight` `[out_features, in_features]`, `bias` `[out_features]`, `y` `[.., out_features]`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Param,
    bias: Option<Param>,
}
module!(Linear { weight, bias });

impl Linear {
    /// With PyTorch's start: weight and bias uniform within `1 / sqrt(in_features)`.
    ///
    /// # Panics
    /// When `in_features` is 0.
    #[must_use]
    #[track_caller]
    pub fn new(in_features: usize, out_features: usize, seeds: &mut Seeds) -> Self {
        Self::with_init(in_features, out_features, &Init::torch_linear(), seeds)
    }

    /// With a weight drawn by `init`, and PyTorch's bias.
    ///
    /// # Panics
    /// When `init` cannot fill the weight.
    #[must_use]
    #[track_caller]
    pub fn with_init(
        in_features: usize,
        out_features: usize,
        init: &Init,
        seeds: &mut Seeds,
    ) -> Self {
        let weight = seeds.param(ParamKind::Weight, &[out_features, in_features], init);
        let bias = seeds.param(ParamKind::Bias, &[out_features], &Init::torch_bias(in_features));
        Self { weight, bias: Some(bias) }
    }

    /// Without the bias.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    /// With a bias that starts at zero.
    #[must_use]
    pub fn with_zero_bias(mut self) -> Self {
        if let Some(bias) = &mut self.bias {
            bias.set(Tensor::zeros(bias.value().shape(), bias.value().dtype()));
        }
        self
    }

    /// The weight, `[out_features, in_features]`.
    #[must_use]
    pub fn weight(&self) -> &Param {
        &self.weight
    }
}

impl Layer for Linear {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        let tape = x.tape();
        let bias = self.bias.as_ref().map(|b| tape.watch(b));
        x.linear(&tape.watch(&self.weight), bias.as_ref())
    }
}
