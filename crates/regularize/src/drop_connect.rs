//! DropConnect.

use gradus_autograd::{Layer, Param, Var, module};

use crate::{Probability, Rate, dropout};

/// A linear map whose single weights are dropped with probability `p`, the others scaled by `1 / (1 - p)`:
/// `x (mask * weight)^T / (1 - p) + bias`, with one mask for the whole batch. The bias stays.
///
/// `x weight^T + bias` on a tape that does not [draw](gradus_autograd::Tape::is_stochastic) and for `p` = 0; the bias
/// alone for `p` = 1. For another layer, [`dropout`] of its weight before it is used is the same thing (on the weight
/// from hidden state to hidden state: the weight-dropped LSTM of Merity et al. 2017, arXiv:1708.02182).
///
/// # Shapes
/// `x` `[.., in]`, `weight` `[out, in]`, `bias` `[out]`; result `[.., out]`.
///
/// # Panics
/// When the shapes do not fit or the types differ.
///
/// # References
/// Wan, Zeiler, Zhang, LeCun, Fergus: Regularization of neural networks using DropConnect (ICML 2013).
#[must_use]
#[track_caller]
pub fn drop_connect(x: &Var, weight: &Var, bias: Option<&Var>, p: Probability) -> Var {
    x.linear(&dropout(weight, p), bias)
}

/// [`drop_connect`] as a layer.
#[derive(Clone, Debug)]
pub struct DropConnect {
    weight: Param,
    bias: Option<Param>,
    rate: Rate,
}
module!(DropConnect { weight, bias });

impl DropConnect {
    /// With these parameters, at this rate: a [`Probability`] or a scheduled [`Rate`].
    ///
    /// # Panics
    /// When the weight is not `[out, in]` or the bias not `[out]`.
    #[must_use]
    #[track_caller]
    pub fn new(weight: Param, bias: Option<Param>, rate: impl Into<Rate>) -> Self {
        let (weights, biases) = (weight.value().shape(), bias.as_ref().map(|b| b.value().shape()));
        let fits = weights.len() == 2 && biases.is_none_or(|b| b == &weights[..1]);
        assert!(fits, "DropConnect: weight of shape {weights:?} and bias of shape {biases:?}");
        Self { weight, bias, rate: rate.into() }
    }
}

impl Layer for DropConnect {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        let tape = x.tape();
        let bias = self.bias.as_ref().map(|b| tape.watch(b));
        drop_connect(x, &tape.watch(&self.weight), bias.as_ref(), self.rate.on(tape))
    }
}

#[cfg(test)]
mod tests {
    use gradus_autograd::{
        DType, Module, ParamKind, Tape, Tensor,
        check::{gradcheck, random},
    };

    use super::*;
    use crate::testing::{ones, p};

    fn layer(rate: impl Into<Rate>) -> DropConnect {
        let weight = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        let bias = Param::new(Tensor::full(&[2], 0.5, DType::F32), ParamKind::Bias);
        DropConnect::new(Param::new(weight, ParamKind::Weight), Some(bias), rate)
    }

    #[test]
    fn the_weights_of_a_seed_are_pinned() {
        let eye = Tensor::from_slice(&[1f32, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], &[3, 3]);
        let y = layer(p(0.5)).forward(&Tape::training(42, 0).constant(eye));
        assert_eq!(y.value().to_vec::<f32>(), [2.5, 0.5, 0.5, 10.5, 6.5, 0.5]);
    }

    #[test]
    fn ends_are_exact() {
        let run = |tape: &Tape, prob| {
            layer(p(prob)).forward(&ones(tape, &[1, 3])).value().to_vec::<f32>()
        };
        assert_eq!(run(&Tape::training(1, 0), 0.0), [6.5f32, 15.5]);
        assert_eq!(run(&Tape::training(1, 0), 1.0), [0.5f32, 0.5]);
        assert_eq!(run(&Tape::evaluation(), 0.5), [6.5f32, 15.5]);
        assert_eq!(layer(p(0.5)).param_names(), ["weight", "bias"]);
    }

    #[test]
    fn gradients_match_differences() {
        for [n, out, inner] in [[3, 4, 5], [1, 1, 1], [0, 2, 3]] {
            let inputs = [random(&[n, inner], 1), random(&[out, inner], 2), random(&[out], 3)];
            gradcheck(&inputs, |v| drop_connect(&v[0], &v[1], Some(&v[2]), p(0.4)));
        }
        let square = random(&[4, 4], 5).transpose(0, 1);
        gradcheck(&[square], |v| drop_connect(&v[0], &v[0], None, p(0.4)));
    }

    #[test]
    fn the_mean_over_masks_is_the_full_map() {
        let x = Tensor::ones(&[1, 3], DType::F32);
        let (mut sum, n) = ([0.0; 2], 20_000);
        for step in 0..n {
            let y = layer(p(0.5)).forward(&Tape::training(8, step).constant(x.clone()));
            sum = [0, 1].map(|i| sum[i] + f64::from(y.value().to_vec::<f32>()[i]) / n as f64);
        }
        assert!((sum[0] - 6.5).abs() < 0.15 && (sum[1] - 15.5).abs() < 0.3, "{sum:?}");
    }

    #[test]
    #[should_panic(expected = "DropConnect: weight of shape [2, 3] and bias of shape Some([3])")]
    fn a_bias_that_does_not_fit_panics() {
        let param =
            |shape: &[usize]| Param::new(Tensor::zeros(shape, DType::F32), ParamKind::Weight);
        let _ = DropConnect::new(param(&[2, 3]), Some(param(&[3])), p(0.5));
    }
}
