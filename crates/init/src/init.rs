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

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{bf16, f16};

    use super::*;
    use crate::Nonlinearity;

    fn drawn(init: Init, shape: &[usize]) -> Vec<f64> {
        let mut out = vec![0.0; shape.iter().product()];
        init.fill(42, "fc.weight", shape, &mut out).unwrap();
        out
    }

    /// The first values for seed 42 and `fc.weight`. They may change in a major version only: a run that
    /// is repeated starts from the same weights.
    #[test]
    fn values_are_pinned() {
        let of = |init: Init, shape: &[usize], want: [f64; 3]| {
            assert_eq!(drawn(init, shape)[..3], want, "{init:?}");
        };
        let check = |init: Init, want: [f64; 3]| of(init, &[3, 1], want);
        check(
            Init::uniform(-1.0, 1.0),
            [-0.7075611867476255, -0.5329227426555008, 0.0740789498668164],
        );
        check(
            Init::normal(0.0, 1.0),
            [-0.929688572883606, 0.3920355439186096, -0.5892895460128784],
        );
        check(
            Init::normal(1.0, 2.0),
            [-0.8593771457672119, 1.7840710878372192, -0.17857909202575684],
        );
        check(
            Init::trunc_normal(0.0, 1.0, -0.5, 9.0),
            [0.5374549627304077, 0.3920355439186096, 0.3821016848087311],
        );
        check(
            Init::trunc_normal(0.0, 1.0, 3.0, 4.0),
            [3.3146076102985758, 3.4004286513372888, 3.0114276183969535],
        );
        check(
            Init::trunc_normal(0.0, 1.0, 0.5, 0.75),
            [0.6615548516574843, 0.6833846571874433, 0.5092598687312065],
        );
        check(
            Init::xavier_uniform(1.0),
            [-0.8665819346649006, -0.6526943959152641, 0.09072781392745802],
        );
        check(
            Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn),
            [-1.314778166053813, 0.5544219736534828, -0.8333812538733838],
        );
        check(
            Init::lecun_normal(),
            [-1.0569138828788869, 0.44568452386628304, -0.6699321906093644],
        );
        check(Init::torch_linear(), [-0.7075611867476255, -0.5329227426555008, 0.0740789498668164]);
        let column = [-0.7956598493951574, 0.33551766788348153, -0.5043345106162225];
        of(
            Init::orthogonal(1.0),
            &[3, 2],
            [-0.7956598493951574, 0.5975678613325832, 0.33551766788348153],
        );
        of(Init::orthogonal(1.0), &[2, 3], column);
        of(Init::delta_orthogonal(1.0), &[3, 1, 1], column);
        of(Init::sparse(0.5, 1.0), &[6, 1], [-0.929688572883606, 0.3920355439186096, 0.0]);
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
        let spectral = Init::variance_scaling(1.0, FanMode::Spectral, Spread::Normal);
        assert_eq!(spectral.distribution(&[0, 5]), Err(InitError::ZeroFan { shape: vec![0, 5] }));
        let mut kept = [7.0f32; 5];
        assert!(init.fill(0, "w", &[5], &mut kept).is_err());
        assert_eq!(kept, [7.0; 5]);
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let name_of = |init: Init, shape: &[usize]| match init.distribution(shape) {
            Err(InitError::OutOfRange { name, .. }) => name,
            other => panic!("{init:?}: {other:?}"),
        };
        for x in [-1.0, f64::NAN, f64::INFINITY] {
            let scaling = Init::variance_scaling(x, FanMode::FanIn, Spread::Normal);
            for (init, name) in [
                (scaling, "scale"),
                (Init::xavier_normal(x), "gain"),
                (Init::kaiming_uniform(x, FanMode::FanOut), "gain"),
                (Init::orthogonal(x), "gain"),
                (Init::trunc_normal_corrected(0.0, x), "std"),
                (Init::sparse(0.5, x), "std"),
                (Init::sparse(x, 1.0), "sparsity"),
                (Init::ones().times(x), "factor"),
            ] {
                assert_eq!(name_of(init, &[2, 2]), name, "{init:?}");
            }
            assert_eq!(name_of(Init::delta_orthogonal(x), &[2, 2, 1]), "gain");
        }
    }

    #[test]
    fn structured_schemes_refuse_other_shapes() {
        let wrong = |init: Init, shape: &[usize]| {
            matches!(init.distribution(shape), Err(InitError::WrongDims { .. }))
        };
        assert!(wrong(Init::identity(), &[2]) && wrong(Init::identity(), &[2, 2, 2]));
        assert!(wrong(Init::dirac(1), &[2, 2]) && wrong(Init::dirac(1), &[1; 6]));
        assert!(wrong(Init::sparse(0.1, 1.0), &[2, 2, 2]));
        assert!(wrong(Init::delta_orthogonal(1.0), &[2, 2]));
        let of = |init: Init, shape: &[usize]| init.distribution(shape).unwrap_err();
        assert_eq!(of(Init::orthogonal(1.0), &[2]), InitError::TooFewDims { shape: vec![2] });
        let narrowing = InitError::Narrowing { ins: 3, outs: 2 };
        assert_eq!(of(Init::delta_orthogonal(1.0), &[2, 3, 1]), narrowing);
        for groups in [0, 3] {
            let error = InitError::WrongGroups { groups, outs: 4 };
            assert_eq!(of(Init::dirac(groups), &[4, 2, 3]), error);
        }
    }

    #[test]
    fn identities_and_diracs_have_their_ones() {
        assert_eq!(drawn(Init::identity(), &[2, 3]), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(drawn(Init::identity().times(0.5), &[2, 1]), [0.5, 0.0]);
        // Two groups of two outputs on one input; the centre of an even kernel is its second tap.
        let dirac = drawn(Init::dirac(2), &[4, 1, 2]);
        assert_eq!(dirac, [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        let last = drawn(Init::dirac(1).with_layout(Layout::KernelInOut), &[3, 2, 2]);
        assert_eq!(last, [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let d = Init::dirac(1).distribution(&[2, 2, 3]).unwrap();
        assert!(
            (d.mean() - 1.0 / 6.0).abs() < 1e-15 && (d.mean_square() - 1.0 / 6.0).abs() < 1e-15
        );
    }

    #[test]
    fn a_delta_kernel_is_a_matrix_at_the_centre() {
        let w = drawn(Init::delta_orthogonal(2.0), &[3, 2, 3, 2]);
        let at = |o: usize, i: usize, tap: usize| w[(o * 2 + i) * 6 + tap];
        for (a, b) in [(0, 0), (0, 1), (1, 1)] {
            let dot: f64 = (0..3).map(|o| at(o, a, 2) * at(o, b, 2)).sum();
            assert!((dot - if a == b { 4.0 } else { 0.0 }).abs() < 1e-12);
        }
        assert_eq!(w.iter().filter(|&&x| x != 0.0).count(), 6);
    }

    #[test]
    fn orthogonal_matrices_follow_the_layout() {
        let rows_cols = |layout| match Init::orthogonal(1.0)
            .with_layout(layout)
            .distribution(&[2, 3, 4])
            .unwrap()
        {
            Distribution::Orthogonal { rows, cols, .. } => (rows, cols),
            other => panic!("{other:?}"),
        };
        assert_eq!(rows_cols(Layout::OutIn), (2, 12));
        assert_eq!(rows_cols(Layout::KernelInOut), (6, 4));
    }

    #[test]
    fn factors_multiply_every_scheme() {
        let half = |init: Init, shape: &[usize]| {
            let want: Vec<f64> = drawn(init, shape).iter().map(|x| x / 2.0).collect();
            assert_eq!(drawn(init.times(0.5), shape), want, "{init:?}");
        };
        for init in [
            Init::uniform(1.0, 3.0),
            Init::normal(1.0, 3.0),
            Init::trunc_normal(1.0, 1.0, 0.0, 9.0),
            Init::xavier_normal(1.0),
            Init::sparse(0.5, 1.0),
            Init::identity(),
        ] {
            half(init, &[4, 3]);
        }
        assert_eq!(drawn(Init::normal(0.0, 1.0).times(0.0), &[2]), [0.0; 2]);
    }

    #[test]
    fn spectral_scaling_bounds_the_largest_singular_value() {
        // A normal n x n matrix with deviation s has spectral norm 2 s sqrt(n).
        let spectral = Init::variance_scaling(1.0, FanMode::Spectral, Spread::Normal);
        let std = |shape: &[usize]| spectral.distribution(shape).unwrap().std();
        assert_eq!(std(&[64, 16]), 0.25);
        assert_eq!(std(&[16, 64]), 0.0625);
    }

    #[test]
    fn both_truncated_normals_are_told_apart() {
        let torch = Init::trunc_normal(0.0, 0.02, -2.0, 2.0).distribution(&[1]).unwrap();
        let keras = Init::trunc_normal_corrected(0.0, 0.02).distribution(&[1]).unwrap();
        assert!((torch.std() - 0.02).abs() < 1e-15 && (keras.std() - 0.02).abs() < 1e-15);
        let Distribution::TruncNormal { high, .. } = keras else { panic!("{keras:?}") };
        assert!((high - 0.045_473_889_373_542_256).abs() < 1e-12, "{high}");
        assert_eq!(drawn(Init::trunc_normal_corrected(3.0, 0.0), &[2]), [3.0; 2]);
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
        fn check<T: FloatElement>(init: Init) {
            let shape = [90, 3];
            let mut narrow = vec![T::zero(); 270];
            init.fill(42, "fc.weight", &shape, &mut narrow).unwrap();
            let wide = drawn(init, &shape);
            assert!(wide.iter().zip(&narrow).all(|(&x, &y)| T::from_f64(x) == y), "{init:?}");
        }
        for init in [
            Init::normal(0.0, 0.3),
            Init::normal(0.1, 0.3),
            Init::torch_linear(),
            Init::lecun_normal(),
            Init::orthogonal(0.7),
        ] {
            check::<f32>(init);
            check::<f16>(init);
            check::<bf16>(init);
        }
    }
}
