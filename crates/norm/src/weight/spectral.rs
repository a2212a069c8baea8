use gradus_autograd::{Buffer, Param, ParamKind, RngStream, Tape, Tensor, Var, module};
use gradus_tensor::{Real, with_real};

use super::rows::{Rows, build_rows, combined, dot, row, scaled};
use crate::{NormError, batch::reciprocal, error::check_eps};

/// `weight / sigma` with `sigma = u . (W v)`, where `W` is the weight with `dim` in front and all else flattened: its
/// largest singular value, as near as the unit vectors `u` and `v` are to those that belong to it.
///
/// `u` and `v` are constants; gradients flow through the weight and through `sigma`. Where `sigma` is 0 the result is 0,
/// without a gradient. Weights in f16 and bf16 are computed in f32.
///
/// # Shapes
/// `weight` any with at least two dimensions, `u` `[rows of W]`, `v` `[columns of W]`; result as `weight`.
///
/// # Panics
/// When `weight` has fewer than two dimensions or no dimension `dim`, or `u` or `v` another size.
///
/// # References
/// Miyato et al.: Spectral normalization for generative adversarial networks (2018), arXiv:1802.05957.
#[must_use]
#[track_caller]
pub fn spectral_norm(weight: &Var, u: &Tensor, v: &Tensor, dim: isize) -> Var {
    let rows = matrix_rows("spectral_norm", weight.shape(), dim);
    check_vectors("spectral_norm", &rows, u, v);
    let compute = weight.dtype().compute();
    let (u, v) = (u.to_dtype(compute).contiguous(), v.to_dtype(compute).contiguous());
    with_real!("spectral_norm", compute, T => run::<T>(weight, u, v, rows))
}

#[track_caller]
fn matrix_rows(op: &str, shape: &[usize], dim: isize) -> Rows {
    assert!(shape.len() >= 2, "{op}: a weight of shape {shape:?} is no matrix");
    Rows::of(op, shape, Some(dim))
}

#[track_caller]
fn check_vectors(op: &str, rows: &Rows, u: &Tensor, v: &Tensor) {
    assert_eq!(u.shape(), [rows.rows], "{op}: u for a matrix of {} rows", rows.rows);
    assert_eq!(v.shape(), [rows.width], "{op}: v for a matrix of {} columns", rows.width);
}

#[track_caller]
fn run<T: Real>(weight: &Var, u: Tensor, v: Tensor, rows: Rows) -> Var {
    let dtype = weight.dtype();
    let matrix = rows.matrix(weight.value(), T::DTYPE);
    let wide: Vec<f64> = u.as_slice::<T>().iter().map(|u| (*u).to_f64()).collect();
    let along_v = |m: &Tensor, i| dot::<T>(row(m, i), v.as_slice());
    let sigma: f64 = (0..rows.rows).map(|i| wide[i] * along_v(&matrix, i)).sum();
    let inverse = reciprocal(sigma);
    let y = build_rows::<T>(&rows, |i, y| scaled(T::lit(inverse), row(&matrix, i), y));
    Var::op("spectral_norm", &[weight], rows.weight(&y, dtype), move |dy, sink| {
        let dy = rows.matrix(&dy, T::DTYPE);
        // d sigma = u v^T, so dW = dy / sigma - (dy . W) / sigma^2 u v^T.
        let along: f64 = (0..rows.rows).map(|i| dot::<T>(row(&dy, i), row(&matrix, i))).sum();
        let back = -along * inverse * inverse;
        let dw = build_rows::<T>(&rows, |i, dw| {
            combined(T::lit(inverse), row(&dy, i), T::lit(back * wide[i]), v.as_slice(), dw);
        });
        sink.add(0, rows.weight(&dw, dtype));
    })
}

/// `n` rounds of power iteration: `u = W v / |W v|`, then `v = W^T u / |W^T u|`, lengths being `eps` at least. Returns
/// `u` and `v`, in their types. A product of nothing but zeros leaves its vector as it was.
///
/// # Panics
/// As [`spectral_norm`].
#[must_use]
#[track_caller]
pub fn power_iteration(
    weight: &Tensor,
    u: &Tensor,
    v: &Tensor,
    dim: isize,
    n: usize,
    eps: f64,
) -> (Tensor, Tensor) {
    let rows = matrix_rows("power_iteration", weight.shape(), dim);
    check_vectors("power_iteration", &rows, u, v);
    let compute = weight.dtype().compute();
    let matrix = rows.matrix(weight, compute);
    let transposed = matrix.transpose(0, 1);
    let (mut wide_u, mut wide_v) = (u.to_dtype(compute), v.to_dtype(compute));
    for _ in 0..n {
        wide_u = unit(&matrix.matmul(&wide_v), eps).unwrap_or(wide_u);
        wide_v = unit(&transposed.matmul(&wide_u), eps).unwrap_or(wide_v);
    }
    (wide_u.to_dtype(u.dtype()), wide_v.to_dtype(v.dtype()))
}

/// `x / max(|x|, eps)`, unless `x` is 0.
fn unit(x: &Tensor, eps: f64) -> Option<Tensor> {
    let norm =
        with_real!("power_iteration", x.dtype(), T => dot::<T>(x.as_slice(), x.as_slice()).sqrt());
    (norm != 0.0).then(|| x.affine(1.0 / norm.max(eps), 0.0))
}

/// `w / max(|w|, eps)`: what the spectral norm of a vector is. Differentiable.
#[track_caller]
fn vector_norm(weight: &Var, eps: f64) -> Var {
    let compute = weight.dtype().compute();
    with_real!("spectral_norm", compute, T => {
        let dtype = weight.dtype();
        let rows = Rows::of("spectral_norm", weight.shape(), None);
        let w = rows.matrix(weight.value(), compute);
        let norm = dot::<T>(row(&w, 0), row(&w, 0)).sqrt();
        let inverse = reciprocal(norm.max(eps));
        let y = build_rows::<T>(&rows, |_, y| scaled(T::lit(inverse), row(&w, 0), y));
        Var::op("spectral_norm", &[weight], rows.weight(&y, dtype), move |dy, sink| {
            let dy = rows.matrix(&dy, compute);
            // Below eps the length is a constant.
            let along = if norm >= eps { dot::<T>(row(&dy, 0), row(&w, 0)) } else { 0.0 };
            let back = T::lit(-along * inverse * inverse * inverse);
            let dw = build_rows::<T>(&rows, |_, dw| combined(T::lit(inverse), row(&dy, 0), back, row(&w, 0), dw));
            sink.add(0, rows.weight(&dw, dtype));
        })
    })
}

/// Options of a [`SpectralNorm`]; the defaults are PyTorch's.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct SpectralNormConfig {
    /// Rounds of power iteration each time the weight is used in training; 1.
    pub n_power_iterations: usize,
    /// The dimension of the outputs; 0. It is 1 in a transposed convolution.
    pub dim: isize,
    /// The least length that a vector is divided by; 1e-12.
    pub eps: f64,
}

impl Default for SpectralNormConfig {
    fn default() -> Self {
        Self { n_power_iterations: 1, dim: 0, eps: 1e-12 }
    }
}

impl SpectralNormConfig {
    /// With this many rounds of power iteration.
    #[must_use]
    pub fn with_n_power_iterations(mut self, n: usize) -> Self {
        self.n_power_iterations = n;
        self
    }

    /// With the outputs along this dimension.
    #[must_use]
    pub fn with_dim(mut self, dim: isize) -> Self {
        self.dim = dim;
        self
    }

    /// With this eps.
    #[must_use]
    pub fn with_eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }
}

/// A weight that is divided by its largest singular value (see [`spectral_norm`]), which a few rounds of power iteration
/// follow from step to step: on a training tape each use of the weight moves `u` and `v` first, on any other they stay.
///
/// A weight of one dimension is divided by its length instead, and has no `u` and `v`.
///
/// ```
/// use gradus_autograd::{Tape, Tensor};
/// use gradus_norm::SpectralNorm;
///
/// let layer = SpectralNorm::new(Tensor::from_slice(&[2f32, 0.0, 0.0, 1.0], &[2, 2]), 7);
/// let w = layer.weight(&Tape::evaluation()).into_value().to_vec::<f32>();
/// assert!((w[0] - 1.0).abs() < 1e-6 && (w[3] - 0.5).abs() < 1e-6);
/// ```
#[derive(Clone, Debug)]
pub struct SpectralNorm {
    weight: Param,
    u: Option<Buffer>,
    v: Option<Buffer>,
    config: SpectralNormConfig,
}
module!(SpectralNorm { weight, u, v });

/// Rounds of power iteration at the start, as in PyTorch.
const FIRST_ROUNDS: usize = 15;

impl SpectralNorm {
    /// With PyTorch's defaults: outputs along dimension 0, one round of power iteration a step.
    ///
    /// `u` and `v` are drawn from `seed` and brought near by 15 rounds: element `i` of `u` is
    /// `sqrt(-2 ln(1 - a)) cos(2 pi b)` of the uniform numbers `a` and `b` at `2 i` and `2 i + 1` of the stream
    /// `RngStream::new(seed, 0, 0)`, and `v` is the same of `RngStream::new(seed, 0, 1)`.
    ///
    /// # Panics
    /// When `weight` has no dimension or holds integers.
    #[must_use]
    #[track_caller]
    pub fn new(weight: Tensor, seed: u64) -> Self {
        Self::build(weight, SpectralNormConfig::default(), seed)
    }

    /// With options.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] for no rounds of power iteration, or an eps that is negative or not finite.
    ///
    /// # Panics
    /// When `weight` has no dimension `dim` or holds integers.
    #[track_caller]
    pub fn with_config(
        weight: Tensor,
        config: SpectralNormConfig,
        seed: u64,
    ) -> Result<Self, NormError> {
        check_eps(config.eps)?;
        if config.n_power_iterations == 0 {
            let (name, range) = ("n_power_iterations", "[1, inf)");
            return Err(NormError::OutOfRange { name, value: 0.0, range });
        }
        Ok(Self::build(weight, config, seed))
    }

    #[track_caller]
    fn build(weight: Tensor, config: SpectralNormConfig, seed: u64) -> Self {
        let rows = Rows::of("SpectralNorm", weight.shape(), Some(config.dim));
        let dtype = weight.dtype().compute();
        let param = |weight| Param::new(weight, ParamKind::Weight);
        if weight.ndim() == 1 {
            return Self { weight: param(weight), u: None, v: None, config };
        }
        let draw = |op, n| {
            let x = normals(&RngStream::new(seed, 0, op), n).to_dtype(dtype);
            unit(&x, config.eps).unwrap_or(x)
        };
        let (u, v) = (draw(0, rows.rows), draw(1, rows.width));
        let (u, v) = power_iteration(&weight, &u, &v, config.dim, FIRST_ROUNDS, config.eps);
        let buffer = |x: Tensor| Some(Buffer::new(x.to_dtype(weight.dtype())));
        Self { u: buffer(u), v: buffer(v), weight: param(weight), config }
    }

    /// The weight divided by its norm, on a tape. A training tape moves `u` and `v` first.
    #[must_use]
    #[track_caller]
    pub fn weight(&self, tape: &Tape) -> Var {
        let weight = tape.watch(&self.weight);
        let SpectralNormConfig { n_power_iterations, dim, eps } = self.config;
        let (Some(u), Some(v)) = (&self.u, &self.v) else {
            return vector_norm(&weight, eps);
        };
        if tape.is_training() {
            let (next_u, next_v) =
                power_iteration(weight.value(), &u.get(), &v.get(), dim, n_power_iterations, eps);
            u.set(next_u);
            v.set(next_v);
        }
        spectral_norm(&weight, &u.get(), &v.get(), dim)
    }
}

/// The first `n` standard normal numbers of a stream (Box, Muller 1958).
fn normals(stream: &RngStream, n: usize) -> Tensor {
    let normal = |i: u64| {
        let (a, b) = (stream.uniform(2 * i), stream.uniform(2 * i + 1));
        (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    };
    Tensor::from_slice(&(0..n as u64).map(normal).collect::<Vec<_>>(), &[n])
}
