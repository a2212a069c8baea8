//! Dropout: forward and backward with one mask, another in each iteration.

use gradus_autograd::{Tape, Tensor};
use gradus_regularize::{Probability, dropout};

use crate::{
    checks::Checks,
    inputs::unit,
    measure::{Measured, Request, Session},
};

const N: usize = 16 << 20;
const P: f64 = 0.1;

pub(super) fn dropout_fwd_bwd(request: &Request) -> Measured {
    let p = Probability::new(P).expect("a constant within [0, 1]");
    let (x, dy) = (shifted(1), shifted(2));
    let mut step = 0;
    let mut iterate = || {
        step += 1;
        let tape = Tape::training(0, step);
        let leaf = tape.leaf(x.clone());
        let y = dropout(&leaf, p);
        let grads = tape.backward(&[(&y, dy.clone())]);
        (y.into_value(), grads.wrt(&leaf).expect("x is a leaf").clone())
    };
    let session = Session::begin(request);
    let checks = {
        let (y, dx) = iterate();
        judge(x.as_slice(), y.as_slice(), dx.as_slice())
    };
    Measured { timing: session.time(iterate), checks }
}

/// Uniform in [0.5, 1.5): no element is 0 by itself.
fn shifted(seed: u64) -> Tensor {
    Tensor::build::<f32>(&[N], |out| {
        for (i, x) in (0..).zip(out) {
            *x = unit(seed, i) + 0.5;
        }
    })
}

/// Shares of zeros in both results, the largest error of a kept element, and the share where the masks differ.
fn judge(x: &[f32], y: &[f32], dx: &[f32]) -> Checks {
    let share = |count: usize| count as f64 / x.len() as f64;
    let zeros = |v: &[f32]| share(v.iter().filter(|&&v| v == 0.0).count());
    let kept = x.iter().zip(y).filter(|(_, y)| **y != 0.0);
    let error = kept.map(|(&x, &y)| f64::from(y * (1.0 - P) as f32 - x).abs()).fold(0.0, f64::max);
    let differ = y.iter().zip(dx).filter(|(y, dx)| (**y == 0.0) != (**dx == 0.0)).count();
    let values = vec![zeros(y), zeros(dx), error, share(differ)];
    Checks { headline: values[0], scale: vec![1.0; values.len()], values }
}
