//! Products of two matrices.

use crate::{
    checks::Checks,
    inputs::sym,
    measure::{Measured, Request, Session},
};

/// 256x256 times 256x256.
pub(super) fn gemm_256(request: &Request) -> Measured {
    gemm(request, [256; 3])
}

/// 128x784 times 784x512: a batch times the weight of a layer.
pub(super) fn gemm_skinny(request: &Request) -> Measured {
    gemm(request, [128, 784, 512])
}

/// 1024x1024 times 1024x1024.
pub(super) fn gemm_1024(request: &Request) -> Measured {
    gemm(request, [1024; 3])
}

/// `[m, k]` times `[k, n]`.
fn gemm(request: &Request, [m, k, n]: [usize; 3]) -> Measured {
    let [a, b] = [(1, [m, k]), (2, [k, n])]
        .map(|(seed, shape)| sym(seed, &shape, 1.0).to_dtype(request.dtype));
    let session = Session::begin(request);
    let c = a.matmul(&b);
    let timing = session.time(|| a.matmul(&b));
    Measured { timing, checks: Checks::of_outputs(&[&c]) }
}
