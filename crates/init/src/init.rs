//! Schemes: from a shape to a distribution.

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    Distribution, FanMode, Fans, InitError, Kernel, Layout, Sampler,
    error::{in_range, non_negative},
};

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
    factor: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scheme {
    /// The same for every shape.
    Fixed(Distribution),
    /// Mean 0, variance `scale / fan`.
    Scaled {
        scale: Scale,
        mode: FanMode,
        spread: Spread,
    },
    Orthogonal {
        gain: f64,
    },
    DeltaOrthogonal {
        gain: f64,
    },
    Identity,
    Dirac {
        groups: usize,
    },
    Sparse {
        sparsity: f64,
        std: f64,
    },
}

/// What the variance times the fan is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Itself(f64),
    Gain(f64),
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

/// # Simple distributions
impl Init {
    fn new(scheme: Scheme) -> Self {
        Self { scheme, layout: Layout::OutIn, factor: 1.0 }
    }

    fn fixed(distribution: Distribution) -> Self {
        Self::new(Scheme::Fixed(distribution))
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

    /// Uniform between `low` and `high`.
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

    /// Normal cut at two standard deviations on each side and widened, so that its standard deviation after
    /// the cut is `std`: what variance scaling draws from in Keras, JAX and timm. (Their bare
    /// `TruncatedNormal` is cut there too but not widened: `trunc_normal(mean, std, mean - 2 std, mean + 2 std)`.)
    #[must_use]
    pub fn trunc_normal_corrected(mean: f64, std: f64) -> Self {
        if std > 0.0 {
            let std = std / STD_CUT_AT_2;
            Self::trunc_normal(mean, std, mean - 2.0 * std, mean + 2.0 * std)
        } else {
            Self::normal(mean, std)
        }
    }
}

/// # Scaled by a fan
///
/// These need a shape of two dimensions or more. A gain is a number or a [`Nonlinearity`](crate::Nonlinearity).
impl Init {
    fn scaled(scale: Scale, mode: FanMode, spread: Spread) -> Self {
        Self::new(Scheme::Scaled { scale, mode, spread })
    }

    /// Mean 0 and variance `scale / fan`: the scheme that all the following are cases of.
    #[must_use]
    pub fn variance_scaling(scale: f64, mode: FanMode, spread: Spread) -> Self {
        Self::scaled(Scale::Itself(scale), mode, spread)
    }

    /// Uniform with variance `gain^2 2 / (fan_in + fan_out)` (Glorot, Bengio 2010).
    #[must_use]
    pub fn xavier_uniform(gain: f64) -> Self {
        Self::scaled(Scale::Gain(gain), FanMode::FanAvg, Spread::Uniform)
    }

    /// Normal with variance `gain^2 2 / (fan_in + fan_out)` (Glorot, Bengio 2010).
    #[must_use]
    pub fn xavier_normal(gain: f64) -> Self {
        Self::scaled(Scale::Gain(gain), FanMode::FanAvg, Spread::Normal)
    }

    /// Uniform with variance `gain^2 / fan` (He, Zhang, Ren, Sun 2015).
    #[must_use]
    pub fn kaiming_uniform(gain: impl Into<f64>, mode: FanMode) -> Self {
        Self::scaled(Scale::Gain(gain.into()), mode, Spread::Uniform)
    }

    /// Normal with variance `gain^2 / fan` (He, Zhang, Ren, Sun 2015).
    #[must_use]
    pub fn kaiming_normal(gain: impl Into<f64>, mode: FanMode) -> Self {
        Self::scaled(Scale::Gain(gain.into()), mode, Spread::Normal)
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
}

/// # Structured
impl Init {
    /// A matrix with orthonormal rows or columns, whichever are fewer, times `gain`; uniform over all such.
    /// More than two dimensions are flattened to `[shape[0], rest]`, and with [`Layout::KernelInOut`] to
    /// `[rest, out]` (Saxe, McClelland, Ganguli 2013, arXiv:1312.6120).
    #[must_use]
    pub fn orthogonal(gain: f64) -> Self {
        Self::new(Scheme::Orthogonal { gain })
    }

    /// A convolution that is an orthogonal matrix times `gain` at the tap `(k - 1) / 2` of its kernel and 0
    /// elsewhere, as in JAX: it keeps the norm of an image. Takes 3 to 5 dimensions and no more inputs than
    /// outputs (Xiao, Bahri, Sohl-Dickstein, Schoenholz, Pennington 2018, arXiv:1806.05393).
    #[must_use]
    pub fn delta_orthogonal(gain: f64) -> Self {
        Self::new(Scheme::DeltaOrthogonal { gain })
    }

    /// The identity matrix, cut or filled up with zeros; takes 2 dimensions.
    #[must_use]
    pub fn identity() -> Self {
        Self::new(Scheme::Identity)
    }

    /// A convolution that hands its input on: per group the identity at the tap `k / 2` of the kernel, as
    /// PyTorch's `dirac_`. Takes 3 to 5 dimensions, of which the outputs divide into `groups`.
    #[must_use]
    pub fn dirac(groups: usize) -> Self {
        Self::new(Scheme::Dirac { groups })
    }

    /// Normal with this `std`, except that `ceil(sparsity outputs)` of the weights of each input are 0, as
    /// PyTorch's `sparse_`. Takes 2 dimensions (Martens 2010: Deep learning via Hessian-free optimization).
    #[must_use]
    pub fn sparse(sparsity: f64, std: f64) -> Self {
        Self::new(Scheme::Sparse { sparsity, std })
    }
}

/// # What PyTorch's layers start from
impl Init {
    /// Linear and convolution weights: uniform within `1 / sqrt(fan_in)` (`kaiming_uniform` with
    /// `a = sqrt(5)`).
    #[must_use]
    pub fn torch_linear() -> Self {
        Self::variance_scaling(1.0 / 3.0, FanMode::FanIn, Spread::Uniform)
    }

    /// Linear and convolution biases: uniform within `1 / sqrt(fan_in)` of their weight; 0 without inputs.
    #[must_use]
    pub fn torch_bias(fan_in: usize) -> Self {
        let bound = if fan_in == 0 { 0.0 } else { 1.0 / Float::sqrt(fan_in as f64) };
        Self::uniform(-bound, bound)
    }

    /// Every weight and bias of an RNN, LSTM or GRU: uniform within `1 / sqrt(hidden_size)`.
    #[must_use]
    pub fn torch_rnn(hidden_size: usize) -> Self {
        Self::torch_bias(hidden_size)
    }

    /// Embeddings: the standard normal.
    #[must_use]
    pub fn torch_embedding() -> Self {
        Self::normal(0.0, 1.0)
    }
}

/// # Use
impl Init {
    /// Sets how a shape is read; [`Layout::OutIn`] unless told otherwise.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The same with every element times `factor`: [`residual_scale`](crate::residual_scale),
    /// [`fixup_scale`](crate::fixup_scale), the factor of [`mup_scaling`](crate::mup_scaling). It may not be
    /// negative.
    #[must_use]
    pub fn times(mut self, factor: f64) -> Self {
        self.factor *= factor;
        self
    }

    /// What a parameter of this shape is drawn from.
    ///
    /// # Errors
    /// [`InitError`] where the scheme's numbers are no distribution, where it scales by a fan and the
    /// shape has fewer than two dimensions or that fan is 0, and where it is made for other shapes.
    pub fn distribution(&self, shape: &[usize]) -> Result<Distribution, InitError> {
        non_negative("factor", self.factor)?;
        let dims = |scheme, min: usize, max: usize, dims| {
            if (min..=max).contains(&shape.len()) {
                Kernel::of(shape, self.layout)
            } else {
                Err(InitError::WrongDims { scheme, shape: shape.into(), dims })
            }
        };
        let distribution = match self.scheme {
            Scheme::Fixed(distribution) => distribution,
            Scheme::Scaled { scale, mode, spread } => self.spread(shape, scale, mode, spread)?,
            Scheme::Orthogonal { gain } => {
                Kernel::of(shape, self.layout)?;
                let last = shape.len() - 1;
                let (first, rest) = match self.layout {
                    Layout::KernelInOut => (&shape[..last], &shape[last..]),
                    _ => shape.split_at(1),
                };
                let [rows, cols] = [first, rest].map(|dims| dims.iter().product());
                Distribution::Orthogonal { gain, rows, cols }
            }
            Scheme::DeltaOrthogonal { gain } => {
                let kernel = dims("delta_orthogonal", 3, 5, "3 to 5")?;
                if kernel.ins > kernel.outs {
                    return Err(InitError::Narrowing { ins: kernel.ins, outs: kernel.outs });
                }
                let centre = self.tap(shape, |k| k.saturating_sub(1) / 2);
                Distribution::DeltaOrthogonal { gain, kernel, centre }
            }
            Scheme::Identity => {
                let kernel = dims("identity", 2, 2, "2")?;
                Distribution::Dirac { gain: 1.0, kernel, groups: 1, centre: 0 }
            }
            Scheme::Dirac { groups } => {
                let kernel = dims("dirac", 3, 5, "3 to 5")?;
                if groups == 0 || !kernel.outs.is_multiple_of(groups) {
                    return Err(InitError::WrongGroups { groups, outs: kernel.outs });
                }
                let centre = self.tap(shape, |k| k / 2);
                Distribution::Dirac { gain: 1.0, kernel, groups, centre }
            }
            Scheme::Sparse { sparsity, std } => {
                let kernel = dims("sparse", 2, 2, "2")?;
                in_range("sparsity", sparsity, (0.0..=1.0).contains(&sparsity), "[0, 1]")?;
                let zeros = Float::ceil(sparsity * kernel.outs as f64) as usize;
                Distribution::Sparse { std, zeros, kernel }
            }
        };
        distribution.check()?.times(self.factor).check()
    }

    /// The number of the tap whose place along each dimension of the kernel is `place` of its size.
    fn tap(&self, shape: &[usize], place: impl Fn(usize) -> usize) -> usize {
        Kernel::window(shape, self.layout).iter().fold(0, |tap, &k| tap * k + place(k))
    }

    fn spread(
        &self,
        shape: &[usize],
        scale: Scale,
        mode: FanMode,
        spread: Spread,
    ) -> Result<Distribution, InitError> {
        let scale = match scale {
            Scale::Itself(scale) => {
                non_negative("scale", scale)?;
                scale
            }
            Scale::Gain(gain) => {
                non_negative("gain", gain)?;
                gain * gain
            }
        };
        let fans = Fans::of(shape, self.layout)?;
        let fan = fans.get(mode);
        if fan == 0.0 || (mode == FanMode::Spectral && fans.fan_out == 0) {
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
    /// The values are a function of `seed`, `name` and the position alone (of Philox4x32-10 under that key);
    /// in another element type they are the same, rounded. A parameter without elements is left alone.
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
            self.distribution(shape)?.fill(seed, name, out);
        }
        Ok(())
    }

    /// What [`fill`](Self::fill) fills with, piece by piece; `None` for the structured schemes, whose elements
    /// depend on one another.
    ///
    /// # Errors
    /// Those of [`distribution`](Self::distribution).
    pub fn sampler(
        &self,
        seed: u64,
        name: &str,
        shape: &[usize],
    ) -> Result<Option<Sampler>, InitError> {
        Ok(Sampler::new(self.distribution(shape)?, seed, name))
    }
}
