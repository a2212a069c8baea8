//! Dropout that keeps the mean and variance of self-normalizing networks.

use gradus_autograd::Var;

use crate::{
    Probability,
    mask::{Affine, Choose, drop_elements},
    rate::rate_layer,
    shared::{channels, drop_shared},
};

/// What alpha dropout does to an element: `scale x + shift` if it stays, [`dropped`](Self::dropped) if not.
///
/// `scale = ((1 - p)(1 + p alpha'^2))^(-1/2)` and `shift = -scale p alpha'`, so that an input of mean 0 and variance 1
/// stays one.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct AlphaCoefficients {
    /// Factor of what stays.
    pub scale: f64,
    /// What is added to it.
    pub shift: f64,
}

impl AlphaCoefficients {
    /// `alpha'`, what SELU gives for a large negative number: what is dropped gets this value before the affine map.
    pub const ALPHA_PRIME: f64 = -1.758_099_340_847_376_6;

    /// Those of probability `p`; infinite for `p` = 1, where they are not used.
    #[must_use]
    pub fn new(p: Probability) -> Self {
        let p = p.get();
        let scale = ((1.0 - p) * (1.0 + p * Self::ALPHA_PRIME * Self::ALPHA_PRIME)).powf(-0.5);
        Self { scale, shift: -scale * p * Self::ALPHA_PRIME }
    }

    /// The value of a dropped element.
    #[must_use]
    pub fn dropped(&self) -> f64 {
        self.scale * Self::ALPHA_PRIME + self.shift
    }
}

/// Dropout for networks of SELU: an input of mean 0 and variance 1 keeps both. See [`AlphaCoefficients`].
///
/// The identity on a tape that does not [draw](gradus_autograd::Tape::is_stochastic) and for `p` = 0; 0, with gradient
/// 0, for `p` = 1, as in PyTorch.
///
/// # Shapes
/// Any; the result as `x`.
///
/// # Panics
/// When the elements are not floats.
///
/// # References
/// Klambauer, Unterthiner, Mayr, Hochreiter: Self-normalizing neural networks (2017), arXiv:1706.02515.
#[must_use]
#[track_caller]
pub fn alpha_dropout(x: &Var, p: Probability) -> Var {
    if !x.tape().is_stochastic() {
        return x.clone();
    }
    let a = AlphaCoefficients::new(p);
    let kept = Affine { k: a.scale, c: a.shift };
    drop_elements(x, p, x.tape().rng_stream(), (kept, a.scale), a.dropped())
}

/// [`alpha_dropout`] of whole channels.
///
/// # Shapes
/// `x` `[N, C, ..]`, the result as `x`.
///
/// # Panics
/// When `x` has fewer than two dimensions or its elements are not floats.
#[must_use]
#[track_caller]
pub fn feature_alpha_dropout(x: &Var, p: Probability) -> Var {
    let shape = channels("feature_alpha_dropout", x);
    if !x.tape().is_stochastic() {
        return x.clone();
    }
    let a = AlphaCoefficients::new(p);
    let choose = Choose { k: a.scale, c: a.shift, dropped: a.dropped() };
    drop_shared(x, p, x.tape().rng_stream(), shape, choose)
}

rate_layer! {
    /// [`alpha_dropout`] as a layer. PyTorch's default probability is 0.5.
    AlphaDropout = alpha_dropout
}

rate_layer! {
    /// [`feature_alpha_dropout`] as a layer. PyTorch's default probability is 0.5.
    FeatureAlphaDropout = feature_alpha_dropout
}

#[cfg(test)]
mod tests {
    use gradus_autograd::{RngStream, Tape, Tensor};

    use super::*;
    use crate::{
        gaussian::normals,
        testing::{self, ones, p},
    };

    #[test]
    fn the_masks_of_a_seed_are_pinned() {
        let tape = || Tape::training(42, 0);
        let a = AlphaCoefficients::new(p(0.5));
        let (kept, dropped) = ((a.scale + a.shift) as f32, a.dropped() as f32);
        let as_bits = |y: Var| {
            y.value()
                .to_vec::<f32>()
                .iter()
                .map(|&v| {
                    assert!((v - kept).abs() < 1e-6 || (v - dropped).abs() < 1e-6, "{v}");
                    u8::from(v > 0.0)
                })
                .collect::<Vec<_>>()
        };
        let bits = [1, 0, 1, 0, 1, 0, 0, 1, 0, 0];
        assert_eq!(as_bits(alpha_dropout(&ones(&tape(), &[10]), p(0.5))), bits);
        let y = feature_alpha_dropout(&ones(&tape(), &[2, 5, 2]), p(0.5));
        assert_eq!(as_bits(y), bits.map(|b| [b; 2]).concat());
    }

    #[test]
    fn mean_and_variance_stay() {
        for prob in [0.05, 0.2, 0.5, 0.8] {
            let z = normals(RngStream::new(1, 0, 0), 200_000);
            let x = Tape::training(2, 0).constant(Tensor::from_slice(&z, &[1000, 200]));
            for y in [alpha_dropout(&x, p(prob)), feature_alpha_dropout(&x, p(prob))] {
                let (mean, var) = (y.mean(&[], false).item(), y.var(&[], 1, false).item());
                assert!(mean.abs() < 0.01 && (var - 1.0).abs() < 0.02, "{prob}: {mean} {var}");
            }
        }
    }

    #[test]
    fn gradients_match_differences() {
        testing::gradients(|x| alpha_dropout(x, p(0.4)));
        testing::gradients(|x| feature_alpha_dropout(x, p(0.4)));
    }

    #[test]
    fn ends_draws_and_threads() {
        for f in [alpha_dropout, feature_alpha_dropout] {
            testing::ends(f);
            testing::draws(|x| f(x, p(0.5)));
            testing::same_everywhere(|| {
                f(&ones(&Tape::training(9, 0), &[41, 31, 77]), p(0.4)).into_value().to_vec()
            });
        }
    }
}
