//! Dropout of single elements.

use gradus_autograd::{RngStream, Var};

use crate::{
    Probability,
    mask::{Scale, drop_elements},
    rate::rate_layer,
};

/// Sets each element to 0 with probability `p` and scales the others by `1 / (1 - p)`, so that the mean stays.
///
/// On a tape that does not [draw](gradus_autograd::Tape::is_stochastic), and for `p` = 0, this is the identity; for
/// `p` = 1 everything is 0, and so is the gradient. What is dropped is 0 even where it was NaN. The mask is a function
/// of the tape's seed and step, of the operation's place on the tape and of the element's index: backward computes it
/// again. `p` is honoured to within 2^-16.
///
/// # Shapes
/// Any; the result as `x`.
///
/// # Panics
/// When the elements are not floats.
///
/// # References
/// Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout (JMLR 2014).
#[must_use]
#[track_caller]
pub fn dropout(x: &Var, p: Probability) -> Var {
    if !x.tape().is_stochastic() {
        return x.clone();
    }
    dropout_with(x, p, x.tape().rng_stream())
}

/// [`dropout`] by the mask of a given stream, on any tape: the same stream is the same mask, as for the steps of a
/// recurrent cell.
///
/// ```
/// use gradus_autograd::{DType, RngStream, Tape, Tensor};
/// use gradus_regularize::{Probability, dropout_with};
///
/// let p = Probability::new(0.5)?;
/// let x = Tape::evaluation().constant(Tensor::ones(&[100], DType::F32));
/// let dropped = |seed| dropout_with(&x, p, RngStream::new(seed, 0, 0)).into_value().to_vec::<f32>();
/// assert_eq!(dropped(1), dropped(1));
/// assert_ne!(dropped(1), dropped(2));
/// # Ok::<(), gradus_regularize::ProbabilityError>(())
/// ```
///
/// # Panics
/// As [`dropout`].
#[must_use]
#[track_caller]
pub fn dropout_with(x: &Var, p: Probability, stream: RngStream) -> Var {
    let scale = Scale::by_keep(p);
    drop_elements(x, p, stream, (scale, scale.k), 0.0)
}

rate_layer! {
    /// [`dropout`] as a layer. PyTorch's default probability is 0.5.
    Dropout = dropout
}

#[cfg(test)]
mod tests {
    use gradus_autograd::{DType, Layer, Tape, Tensor};
    use gradus_core::bf16;

    use super::*;
    use crate::{
        Rate,
        testing::{self, ones, p},
    };

    fn drop_ones(n: usize, prob: f64, seed: u64) -> Vec<f32> {
        dropout(&ones(&Tape::training(seed, 0), &[n]), p(prob)).into_value().to_vec()
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
        testing::gradients(|x| dropout(x, p(0.4)));
    }

    #[test]
    fn shares_and_ends_are_right() {
        for prob in [0.0, 1e-9, 0.1, 0.5, 0.9, 1.0 - 1e-9, 1.0] {
            let n = 200_000;
            let y = drop_ones(n, prob, 1);
            let zeros = y.iter().filter(|&&v| v == 0.0).count() as f64 / n as f64;
            let four_sigma = 4.0 * (prob * (1.0 - prob) / n as f64).sqrt();
            assert!((zeros - prob).abs() <= four_sigma + 1.0 / 65_536.0, "{prob}: {zeros}");
            let kept = 1.0 / (1.0 - prob);
            assert!(y.iter().all(|&v| v == 0.0 || (f64::from(v) / kept - 1.0).abs() < 1e-6));
        }
    }

    #[test]
    fn elements_are_independent() {
        // Neighbours, halves of a word, words of a block, blocks, groups.
        let kept: Vec<f64> =
            drop_ones(1 << 18, 0.5, 3).iter().map(|&v| f64::from(v) - 1.0).collect();
        for lag in [1, 2, 8, 16, 32, 64, 128, 2048] {
            let n = kept.len() - lag;
            let correlation: f64 = (0..n).map(|i| kept[i] * kept[i + lag]).sum::<f64>() / n as f64;
            assert!(correlation.abs() < 4.0 / (n as f64).sqrt(), "lag {lag}: {correlation}");
        }
    }

    #[test]
    fn ends_are_exact_and_a_dropped_nan_leaves_no_trace() {
        testing::ends(|x, p| dropout(x, p));
        let tape = Tape::training(3, 5);
        let mut input = vec![f32::NAN; 500];
        input.extend([1.0; 500]);
        input.extend([f32::INFINITY; 29]);
        let x = tape.leaf(Tensor::from_slice(&input, &[1029]));
        let y = dropout(&x, p(0.3));
        let grads = tape.backward(&[(&y, x.value().clone())]);
        let (y, g) = (y.value().to_vec::<f32>(), grads.wrt(&x).unwrap().to_vec::<f32>());
        assert!(y.iter().zip(&g).all(|(y, g)| y == g || y.is_nan() && g.is_nan()));
        for part in [0..500, 500..1000, 1000..1029] {
            assert!(y[part].contains(&0.0));
        }
    }

    #[test]
    fn a_gradient_that_nobody_else_holds_is_masked_in_place() {
        let mask = crate::mask::Mask::new(p(0.3), RngStream::new(1, 2, 3));
        for n in [0, 1, 127, 128, 129, 70_001] {
            let x = || Tensor::from_slice(&(0..n).map(|i| i as f32).collect::<Vec<_>>(), &[n]);
            let shared = x();
            let copied = mask.map(shared.clone(), Scale { k: 2.0 }, -1.0);
            let unique = x();
            let before = unique.as_slice::<f32>().as_ptr();
            let in_place = mask.map(unique, Scale { k: 2.0 }, -1.0);
            assert!(n == 0 || before == in_place.as_slice::<f32>().as_ptr());
            assert_eq!(in_place.to_vec::<f32>(), copied.to_vec::<f32>());
        }
    }

    #[test]
    fn seeds_steps_and_ops_have_masks_of_their_own() {
        testing::draws(|x| dropout(x, p(0.5)));
        assert_eq!(drop_ones(500, 0.5, 1), drop_ones(500, 0.5, 1));
    }

    #[test]
    fn threads_and_instruction_sets_do_not_change_the_mask() {
        testing::same_everywhere(|| drop_ones(300_001, 0.4, 9));
    }

    #[test]
    fn sixteen_bit_types_are_dropped_by_the_same_mask() {
        let tape = Tape::training(42, 0);
        let x = tape.leaf(Tensor::ones(&[300], DType::BF16));
        let y = dropout(&x, p(0.5));
        assert_eq!(y.dtype(), DType::BF16);
        let grads = tape.backward(&[(&y, Tensor::ones(&[300], DType::BF16))]);
        let want: Vec<bf16> = drop_ones(300, 0.5, 42).iter().map(|&v| bf16::from_f32(v)).collect();
        assert_eq!(y.value().to_vec::<bf16>(), want);
        assert_eq!(grads.wrt(&x).unwrap().to_vec::<bf16>(), want);
    }

    #[test]
    fn a_layer_follows_its_schedule() {
        let layer = Dropout::new(Rate::late(p(1.0), 10));
        let sum = |tape: Tape| layer.forward(&ones(&tape, &[9])).value().sum(&[], false).item();
        assert_eq!([sum(Tape::training(0, 9)), sum(Tape::training(0, 10))], [9.0, 0.0]);
        assert_eq!(sum(Tape::evaluation()), 9.0);
        assert_eq!(sum(Tape::monte_carlo(0, 10, 0)), 0.0);
    }
}
