//! Concatenation and stacking, and choosing by a mask.

use std::panic::Location;

use gradus_core::{DType, Element};

use crate::{
    Tensor, broadcast_shapes, kernel,
    map::same_dtype,
    normalize_dim, par,
    shape::{row_major, walk_rows},
};

/// Runs `$body` with `$T` standing for the type of the elements: for what only moves them.
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr) => {{
        use gradus_core::{DType, bf16, f16};
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $body
            }
            DType::F64 => {
                type $T = f64;
                $body
            }
            DType::F16 => {
                type $T = f16;
                $body
            }
            DType::BF16 => {
                type $T = bf16;
                $body
            }
            DType::I64 => {
                type $T = i64;
                $body
            }
            _ => {
                type $T = u8;
                $body
            }
        }
    }};
}
pub(crate) use with_element;

/// Writes `src` into the part of a dense array that `strides` and `offset` describe.
fn put<T: Element>(out: &mut [T], strides: &[isize], offset: usize, src: &Tensor) {
    let dense = src.contiguous();
    let from = dense.as_slice::<T>();
    walk_rows(src.shape(), strides, offset, |at, first, n, step| {
        let from = &from[at..at + n];
        if step == 1 {
            out[first..first + n].copy_from_slice(from);
        } else {
            for (o, &x) in out[first..].iter_mut().step_by(step as usize).zip(from) {
                *o = x;
            }
        }
    });
}

kernel! {
    fn choose['a, T: Element]['a, T](cond: &'a [u8], a: &'a [T], b: &'a [T], out: &'a mut [T]) -> () {
        for (((o, &c), &a), &b) in out.iter_mut().zip(cond).zip(a).zip(b) {
            *o = if c != 0 { a } else { b };
        }
    }
}

impl Tensor {
    /// Tensors behind each other along a dimension that they have; the other dimensions are equal.
    ///
    /// # Panics
    /// When there is none, the dimension does not exist, or types or other dimensions differ.
    #[must_use]
    #[track_caller]
    pub fn concat(parts: &[&Self], dim: isize) -> Self {
        let first = parts.first().expect("concat: no tensors");
        let d = normalize_dim("concat", dim, first.ndim());
        let mut shape = first.shape().to_vec();
        shape[d] = 0;
        for part in parts {
            same_dtype("concat", first, part);
            let fits = part.ndim() == shape.len()
                && (0..shape.len()).all(|i| i == d || part.shape[i] == shape[i]);
            assert!(
                fits,
                "concat: shapes {:?} and {:?} differ outside of dimension {d}",
                first.shape(),
                part.shape()
            );
            shape[d] += part.shape[d];
        }
        let strides = row_major(&shape);
        with_element!(first.dtype(), T => Self::build::<T>(&shape, |out| {
            let mut offset = 0;
            for part in parts {
                put(out, &strides, offset, part);
                offset += part.shape[d] * strides[d] as usize;
            }
        }))
    }

    /// Tensors of one shape along a new dimension, which is `dim` of the result.
    ///
    /// # Panics
    /// When there is none, the result has no such dimension, or shapes or types differ.
    #[must_use]
    #[track_caller]
    pub fn stack(parts: &[&Self], dim: isize) -> Self {
        let first = parts.first().expect("stack: no tensors");
        let d = normalize_dim("stack", dim, first.ndim() + 1) as isize;
        for part in parts {
            assert_eq!(first.shape(), part.shape(), "stack: shapes of the tensors");
        }
        let parts: Vec<Self> = parts.iter().map(|t| t.unsqueeze(d)).collect();
        Self::concat(&parts.iter().collect::<Vec<_>>(), d)
    }

    /// The reverse of [`slice`](Self::slice): zeros of `shape`, and this tensor where
    /// `zeros.slice(dim, start, None, step)` begins.
    ///
    /// # Panics
    /// When this tensor does not fit there.
    #[must_use]
    #[track_caller]
    pub fn unslice(&self, shape: &[usize], dim: isize, start: usize, step: usize) -> Self {
        let d = normalize_dim("unslice", dim, shape.len());
        let fits = self.ndim() == shape.len()
            && (0..shape.len()).all(|i| i == d || self.shape[i] == shape[i])
            && (self.shape[d] == 0 || start + (self.shape[d] - 1) * step < shape[d]);
        assert!(
            fits && step > 0,
            "unslice: shape {:?} from {start} by {step} in dimension {d} of {shape:?}",
            self.shape()
        );
        let mut out = Self::zeros(shape, self.dtype());
        let mut strides = row_major(shape);
        let offset = start * strides[d] as usize;
        // As in slice: a stride that is never taken may overflow.
        strides[d] = strides[d].wrapping_mul(step as isize);
        with_element!(self.dtype(), T => put(out.make_mut::<T>(), &strides, offset, self));
        out
    }

    /// `a` where this mask (of bytes) is not 0 and `b` elsewhere, all broadcast to each other. The element that is
    /// not taken has no influence, not even as NaN.
    ///
    /// # Panics
    /// When this is no tensor of bytes, `a` and `b` are of different types, or the shapes do not broadcast.
    #[must_use]
    #[track_caller]
    pub fn choose(&self, a: &Self, b: &Self) -> Self {
        let at = Location::caller();
        assert_eq!(self.dtype(), DType::U8, "choose: the type of the mask");
        let dtype = same_dtype("choose", a, b);
        let shape =
            broadcast_shapes(a.shape(), b.shape()).and_then(|s| broadcast_shapes(&s, self.shape()));
        let shape = shape.unwrap_or_else(|| {
            let (c, a, b) = (self.shape(), a.shape(), b.shape());
            panic!("choose: shapes {c:?}, {a:?} and {b:?} do not broadcast (called at {at})")
        });
        let dense = |t: &Self| t.broadcast_to(&shape).contiguous();
        let (cond, a, b) = (dense(self), dense(a), dense(b));
        with_element!(dtype, T => Self::build::<T>(&shape, |out| {
            let (cond, a, b) = (cond.as_slice::<u8>(), a.as_slice::<T>(), b.as_slice::<T>());
            par::for_each_mut(out, 1, 0.3, |i, out| {
                let r = i..i + out.len();
                choose(&cond[r.clone()], &a[r.clone()], &b[r], out);
            });
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iota(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_slice(&(0..n).map(|i| i as f32).collect::<Vec<_>>(), shape)
    }

    #[test]
    fn parts_lie_behind_each_other() {
        let (a, b) = (iota(&[2, 2]), iota(&[2, 1]).affine(1.0, 10.0));
        let y = Tensor::concat(&[&a, &b, &a.transpose(0, 1)], -1);
        assert_eq!(y.shape(), [2, 5]);
        assert_eq!(y.to_vec::<f32>(), [0.0, 1.0, 10.0, 0.0, 2.0, 2.0, 3.0, 11.0, 1.0, 3.0]);
        let y = Tensor::concat(&[&iota(&[0, 2]), &a], 0);
        assert_eq!(y.to_vec::<f32>(), a.to_vec::<f32>());
        assert_eq!(Tensor::concat(&[&iota(&[2, 0]), &iota(&[2, 0])], 0).shape(), [4, 0]);
    }

    #[test]
    fn stacking_adds_a_dimension() {
        let (a, b) = (iota(&[2]), iota(&[2]).affine(1.0, 10.0));
        assert_eq!(Tensor::stack(&[&a, &b], 0).to_vec::<f32>(), [0.0, 1.0, 10.0, 11.0]);
        assert_eq!(Tensor::stack(&[&a, &b], -1).to_vec::<f32>(), [0.0, 10.0, 1.0, 11.0]);
        assert_eq!(
            Tensor::stack(&[&Tensor::scalar(1i64), &Tensor::scalar(2i64)], 0).to_vec::<i64>(),
            [1, 2]
        );
    }

    #[test]
    fn unslice_puts_a_slice_back() {
        let x = iota(&[3, 5]).affine(1.0, 1.0);
        for (dim, start, step) in [(0, 1, 1), (0, 0, 2), (1, 1, 3), (1, 4, 1), (1, 5, 1)] {
            let part = x.slice(dim, start as isize, None, step as isize);
            let back = part.unslice(&[3, 5], dim, start, step);
            assert_eq!(
                back.slice(dim, start as isize, None, step as isize).to_vec::<f32>(),
                part.to_vec::<f32>()
            );
            let kept = back.to_vec::<f32>().iter().filter(|&&v| v != 0.0).count();
            assert_eq!(kept, part.numel(), "{dim} {start} {step}");
        }
        assert_eq!(
            iota(&[2, 2]).transpose(0, 1).unslice(&[2, 3], 1, 1, 1).to_vec::<f32>(),
            [0.0, 0.0, 2.0, 0.0, 1.0, 3.0]
        );
    }

    #[test]
    fn choosing_broadcasts_and_keeps_nan_out() {
        let mask = Tensor::from_slice(&[1u8, 0, 2], &[3]);
        let a = Tensor::from_slice(&[1.0, f64::NAN, 3.0], &[3]);
        assert_eq!(mask.choose(&a, &Tensor::scalar(-1.0)).to_vec::<f64>(), [1.0, -1.0, 3.0]);
        let y = mask.choose(&iota(&[2, 1]), &Tensor::scalar(9f32));
        assert_eq!(y.to_vec::<f32>(), [0.0, 9.0, 0.0, 1.0, 9.0, 1.0]);
        assert_eq!(mask.choose(&iota(&[0, 1]), &iota(&[0, 3])).shape(), [0, 3]);
    }

    #[test]
    #[should_panic(expected = "concat: shapes [2, 3] and [3, 2] differ outside of dimension 0")]
    fn parts_that_do_not_fit_panic() {
        let _ = Tensor::concat(&[&iota(&[2, 3]), &iota(&[3, 2])], 0);
    }
}
