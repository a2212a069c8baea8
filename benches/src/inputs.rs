//! Inputs as functions of (seed, index): every implementation of a row makes the same ones.

use gradus_core::VecParam;
use gradus_tensor::Tensor;

/// The square root of 3: `sym` within it has variance 1.
pub const SQRT_3: f64 = 1.732_050_807_568_877_2;

/// 64 well-mixed bits of element `i` of the input with this seed.
#[must_use]
pub fn hash64(seed: u64, i: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(i.wrapping_add(1).wrapping_mul(0xD1B5_4A32_D192_ED03));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Uniform in `[0, 1)`, a multiple of 2^-24.
#[must_use]
pub fn unit(seed: u64, i: u64) -> f32 {
    (hash64(seed, i) >> 40) as f32 * (1.0 / 16_777_216.0)
}

/// An f32 tensor with elements uniform in `[-bound, bound)`.
#[must_use]
pub fn sym(seed: u64, shape: &[usize], bound: f64) -> Tensor {
    Tensor::build::<f32>(shape, |out| {
        for (i, x) in (0..).zip(out) {
            *x = (unit(seed, i) * 2.0 - 1.0) * bound as f32;
        }
    })
}

/// `n` parameters of this shape, with gradients.
#[must_use]
pub fn parameters(n: u64, shape: &[usize]) -> Vec<VecParam> {
    let param = |i: u64| {
        let (value, grad) = (sym(3000 + i, shape, 0.05), sym(2000 + i, shape, 1.0));
        VecParam::new(format!("{i}"), shape, value.to_vec()).with_grad(grad.to_vec())
    };
    (0..n).map(param).collect()
}

/// Integer number `i` in `0..modulus`.
#[must_use]
pub fn int(seed: u64, i: u64, modulus: u64) -> i64 {
    ((hash64(seed, i) >> 32) % modulus) as i64
}

/// `n` labels of `classes`.
#[must_use]
pub fn labels(seed: u64, n: usize, classes: u64) -> Tensor {
    Tensor::build::<i64>(&[n], |out| {
        for (i, label) in (0..).zip(out) {
            *label = int(seed, i, classes);
        }
    })
}

/// Tokens `[n, len]` of batch `b` out of 96, and the tokens that follow them, `[n * len]`: sequence `s` counts up
/// from its own start by its own stride.
#[must_use]
pub fn tokens(b: u64, n: usize, len: usize) -> (Tensor, Tensor) {
    let token = |i: usize, ahead: usize| {
        let (s, k) = ((i / len) as u64, (i % len + ahead) as i64);
        (int(200 + b, s, 96) + (1 + int(300 + b, s, 5)) * k) % 96
    };
    let all = |shape: &[usize], ahead| {
        Tensor::build::<i64>(shape, |out| {
            for (i, t) in out.iter_mut().enumerate() {
                *t = token(i, ahead);
            }
        })
    };
    (all(&[n, len], 0), all(&[n * len], 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_specified_ones() {
        let hashes =
            [3_246_858_695_411_730_098, 4_349_182_596_431_645_316, 1_743_751_926_215_444_844];
        assert_eq!([0, 1, 2].map(|i| hash64(1, i)), hashes);
        assert_eq!([0, 1, 2].map(|i| unit(1, i)), [0.176_012_52, 0.235_769_63, 0.094_528_97]);
        let s = sym(2, &[4], SQRT_3).to_vec::<f32>();
        assert_eq!(s, [-0.141_795_08, -0.512_600_1, 0.574_612, 0.458_215_03]);
        assert_eq!(labels(3, 5, 10).to_vec::<i64>(), [6, 9, 5, 8, 4]);
    }

    #[test]
    fn each_target_is_the_next_token() {
        let (x, y) = tokens(3, 4, 7);
        let (x, y) = (x.to_vec::<i64>(), y.to_vec::<i64>());
        for s in 0..4 {
            assert_eq!(x[s * 7 + 1..(s + 1) * 7], y[s * 7..(s + 1) * 7 - 1]);
        }
        assert!(x.iter().chain(&y).all(|t| (0..96).contains(t)));
    }
}
