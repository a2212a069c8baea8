//! Dropout whose mask several elements share: channels, steps of time.

use gradus_autograd::{Layer, RngStream, Var, module};
use gradus_tensor::normalize_dims;

use crate::{
    Probability, Rate,
    mask::{Choose, Mask, Scale, drop_by, zero},
    rate::rate_layer,
};

/// [`dropout`](crate::dropout) with one draw for all elements that differ only in their place along `dims`.
///
/// This is Keras's `noise_shape` and Flax's `broadcast_dims`; [`channel_dropout`] and [`variational_dropout`] are
/// cases of it. No dimension given is plain dropout, unlike a reduction over none.
///
/// # Shapes
/// Any; the result as `x`.
///
/// # Panics
/// When a dimension does not exist or is named twice, or the elements are not floats.
#[must_use]
#[track_caller]
pub fn shared_dropout(x: &Var, p: Probability, dims: &[isize]) -> Var {
    if !x.tape().is_stochastic() {
        return x.clone();
    }
    shared_dropout_with(x, p, dims, x.tape().rng_stream())
}

/// [`shared_dropout`] by the mask of a given stream, on any tape.
///
/// # Panics
/// As [`shared_dropout`].
#[must_use]
#[track_caller]
pub fn shared_dropout_with(x: &Var, p: Probability, dims: &[isize], stream: RngStream) -> Var {
    if dims.is_empty() {
        return crate::dropout_with(x, p, stream);
    }
    let shape = mask_shape(x, dims);
    drop_shared(x, p, stream, shape, Choose { k: Scale::by_keep(p).k, c: 0.0, dropped: 0.0 })
}

/// The shape of `x` with 1 for `dims`.
#[track_caller]
fn mask_shape(x: &Var, dims: &[isize]) -> Vec<usize> {
    let along = normalize_dims("shared_dropout", dims, x.shape().len());
    let sizes = x.shape().iter().enumerate();
    sizes.map(|(d, &n)| if along.contains(&d) { 1 } else { n }).collect()
}

/// Drops by a mask of `shape`, which broadcasts to `x`.
#[track_caller]
pub(crate) fn drop_shared(
    x: &Var,
    p: Probability,
    stream: RngStream,
    shape: Vec<usize>,
    choose: Choose,
) -> Var {
    match p {
        Probability::ZERO => x.clone(),
        Probability::ONE => zero("shared_dropout", x),
        _ => {
            let mask = Mask::new(p, stream);
            drop_by(x, move |dtype| (mask.tensor(&shape, dtype), choose))
        }
    }
}

/// The shape of a mask that drops whole channels of `[N, C, ..]`.
#[track_caller]
pub(crate) fn channels(op: &str, x: &Var) -> Vec<usize> {
    let shape = x.shape();
    assert!(shape.len() >= 2, "{op}: expected [N, C, ..], found {shape:?}");
    let sizes = shape.iter().enumerate();
    sizes.map(|(d, &n)| if d < 2 { n } else { 1 }).collect()
}

/// Drops whole channels, each with probability `p`, and scales the others by `1 / (1 - p)`: neighbours in a feature
/// map tell each other's values, so that dropping single ones regularizes little.
///
/// PyTorch's `dropout1d`, `dropout2d` and `dropout3d`, by the rank of `x`; Keras's spatial dropout.
///
/// # Shapes
/// `x` `[N, C, ..]`: `[N, C, L]`, `[N, C, H, W]`, `[N, C, D, H, W]`; the result as `x`.
///
/// # Panics
/// When `x` has fewer than two dimensions or its elements are not floats.
///
/// # References
/// Tompson, Goroshin, Jain, LeCun, Bregler: Efficient object localization using convolutional networks (2015),
/// arXiv:1411.4280.
#[doc(alias = "dropout1d")]
#[doc(alias = "dropout2d")]
#[doc(alias = "dropout3d")]
#[must_use]
#[track_caller]
pub fn channel_dropout(x: &Var, p: Probability) -> Var {
    let shape = channels("channel_dropout", x);
    if !x.tape().is_stochastic() {
        return x.clone();
    }
    let choose = Choose { k: Scale::by_keep(p).k, c: 0.0, dropped: 0.0 };
    drop_shared(x, p, x.tape().rng_stream(), shape, choose)
}

rate_layer! {
    /// [`channel_dropout`] as a layer. PyTorch's default probability is 0.5.
    #[doc(alias = "Dropout1d")]
    #[doc(alias = "Dropout2d")]
    #[doc(alias = "Dropout3d")]
    #[doc(alias = "SpatialDropout2D")]
    ChannelDropout = channel_dropout
}

/// Dropout with the same mask in every step of time, for the inputs and outputs of recurrent layers.
///
/// For the state inside of a cell that is called step by step, [`dropout_with`](crate::dropout_with) with one stream
/// for all steps does the same.
///
/// # Shapes
/// Any with a dimension `time`: `[T, N, F]` with 0, `[N, T, F]` with 1; the result as `x`.
///
/// # Panics
/// When there is no such dimension or the elements are not floats.
///
/// # References
/// Gal, Ghahramani: A theoretically grounded application of dropout in recurrent neural networks (2016),
/// arXiv:1512.05287.
#[must_use]
#[track_caller]
pub fn variational_dropout(x: &Var, p: Probability, time: isize) -> Var {
    shared_dropout(x, p, &[time])
}

/// [`variational_dropout`] as a layer. Time is the first dimension by default, as in PyTorch's recurrent layers.
#[doc(alias = "LockedDropout")]
#[derive(Clone, Debug)]
pub struct VariationalDropout {
    rate: Rate,
    time: isize,
}
module!(VariationalDropout {});

impl VariationalDropout {
    /// At this rate: a [`Probability`] or a scheduled [`Rate`].
    #[must_use]
    pub fn new(rate: impl Into<Rate>) -> Self {
        Self { rate: rate.into(), time: 0 }
    }

    /// The same with this dimension for time: 1 where the batch comes first.
    #[must_use]
    pub fn with_time(mut self, time: isize) -> Self {
        self.time = time;
        self
    }
}

impl Layer for VariationalDropout {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        variational_dropout(x, self.rate.on(x.tape()), self.time)
    }
}

#[cfg(test)]
mod tests {
    use gradus_autograd::{DType, Tape};
    use gradus_tensor::Tensor;

    use super::*;
    use crate::testing::{self, ones, p};

    #[test]
    fn the_masks_of_a_seed_are_pinned() {
        let tape = || Tape::training(42, 0);
        let y = channel_dropout(&ones(&tape(), &[2, 5, 2, 1]), p(0.5)).into_value();
        let planes = y.narrow(2, 0, 1).to_vec::<f32>();
        assert_eq!(planes, [2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
        assert_eq!(y.narrow(2, 1, 1).to_vec::<f32>(), planes);
        let y = variational_dropout(&ones(&tape(), &[3, 2, 4]), p(0.5), 0).into_value();
        let step = [2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 0.0, 2.0];
        assert_eq!(y.to_vec::<f32>(), [step; 3].concat());
        let y = VariationalDropout::new(p(0.5)).with_time(-2).forward(&ones(&tape(), &[1, 3, 8]));
        assert_eq!(y.value().to_vec::<f32>(), [step; 3].concat());
    }

    #[test]
    fn gradients_match_differences() {
        testing::gradients(|x| channel_dropout(x, p(0.4)));
        testing::gradients(|x| variational_dropout(x, p(0.4), 0));
        testing::gradients(|x| shared_dropout(x, p(0.4), &[0, -1]));
    }

    #[test]
    fn ends_draws_and_threads() {
        testing::ends(|x, p| channel_dropout(x, p));
        testing::ends(|x, p| variational_dropout(x, p, 1));
        testing::draws(|x| channel_dropout(x, p(0.5)));
        testing::draws(|x| variational_dropout(x, p(0.5), 0));
        for dims in [&[2, 3][..], &[0], &[1]] {
            testing::same_everywhere(|| {
                let x = ones(&Tape::training(9, 0), &[17, 40, 20, 23]);
                shared_dropout(&x, p(0.4), dims).into_value().to_vec()
            });
        }
    }

    #[test]
    fn a_shared_mask_keeps_the_share() {
        let x = ones(&Tape::training(5, 0), &[300, 200, 2]);
        let y = channel_dropout(&x, p(0.3)).into_value();
        let mean = y.mean(&[], false).item();
        let sigma = (0.3f64 / 0.7 / 60_000.0).sqrt();
        assert!((mean - 1.0).abs() < 4.0 * sigma, "{mean}");
    }

    #[test]
    fn a_dropped_channel_of_nan_is_zero() {
        let x = Tape::training(1, 0).constant(Tensor::full(&[4, 8, 3], f64::NAN, DType::F32));
        let y = channel_dropout(&x, p(0.5)).into_value().to_vec::<f32>();
        assert!(y.contains(&0.0) && y.iter().any(|v| v.is_nan()));
    }

    #[test]
    fn sharing_nothing_is_plain_dropout() {
        let (a, b) = (Tape::training(4, 0), Tape::training(4, 0));
        assert_eq!(
            shared_dropout(&ones(&a, &[99]), p(0.5), &[]).value().to_vec::<f32>(),
            crate::dropout(&ones(&b, &[99]), p(0.5)).value().to_vec::<f32>()
        );
    }

    #[test]
    #[should_panic(expected = "channel_dropout: expected [N, C, ..], found [3]")]
    fn a_vector_has_no_channels() {
        let _ = channel_dropout(&ones(&Tape::evaluation(), &[3]), p(0.5));
    }
}
