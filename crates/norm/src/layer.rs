//! Layer normalization.

use gradus_autograd::{DType, Layer, Param, ParamKind, Tensor, Var, module};
use gradus_tensor::{Real, kernel, par, with_real};

use crate::{NormError, error::check_eps, lanes};

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` over the last dimensions, with the biased variance.
///
/// # Shapes
/// `x` `[.., normalized_shape]`, `weight` and `bias` `normalized_shape`, result as `x`.
///
/// # Panics
/// When the last dimensions of `x` are not `normalized_shape`, or a parameter has another shape.
///
/// # References
/// Ba, Kiros, Hinton: Layer normalization (2016), arXiv:1607.06450.
#[must_use]
#[track_caller]
pub fn layer_norm(
    x: &Var,
    normalized_shape: &[usize],
    weight: Option<&Var>,
    bias: Option<&Var>,
    eps: f64,
) -> Var {
    assert!(
        x.shape().ends_with(normalized_shape),
        "layer_norm: input of shape {:?}, normalized shape {normalized_shape:?}",
        x.shape()
    );
    for p in [weight, bias].into_iter().flatten() {
        assert_eq!(
            p.shape(),
            normalized_shape,
            "layer_norm: shapes of a parameter and the normalized dimensions"
        );
    }
    with_real!("layer_norm", x.dtype(), T => run::<T>(x, normalized_shape, weight, bias, eps))
}

fn run<T: Real>(
    x: &Var,
    normalized_shape: &[usize],
    weight: Option<&Var>,
    bias: Option<&Var>,
    eps: f64,
) -> Var {
    let dense = x.value().contiguous();
    let w = weight.map(|w| w.value().contiguous());
    let b = bias.map(|b| b.value().contiguous());
    let width: usize = normalized_shape.iter().product();
    let rows = dense.numel().checked_div(width).unwrap_or(0);
    let ns = width as f64 * 0.3;
    // Mean and reciprocal deviation of each row, side by side.
    let mut stats = Tensor::zeros(&[rows, 2], T::DTYPE);
    par::for_each_mut(stats.make_mut::<T>(), 2, ns, |row, s| {
        moments(&dense.as_slice::<T>()[row * width..], width, T::lit(eps), s);
    });
    let y = Tensor::build::<T>(dense.shape(), |y| {
        let (x, s) = (dense.as_slice::<T>(), stats.as_slice::<T>());
        let (w, b) = (slice::<T>(&w), slice::<T>(&b));
        par::for_each_mut(y, width, ns, |row, y| {
            forward(&x[row * width..], &s[2 * row..], w, b, width, y)
        });
    });
    let inputs: Vec<&Var> = [Some(x), weight, bias].into_iter().flatten().collect();
    let weight_at = weight.map(|_| 1);
    let bias_at = bias.map(|_| inputs.len() - 1);
    let shape = normalized_shape.to_vec();
    Var::op("layer_norm", &inputs, y, move |g, sink| {
        let g = g.contiguous();
        let (dy, x, s) = (g.as_slice::<T>(), dense.as_slice::<T>(), stats.as_slice::<T>());
        let wanted = [weight_at, bias_at].map(|at| at.filter(|&i| sink.needs(i)));
        if wanted.iter().any(Option::is_some) {
            let (dw, db) = parameter_gradients::<T>(dy, x, s, width, ns);
            for (at, grad) in wanted.into_iter().zip([dw, db]) {
                if let Some(at) = at {
                    sink.add(at, Tensor::from_slice(&grad, &shape));
                }
            }
        }
        if sink.needs(0) {
            let w = slice::<T>(&w);
            let dx = Tensor::build::<T>(dense.shape(), |dx| {
                par::for_each_mut(dx, width, ns * 2.0, |row, dx| {
                    backward(&dy[row * width..], &x[row * width..], &s[2 * row..], w, width, dx);
                });
            });
            sink.add(0, dx);
        }
    })
}

fn slice<T: Real>(t: &Option<Tensor>) -> Option<&[T]> {
    t.as_ref().map(|t| t.as_slice())
}

/// Rows whose sums one piece of work adds up: fixed, so that threads do not change the order.
const BLOCK_ROWS: usize = 64;

/// Gradients of weight and bias: sums over all rows, block by block.
fn parameter_gradients<T: Real>(
    dy: &[T],
    x: &[T],
    stats: &[T],
    width: usize,
    ns: f64,
) -> (Vec<T>, Vec<T>) {
    let rows = stats.len() / 2;
    let blocks = par::map(rows.div_ceil(BLOCK_ROWS), ns * BLOCK_ROWS as f64, |block| {
        let (first, last) = (block * BLOCK_ROWS, ((block + 1) * BLOCK_ROWS).min(rows));
        let (mut dw, mut db) = (vec![T::ZERO; width], vec![T::ZERO; width]);
        let r = first * width..last * width;
        sum_rows(&dy[r.clone()], &x[r], &stats[2 * first..2 * last], &mut dw, &mut db);
        (dw, db)
    });
    let mut total = (vec![T::ZERO; width], vec![T::ZERO; width]);
    for (dw, db) in blocks {
        for (t, v) in total.0.iter_mut().zip(dw).chain(total.1.iter_mut().zip(db)) {
            *t += v;
        }
    }
    total
}

kernel! {
    /// Mean and reciprocal standard deviation of rows.
    fn moments['a, T: Real]['a, T](x: &'a [T], width: usize, eps: T, stats: &'a mut [T]) -> () {
        let n = T::lit(width as f64);
        for (x, s) in x.chunks_exact(width).zip(stats.chunks_exact_mut(2)) {
            let mean = lanes::sum(x, |x| x) / n;
            let var = lanes::sum(x, |x| (x - mean) * (x - mean)) / n;
            s[0] = mean;
            s[1] = T::ONE / (var + eps).sqrt();
        }
    }
}

kernel! {
    fn forward['a, T: Real]['a, T](
        x: &'a [T], stats: &'a [T], w: Option<&'a [T]>, b: Option<&'a [T]>, width: usize, y: &'a mut [T],
    ) -> () {
        for ((x, s), y) in x.chunks_exact(width).zip(stats.chunks_exact(2)).zip(y.chunks_exact_mut(width)) {
            let (mean, rstd) = (s[0], s[1]);
            match (w, b) {
                (Some(w), Some(b)) => {
                    for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(w).zip(b) {
                        *y = (x - mean) * rstd * w + b;
                    }
                }
                _ => {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = (x - mean) * rstd;
                    }
                    for (y, &w) in y.iter_mut().zip(w.unwrap_or_default()) {
                        *y *= w;
                    }
                    for (y, &b) in y.iter_mut().zip(b.unwrap_or_default()) {
                        *y += b;
                    }
                }
            }
        }
    }
}

kernel! {
    /// `dx = rstd (g - mean(g) - xhat mean(g xhat))` with `g = dy w`.
    fn backward['a, T: Real]['a, T](
        dy: &'a [T], x: &'a [T], stats: &'a [T], w: Option<&'a [T]>, width: usize, dx: &'a mut [T],
    ) -> () {
        let n = T::lit(width as f64);
        let rows = dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(stats.chunks_exact(2));
        for (((dy, x), s), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            let (mean, rstd) = (s[0], s[1]);
            match w {
                Some(w) => {
                    for ((d, &g), &w) in dx.iter_mut().zip(dy).zip(w) {
                        *d = g * w;
                    }
                }
                None => dx.copy_from_slice(dy),
            }
            let (sum, dot) = lanes::sum2(dx, x, |g, x| (g, g * ((x - mean) * rstd)));
            let (sum, dot) = (sum / n, dot / n);
            for (d, &x) in dx.iter_mut().zip(x) {
                *d = rstd * (*d - sum - (x - mean) * rstd * dot);
            }
        }
    }
}

kernel! {
    fn sum_rows['a, T: Real]['a, T](dy: &'a [T], x: &'a [T], stats: &'a [T], dw: &'a mut [T], db: &'a mut [T]) -> () {
        let width = dw.len();
        let rows = dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(stats.chunks_exact(2));
        for ((dy, x), s) in rows {
            let (mean, rstd) = (s[0], s[1]);
            for (((dw, db), &g), &x) in dw.iter_mut().zip(db.iter_mut()).zip(dy).zip(x) {
                *dw += g * ((x - mean) * rstd);
                *db += g;
            }
        }
    }
}

/// Layer normalization with a learned scale and shift.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Option<Param>,
    bias: Option<Param>,
    normalized_shape: Vec<usize>,
    eps: f64,
}
module!(LayerNorm { weight, bias });

impl LayerNorm {
    /// Normalizes the last `normalized_shape.len()` dimensions; eps 1e-5, weight ones, bias zeros, in f32.
    #[must_use]
    pub fn new(normalized_shape: &[usize]) -> Self {
        let param = |value| {
            Some(Param::new(Tensor::full(normalized_shape, value, DType::F32), ParamKind::Norm))
        };
        Self {
            weight: param(1.0),
            bias: param(0.0),
            normalized_shape: normalized_shape.to_vec(),
            eps: 1e-5,
        }
    }

    /// Without scale and shift.
    #[must_use]
    pub fn without_affine(mut self) -> Self {
        (self.weight, self.bias) = (None, None);
        self
    }

    /// Without the shift.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    /// Another eps, which stands inside the root.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] when it is negative or not finite.
    pub fn with_eps(mut self, eps: f64) -> Result<Self, NormError> {
        self.eps = check_eps(eps)?;
        Ok(self)
    }
}

impl Layer for LayerNorm {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        let watch = |p: &Option<Param>| p.as_ref().map(|p| x.tape().watch(p));
        let (w, b) = (watch(&self.weight), watch(&self.bias));
        layer_norm(x, &self.normalized_shape, w.as_ref(), b.as_ref(), self.eps)
    }
}
