//! Schemes: from a shape to a distribution.

use gradus_core::{FloatElement, hash_name};
use num_traits::Float;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{Distribution, FanMode, Fans, InitError, Layout, Nonlinearity};

/// How to initialize a parameter.
///
/// ```
/// use gradus_init::{FanMode, Init, Nonlinearity};
///
/// let he = Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn);
/// let mut a = vec![0.0f32; 6];
/// let mut b = vec![0.0f32; 6];
/// he.fill(1, "fc.weight", &[2, 3], &mut a)?;
/// he.fill(1, "fc.weight", &[2, 3], &mut b)?;
/// assert_eq!(a, b);
/// he.fill(1, "head.weight", &[2, 3], &mut b)?;
/// assert_ne!(a, b);
/// # Ok::<(), gradus_init::InitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Init {
    scheme: Scheme,
    layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scheme {
    /// The same for every shape.
    Fixed(Distribution),
    /// Mean 0, variance `scale / fan`.
    Scaled { scale: f64, mode: FanMode, spread: Spread },
}

/// The form of a distribution whose variance a scheme sets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Spread {
    /// Uniform around 0.
    Uniform,
    /// Normal.
    Normal,
    /// Normal cut at two standard deviations and widened, so that the variance after the cut is the one
    /// asked for.
    TruncNormal,
}

/// Standard deviation of a standard normal cut at -2 and 2.
const STD_CUT_AT_2: f64 = 0.879_625_661_034_239_8;

impl Init {
    fn fixed(distribution: Distribution) -> Self {
        Self { scheme: Scheme::Fixed(distribution), layout: Layout::OutIn }
    }

    /// Every element is `value`.
    #[must_use]
    pub fn constant(value: f64) -> Self {
        Self::fixed(Distribution::Constant { value })
    }

    /// Every element is 0.
    #[must_use]
    pub fn zeros() -> Self {
        Self::constant(0.0)
    }

    /// Every element is 1.
    #[must_use]
    pub fn ones() -> Self {
        Self::constant(1.0)
    }

    /// Uniform in `[low, high)`.
    #[must_use]
    pub fn uniform(low: f64, high: f64) -> Self {
        Self::fixed(Distribution::Uniform { low, high })
    }

    /// Normal.
    #[must_use]
    pub fn normal(mean: f64, std: f64) -> Self {
        Self::fixed(Distribution::Normal { mean, std })
    }

    /// Normal with the mass outside `[low, high]` cut away; the bounds are absolute values and `std` is
    /// that before the cut, as in PyTorch's `trunc_normal_` (whose default bounds are -2 and 2).
    #[must_use]
    pub fn trunc_normal(mean: f64, std: f64, low: f64, high: f64) -> Self {
        Self::fixed(Distribution::TruncNormal { mean, std, low, high })
    }

    /// Mean 0 and variance `scale / fan`: the scheme that all the following are cases of.
    #[must_use]
    pub fn variance_scaling(scale: f64, mode: FanMode, spread: Spread) -> Self {
        Self { scheme: Scheme::Scaled { scale, mode, spread }, layout: Layout::OutIn }
    }

    /// Uniform with variance `gain^2 2 / (fan_in + fan_out)` (Glorot, Bengio 2010).
    #[must_use]
    pub fn xavier_uniform(gain: f64) -> Self {
        Self::variance_scaling(gain * gain, FanMode::FanAvg, Spread::Uniform)
    }

    /// Normal with variance `gain^2 2 / (fan_in + fan_out)` (Glorot, Bengio 2010).
    #[must_use]
    pub fn xavier_normal(gain: f64) -> Self {
        Self::variance_scaling(gain * gain, FanMode::FanAvg, Spread::Normal)
    }

    /// Uniform with variance `gain^2 / fan` (He, Zhang, Ren, Sun 2015).
    #[must_use]
    pub fn kaiming_uniform(nonlinearity: Nonlinearity, mode: FanMode) -> Self {
        let gain = nonlinearity.gain();
        Self::variance_scaling(gain * gain, mode, Spread::Uniform)
    }

    /// Normal with variance `gain^2 / fan` (He, Zhang, Ren, Sun 2015).
    #[must_use]
    pub fn kaiming_normal(nonlinearity: Nonlinearity, mode: FanMode) -> Self {
        let gain = nonlinearity.gain();
        Self::variance_scaling(gain * gain, mode, Spread::Normal)
    }

    /// Uniform with variance `1 / fan_in` (LeCun, Bottou, Orr, Müller 1998).
    #[must_use]
    pub fn lecun_uniform() -> Self {
        Self::variance_scaling(1.0, FanMode::FanIn, Spread::Uniform)
    }

    /// Truncated normal with variance `1 / fan_in`, as in JAX (LeCun, Bottou, Orr, Müller 1998).
    #[must_use]
    pub fn lecun_normal() -> Self {
        Self::variance_scaling(1.0, FanMode::FanIn, Spread::TruncNormal)
    }

    /// What PyTorch's linear and convolution weights start from: uniform within `1 / sqrt(fan_in)`
    /// (`kaiming_uniform` with `a = sqrt(5)`).
    #[must_use]
    pub fn torch_linear() -> Self {
        Self::variance_scaling(1.0 / 3.0, FanMode::FanIn, Spread::Uniform)
    }

    /// What PyTorch's linear and convolution biases start from: uniform within `1 / sqrt(fan_in)` of their
    /// weight; 0 without inputs.
    #[must_use]
    pub fn torch_bias(fan_in: usize) -> Self {
        let bound = if fan_in == 0 { 0.0 } else { 1.0 / Float::sqrt(fan_in as f64) };
        Self::uniform(-bound, bound)
    }

    /// What every weight and bias of PyTorch's RNN, LSTM and GRU starts from: uniform within
    /// `1 / sqrt(hidden_size)`.
    #[must_use]
    pub fn torch_rnn(hidden_size: usize) -> Self {
        Self::torch_bias(hidden_size)
    }

    /// What PyTorch's embeddings start from: the standard normal.
    #[must_use]
    pub fn torch_embedding() -> Self {
        Self::normal(0.0, 1.0)
    }

    /// Sets how a shape is read; [`Layout::OutIn`] unless told otherwise.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The distribution that a parameter of this shape is drawn from.
    ///
    /// # Errors
    /// [`InitError`] where the scheme's numbers are no distribution, or where it scales by a fan and the
    /// shape has fewer than two dimensions or that fan is 0.
    pub fn distribution(&self, shape: &[usize]) -> Result<Distribution, InitError> {
        let (scale, mode, spread) = match self.scheme {
            Scheme::Fixed(distribution) => return distribution.check(),
            Scheme::Scaled { scale, mode, spread } => (scale, mode, spread),
        };
        if !(scale >= 0.0 && scale.is_finite()) {
            return Err(InitError::OutOfRange { name: "scale", value: scale, range: "[0, inf)" });
        }
        let fan = Fans::of(shape, self.layout)?.get(mode);
        if fan == 0.0 {
            return Err(InitError::ZeroFan { shape: shape.into() });
        }
        if scale == 0.0 {
            return Ok(Distribution::Constant { value: 0.0 });
        }
        let std = Float::sqrt(scale / fan);
        Ok(match spread {
            Spread::Uniform => {
                let bound = Float::sqrt(3.0 * scale / fan);
                Distribution::Uniform { low: -bound, high: bound }
            }
            Spread::Normal => Distribution::Normal { mean: 0.0, std },
            Spread::TruncNormal => {
                let std = std / STD_CUT_AT_2;
                Distribution::TruncNormal { mean: 0.0, std, low: -2.0 * std, high: 2.0 * std }
            }
        })
    }

    /// Fills `out`, the elements of the parameter `name` of this shape.
    ///
    /// The values are a function of `seed`, `name` and the position alone (the stream of ChaCha8 under
    /// that key); in another element type they are the same, rounded. A parameter without elements is
    /// left alone.
    ///
    /// # Errors
    /// Those of [`distribution`](Self::distribution); `out` is unchanged then.
    ///
    /// # Panics
    /// When `shape` does not hold exactly `out.len()` elements.
    #[track_caller]
    pub fn fill<T: FloatElement>(
        &self,
        seed: u64,
        name: &str,
        shape: &[usize],
        out: &mut [T],
    ) -> Result<(), InitError> {
        let len = out.len();
        assert_eq!(
            shape.iter().product::<usize>(),
            len,
            "Init::fill: {name} of shape {shape:?} does not hold {len} elements"
        );
        if len > 0 {
            let distribution = self.distribution(shape)?;
            distribution.fill(&mut generator(seed, name), out);
        }
        Ok(())
    }
}

/// The generator of one parameter.
fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hash_name(name).to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::bf16;

    use super::*;

    fn drawn(init: Init, shape: &[usize]) -> Vec<f64> {
        let mut out = vec![0.0; shape.iter().product()];
        init.fill(42, "fc.weight", shape, &mut out).unwrap();
        out
    }

    /// The first values for seed 42 and `fc.weight`. They may change in a major version only: a run that
    /// is repeated starts from the same weights.
    #[test]
    fn values_are_pinned() {
        let check = |init: Init, want: [f64; 3]| assert_eq!(drawn(init, &[3, 1]), want, "{init:?}");
        check(
            Init::uniform(-1.0, 1.0),
            [-0.6293996939535309, -0.2886917450520219, 0.4022116202209387],
        );
        check(
            Init::normal(0.0, 1.0),
            [-1.363717283404546, -0.40255469978881203, 0.44385728686096154],
        );
        check(
            Init::trunc_normal(0.0, 1.0, -2.0, 2.0),
            [-1.363717283404546, -0.40255469978881203, 0.44385728686096154],
        );
        check(
            Init::trunc_normal(0.0, 1.0, 3.0, 4.0),
            [3.062049482608512, 3.3656517367977097, 3.0713081093327297],
        );
        check(
            Init::trunc_normal(0.0, 1.0, 0.5, 0.75),
            [0.5463250382558087, 0.6752764525276174, 0.5524589854111347],
        );
        check(
            Init::xavier_uniform(1.0),
            [-0.7708540472250227, -0.35357373416555193, 0.4926066190796963],
        );
        check(
            Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn),
            [-1.9285874774333027, -0.5692983160383677, 0.6277089948368972],
        );
        check(
            Init::lecun_normal(),
            [-1.5503382220581474, -0.45764319712489887, 0.5045979290088994],
        );
        check(Init::torch_linear(), [-0.6293996939535309, -0.2886917450520219, 0.4022116202209387]);
    }

    #[test]
    fn schemes_divide_by_their_fan() {
        let shape = [16, 8, 3, 3];
        let of = |init: Init| init.distribution(&shape).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
        let bound = |init| match of(init) {
            Distribution::Uniform { low, high } if low == -high => high,
            other => panic!("{other:?}"),
        };
        let std = |init| match of(init) {
            Distribution::Normal { mean: 0.0, std } => std,
            other => panic!("{other:?}"),
        };
        let leaky = |negative_slope| Nonlinearity::LeakyRelu { negative_slope };
        close(bound(Init::xavier_uniform(1.0)), 1.0 / 6.0);
        close(std(Init::xavier_normal(2.0)), 0.192_450_089_729_875_25);
        close(bound(Init::kaiming_uniform(leaky(0.2), FanMode::FanIn)), 0.283_069_258_536_148_95);
        close(std(Init::kaiming_normal(leaky(0.2), FanMode::FanIn)), 0.163_430_112_615_153_36);
        close(
            bound(Init::torch_linear()),
            bound(Init::kaiming_uniform(leaky(5f64.sqrt()), FanMode::FanIn)),
        );
        close(bound(Init::torch_bias(72)), bound(Init::torch_linear()));
        close(
            std(Init::variance_scaling(0.5, FanMode::FanOut, Spread::Normal)),
            0.058_925_565_098_878_96,
        );
        close(bound(Init::torch_linear().with_layout(Layout::InOut)), 1.0 / 12.0);
        let Distribution::TruncNormal { std, low, high, .. } = of(Init::lecun_normal()) else {
            panic!("lecun_normal is truncated")
        };
        close(high, 0.267_957_462_857_988_44);
        assert_eq!((low, high), (-2.0 * std, 2.0 * std));
    }

    #[test]
    fn what_cannot_be_scaled_is_an_error() {
        let init = Init::torch_linear();
        assert_eq!(init.distribution(&[5]), Err(InitError::TooFewDims { shape: vec![5] }));
        assert_eq!(init.distribution(&[5, 0]), Err(InitError::ZeroFan { shape: vec![5, 0] }));
        for scale in [-1.0, f64::NAN, f64::INFINITY] {
            let init = Init::variance_scaling(scale, FanMode::FanIn, Spread::Normal);
            assert!(matches!(init.distribution(&[2, 2]), Err(InitError::OutOfRange { .. })));
        }
        let mut kept = [7.0f32; 5];
        assert!(init.fill(0, "w", &[5], &mut kept).is_err());
        assert_eq!(kept, [7.0; 5]);
    }

    #[test]
    fn nothing_is_filled_where_there_is_nothing() {
        assert_eq!(Init::torch_linear().fill::<f32>(0, "w", &[5, 0], &mut []), Ok(()));
        assert_eq!(drawn(Init::xavier_normal(0.0), &[2, 1]), [0.0; 2]);
        assert_eq!(drawn(Init::torch_bias(0), &[2]), [0.0; 2]);
    }

    #[test]
    #[should_panic(expected = "Init::fill: w of shape [2, 3] does not hold 5 elements")]
    fn a_wrong_length_panics() {
        let _ = Init::zeros().fill(0, "w", &[2, 3], &mut [0.0f32; 5]);
    }

    #[test]
    fn element_types_hold_the_same_values_rounded() {
        let init = Init::normal(0.0, 1.0);
        let wide = drawn(init, &[50]);
        let mut narrow = vec![bf16::ZERO; 50];
        init.fill(42, "fc.weight", &[50], &mut narrow).unwrap();
        let rounded: Vec<bf16> = wide.iter().map(|&x| bf16::from_f64(x)).collect();
        assert_eq!(narrow, rounded);
    }
}
