//! Gradient checks: the backward of an operation against central differences in f64.

use gradus_core::{DType, RngStream};
use gradus_tensor::Tensor;

use crate::{Tape, Var};

/// Numbers in [-1, 1) for a check, always the same for one seed.
#[must_use]
pub fn random(shape: &[usize], seed: u64) -> Tensor {
    let stream = RngStream::new(seed, 0, 0);
    let n: usize = shape.iter().product();
    Tensor::from_slice(
        &(0..n as u64).map(|i| stream.uniform(i) * 2.0 - 1.0).collect::<Vec<_>>(),
        shape,
    )
}

/// Compares the gradients of `f` with central differences at `inputs` (f64), for a random upstream gradient.
///
/// Views stay views: a transposed or sliced input reaches `f` as it is. `f` runs on a training tape with a fixed
/// seed, so that random operations repeat themselves.
///
/// # Panics
/// With the worst element, when a gradient is further off than 1e-6 relative to its size plus one, has another
/// shape, or is missing for an input of which the result depends.
#[track_caller]
pub fn gradcheck(inputs: &[Tensor], f: impl Fn(&[Var]) -> Var) {
    gradcheck_with(inputs, 1e-5, 1e-6, f);
}

/// As [`gradcheck`], with the step of the differences and the tolerance.
///
/// # Panics
/// As [`gradcheck`].
#[track_caller]
pub fn gradcheck_with(inputs: &[Tensor], step: f64, tolerance: f64, f: impl Fn(&[Var]) -> Var) {
    assert!(inputs.iter().all(|t| t.dtype() == DType::F64), "gradcheck: inputs have to be f64");
    let run = |inputs: &[Tensor]| {
        let tape = Tape::training(17, 0);
        let vars: Vec<Var> = inputs.iter().map(|t| tape.leaf(t.clone())).collect();
        let y = f(&vars);
        (vars, y)
    };
    let (vars, y) = run(inputs);
    assert_eq!(y.dtype(), DType::F64, "gradcheck: the result of f64 inputs");
    let upstream = random(y.shape(), 99);
    let grads = y.tape().backward(&[(&y, upstream.clone())]);
    let weights = upstream.to_vec::<f64>();
    // Differences are taken of the weighted outputs one by one: the sum of differences loses no digits.
    let difference = |plus: &Tensor, minus: &Tensor| -> f64 {
        let (p, m) = (plus.to_vec::<f64>(), minus.to_vec::<f64>());
        p.iter().zip(&m).zip(&weights).map(|((p, m), w)| (p - m) * w).sum()
    };
    for (k, input) in inputs.iter().enumerate() {
        let got = grads.wrt(&vars[k]).map(|g| {
            assert_eq!(g.shape(), input.shape(), "gradcheck: shape of the gradient of input {k}");
            g.to_vec::<f64>()
        });
        for i in 0..input.numel() {
            let shifted = |by: f64| {
                let mut moved = inputs.to_vec();
                moved[k] = shift_in_place(input, i, by);
                run(&moved).1.into_value()
            };
            let want = difference(&shifted(step), &shifted(-step)) / (2.0 * step);
            let got = got.as_ref().map_or(0.0, |g| g[i]);
            assert!(
                (got - want).abs() <= tolerance * (1.0 + want.abs()),
                "gradcheck: input {k} of shape {:?}, element {i}: backward {got}, differences {want}",
                input.shape()
            );
        }
    }
}

/// A copy of `t` with the same strides where it matters (a transposed input stays transposed) and element `i` moved.
fn shift_in_place(t: &Tensor, i: usize, by: f64) -> Tensor {
    let mut dense = t.to_contiguous();
    dense.make_mut::<f64>()[i] += by;
    if t.is_contiguous() || t.ndim() < 2 {
        return dense;
    }
    let back = dense.transpose(0, -1).to_contiguous();
    back.transpose(0, -1)
}
