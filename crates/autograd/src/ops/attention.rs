//! Scaled dot-product attention.

use gradus_tensor::AttentionOptions;

use crate::Var;

impl Var {
    /// `softmax(scale q k^T + mask) v`, with this value as `q`.
    ///
    /// The scores are never kept: backward computes the probabilities again from one number a row. A row with every
    /// key masked gives zeros, and zero gradients. The mask is a constant.
    ///
    /// # Shapes
    /// `q` `[B, H, Lq, D]`, `k` `[B, H, Lk, D]`, `v` `[B, H, Lk, Dv]`, result `[B, H, Lq, Dv]`.
    ///
    /// # Panics
    /// When shapes or types do not fit.
    ///
    /// # References
    /// Vaswani et al.: Attention is all you need (2017). Dao, Fu, Ermon, Rudra, Ré: FlashAttention (2022).
    #[must_use]
    #[track_caller]
    pub fn scaled_dot_product_attention(
        &self,
        k: &Self,
        v: &Self,
        options: &AttentionOptions,
    ) -> Self {
        let operands = Self::autocast("scaled_dot_product_attention", [self, k, v]);
        let [q, keys, values] = operands.each_ref().map(|t| t.value().clone());
        let mut options = options.clone();
        // A policy casts the operands; what is added to scores follows them.
        let mask = options.mask.take();
        options.mask = mask.map(|m| if m.dtype().is_float() { m.to_dtype(q.dtype()) } else { m });
        let (y, lse) = q.scaled_dot_product_attention(&keys, &values, &options);
        let saved = y.clone();
        let inputs = operands.each_ref().map(|t| &**t);
        Self::op("scaled_dot_product_attention", &inputs, y, move |g, sink| {
            let needs = [0, 1, 2].map(|i| sink.needs(i));
            let grads = q.scaled_dot_product_attention_grad(
                [&keys, &values],
                &options,
                [&saved, &lse],
                &g,
                needs,
            );
            for (i, grad) in grads.into_iter().enumerate() {
                if let Some(grad) = grad {
                    sink.add(i, grad);
                }
            }
        })
    }
}
