//! Matrix products of tensors by NumPy's rules.

use std::panic::Location;

use gradus_core::{DType, Element};

use crate::{
    MatMut, MatRef, Start, Tensor, broadcast_shapes, gemm::Factor, map::same_dtype, par, with_float,
};

/// A stack of matrices inside a tensor: strides that [`MatRef`] can take, or a dense copy.
fn with_plain_strides(t: &Tensor) -> Tensor {
    let n = t.ndim();
    if t.strides[n - 2] >= 0 && t.strides[n - 1] >= 0 { t.clone() } else { t.to_contiguous() }
}

impl Tensor {
    /// The matrix product: the last two dimensions are matrices, the ones before broadcast; a 1-d operand is a
    /// row on the left and a column on the right, and loses that dimension in the result.
    ///
    /// Products of f16 and bf16 are summed in f32, and the result is rounded once.
    ///
    /// # Panics
    /// When the inner sizes differ, the leading dimensions do not broadcast, an operand is 0-dimensional, or
    /// the types differ.
    #[must_use]
    #[track_caller]
    pub fn matmul(&self, other: &Self) -> Self {
        with_float!("matmul", self.dtype(), T => self.product(other, |a, b, shape| {
            stacked::<T, T>(a, b, shape, |a, b, c| T::gemm_narrow(a, b, c, Start::Zero))
        }))
    }

    /// As [`matmul`](Self::matmul), with the result in the type of the sums: f32 for f16 and bf16.
    ///
    /// # Panics
    /// As [`matmul`](Self::matmul).
    #[must_use]
    #[track_caller]
    pub fn matmul_wide(&self, other: &Self) -> Self {
        with_float!("matmul", self.dtype(), T => self.product(other, |a, b, shape| {
            stacked::<T, <T as Factor>::Sum>(a, b, shape, |a, b, c| T::gemm(a, b, c, Start::Zero))
        }))
    }

    /// The product by NumPy's rules; `multiply` gets two stacks of matrices and the shape of their product.
    #[track_caller]
    fn product(&self, other: &Self, multiply: impl Fn(&Self, &Self, &[usize]) -> Self) -> Self {
        let at = Location::caller();
        same_dtype("matmul", self, other);
        let fail = || -> ! {
            panic!(
                "matmul: shapes {:?} and {:?} do not fit (called at {at})",
                self.shape(),
                other.shape()
            )
        };
        if self.ndim() == 0 || other.ndim() == 0 {
            fail();
        }
        let (left_vector, right_vector) = (self.ndim() == 1, other.ndim() == 1);
        let a = if left_vector { self.unsqueeze(0) } else { self.clone() };
        let b = if right_vector { other.unsqueeze(1) } else { other.clone() };
        let (a, b) = (with_plain_strides(&a), with_plain_strides(&b));
        let (na, nb) = (a.ndim(), b.ndim());
        let (m, n) = (a.shape[na - 2], b.shape[nb - 1]);
        if b.shape[nb - 2] != a.shape[na - 1] {
            fail();
        }
        let Some(mut shape) = broadcast_shapes(&a.shape[..na - 2], &b.shape[..nb - 2]) else {
            fail()
        };
        shape.extend([m, n]);
        let mut out = multiply(&a, &b, &shape);
        if right_vector {
            out = out.squeeze(-1);
        }
        if left_vector {
            out = out.squeeze(if right_vector { -1 } else { -2 });
        }
        out
    }

    /// `y = x W^T + b` over the last dimension: `x` is this tensor `[.., in]`, the weight `[out, in]`, the bias
    /// `[out]`, the result `[.., out]`. One product of all rows, which starts from the bias.
    ///
    /// Products of f16 and bf16 are summed in f32, and the result is rounded once; the bias may be f32 then.
    ///
    /// # Panics
    /// When the shapes do not fit or the types differ.
    #[must_use]
    #[track_caller]
    pub fn linear(&self, weight: &Self, bias: Option<&Self>) -> Self {
        let dtype = same_dtype("linear", self, weight);
        let fits =
            self.ndim() > 0 && weight.ndim() == 2 && self.shape.last() == weight.shape.last();
        assert!(
            fits,
            "linear: an input of shape {:?} and a weight of shape {:?}",
            self.shape(),
            weight.shape()
        );
        let (n, k) = (weight.shape[0], weight.shape[1]);
        let bias = bias.map(|b| {
            if b.dtype() != DType::F32 || dtype == DType::F64 {
                same_dtype("linear", self, b);
            }
            assert_eq!(
                b.shape(),
                [n],
                "linear: the shape of the bias for a weight of shape {:?}",
                weight.shape()
            );
            b.contiguous()
        });
        let (x, weight) = (self.contiguous(), with_plain_strides(weight));
        let m: usize = self.shape[..self.ndim() - 1].iter().product();
        let mut shape = self.shape.clone();
        shape[self.ndim() - 1] = n;
        with_float!("linear", dtype, T => {
            let bias = bias.map(|b| b.to_dtype(<T as Factor>::Sum::DTYPE));
            Self::build::<T>(&shape, |out| {
                let start = bias.as_ref().map_or(Start::Zero, |b| Start::Bias(b.as_slice()));
                let x = MatRef::new(x.as_slice::<T>(), m, k);
                T::gemm_narrow(x, matrix(&weight, &[]).t(), MatMut::new(out, m, n), start);
            })
        })
    }
}

/// The products of two stacks of matrices; `shape` is theirs.
fn stacked<T: Element, C: Element>(
    a: &Tensor,
    b: &Tensor,
    shape: &[usize],
    multiply: impl Fn(MatRef<'_, T>, MatRef<'_, T>, MatMut<'_, C>) + Sync + Send,
) -> Tensor {
    let (lead, [m, n]) =
        (&shape[..shape.len() - 2], [shape.len() - 2, shape.len() - 1].map(|i| shape[i]));
    let (batch, k) = (lead.iter().product::<usize>(), a.shape[a.ndim() - 1]);
    // One matrix on the right of a dense stack is one tall product.
    let tall = b.ndim() == 2 && a.ndim() > 2 && a.is_contiguous();
    Tensor::build::<C>(shape, |out| {
        if tall {
            let a = MatRef::new(a.as_slice::<T>(), batch * m, k);
            multiply(a, matrix(b, &[]), MatMut::new(out, batch * m, n));
        } else if batch == 1 {
            multiply(matrix(a, &[]), matrix(b, &[]), MatMut::new(out, m, n));
        } else {
            let width = m * n;
            par::for_each_mut(out, width, (m * n * k) as f64 * 0.03, |first, out| {
                for (i, out) in out.chunks_mut(width.max(1)).enumerate() {
                    let index = unravel(first + i, lead);
                    multiply(matrix(a, &index), matrix(b, &index), MatMut::new(out, m, n));
                }
            });
        }
    })
}

/// The index of the `i`-th element of a row-major array.
fn unravel(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (x, &d) in index.iter_mut().zip(shape).rev() {
        *x = i % d;
        i /= d;
    }
    index
}

/// The matrix at this index of the leading dimensions, which are broadcast.
fn matrix<'a, T: Element>(t: &'a Tensor, index: &[usize]) -> MatRef<'a, T> {
    let n = t.ndim();
    let lead = n - 2;
    let mut offset = t.offset as isize;
    for d in 0..lead {
        // Missing leading dimensions and dimensions of size 1 repeat.
        if t.shape[d] != 1 && index.len() + d >= lead {
            offset += t.strides[d] * index[index.len() + d - lead] as isize;
        }
    }
    let data = t.storage::<T>();
    let data = if t.numel() == 0 { &[] } else { &data[offset as usize..] };
    MatRef::strided(
        data,
        t.shape[n - 2],
        t.shape[n - 1],
        t.strides[n - 2] as usize,
        t.strides[n - 1] as usize,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradus_core::DType;

    fn iota(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_slice(&(0..n).map(|i| i as f64).collect::<Vec<_>>(), shape)
    }

    #[test]
    fn vectors_matrices_and_stacks() {
        let (a, v) = (iota(&[2, 3]), iota(&[3]));
        assert_eq!(v.matmul(&v).item(), 5.0);
        assert_eq!(v.matmul(&v).shape(), [] as [usize; 0]);
        assert_eq!(a.matmul(&v).to_vec::<f64>(), [5.0, 14.0]);
        assert_eq!(iota(&[2]).matmul(&a).to_vec::<f64>(), [3.0, 4.0, 5.0]);
        assert_eq!(a.matmul(&a.transpose(0, 1)).to_vec::<f64>(), [5.0, 14.0, 14.0, 50.0]);
        let stack = iota(&[2, 1, 2, 3]).matmul(&iota(&[4, 3, 2]));
        assert_eq!(stack.shape(), [2, 4, 2, 2]);
        let want = iota(&[2, 1, 2, 3])
            .slice(0, 1, None, 1)
            .view(&[2, 3])
            .matmul(&iota(&[4, 3, 2]).slice(0, 3, None, 1).view(&[3, 2]));
        assert_eq!(
            stack.slice(0, 1, None, 1).slice(1, 3, None, 1).to_vec::<f64>(),
            want.to_vec::<f64>()
        );
        let tall = iota(&[5, 2, 3]).matmul(&iota(&[3, 4]));
        let last = iota(&[5, 2, 3]).slice(0, 4, None, 1).view(&[2, 3]).matmul(&iota(&[3, 4]));
        assert_eq!(tall.slice(0, 4, None, 1).to_vec::<f64>(), last.to_vec::<f64>());
    }

    #[test]
    fn an_inner_size_of_zero_gives_zeros() {
        let z = Tensor::zeros(&[2, 0], DType::F32).matmul(&Tensor::zeros(&[0, 3], DType::F32));
        assert_eq!(z.to_vec::<f32>(), [0.0; 6]);
        assert_eq!(
            Tensor::zeros(&[0, 2, 3], DType::F32)
                .matmul(&Tensor::zeros(&[3, 4], DType::F32))
                .shape(),
            [0, 2, 4]
        );
    }

    #[test]
    fn sixteen_bits_are_summed_in_f32_and_rounded_once() {
        let fractions = |shape: &[usize], seed: f64| {
            let n: usize = shape.iter().product();
            let x: Vec<f64> = (0..n).map(|i| (i as f64 * seed).sin()).collect();
            Tensor::from_slice(&x, shape)
        };
        let bias = fractions(&[40], 0.3);
        for dtype in [DType::BF16, DType::F16] {
            for (a, b) in [
                ([70, 333].as_slice(), [333, 40].as_slice()),
                (&[3, 5, 33], &[3, 33, 7]),
                (&[5, 2100], &[2100, 19]),
            ] {
                let (a, b) = (fractions(a, 0.7).to_dtype(dtype), fractions(b, 0.9).to_dtype(dtype));
                let exact = a.to_dtype(DType::F64).matmul(&b.to_dtype(DType::F64));
                let wide = a.matmul_wide(&b);
                assert_eq!(wide.dtype(), DType::F32);
                let pairs = |x: &Tensor| x.to_dtype(DType::F64).to_vec::<f64>();
                for (got, want) in pairs(&wide).iter().zip(pairs(&exact)) {
                    assert!((got - want).abs() < 5e-5, "{dtype}: {got} {want}");
                }
                assert_eq!(pairs(&a.matmul(&b)), pairs(&wide.to_dtype(dtype)));
            }
            let (x, w) = (fractions(&[9, 50], 1.1), fractions(&[40, 50], 1.3));
            let (x, w) = (x.to_dtype(dtype), w.to_dtype(dtype));
            // The bias is added to the whole sum, in f32, and the result is rounded once.
            for of_bias in [dtype, DType::F32] {
                let bias = bias.to_dtype(of_bias);
                let y = x.linear(&w, Some(&bias));
                let sums = x.matmul_wide(&w.transpose(0, 1));
                let want = sums.add(&bias.to_dtype(DType::F32)).to_dtype(dtype);
                assert_eq!((y.dtype(), y.shape()), (dtype, want.shape()));
                let values = |t: &Tensor| t.to_dtype(DType::F64).to_vec::<f64>();
                assert_eq!(values(&y), values(&want), "{dtype}, bias {of_bias}");
            }
        }
    }

    #[test]
    fn linear_is_a_product_with_the_transpose_plus_the_bias() {
        let (w, b) = (iota(&[4, 3]), iota(&[4]).affine(100.0, 0.0));
        for x in [
            iota(&[3]),
            iota(&[5, 3]),
            iota(&[2, 5, 3]),
            iota(&[3, 2]).transpose(0, 1),
            iota(&[0, 3]),
        ] {
            let want = x.matmul(&w.transpose(0, 1));
            assert_eq!(x.linear(&w, None).to_vec::<f64>(), want.to_vec::<f64>());
            let y = x.linear(&w, Some(&b));
            assert_eq!(
                (y.shape(), y.to_vec::<f64>()),
                (want.shape(), want.add(&b).to_vec::<f64>())
            );
            let view = iota(&[3, 4]);
            let y = x.linear(&view.transpose(0, 1), None);
            assert_eq!(y.to_vec::<f64>(), x.matmul(&view).to_vec::<f64>());
        }
        assert_eq!(
            iota(&[2, 0]).linear(&iota(&[4, 0]), Some(&b)).to_vec::<f64>()[4..],
            b.to_vec::<f64>()
        );
        assert_eq!(iota(&[2, 3]).linear(&iota(&[0, 3]), Some(&iota(&[0]))).shape(), [2, 0]);
    }

    #[test]
    #[should_panic(expected = "matmul: shapes [2, 3] and [2, 3] do not fit (called at")]
    fn inner_sizes_that_differ_panic() {
        let _ = iota(&[2, 3]).matmul(&iota(&[2, 3]));
    }
}
