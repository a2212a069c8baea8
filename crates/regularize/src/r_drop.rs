//! R-Drop.

use gradus_autograd::{CrossEntropy, Reduction, Tensor, Var};

use crate::RangeError;

/// The symmetric divergence of two predictions: `(KL(P || Q) + KL(Q || P)) / 2` of the softmaxes of two sets of logits,
/// averaged over the rows.
///
/// Gradients flow into both.
///
/// # Shapes
/// `p` and `q` `[.., K]`, result `[]`; NaN for no row.
///
/// # Panics
/// When shapes or types differ or there is no last dimension.
#[must_use]
#[track_caller]
pub fn symmetric_kl(p: &Var, q: &Var) -> Var {
    assert_eq!(p.shape(), q.shape(), "symmetric_kl: shapes of the predictions");
    let classes = *p.shape().last().expect("symmetric_kl: predictions of shape []") as isize;
    let rows = p.value().numel() as isize / classes.max(1);
    let log = |x: &Var| x.reshape(&[rows, classes]).log_softmax(-1);
    let (p, q) = (log(p), log(q));
    let kl = |p: &Var, q: &Var| q.kl_div(p, true, Reduction::BatchMean);
    kl(&p, &q).add(&kl(&q, &p)).mul_scalar(0.5)
}

/// R-Drop: the same batch goes through the network twice, dropout draws twice, and the two predictions are asked to agree.
///
/// The loss is `(CE(p, y) + CE(q, y)) / 2 + alpha` times [`symmetric_kl`]`(p, q)`, as in the authors' code.
///
/// # References
/// Liang, Wu, Li, Wang, Meng, Qin, Chen, Zhang, Liu: R-Drop (2021), arXiv:2106.14448.
#[derive(Clone, Debug)]
pub struct RDrop {
    alpha: f64,
    cross_entropy: CrossEntropy,
}

impl RDrop {
    /// With this weight of the divergence; the paper uses 1 to 5.
    ///
    /// # Errors
    /// [`RangeError`] when `alpha` is negative or not finite.
    pub fn new(alpha: f64) -> Result<Self, RangeError> {
        RangeError::not_negative("alpha", alpha)?;
        Ok(Self { alpha, cross_entropy: CrossEntropy::default() })
    }

    /// The same with these options of the cross-entropy.
    #[must_use]
    pub fn with_cross_entropy(mut self, cross_entropy: CrossEntropy) -> Self {
        self.cross_entropy = cross_entropy;
        self
    }

    /// The loss of two passes.
    ///
    /// # Shapes
    /// `p` and `q` `[N, K]`, `target` as for [`Var::cross_entropy`]; result `[]`.
    ///
    /// # Panics
    /// When shapes do not fit, and as [`Var::cross_entropy`].
    #[must_use]
    #[track_caller]
    pub fn loss(&self, p: &Var, q: &Var, target: &Tensor) -> Var {
        let ce = |x: &Var| x.cross_entropy(target, &self.cross_entropy);
        let fit = ce(p).add(&ce(q)).mul_scalar(0.5);
        fit.add(&symmetric_kl(p, q).mul_scalar(self.alpha))
    }
}

#[cfg(test)]
mod tests {
    use gradus_autograd::{
        Tape,
        check::{gradcheck, random},
    };

    use super::*;

    #[test]
    fn gradients_match_differences() {
        for shape in [&[3, 4][..], &[1, 1], &[2, 2, 3]] {
            gradcheck(&[random(shape, 1), random(shape, 2)], |v| symmetric_kl(&v[0], &v[1]));
        }
        let target = Tensor::from_slice(&[2i64, 0, 1], &[3]);
        let loss = RDrop::new(0.7).unwrap();
        gradcheck(&[random(&[3, 4], 1), random(&[4, 3], 2).transpose(0, 1)], |v| {
            loss.loss(&v[0], &v[1], &target)
        });
        gradcheck(&[random(&[3, 4], 1)], |v| loss.loss(&v[0], &v[0].mul_scalar(2.0), &target));
    }

    #[test]
    fn a_known_divergence() {
        let tape = Tape::evaluation();
        let logits = |p: [f64; 2]| tape.constant(Tensor::from_slice(&p.map(f64::ln), &[1, 2]));
        let (p, q) = (logits([0.5, 0.5]), logits([0.25, 0.75]));
        // (p - q) . ln(p / q) / 2
        let want = 0.5 * (0.25 * 2f64.ln() - 0.25 * (2f64 / 3.0).ln());
        assert!((symmetric_kl(&p, &q).item() - want).abs() < 1e-12);
        assert!((symmetric_kl(&q, &p).item() - want).abs() < 1e-12);
        assert!(symmetric_kl(&p, &p).item().abs() < 1e-15);
        assert!(symmetric_kl(&logits([1.0, 1e-300]), &p).item().is_finite());
    }

    #[test]
    fn without_weight_it_is_the_mean_of_two_losses() {
        let tape = Tape::evaluation();
        let (p, q) = (tape.constant(random(&[3, 4], 1)), tape.constant(random(&[3, 4], 2)));
        let target = Tensor::from_slice(&[2i64, 0, 1], &[3]);
        let smooth = CrossEntropy::default().with_label_smoothing(0.1);
        let ce = |x: &Var| x.cross_entropy(&target, &smooth).item();
        let loss = RDrop::new(0.0).unwrap().with_cross_entropy(smooth.clone());
        assert!((loss.loss(&p, &q, &target).item() - 0.5 * (ce(&p) + ce(&q))).abs() < 1e-12);
    }

    #[test]
    fn a_negative_weight_is_refused() {
        assert!(RDrop::new(-1.0).is_err() && RDrop::new(f64::NAN).is_err());
    }
}
