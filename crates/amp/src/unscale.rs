//! One pass over scaled gradients: what is not finite is counted, everything is divided by the scale.

use alloc::string::{String, ToString};

use gradus_core::{FloatElement, Parameters, SliceMut};
use gradus_kernel::{kernel, par};

use crate::AmpError;

/// Elements of a piece of a long gradient.
const PIECE: usize = 1 << 16;
/// Nanoseconds that an element takes, most of them for its way from memory.
const NS: f64 = 0.2;

/// Elements that are NaN or infinite.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// How many there are.
    pub(crate) count: usize,
    /// The first parameter that has one.
    pub(crate) name: Option<String>,
}

/// Multiplies all gradients by the reciprocal of the scale, in f32 as PyTorch does.
///
/// A gradient in f16 is an error; nothing has changed then.
pub(crate) fn unscale(params: &mut dyn Parameters, scale: f32) -> Result<Found, AmpError> {
    let mut half = None;
    params.visit(&mut |p| {
        if matches!(p.grad, Some(SliceMut::F16(_))) && half.is_none() {
            half = Some(p.name.to_string());
        }
    });
    if let Some(name) = half {
        return Err(AmpError::HalfGradient { name });
    }
    let inverse = (1.0 / f64::from(scale)) as f32;
    let mut found = Found::default();
    params.visit(&mut |p| {
        let count = match p.grad {
            Some(SliceMut::F32(g)) => multiply(g, inverse),
            Some(SliceMut::F64(g)) => multiply(g, inverse),
            Some(SliceMut::BF16(g)) => multiply(g, inverse),
            _ => 0,
        };
        if count > 0 && found.name.is_none() {
            found.name = Some(p.name.to_string());
        }
        found.count += count;
    });
    Ok(found)
}

/// Multiplies all elements and counts those that are NaN or infinite before.
fn multiply<T: FloatElement>(x: &mut [T], by: f32) -> usize {
    if x.len() <= PIECE {
        return piece(x, by);
    }
    par::map_chunks(x, PIECE, PIECE as f64 * NS, |_, x| piece(x, by)).into_iter().sum()
}

kernel! {
    fn piece['a, T: FloatElement]['a, T](x: &'a mut [T], by: f32) -> usize {
        let wide = size_of::<T>() > size_of::<f32>();
        let mut total = 0;
        // A counter of 32 bits fills the same vectors as f32, and a chunk cannot overflow it.
        for x in x.chunks_mut(1 << 12) {
            let mut bad = 0u32;
            for x in x {
                bad += u32::from(!x.is_finite());
                *x = if wide {
                    T::from_f64(x.to_f64() * f64::from(by))
                } else {
                    T::from_f32(x.to_f32() * by)
                };
            }
            total += bad as usize;
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{VecParam, bf16, f16};

    use super::*;

    #[test]
    fn every_type_but_half_precision() {
        let values = [1.0f32, -3.0, 1e-3, f32::INFINITY, f32::NAN, 0.0];
        let mut single = vec![VecParam::new("s", &[6], vec![0.0f32; 6]).with_grad(values.to_vec())];
        let double: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        let mut double = vec![VecParam::new("d", &[6], vec![0.0f64; 6]).with_grad(double)];
        let short: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
        let mut short = vec![VecParam::new("b", &[6], vec![bf16::ZERO; 6]).with_grad(short)];
        for (name, found) in [
            ("s", unscale(&mut single, 1024.0)),
            ("d", unscale(&mut double, 1024.0)),
            ("b", unscale(&mut short, 1024.0)),
        ] {
            assert_eq!(found, Ok(Found { count: 2, name: Some(name.into()) }));
        }
        let (s, d) = (single[0].grad.as_ref().unwrap(), double[0].grad.as_ref().unwrap());
        assert_eq!(s[..3], [1.0 / 1024.0, -3.0 / 1024.0, 1e-3 / 1024.0]);
        assert!(s[3] == f32::INFINITY && s[4].is_nan() && s[5] == 0.0);
        assert!(s.iter().zip(d).take(3).all(|(&s, &d)| f64::from(s) == d));
        assert_eq!(short[0].grad.as_ref().unwrap()[1].to_f32(), -3.0 / 1024.0);

        let grad = vec![f16::ONE];
        let mut half = vec![VecParam::new("h", &[1], vec![f16::ONE]).with_grad(grad.clone())];
        assert_eq!(unscale(&mut half, 2.0), Err(AmpError::HalfGradient { name: "h".into() }));
        assert_eq!(half[0].grad, Some(grad));
    }

    #[test]
    fn long_gradients_in_pieces() {
        let n = 3 * PIECE + 17;
        let mut grad: Vec<f32> = (0..n).map(|i| i as f32).collect();
        for i in [0, PIECE - 1, PIECE, n - 1] {
            grad[i] = f32::NAN;
        }
        let mut params = vec![VecParam::new("w", &[n], vec![0.0f32; n]).with_grad(grad)];
        assert_eq!(unscale(&mut params, 0.5).unwrap().count, 4);
        let grad = params[0].grad.as_ref().unwrap();
        assert!(grad.iter().enumerate().all(|(i, &g)| g.is_nan() || g == 2.0 * i as f32));
    }

    /// The reciprocal is what f32 has of it, as in PyTorch; for powers of two it is exact.
    #[test]
    fn the_reciprocal_is_rounded_once() {
        let mut params = vec![VecParam::new("w", &[1], vec![0.0f32]).with_grad(vec![7.0])];
        unscale(&mut params, 3.0).unwrap();
        assert_eq!(params[0].grad, Some(vec![7.0 * (1.0f32 / 3.0)]));
    }
}
