//! Group normalization.

use gradus_autograd::{Layer, Param, Var, module};

use crate::{
    NormError,
    affine::{param, watch},
    error::check_eps,
    planes,
};

/// `y = (x - mean) / sqrt(var + eps) * weight + bias`, with the mean and biased variance of each sample and group of
/// neighbouring channels.
///
/// One group is layer norm over all but the first dimension (with a scale per channel), as many groups as channels is
/// instance norm. 16-bit inputs are normalized in f32 and rounded once; the parameters may be f32 then.
///
/// # Shapes
/// `x` `[N, C, ...]`, `weight` and `bias` `[C]`, result as `x`. `N` may be 0.
///
/// # Errors
/// [`NormError::Groups`] when the channels do not divide into `num_groups` equal parts,
/// [`NormError::BatchTooSmall`] when there is but one value in all of a group's samples or none in a sample (as
/// PyTorch), [`NormError::OutOfRange`] for an eps that is negative or not finite.
///
/// # Panics
/// When `x` has fewer than two dimensions or a parameter another shape.
///
/// # References
/// Wu, He: Group normalization (2018), arXiv:1803.08494.
#[track_caller]
pub fn group_norm(
    x: &Var,
    num_groups: usize,
    weight: Option<&Var>,
    bias: Option<&Var>,
    eps: f64,
) -> Result<Var, NormError> {
    let shape = x.shape();
    assert!(shape.len() >= 2, "group_norm: expected [N, C, ...], got shape {shape:?}");
    check_eps(eps)?;
    check_groups(num_groups, shape[1])?;
    let of_sample = shape[1] / num_groups * shape[2..].iter().product::<usize>();
    if of_sample == 0 || shape[0] * of_sample == 1 {
        return Err(NormError::BatchTooSmall { shape: shape.to_vec() });
    }
    Ok(planes::normalize("group_norm", x, num_groups, weight, bias, eps).0)
}

fn check_groups(groups: usize, channels: usize) -> Result<(), NormError> {
    if groups > 0 && channels.is_multiple_of(groups) {
        Ok(())
    } else {
        Err(NormError::Groups { groups, channels })
    }
}

/// Options of a [`GroupNorm`] layer; the defaults are PyTorch's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GroupNormConfig {
    /// Added to the variance inside the root; 1e-5.
    pub eps: f64,
    /// Whether there is a learned scale and shift of each channel; yes.
    pub affine: bool,
}

impl Default for GroupNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, affine: true }
    }
}

impl GroupNormConfig {
    /// With this eps.
    #[must_use]
    pub fn with_eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// With or without scale and shift.
    #[must_use]
    pub fn with_affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }
}

/// Group normalization of `[N, C, ...]`: [`group_norm`] as a layer. It is the same in training and evaluation.
///
/// ```
/// use gradus_autograd::{DType, Layer, Tape, Tensor};
/// use gradus_norm::GroupNorm;
///
/// let norm = GroupNorm::new(2, 6)?;
/// let x = Tape::evaluation().constant(Tensor::ones(&[4, 6, 8, 8], DType::F32));
/// assert_eq!(norm.forward(&x).shape(), [4, 6, 8, 8]);
/// assert_eq!(GroupNorm::new(4, 6).unwrap_err().to_string(), "6 channels do not divide into 4 groups");
/// # Ok::<(), gradus_norm::NormError>(())
/// ```
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Option<Param>,
    bias: Option<Param>,
    num_groups: usize,
    channels: usize,
    eps: f64,
}
module!(GroupNorm { weight, bias });

impl GroupNorm {
    /// `num_groups` groups of `channels` channels; eps 1e-5, weight ones, bias zeros, in f32.
    ///
    /// # Errors
    /// [`NormError::Groups`] when the channels do not divide into groups.
    pub fn new(num_groups: usize, channels: usize) -> Result<Self, NormError> {
        Self::with_config(num_groups, channels, GroupNormConfig::default())
    }

    /// As [`new`](Self::new), with options.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`NormError::OutOfRange`] for an eps that is negative or not finite.
    pub fn with_config(
        num_groups: usize,
        channels: usize,
        config: GroupNormConfig,
    ) -> Result<Self, NormError> {
        check_groups(num_groups, channels)?;
        check_eps(config.eps)?;
        let param = |value| config.affine.then(|| param(&[channels], value));
        Ok(Self { weight: param(1.0), bias: param(0.0), num_groups, channels, eps: config.eps })
    }

    /// As [`forward`](Layer::forward), with an error where that panics over the size of the input.
    ///
    /// # Errors
    /// [`NormError::BatchTooSmall`], see [`group_norm`].
    ///
    /// # Panics
    /// When `x` is not `[N, C, ...]` with this layer's number of channels.
    #[track_caller]
    pub fn try_forward(&self, x: &Var) -> Result<Var, NormError> {
        assert_eq!(
            x.shape().get(1),
            Some(&self.channels),
            "GroupNorm: channels of an input of shape {:?} (left) and of the layer",
            x.shape()
        );
        let (w, b) = (watch(x, &self.weight), watch(x, &self.bias));
        group_norm(x, self.num_groups, w.as_ref(), b.as_ref(), self.eps)
    }
}

impl Layer for GroupNorm {
    /// # Panics
    /// When `x` is not `[N, C, ...]` with this layer's number of channels, or too small (see [`group_norm`]).
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        match self.try_forward(x) {
            Ok(y) => y,
            Err(e) => panic!("group_norm: {e}"),
        }
    }
}
