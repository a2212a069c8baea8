//! Matrix products. Backward reads transposes in place; nothing is copied to be transposed.

use gradus_tensor::Tensor;

use crate::{DType, Var};

/// All rows of a stack of matrices as one matrix.
fn rows(t: &Tensor) -> Tensor {
    let width = t.shape()[t.ndim() - 1];
    let n = t.shape()[..t.ndim() - 1].iter().product();
    t.view(&[n, width])
}

/// A product whose sums are rounded to the type of the operands only if the result is kept in it.
fn product(a: &Tensor, b: &Tensor, kept: DType) -> Tensor {
    if kept == a.dtype() { a.matmul(b) } else { a.matmul_wide(b) }
}

impl Var {
    /// The matrix product: the last two dimensions are matrices, the ones before broadcast; a 1-d operand is a
    /// row on the left and a column on the right, and loses that dimension in the result.
    /// Gradients: `G B^T` and `A^T G`, summed over what was broadcast.
    ///
    /// # Panics
    /// When the inner sizes differ, the leading dimensions do not broadcast, an operand is 0-dimensional, the
    /// types differ, or the operands lie on different tapes.
    #[must_use]
    #[track_caller]
    pub fn matmul(&self, other: &Self) -> Self {
        let [left, right] = Self::autocast("matmul", [self, other]);
        let y = left.value().matmul(right.value());
        let (a, b) = (left.value().clone(), right.value().clone());
        Self::op("matmul", &[&left, &right], y, move |g, sink| {
            // Vectors become matrices, and so does the gradient of what they gave.
            let (left, right) = (a.ndim() == 1, b.ndim() == 1);
            let (wide_a, wide_b) = (
                if left { a.unsqueeze(0) } else { a.clone() },
                if right { b.unsqueeze(1) } else { b.clone() },
            );
            let g = if right { g.unsqueeze(-1) } else { g };
            let g = if left { g.unsqueeze(-2) } else { g };
            if sink.needs(0) {
                let grad = product(&g, &wide_b.transpose(-1, -2), sink.dtype(0));
                sink.add(0, grad.sum_to(wide_a.shape()).view(a.shape()));
            }
            if sink.needs(1) {
                let grad = if wide_b.ndim() == 2 && wide_a.ndim() > 2 {
                    // One matrix on the right of a stack: one product sums over the stack.
                    product(&rows(&wide_a).transpose(0, 1), &rows(&g), sink.dtype(1))
                } else {
                    product(&wide_a.transpose(-1, -2), &g, sink.dtype(1)).sum_to(wide_b.shape())
                };
                sink.add(1, grad.view(b.shape()));
            }
        })
    }

    /// `y = x W^T + b` over the last dimension: `x` is this value `[.., in]`, the weight `[out, in]`, the bias
    /// `[out]`, the result `[.., out]`. Each of forward, input gradient and weight gradient is one product over all
    /// rows. With 16-bit operands the bias may be f32.
    ///
    /// # Panics
    /// When the shapes do not fit, the types differ, or the operands lie on different tapes.
    #[must_use]
    #[track_caller]
    pub fn linear(&self, weight: &Self, bias: Option<&Self>) -> Self {
        // The bias is added to sums in f32; it needs no cast.
        let [input, weight] = Self::autocast("linear", [self, weight]);
        let y = input.value().linear(weight.value(), bias.map(Self::value));
        let (x, w) = (input.value().clone(), weight.value().clone());
        let mut inputs = vec![&*input, &*weight];
        inputs.extend(bias);
        let biased = bias.is_some();
        Self::op("linear", &inputs, y, move |g, sink| {
            let g = rows(&g);
            if sink.needs(0) {
                sink.add(0, product(&g, &w, sink.dtype(0)).view(x.shape()));
            }
            if sink.needs(1) {
                sink.add(1, product(&g.transpose(0, 1), &rows(&x), sink.dtype(1)));
            }
            if biased {
                sink.add_broadcast(2, g);
            }
        })
    }
}
