//! Penalties on the size of weights and activations.

use gradus_autograd::{DType, Tensor, Var};
use gradus_core::FloatElement;
use gradus_tensor::{Real, elementwise_ops, kernel, par, with_real};

use crate::{RangeError, groups::in_real};

/// Elements whose sums are taken together.
const PIECE: usize = 1 << 15;
/// Independent sums of a piece.
const LANES: usize = 16;

elementwise_ops! {
    /// `l1 sign(x) + l2 x`; a weight of 0 leaves its term out, for an infinite `x` too.
    Slope(l1, l2) "elastic_net" 0.3 |self, x| {
        let sign = if x > T::ZERO { T::ONE } else if x < T::ZERO { -T::ONE } else { T::ZERO };
        let first = if self.l1 == 0.0 { T::ZERO } else { T::lit(self.l1) * sign };
        if self.l2 == 0.0 { first } else { first + T::lit(self.l2) * x }
    };
}

/// `l1 sum |w| + l2 sum w^2` over all elements of all parameters, without a factor 1/2, accumulated in f64.
///
/// Gradient: `l1 sign(w) + 2 l2 w`, with sign(0) = 0.
///
/// ```
/// use gradus_autograd::{Tape, Tensor};
/// use gradus_regularize::elastic_net;
///
/// let w = Tape::training(0, 0).leaf(Tensor::from_slice(&[3f32, 0.0, -1.0], &[3]));
/// let penalty = elastic_net(&[&w], 0.5, 0.1)?;
/// assert_eq!(penalty.item(), 3.0);
/// let slopes = penalty.backward().wrt(&w).unwrap().to_vec::<f32>();
/// assert!(slopes.iter().zip([1.1, 0.0, -0.7]).all(|(a, b)| (a - b).abs() < 1e-6));
/// # Ok::<(), gradus_regularize::RangeError>(())
/// ```
///
/// # Shapes
/// Any; result `[]`, in the type of the parameters.
///
/// # Errors
/// [`RangeError`] when a weight is negative or not finite.
///
/// # Panics
/// When there is no parameter, or they differ in type or tape or are not floats.
///
/// # References
/// Zou, Hastie: Regularization and variable selection via the elastic net (2005).
#[track_caller]
pub fn elastic_net(params: &[&Var], l1: f64, l2: f64) -> Result<Var, RangeError> {
    RangeError::not_negative("l1", l1)?;
    RangeError::not_negative("l2", l2)?;
    let values: Vec<Tensor> = params.iter().map(|p| p.value().clone()).collect();
    let dtype = params.first().expect("elastic_net: no parameter").dtype();
    let same = values.iter().all(|v| v.dtype() == dtype);
    assert!(same, "elastic_net: parameters of different types");
    let sums = values.iter().map(sums).fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
    let term = |weight: f64, sum: f64| if weight == 0.0 { 0.0 } else { weight * sum };
    let loss = Tensor::full(&[], term(l1, sums[0]) + term(l2, sums[1]), dtype);
    Ok(Var::op("elastic_net", params, loss, move |g, sink| {
        let g = g.item();
        for (i, value) in values.into_iter().enumerate() {
            if sink.needs(i) {
                let slope = Slope { l1: l1 * g, l2: 2.0 * l2 * g };
                sink.add(i, in_real(value, |w| w.map(slope)));
            }
        }
    }))
}

/// `lambda sum |w|`: [`elastic_net`] with `l1` alone (the lasso).
///
/// # Errors
/// [`RangeError`] when `lambda` is negative or not finite.
///
/// # Panics
/// As [`elastic_net`].
#[track_caller]
pub fn l1_penalty(params: &[&Var], lambda: f64) -> Result<Var, RangeError> {
    elastic_net(params, lambda, 0.0)
}

/// `lambda sum w^2`, without a factor 1/2: [`elastic_net`] with `l2` alone (ridge).
///
/// Under an adaptive optimizer this is not weight decay: see `decoupled` decay there.
///
/// # Errors
/// [`RangeError`] when `lambda` is negative or not finite.
///
/// # Panics
/// As [`elastic_net`].
#[track_caller]
pub fn l2_penalty(params: &[&Var], lambda: f64) -> Result<Var, RangeError> {
    elastic_net(params, 0.0, lambda)
}

/// The [`elastic_net`] of activations, divided by the size of the batch: sparse activations for `l1`, small ones for `l2`.
/// Keras's `ActivityRegularization`.
///
/// # Shapes
/// `x` `[N, ..]`, result `[]`; NaN for an empty batch.
///
/// # Errors
/// [`RangeError`] when a weight is negative or not finite.
///
/// # Panics
/// When `x` has no dimension or is not a float.
#[track_caller]
pub fn activity_penalty(x: &Var, l1: f64, l2: f64) -> Result<Var, RangeError> {
    let batch = *x.shape().first().expect("activity_penalty: activations of shape []") as f64;
    let penalty = elastic_net(&[x], l1, l2)?;
    Ok(&penalty / batch)
}

/// `sum |w|` and `sum w^2`.
fn sums(w: &Tensor) -> [f64; 2] {
    let w = match w.dtype() {
        DType::F16 | DType::BF16 => w.to_dtype(DType::F32),
        _ => w.contiguous(),
    };
    with_real!("elastic_net", w.dtype(), T => {
        let w = w.as_slice::<T>();
        let pieces = w.len().div_ceil(PIECE);
        let parts = par::map(pieces, PIECE as f64 * 0.2, |i| {
            piece::<T>(&w[i * PIECE..w.len().min((i + 1) * PIECE)])
        });
        parts.into_iter().fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]])
    })
}

kernel! {
    fn piece['a, T: Real]['a, T](w: &'a [T]) -> [f64; 2] {
        let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
        let mut add = |w: &[T]| {
            for ((first, second), w) in first.iter_mut().zip(&mut second).zip(w) {
                let w = FloatElement::to_f64(*w);
                *first += w.abs();
                *second += w * w;
            }
        };
        let (lanes, rest) = w.as_chunks::<LANES>();
        lanes.iter().for_each(|w| add(w));
        add(rest);
        [first.iter().sum(), second.iter().sum()]
    }
}

#[cfg(test)]
mod tests {
    use gradus_autograd::{
        Tape,
        check::{gradcheck, random},
    };
    use gradus_core::bf16;

    use super::*;
    use crate::testing;

    #[test]
    fn gradients_match_differences() {
        let views = [random(&[3, 4], 1), random(&[5, 2], 2).transpose(0, 1), random(&[], 3)];
        gradcheck(&views, |v| elastic_net(&[&v[0], &v[1], &v[2]], 0.3, 0.7).unwrap());
        gradcheck(&[random(&[0, 2], 1)], |v| elastic_net(&[&v[0]], 0.3, 0.7).unwrap());
        gradcheck(&[random(&[3], 1)], |v| elastic_net(&[&v[0], &v[0]], 0.3, 0.7).unwrap());
        gradcheck(&[random(&[4, 3], 1)], |v| activity_penalty(&v[0], 0.3, 0.7).unwrap());
        gradcheck(&[random(&[4], 1)], |v| l1_penalty(&[&v[0]], 0.3).unwrap());
        gradcheck(&[random(&[4], 1)], |v| l2_penalty(&[&v[0]], 0.3).unwrap());
    }

    #[test]
    fn zero_has_no_sign_and_a_term_without_weight_is_not_there() {
        let tape = Tape::training(0, 0);
        let w =
            tape.leaf(Tensor::from_slice(&[0f32, -0.0, f32::INFINITY, f32::NEG_INFINITY], &[4]));
        let loss = l1_penalty(&[&w], 2.0).unwrap();
        assert_eq!(loss.item(), f64::INFINITY);
        assert_eq!(loss.backward().wrt(&w).unwrap().to_vec::<f32>(), [0.0, 0.0, 2.0, -2.0]);
        let w = Tape::evaluation().constant(Tensor::from_slice(&[f32::INFINITY], &[1]));
        assert_eq!(elastic_net(&[&w], 0.0, 0.0).unwrap().item(), 0.0);
    }

    #[test]
    fn long_sums_are_exact_and_the_same_everywhere() {
        let n = 1_000_003;
        let w = Tensor::full(&[n], -0.1, DType::F32);
        let w = Tape::evaluation().constant(w);
        let value = f64::from(0.1f32);
        let want = n as f64 * (value + 3.0 * value * value);
        let got = elastic_net(&[&w], 1.0, 3.0).unwrap().item();
        assert!((got / want - 1.0).abs() < 1e-7, "{got} {want}");
        let w = Tape::evaluation().constant(random(&[n], 4));
        testing::same_everywhere(|| {
            let loss = elastic_net(&[&w], 1.0, 3.0).unwrap().item().to_bits();
            vec![f32::from_bits(loss as u32), f32::from_bits((loss >> 32) as u32)]
        });
    }

    #[test]
    fn sixteen_bits_are_summed_in_more() {
        let tape = Tape::training(0, 0);
        let w = tape.leaf(Tensor::full(&[4096], 0.5, DType::BF16));
        let loss = l2_penalty(&[&w], 1.0).unwrap();
        assert_eq!((loss.dtype(), loss.item()), (DType::BF16, 1024.0));
        let slopes = loss.backward().wrt(&w).unwrap().to_vec::<bf16>();
        assert_eq!(slopes, [bf16::from_f32(1.0); 4096]);
    }

    #[test]
    fn weights_out_of_range_are_refused() {
        let w = Tape::evaluation().constant(random(&[2], 1));
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(l1_penalty(&[&w], bad).unwrap_err().name, "l1");
            assert_eq!(l2_penalty(&[&w], bad).unwrap_err().name, "l2");
            assert!(activity_penalty(&w, 0.0, bad).is_err());
        }
    }
}
