use gradus_autograd::{DType, Param, ParamKind, Tape, Tensor, Var, module};
use gradus_tensor::{Real, with_real};

use super::rows::{Rows, build_rows, combined, dot, row, scaled};
use crate::{NormError, batch::reciprocal};

/// `w = g v / |v|`: length and direction of each row of a weight apart, a row being what has one index along `dim`
/// (the whole of `v` without one).
///
/// A row of zeros has no direction: it gives zeros, and no gradient. Weights in f16 and bf16 are computed in f32.
///
/// # Shapes
/// `v` any; `g` that of `v` with every dimension but `dim` 1, or `[]` without a `dim`; result as `v`.
///
/// # Panics
/// When `g` has another shape or `v` no dimension `dim`.
///
/// # References
/// Salimans, Kingma: Weight normalization (2016), arXiv:1602.07868. PyTorch's `weight_norm`, whose default `dim` is 0.
#[must_use]
#[track_caller]
pub fn weight_norm(g: &Var, v: &Var, dim: Option<isize>) -> Var {
    let rows = Rows::of("weight_norm", v.shape(), dim);
    assert_eq!(
        g.shape(),
        rows.kept(),
        "weight_norm: g for v of shape {:?} along {dim:?}",
        v.shape()
    );
    let compute = v.dtype().compute();
    with_real!("weight_norm", compute, T => run::<T>(g, v, rows))
}

#[track_caller]
fn run<T: Real>(g: &Var, v: &Var, rows: Rows) -> Var {
    let (g_type, v_type) = (g.dtype(), v.dtype());
    let matrix = rows.matrix(v.value(), T::DTYPE);
    let lengths = g.value().to_dtype(DType::F64).to_vec::<f64>();
    let inverse: Vec<f64> = norms::<T>(&matrix).into_iter().map(reciprocal).collect();
    let w =
        build_rows::<T>(&rows, |i, w| scaled(T::lit(lengths[i] * inverse[i]), row(&matrix, i), w));
    Var::op("weight_norm", &[g, v], rows.weight(&w, v_type), move |dw, sink| {
        let dw = rows.matrix(&dw, T::DTYPE);
        // The part of dw along v turns into dg, the rest into dv.
        let along: Vec<f64> =
            (0..rows.rows).map(|i| dot::<T>(row(&dw, i), row(&matrix, i)) * inverse[i]).collect();
        if sink.needs(0) {
            sink.add(0, Tensor::from_slice(&along, &rows.kept()).to_dtype(g_type));
        }
        if sink.needs(1) {
            let dv = build_rows::<T>(&rows, |i, dv| {
                let scale = lengths[i] * inverse[i];
                let back = -scale * along[i] * inverse[i];
                combined(T::lit(scale), row(&dw, i), T::lit(back), row(&matrix, i), dv);
            });
            sink.add(1, rows.weight(&dv, v_type));
        }
    })
}

/// The length of each row.
fn norms<T: Real>(matrix: &Tensor) -> Vec<f64> {
    (0..matrix.shape()[0]).map(|i| dot::<T>(row(matrix, i), row(matrix, i)).sqrt()).collect()
}

/// A weight that is kept as length and direction (see [`weight_norm`]).
///
/// ```
/// use gradus_autograd::{Tape, Tensor};
/// use gradus_norm::WeightNorm;
///
/// let layer = WeightNorm::new(Tensor::from_slice(&[3f32, 4.0], &[1, 2]), Some(0))?;
/// let tape = Tape::training(0, 0);
/// let x = tape.constant(Tensor::from_slice(&[1f32, 1.0], &[1, 2]));
/// let y = x.linear(&layer.weight(&tape), None);
/// assert_eq!(y.item(), 7.0);
/// # Ok::<(), gradus_norm::NormError>(())
/// ```
#[derive(Clone, Debug)]
pub struct WeightNorm {
    g: Param,
    v: Param,
    dim: Option<isize>,
}
module!(WeightNorm { g, v });

impl WeightNorm {
    /// Starts as `weight`: `v` is the weight and `g` the length of its rows along `dim` (0 in PyTorch).
    ///
    /// # Errors
    /// [`NormError::NoDirection`] for a row of zeros, which could never train.
    ///
    /// # Panics
    /// When `weight` has no dimension `dim` or holds integers.
    #[track_caller]
    pub fn new(weight: Tensor, dim: Option<isize>) -> Result<Self, NormError> {
        let rows = Rows::of("WeightNorm", weight.shape(), dim);
        let compute = weight.dtype().compute();
        let matrix = rows.matrix(&weight, compute);
        let norms = with_real!("WeightNorm", compute, T => norms::<T>(&matrix));
        if let Some(row) = norms.iter().position(|&n| n == 0.0) {
            return Err(NormError::NoDirection { row });
        }
        let g = Tensor::from_slice(&norms, &rows.kept()).to_dtype(weight.dtype());
        let (g, v) = (Param::new(g, ParamKind::Norm), Param::new(weight, ParamKind::Weight));
        Ok(Self { g, v, dim })
    }

    /// The weight, on a tape.
    #[must_use]
    #[track_caller]
    pub fn weight(&self, tape: &Tape) -> Var {
        weight_norm(&tape.watch(&self.g), &tape.watch(&self.v), self.dim)
    }
}
