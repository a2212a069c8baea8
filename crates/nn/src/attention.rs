use gradus_autograd::{Layer, Tensor, Var, module};
use gradus_init::Init;
use gradus_tensor::AttentionOptions;

use crate::{Linear, Seeds};

/// Multi-head self-attention: `proj(softmax(q k^T / sqrt(d)) v)` with q, k and v from one projection.
///
/// # Shapes
/// `x` `[N, T, dim]`, result the same. `qkv.weight` `[3 dim, dim]`: rows q, k, v, heads in order inside each.
///
/// # References
/// Vaswani et al.: Attention is all you need (2017), arXiv:1706.03762.
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
    causal: bool,
}
module!(MultiHeadAttention { qkv, proj });

impl MultiHeadAttention {
    /// With `heads` heads of `dim / heads` each; a causal one sees only what came before.
    ///
    /// # Panics
    /// When `dim` is 0 or does not divide into `heads`.
    #[must_use]
    #[track_caller]
    pub fn new(dim: usize, heads: usize, causal: bool, init: &Init, seeds: &mut Seeds) -> Self {
        assert!(
            heads > 0 && dim.is_multiple_of(heads),
            "MultiHeadAttention: {dim} features do not divide into {heads} heads"
        );
        let qkv = Linear::with_init(dim, 3 * dim, init, seeds).with_zero_bias();
        let proj = Linear::with_init(dim, dim, init, seeds).with_zero_bias();
        Self { qkv, proj, heads, causal }
    }
}

impl Layer for MultiHeadAttention {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        let &[n, t, dim] = x.shape() else {
            panic!("MultiHeadAttention: expected [N, T, dim], got shape {:?}", x.shape())
        };
        let [q, k, v] = split_heads(&self.qkv.forward(x), self.heads);
        let y = q.scaled_dot_product_attention(
            &k,
            &v,
            &AttentionOptions::new().with_causal(self.causal),
        );
        let y = y.transpose(1, 2).reshape(&[n as isize, t as isize, dim as isize]);
        self.proj.forward(&y)
    }
}

/// `[N, T, 3 H D]` to three of `[N, H, T, D]`: views forward, one pass backward.
fn split_heads(qkv: &Var, heads: usize) -> [Var; 3] {
    let &[n, t, width] = qkv.shape() else { unreachable!("the projection of [N, T, dim]") };
    let head = width / 3 / heads;
    let all = qkv.value().view(&[n, t, 3, heads, head]);
    let parts = (0..3).map(|i| all.narrow(2, i, 1).squeeze(2).transpose(1, 2)).collect();
    let dtype = qkv.dtype();
    let parts = Var::op_multi("split_heads", &[qkv], parts, move |grads, sink| {
        let grads: Vec<Tensor> = grads
            .into_iter()
            .map(|g| {
                g.map_or_else(|| Tensor::zeros(&[n, t, heads, head], dtype), |g| g.transpose(1, 2))
            })
            .collect();
        sink.add(0, Tensor::stack(&grads.iter().collect::<Vec<_>>(), 2).view(&[n, t, width]));
    });
    parts.try_into().expect("three parts were made")
}
