//! Normalization: forward, and backward from a given upstream gradient.

use gradus_autograd::{EntryMut, Layer, Module, Path, Tape, Tensor, Var};
use gradus_norm::{BatchNorm, layer_norm, rms_norm};

use crate::{
    checks::Checks,
    inputs::{SQRT_3, sym},
    measure::{Measured, Request, Session},
};

/// Rows and width of what is normalized row by row.
const ROWS: [usize; 2] = [4096, 768];

pub(super) fn layer_norm_row(request: &Request) -> Measured {
    let (gamma, beta) = (sym(3, &[768], 1.0), sym(4, &[768], 1.0));
    rows(request, &[gamma, beta], |x, p| layer_norm(x, &[768], Some(&p[0]), Some(&p[1]), 1e-5))
}

pub(super) fn rms_norm_row(request: &Request) -> Measured {
    rows(request, &[sym(3, &[768], 1.0)], |x, p| rms_norm(x, &[768], Some(&p[0]), Some(1e-6)))
}

/// The result and the gradients of the input and of each parameter.
fn rows(request: &Request, params: &[Tensor], norm: impl Fn(&Var, &[Var]) -> Var) -> Measured {
    let (x, dy) = (sym(1, &ROWS, SQRT_3), sym(2, &ROWS, 1.0));
    let iterate = || {
        let tape = Tape::training(0, 0);
        let x = tape.leaf(x.clone());
        let params: Vec<Var> = params.iter().map(|p| tape.leaf(p.clone())).collect();
        let y = norm(&x, &params);
        let grads = tape.backward(&[(&y, dy.clone())]);
        let mut outputs = vec![y.into_value()];
        for leaf in [&x].into_iter().chain(&params) {
            outputs.push(grads.wrt(leaf).expect("the result depends on every leaf").clone());
        }
        outputs
    };
    let session = Session::begin(request);
    let outputs = iterate();
    let checks = Checks::of_outputs(&outputs.iter().collect::<Vec<_>>());
    drop(outputs);
    Measured { timing: session.time(iterate), checks }
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
    let session = Session::begin(request);
    let outputs = iterate();
    let checks = Checks::of_outputs(&outputs.iter().collect::<Vec<_>>());
    drop(outputs);
    Measured { timing: session.time(iterate), checks }
}
