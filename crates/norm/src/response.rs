//! Local response normalization.

use std::ops::Range;

use gradus_autograd::{Layer, Tensor, Var, module};
use gradus_tensor::{Real, kernel, par, with_real};

use crate::NormError;

/// Options of [`local_response_norm`]; the defaults are PyTorch's.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct LocalResponseNormConfig {
    /// Weight of the mean square of the neighbours; 1e-4.
    pub alpha: f64,
    /// The exponent; 0.75.
    pub beta: f64,
    /// What is added to the mean square; 1.
    pub k: f64,
}

impl Default for LocalResponseNormConfig {
    fn default() -> Self {
        Self { alpha: 1e-4, beta: 0.75, k: 1.0 }
    }
}

impl LocalResponseNormConfig {
    /// With this weight.
    #[must_use]
    pub fn with_alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// With this exponent.
    #[must_use]
    pub fn with_beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// With this constant.
    #[must_use]
    pub fn with_k(mut self, k: f64) -> Self {
        self.k = k;
        self
    }

    fn check(self, size: usize) -> Result<(), NormError> {
        let finite = |x: f64| x.is_finite();
        let checks = [
            ("size", size as f64, size > 0, "[1, inf)"),
            ("alpha", self.alpha, self.alpha >= 0.0 && finite(self.alpha), "[0, inf)"),
            ("beta", self.beta, self.beta >= 0.0 && finite(self.beta), "[0, inf)"),
            // With k = 0 silent neighbours would be divided by 0.
            ("k", self.k, self.k > 0.0 && finite(self.k), "(0, inf)"),
        ];
        match checks.into_iter().find(|check| !check.2) {
            Some((name, value, _, range)) => Err(NormError::OutOfRange { name, value, range }),
            None => Ok(()),
        }
    }
}

/// `y_c = x_c / (k + alpha / size * sum x_i^2)^beta` over `size` neighbouring channels i around c: from `c - size / 2`
/// to `c + (size - 1) / 2` (halves rounded down), as far as there are channels.
///
/// 16-bit inputs are computed in f32 and rounded once.
///
/// # Shapes
/// `x` `[N, C, ...]`; result as `x`. PyTorch wants a third dimension, this does not.
///
/// # Errors
/// [`NormError::OutOfRange`] for a size of 0, an `alpha` or `beta` that is negative or a `k` that is not positive.
///
/// # Panics
/// When `x` has fewer than two dimensions.
///
/// # References
/// Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks (2012).
#[track_caller]
pub fn local_response_norm(
    x: &Var,
    size: usize,
    config: LocalResponseNormConfig,
) -> Result<Var, NormError> {
    config.check(size)?;
    Ok(with_real!("local_response_norm", x.dtype().compute(), T => run::<T>(x, size, config)))
}

/// Planes of channels, and who is whose neighbour.
#[derive(Clone, Copy, Debug)]
struct Planes {
    channels: usize,
    spatial: usize,
    /// Neighbours before and after, as far as there are channels.
    before: usize,
    after: usize,
}

impl Planes {
    /// The neighbours of a plane, planes of the same sample.
    #[inline(always)]
    fn window(self, plane: usize) -> Range<usize> {
        let c = plane % self.channels;
        plane - c.min(self.before)..plane + 1 + self.after.min(self.channels - 1 - c)
    }

    /// Where the elements of a plane stand.
    #[inline(always)]
    fn at(self, plane: usize) -> Range<usize> {
        plane * self.spatial..(plane + 1) * self.spatial
    }

    /// Whose neighbour a plane is.
    fn mirrored(self) -> Self {
        Self { before: self.after, after: self.before, ..self }
    }
}

#[track_caller]
fn run<T: Real>(x: &Var, size: usize, config: LocalResponseNormConfig) -> Var {
    let shape = x.shape();
    assert!(shape.len() >= 2, "local_response_norm: expected [N, C, ...], got shape {shape:?}");
    let planes = Planes {
        channels: shape[1],
        spatial: shape[2..].iter().product(),
        before: size / 2,
        after: (size - 1) / 2,
    };
    let [k, alpha, beta] = [config.k, config.alpha / size as f64, config.beta].map(T::lit);
    let slope = T::lit(-2.0 * config.alpha * config.beta / size as f64);
    let ns = planes.spatial as f64 * (2.0 + 0.1 * size as f64);
    let input = x.value().contiguous();
    let count = input.numel().checked_div(planes.spatial).unwrap_or(0);
    let dtype = input.dtype();
    let mut sizes = Tensor::zeros(shape, T::DTYPE);
    let y = Tensor::build::<T>(shape, |y| {
        let x = input.to_dtype(T::DTYPE);
        let x = x.as_slice::<T>();
        let outs = [y, sizes.make_mut::<T>()];
        par::for_each_part(outs, count, par::piece(ns), ns, |plane, [y, d]| {
            forward(x, plane, planes, k, alpha, beta, d, y);
        });
    });
    Var::op("local_response_norm", &[x], y.to_dtype(dtype), move |dy, sink| {
        let (dy, x) = (dy.contiguous().to_dtype(T::DTYPE), input.to_dtype(T::DTYPE));
        let (dy, x, d) = (dy.as_slice::<T>(), x.as_slice::<T>(), sizes.as_slice::<T>());
        // What each channel passes on to the gradients of its neighbours.
        let passed = Tensor::build::<T>(input.shape(), |out| {
            par::for_each_mut(out, 1, 2.0, |i, out| pass(&dy[i..], &x[i..], &d[i..], beta, out));
        });
        let passed = passed.as_slice::<T>();
        let dx = Tensor::build::<T>(input.shape(), |dx| {
            par::for_each_mut(dx, planes.spatial, ns, |plane, dx| {
                backward(dy, x, d, passed, plane, planes.mirrored(), beta, slope, dx);
            });
        });
        sink.add(0, dx.to_dtype(dtype));
    })
}

/// `d^-beta` for `d > 0`.
#[inline(always)]
fn power<T: Real>(d: T, beta: T) -> T {
    (-beta * d.ln_()).exp_()
}

kernel! {
    /// `d = k + alpha sum x^2` and `y = x d^-beta`, from plane number `plane` on.
    fn forward['a, T: Real]['a, T](
        x: &'a [T], plane: usize, planes: Planes, k: T, alpha: T, beta: T, d: &'a mut [T], y: &'a mut [T],
    ) -> () {
        let outs = d.chunks_exact_mut(planes.spatial).zip(y.chunks_exact_mut(planes.spatial));
        for (i, (d, y)) in outs.enumerate() {
            d.fill(T::ZERO);
            for neighbour in planes.window(plane + i) {
                for (d, &x) in d.iter_mut().zip(&x[planes.at(neighbour)]) {
                    *d += x * x;
                }
            }
            for ((y, d), &x) in y.iter_mut().zip(d).zip(&x[planes.at(plane + i)]) {
                *d = k + alpha * *d;
                *y = x * power(*d, beta);
            }
        }
    }
}

kernel! {
    /// `out = dy x d^(-beta - 1)`.
    fn pass['a, T: Real]['a, T](dy: &'a [T], x: &'a [T], d: &'a [T], beta: T, out: &'a mut [T]) -> () {
        for (((out, &g), &x), &d) in out.iter_mut().zip(dy).zip(x).zip(d) {
            *out = g * x * (power(d, beta) / d);
        }
    }
}

kernel! {
    /// `dx = dy d^-beta + slope x sum passed`, from plane number `plane` on.
    fn backward['a, T: Real]['a, T](
        dy: &'a [T], x: &'a [T], d: &'a [T], passed: &'a [T], plane: usize, planes: Planes, beta: T, slope: T,
        dx: &'a mut [T],
    ) -> () {
        for (i, dx) in dx.chunks_exact_mut(planes.spatial).enumerate() {
            dx.fill(T::ZERO);
            for neighbour in planes.window(plane + i) {
                for (dx, &p) in dx.iter_mut().zip(&passed[planes.at(neighbour)]) {
                    *dx += p;
                }
            }
            let at = planes.at(plane + i);
            for (((dx, &g), &x), &d) in dx.iter_mut().zip(&dy[at.clone()]).zip(&x[at.clone()]).zip(&d[at]) {
                *dx = g * power(d, beta) + slope * x * *dx;
            }
        }
    }
}

/// [`local_response_norm`] as a layer.
#[derive(Clone, Copy, Debug)]
pub struct LocalResponseNorm {
    size: usize,
    config: LocalResponseNormConfig,
}
module!(LocalResponseNorm {});

impl LocalResponseNorm {
    /// Over `size` channels; alpha 1e-4, beta 0.75, k 1.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] for a size of 0.
    pub fn new(size: usize) -> Result<Self, NormError> {
        Self::with_config(size, LocalResponseNormConfig::default())
    }

    /// As [`new`](Self::new), with options.
    ///
    /// # Errors
    /// See [`local_response_norm`].
    pub fn with_config(size: usize, config: LocalResponseNormConfig) -> Result<Self, NormError> {
        config.check(size)?;
        Ok(Self { size, config })
    }
}

impl Layer for LocalResponseNorm {
    /// # Panics
    /// When `x` has fewer than two dimensions.
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        local_response_norm(x, self.size, self.config).expect("the options were checked")
    }
}
