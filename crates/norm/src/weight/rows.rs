//! A weight as a matrix: one row for each index of a dimension.

use gradus_autograd::Tensor;
use gradus_tensor::{DType, Real, kernel, normalize_dim, par};

/// How a weight becomes a matrix and back.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    shape: Vec<usize>,
    /// The dimension that comes to the front; none: the whole weight is one row.
    dim: Option<usize>,
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl Rows {
    #[track_caller]
    pub(super) fn of(op: &str, shape: &[usize], dim: Option<isize>) -> Self {
        let dim = dim.map(|dim| normalize_dim(op, dim, shape.len()));
        let rows = dim.map_or(1, |dim| shape[dim]);
        let width =
            shape.iter().enumerate().filter(|&(d, _)| Some(d) != dim).map(|(_, &n)| n).product();
        Self { shape: shape.to_vec(), dim, rows, width }
    }

    /// `[rows, width]`, dense, in type `dtype`.
    pub(super) fn matrix(&self, weight: &Tensor, dtype: DType) -> Tensor {
        let front = weight.permute(&self.front()).contiguous();
        front.view(&[self.rows, self.width]).to_dtype(dtype)
    }

    /// The matrix in the shape of the weight, dense, in type `dtype`.
    pub(super) fn weight(&self, matrix: &Tensor, dtype: DType) -> Tensor {
        let front = self.front();
        let shape: Vec<usize> = front.iter().map(|&d| self.shape[d as usize]).collect();
        let mut back = vec![0; front.len()];
        for (at, d) in front.into_iter().enumerate() {
            back[d as usize] = at as isize;
        }
        matrix.view(&shape).permute(&back).contiguous().to_dtype(dtype)
    }

    /// The dimensions, with this one before the others.
    fn front(&self) -> Vec<isize> {
        let others = (0..self.shape.len()).filter(|&d| Some(d) != self.dim);
        self.dim.into_iter().chain(others).map(|d| d as isize).collect()
    }

    /// The shape with every dimension but this one 1; none at all where the weight is one row.
    pub(super) fn kept(&self) -> Vec<usize> {
        let Some(dim) = self.dim else { return Vec::new() };
        let mut kept = vec![1; self.shape.len()];
        kept[dim] = self.rows;
        kept
    }
}

const LANES: usize = 16;

kernel! {
    /// The sum of `a b`, in f64: no square of an f32 overflows.
    pub(super) fn dot['a, T: Real]['a, T](a: &'a [T], b: &'a [T]) -> f64 {
        let mut lanes = [0.0; LANES];
        let (ca, cb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
        for (lane, (&a, &b)) in lanes.iter_mut().zip(ca.remainder().iter().zip(cb.remainder())) {
            *lane = a.to_f64() * b.to_f64();
        }
        for (a, b) in ca.zip(cb) {
            for l in 0..LANES {
                lanes[l] += a[l].to_f64() * b[l].to_f64();
            }
        }
        lanes.iter().sum()
    }
}

kernel! {
    /// `y = a x`.
    pub(super) fn scaled['a, T: Real]['a, T](a: T, x: &'a [T], y: &'a mut [T]) -> () {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = a * x;
        }
    }
}

kernel! {
    /// `y = a x + b z`.
    pub(super) fn combined['a, T: Real]['a, T](a: T, x: &'a [T], b: T, z: &'a [T], y: &'a mut [T]) -> () {
        for ((y, &x), &z) in y.iter_mut().zip(x).zip(z) {
            *y = a * x + b * z;
        }
    }
}

/// Calls `f(i, row i of the matrix)` for every row of a new matrix.
pub(super) fn build_rows<T: Real>(
    rows: &Rows,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) -> Tensor {
    let width = rows.width.max(1);
    Tensor::build(&[rows.rows, rows.width], |out| {
        par::for_each_mut(out, width, width as f64 * 0.3, |first, out| {
            for (i, row) in out.chunks_exact_mut(width).enumerate() {
                f(first + i, row);
            }
        });
    })
}

/// Row `i` of a matrix.
pub(super) fn row<T: Real>(matrix: &Tensor, i: usize) -> &[T] {
    let width = matrix.shape()[1];
    &matrix.as_slice::<T>()[i * width..(i + 1) * width]
}
