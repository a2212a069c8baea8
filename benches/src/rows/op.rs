//! Single operations: forward, and backward from a given upstream gradient.

use gradus_autograd::{CrossEntropy, Tape, Tensor, Var};
use gradus_core::DType;
use gradus_tensor::{AttentionOptions, ConvOptions};

use crate::{
    checks::Checks,
    inputs::{SQRT_3, labels, sym},
    measure::{Measured, Request, Session},
};

/// The mean cross-entropy of 2048 rows of 8192 classes.
pub(super) fn softmax_xent(request: &Request) -> Measured {
    let (rows, classes) = (2048, 8192);
    let logits = sym(1, &[rows, classes], SQRT_3);
    let labels = labels(2, rows, classes as u64);
    let one = Tensor::ones(&[], DType::F32);
    forward_backward(request, &[logits], &one, |v| {
        v[0].cross_entropy(&labels, &CrossEntropy::default())
    })
}

/// Exact GELU of a long vector.
pub(super) fn gelu(request: &Request) -> Measured {
    let n = 4 << 20;
    forward_backward(request, &[sym(1, &[n], 3.0)], &sym(2, &[n], 1.0), |v| v[0].gelu())
}

/// 64 to 64 channels on 32 images of 32x32. The weight is f32, and cast in each iteration.
pub(super) fn conv3x3(request: &Request) -> Measured {
    let shape = [32, 64, 32, 32];
    let [x, dy] = [1, 2].map(|seed| sym(seed, &shape, 1.0).to_dtype(request.dtype));
    let weight = sym(3, &[64, 64, 3, 3], (6.0f64 / 576.0).sqrt());
    let same = ConvOptions::default().with_padding([1, 1]);
    forward_backward(request, &[x, weight], &dy, |v| {
        v[0].conv2d(&v[1].to_dtype(request.dtype), None, same)
    })
}

/// Eight heads of 64 on eight sequences of 256.
pub(super) fn attention_causal(request: &Request) -> Measured {
    let [q, k, v, dy] =
        [1, 2, 3, 4].map(|seed| sym(seed, &[8, 8, 256, 64], SQRT_3).to_dtype(request.dtype));
    let causal = AttentionOptions::new().with_causal(true);
    forward_backward(request, &[q, k, v], &dy, |v| {
        v[0].scaled_dot_product_attention(&v[1], &v[2], &causal)
    })
}

/// Measures `op` on `inputs` and its backward from `dy`; the outputs are its result and the gradient of each input.
pub(super) fn forward_backward(
    request: &Request,
    inputs: &[Tensor],
    dy: &Tensor,
    op: impl Fn(&[Var]) -> Var,
) -> Measured {
    let iterate = || {
        let tape = Tape::training(0, 0);
        let leaves: Vec<Var> = inputs.iter().map(|x| tape.leaf(x.clone())).collect();
        let y = op(&leaves);
        let grads = tape.backward(&[(&y, dy.clone())]);
        let mut outputs = vec![y.into_value()];
        for leaf in &leaves {
            outputs.push(grads.wrt(leaf).expect("the result depends on every input").clone());
        }
        outputs
    };
    repeated(request, iterate)
}

/// Measures what returns its outputs, by which it is checked.
pub(super) fn repeated(request: &Request, iterate: impl Fn() -> Vec<Tensor>) -> Measured {
    let session = Session::begin(request);
    let outputs = iterate();
    let checks = Checks::of_outputs(&outputs.iter().collect::<Vec<_>>());
    drop(outputs);
    Measured { timing: session.time(iterate), checks }
}
