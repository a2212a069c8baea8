//! Dropout.

use gradus_autograd::{Layer, RngStream, Tensor, Var, module};
use gradus_tensor::{Real, kernel, par, with_real};

use crate::Probability;

/// Sets each element to 0 with probability `p` and scales the others by `1 / (1 - p)`, so that the mean stays.
///
/// On a tape that is not training, and for `p` = 0, this is the identity; for `p` = 1 everything is 0 (and so is
/// the gradient). The mask is a function of the tape's seed and step, of the operation's place on the tape and of
/// the element's index: backward computes it again. `p` is honoured to within 2^-17.
///
/// # Shapes
/// Any; the result as `x`.
///
/// # References
/// Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout (JMLR 2014).
#[must_use]
#[track_caller]
pub fn dropout(x: &Var, p: Probability) -> Var {
    if !x.tape().is_training() || p == Probability::ZERO {
        return x.clone();
    }
    let stream = x.tape().rng_stream();
    let y = apply(x.value(), p.get(), stream);
    Var::op("dropout", &[x], y, move |g, sink| sink.add(0, apply(&g, p.get(), stream)))
}

/// Elements that sixteen 128-bit blocks decide, with 16 bits each.
const GROUP: usize = 128;

fn apply(x: &Tensor, p: f64, stream: RngStream) -> Tensor {
    // Dropped are the 16-bit numbers below the threshold.
    let threshold = (p * 65_536.0).round() as u32;
    let x = x.contiguous();
    with_real!("dropout", x.dtype(), T => {
        let scale = if p < 1.0 { T::lit(1.0 / (1.0 - p)) } else { T::ZERO };
        Tensor::build::<T>(x.shape(), |y| {
            let x = x.as_slice::<T>();
            par::for_each_mut(y, GROUP, GROUP as f64 * 0.5, |group, y| {
                let at = group * GROUP;
                mask(&x[at..at + y.len()], group as u64, stream, threshold, scale, y);
            });
        })
    })
}

kernel! {
    fn mask['a, T: Real]['a, T](
        x: &'a [T], first: u64, stream: RngStream, threshold: u32, scale: T, y: &'a mut [T],
    ) -> () {
        for (i, (x, y)) in x.chunks(GROUP).zip(y.chunks_mut(GROUP)).enumerate() {
            let words = stream.blocks16((first + i as u64) * 16);
            let mut factors = [T::ZERO; GROUP];
            for (w, word) in words.iter().enumerate() {
                for l in 0..16 {
                    let (low, high) = (word[l] & 0xFFFF, word[l] >> 16);
                    factors[32 * w + l] = if low < threshold { T::ZERO } else { scale };
                    factors[32 * w + 16 + l] = if high < threshold { T::ZERO } else { scale };
                }
            }
            // A dropped element is 0 whatever it was: 0 * NaN would not be.
            for ((y, &x), f) in y.iter_mut().zip(x).zip(factors) {
                *y = if f == T::ZERO { T::ZERO } else { x * f };
            }
        }
    }
}

/// [`dropout`] as a layer.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    p: Probability,
}
module!(Dropout {});

impl Dropout {
    /// Drops with probability `p`.
    #[must_use]
    pub fn new(p: Probability) -> Self {
        Self { p }
    }

    /// The probability.
    #[must_use]
    pub fn p(&self) -> Probability {
        self.p
    }
}

impl Layer for Dropout {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        dropout(x, self.p)
    }
}

#[cfg(test)]
mod tests {
    use gradus_autograd::{DType, Tape};

    use super::*;

    fn p(p: f64) -> Probability {
        Probability::new(p).unwrap()
    }

    fn drop_ones(n: usize, prob: f64, seed: u64) -> Vec<f32> {
        let tape = Tape::training(seed, 0);
        dropout(&tape.constant(Tensor::ones(&[n], DType::F32)), p(prob)).into_value().to_vec()
    }

    #[test]
    fn the_mask_of_a_seed_is_pinned() {
        let kept: Vec<usize> = drop_ones(40, 0.5, 42)
            .iter()
            .enumerate()
            .filter(|(_, v)| **v != 0.0)
            .map(|(i, _)| i)
            .collect();
        assert_eq!(kept, [0, 2, 4, 7, 15, 17, 20, 21, 22, 25, 26, 27, 30, 32, 34, 35, 36, 38]);
    }

    #[test]
    fn gradients_match_differences() {
        use gradus_autograd::check::{gradcheck, random};
        for shape in [&[3, 50][..], &[1], &[0, 3], &[200]] {
            gradcheck(&[random(shape, 1)], |v| dropout(&v[0], p(0.4)));
        }
        gradcheck(&[random(&[40, 5], 2).transpose(0, 1)], |v| &dropout(&v[0], p(0.4)) * &v[0]);
    }

    #[test]
    fn shares_mean_and_ends_are_right() {
        for prob in [0.0, 0.1, 0.5, 0.9, 1.0] {
            let n = 200_000;
            let y = drop_ones(n, prob, 1);
            let zeros = y.iter().filter(|&&v| v == 0.0).count() as f64 / n as f64;
            let four_sigma = 4.0 * (prob * (1.0 - prob) / n as f64).sqrt();
            assert!((zeros - prob).abs() <= four_sigma, "{prob}: {zeros}");
            assert!(
                y.iter().all(|&v| v == 0.0 || (f64::from(v) - 1.0 / (1.0 - prob)).abs() < 1e-6)
            );
        }
    }

    #[test]
    fn backward_has_the_same_mask_and_a_dropped_nan_is_zero() {
        let tape = Tape::training(3, 5);
        let mut input = vec![1.0f32; 1000];
        input[..500].fill(f32::NAN);
        let x = tape.leaf(Tensor::from_slice(&input, &[1000]));
        let y = dropout(&x, p(0.3));
        let grads = tape.backward(&[(&y, Tensor::ones(&[1000], DType::F32))]);
        let (y, g) = (y.value().to_vec::<f32>(), grads.wrt(&x).unwrap().to_vec::<f32>());
        assert!(y.iter().zip(&g).all(|(y, g)| (*y == 0.0) == (*g == 0.0)));
        assert!(y[..500].contains(&0.0) && y[500..].iter().zip(&g[500..]).all(|(y, g)| y == g));
    }

    #[test]
    fn seeds_steps_and_ops_have_masks_of_their_own() {
        assert_eq!(drop_ones(500, 0.5, 1), drop_ones(500, 0.5, 1));
        assert_ne!(drop_ones(500, 0.5, 1), drop_ones(500, 0.5, 2));
        let tape = Tape::training(1, 0);
        let x = tape.constant(Tensor::ones(&[500], DType::F32));
        assert_ne!(
            dropout(&x, p(0.5)).value().to_vec::<f32>(),
            dropout(&x, p(0.5)).value().to_vec::<f32>()
        );
    }

    #[test]
    fn threads_and_instruction_sets_do_not_change_the_mask() {
        let n = 300_001;
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| drop_ones(n, 0.4, 9))
        };
        let one = with(1);
        assert_eq!(one, with(2));
        let widest = gradus_tensor::simd::detected();
        gradus_tensor::simd::force(gradus_tensor::simd::Level::Portable);
        let portable = with(1);
        gradus_tensor::simd::force(widest);
        assert_eq!(one, portable);
    }
}
