//! Dynamic tanh.

use gradus_autograd::{Layer, Param, Tensor, Var, module};
use gradus_tensor::{Real, Stored, kernel, par, with_real};

use crate::{NormError, affine::param, lanes, rows};

/// `y = tanh(alpha x) * weight + bias`: what a trained layer norm does to most of its inputs, without statistics.
///
/// 16-bit inputs are computed in f32 and rounded once; the parameters may be f32 then.
///
/// # Shapes
/// `x` `[.., shape of weight]`, `alpha` one element, `bias` as `weight`, result as `x`.
///
/// # Panics
/// When the shapes do not fit.
///
/// # References
/// Zhu, Chen, He, LeCun, Liu: Transformers without normalization (2025), arXiv:2503.10622.
#[must_use]
#[track_caller]
pub fn dyt(x: &Var, alpha: &Var, weight: &Var, bias: &Var) -> Var {
    assert!(alpha.value().numel() == 1, "dyt: alpha of shape {:?} is no scalar", alpha.shape());
    assert_eq!(weight.shape(), bias.shape(), "dyt: shapes of weight and bias");
    assert!(
        x.shape().ends_with(weight.shape()),
        "dyt: input of shape {:?}, weight of shape {:?}",
        x.shape(),
        weight.shape()
    );
    with_real!("dyt", x.dtype().compute(), T => run::<T>([x, alpha, weight, bias]))
}

fn run<T: Real + Stored<Compute = T>>(inputs: [&Var; 4]) -> Var {
    let [x, alpha, weight, bias] = inputs;
    let input = x.value().contiguous();
    let [w, b] = [weight, bias].map(|p| p.value().to_dtype(T::DTYPE).contiguous());
    let a = T::lit(alpha.item());
    let width = w.numel();
    let y = Tensor::build::<T>(input.shape(), |y| {
        let x = input.to_dtype(T::DTYPE);
        let (x, w, b) = (x.as_slice::<T>(), w.as_slice(), b.as_slice());
        par::for_each_mut(y, width, width as f64, |row, y| forward(&x[row * width..], a, w, b, y));
    });
    let dtypes = inputs.map(Var::dtype);
    let (alpha_shape, shape) = (alpha.shape().to_vec(), weight.shape().to_vec());
    Var::op("dyt", &inputs, y.to_dtype(dtypes[0]), move |dy, sink| {
        let (dy, x) = (dy.contiguous().to_dtype(T::DTYPE), input.to_dtype(T::DTYPE));
        let (dy, x, w) = (dy.as_slice::<T>(), x.as_slice::<T>(), w.as_slice::<T>());
        let rows = x.len().checked_div(width).unwrap_or(0);
        let (ns, sums) = (1.5 * width as f64, 1 + 2 * width);
        // The parameters' sums need all that dx needs: it is computed whether wanted or not.
        let (dx, sums) =
            rows::by_blocks(Some(input.shape()), rows, width, sums, ns, |rows, dx, sums| {
                let at = rows.start * width;
                backward(&dy[at..], &x[at..], a, w, dx, sums);
            });
        let (dw, db) = sums[1..].split_at(width);
        if let Some(dx) = dx {
            sink.add(0, dx.to_dtype(dtypes[0]));
        }
        for (at, (grad, shape)) in
            [(&sums[..1], &alpha_shape), (dw, &shape), (db, &shape)].into_iter().enumerate()
        {
            sink.add(at + 1, Tensor::from_slice(grad, shape).to_dtype(dtypes[at + 1]));
        }
    })
}

kernel! {
    fn forward['a, T: Real]['a, T](x: &'a [T], a: T, w: &'a [T], b: &'a [T], y: &'a mut [T]) -> () {
        for (x, y) in x.chunks_exact(w.len()).zip(y.chunks_exact_mut(w.len())) {
            for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(w).zip(b) {
                *y = (a * x).tanh_() * w + b;
            }
        }
    }
}

kernel! {
    /// With `t = tanh(a x)`: `dx = a dy w (1 - t^2)`; `sums` are those of `alpha`, `dy w (1 - t^2) x`, of the weight,
    /// `dy t`, and of the bias, `dy`.
    fn backward['a, T: Real]['a, T](
        dy: &'a [T], x: &'a [T], a: T, w: &'a [T], dx: &'a mut [T], sums: &'a mut [T],
    ) -> () {
        let width = w.len();
        let (da, sums) = sums.split_at_mut(1);
        let (dw, db) = sums.split_at_mut(width);
        let rows = dy.chunks_exact(width).zip(x.chunks_exact(width));
        for ((dy, x), dx) in rows.zip(dx.chunks_exact_mut(width)) {
            for ((d, &x), (dw, &g)) in dx.iter_mut().zip(x).zip(dw.iter_mut().zip(dy)) {
                let t = (a * x).tanh_();
                *d = T::ONE - t * t;
                *dw += g * t;
            }
            for ((d, db), (&g, &w)) in dx.iter_mut().zip(db.iter_mut()).zip(dy.iter().zip(w)) {
                *d *= g * w;
                *db += g;
            }
            da[0] += lanes::sum2(dx, x, |d, x| (d * x, T::ZERO)).0;
            for d in dx {
                *d *= a;
            }
        }
    }
}

/// Dynamic tanh with a learned steepness, scale and shift: [`dyt`] as a layer, to stand where a layer norm stood.
#[derive(Clone, Debug)]
pub struct DyT {
    alpha: Param,
    weight: Param,
    bias: Param,
}
module!(DyT { alpha, weight, bias });

impl DyT {
    /// For last dimensions `normalized_shape`; alpha starts at 0.5, weight ones, bias zeros, in f32.
    #[must_use]
    pub fn new(normalized_shape: &[usize]) -> Self {
        Self::build(normalized_shape, 0.5)
    }

    /// As [`new`](Self::new), with another start of `alpha`: smaller ones make wide language models train stably.
    ///
    /// # Errors
    /// [`NormError::OutOfRange`] when it is not finite.
    pub fn with_alpha(normalized_shape: &[usize], alpha: f64) -> Result<Self, NormError> {
        if alpha.is_finite() {
            Ok(Self::build(normalized_shape, alpha))
        } else {
            Err(NormError::OutOfRange { name: "alpha", value: alpha, range: "(-inf, inf)" })
        }
    }

    fn build(normalized_shape: &[usize], alpha: f64) -> Self {
        Self {
            alpha: param(&[1], alpha),
            weight: param(normalized_shape, 1.0),
            bias: param(normalized_shape, 0.0),
        }
    }
}

impl Layer for DyT {
    /// # Panics
    /// When the last dimensions of `x` are not those of this layer.
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        let [alpha, weight, bias] =
            [&self.alpha, &self.weight, &self.bias].map(|p| x.tape().watch(p));
        dyt(x, &alpha, &weight, &bias)
    }
}
