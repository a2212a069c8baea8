//! Monte-Carlo dropout: what a network does not know, from the spread of its answers.

use gradus_autograd::{DType, Tape, Tensor};

use crate::RangeError;

/// Mean and variance of several answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MonteCarlo {
    /// The mean, element by element.
    pub mean: Tensor,
    /// The variance: mean squared distance from the mean, 0 for one sample.
    pub variance: Tensor,
}

/// Runs `f` on `samples` tapes of evaluation on which dropout and its kin are active
/// ([`Tape::monte_carlo`]), and returns mean and variance of the results, accumulated in f64.
///
/// What is drawn is a function of `seed` and the number of the sample; `step` is where schedules of probabilities stand,
/// the number of steps that the model has trained for. `f` has to take its randomness from the tape and give results of
/// one shape. For probabilities of classes, `f` ends in a softmax.
///
/// ```
/// use gradus_autograd::{DType, Layer, Tensor};
/// use gradus_regularize::{Dropout, Probability, monte_carlo};
///
/// let model = Dropout::new(Probability::new(0.5)?);
/// let x = Tensor::ones(&[3], DType::F32);
/// let answer = monte_carlo(1000, 42, 0, |tape| model.forward(&tape.constant(x.clone())).into_value())?;
/// for (mean, variance) in answer.mean.to_vec::<f32>().into_iter().zip(answer.variance.to_vec::<f32>()) {
///     assert!((mean - 1.0).abs() < 0.1 && (variance - 1.0).abs() < 0.1);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`RangeError`] when there is no sample.
///
/// # Panics
/// When results differ in shape or type, or are not floats.
///
/// # References
/// Gal, Ghahramani: Dropout as a Bayesian approximation (2016), arXiv:1506.02142.
#[track_caller]
pub fn monte_carlo(
    samples: usize,
    seed: u64,
    step: u64,
    mut f: impl FnMut(&Tape) -> Tensor,
) -> Result<MonteCarlo, RangeError> {
    RangeError::check(samples > 0, "samples", samples as f64, "at least 1")?;
    let first = f(&Tape::monte_carlo(seed, step, 0));
    assert!(first.dtype().is_float(), "monte_carlo: a result of type {}", first.dtype());
    let mut mean = first.to_dtype(DType::F64).to_vec::<f64>();
    let mut squares = vec![0.0; mean.len()];
    for sample in 1..samples {
        let y = f(&Tape::monte_carlo(seed, step, sample as u64));
        assert_eq!(first.shape(), y.shape(), "monte_carlo: shapes of two results");
        assert_eq!(first.dtype(), y.dtype(), "monte_carlo: types of two results");
        // Welford (1962): no difference of large numbers.
        let y = y.to_dtype(DType::F64).to_vec::<f64>();
        for ((mean, square), y) in mean.iter_mut().zip(&mut squares).zip(y) {
            let off = y - *mean;
            *mean += off / (sample + 1) as f64;
            *square += off * (y - *mean);
        }
    }
    squares.iter_mut().for_each(|s| *s /= samples as f64);
    let tensor = |values: &[f64]| Tensor::from_slice(values, first.shape()).to_dtype(first.dtype());
    Ok(MonteCarlo { mean: tensor(&mean), variance: tensor(&squares) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dropout,
        testing::{ones, p},
    };

    fn run(samples: usize, seed: u64) -> MonteCarlo {
        monte_carlo(samples, seed, 0, |tape| dropout(&ones(tape, &[500]), p(0.25)).into_value())
            .unwrap()
    }

    #[test]
    fn a_seed_repeats_itself_and_another_differs() {
        let mean = |seed| run(20, seed).mean.to_vec::<f32>();
        assert_eq!(mean(1), mean(1));
        assert_ne!(mean(1), mean(2));
    }

    #[test]
    fn mean_and_variance_are_those_of_the_samples() {
        let m = run(400, 3);
        let mean = m.mean.mean(&[], false).item();
        let variance = m.variance.mean(&[], false).item();
        assert!(
            (mean - 1.0).abs() < 0.01 && (variance - 1.0 / 3.0).abs() < 0.01,
            "{mean} {variance}"
        );
        assert_eq!(run(1, 3).variance.to_vec::<f32>(), [0.0; 500]);
        let mut values = [1.0f32, 2.0, 6.0].into_iter();
        let m = monte_carlo(3, 0, 0, |_| Tensor::scalar(values.next().unwrap())).unwrap();
        assert_eq!(m.mean.item(), 3.0);
        assert!((m.variance.item() - 14.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn only_random_layers_differ_from_evaluation() {
        let tape = Tape::monte_carlo(1, 7, 0);
        assert!(!tape.is_training() && tape.is_stochastic());
        assert!(!tape.leaf(Tensor::ones(&[1], DType::F32)).is_tracked());
    }

    #[test]
    fn no_sample_is_refused() {
        let error = monte_carlo(0, 0, 0, |_| Tensor::scalar(0f32)).unwrap_err();
        assert_eq!(error.to_string(), "samples has to be at least 1, got 0");
    }
}
