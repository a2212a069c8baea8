//! Normalization: forward, and backward from a given upstream gradient.

use gradus_autograd::{EntryMut, Layer, Module, Path, Tape};
use gradus_norm::{BatchNorm, layer_norm, rms_norm};

use super::op::{forward_backward, repeated};
use crate::{
    inputs::{SQRT_3, sym},
    measure::{Measured, Request},
};

/// Rows and width of what is normalized row by row.
const ROWS: [usize; 2] = [4096, 768];

/// Scale and shift are f32 whatever the request says.
pub(super) fn layer_norm_row(request: &Request) -> Measured {
    let [x, dy] = [(1, SQRT_3), (2, 1.0)]
        .map(|(seed, bound)| sym(seed, &ROWS, bound).to_dtype(request.dtype));
    let inputs = [x, sym(3, &[768], 1.0), sym(4, &[768], 1.0)];
    forward_backward(request, &inputs, &dy, |v| {
        layer_norm(&v[0], &[768], Some(&v[1]), Some(&v[2]), 1e-5)
    })
}

pub(super) fn rms_norm_row(request: &Request) -> Measured {
    let inputs = [sym(1, &ROWS, SQRT_3), sym(3, &[768], 1.0)];
    forward_backward(request, &inputs, &sym(2, &ROWS, 1.0), |v| {
        rms_norm(&v[0], &[768], Some(&v[1]), Some(1e-6))
    })
}

/// The layer in training: batch statistics, running statistics moved, all gradients.
pub(super) fn batch_norm2d(request: &Request) -> Measured {
    let shape = [64, 64, 28, 28];
    let (x, dy) = (sym(1, &shape, SQRT_3), sym(2, &shape, 1.0));
    let mut layer = BatchNorm::new(64);
    layer.walk_mut(&mut Path::default(), &mut |name, entry| match (name, entry) {
        ("weight", EntryMut::Param(p)) => p.set(sym(3, &[64], 1.0)),
        ("bias", EntryMut::Param(p)) => p.set(sym(4, &[64], 1.0)),
        _ => {}
    });
    let iterate = || {
        let tape = Tape::training(0, 0);
        let x = tape.leaf(x.clone());
        let y = layer.forward(&x);
        let grads = tape.backward(&[(&y, dy.clone())]);
        let mut outputs = vec![y.into_value(), grads.wrt(&x).expect("x is a leaf").clone()];
        layer.for_each_param(&mut |_, p| {
            outputs.push(grads.get(p.id()).expect("the result depends on every parameter").clone());
        });
        outputs
    };
    repeated(request, iterate)
}
