//! Softmax and kin against central differences.

use gradus_autograd::{
    Reduction, Tensor, Var,
    check::{gradcheck, random},
};

fn check_all(f: impl Fn(&Var, isize) -> Var) {
    for dim in [0, 1, -1] {
        for x in [
            random(&[2, 3, 4], 1),
            random(&[4, 3, 2], 2).transpose(0, 2),
            random(&[2, 5, 4], 3).slice(1, 0, None, 2),
            random(&[1, 3, 1], 4),
            random(&[2, 0, 4], 5),
            random(&[1, 1, 40], 6),
        ] {
            gradcheck(&[x], |v| f(&v[0], dim));
        }
    }
}

#[test]
fn softmax() {
    check_all(|x, dim| x.softmax(dim));
    gradcheck(&[random(&[3, 4], 7)], |v| {
        v[0].softmax(1).mse_loss(&v[0].softmax(0), Reduction::None)
    });
}

#[test]
fn log_softmax() {
    check_all(|x, dim| x.log_softmax(dim));
}

#[test]
fn a_scalar_is_a_row_of_one() {
    for dim in [0, -1] {
        let x = [Tensor::scalar(0.5f64)];
        gradcheck(&x, |v| v[0].softmax(dim));
        gradcheck(&x, |v| v[0].log_softmax(dim));
        gradcheck(&x, |v| v[0].logsumexp(&[dim], true));
    }
}

#[test]
fn logsumexp() {
    for keepdim in [false, true] {
        for dims in [&[][..], &[0], &[-1], &[1, 2], &[0, 2]] {
            for x in [
                random(&[2, 3, 4], 1),
                random(&[4, 3, 2], 2).transpose(0, 2),
                random(&[1, 3, 1], 4),
            ] {
                gradcheck(&[x], |v| v[0].logsumexp(dims, keepdim));
            }
        }
    }
    gradcheck(&[Tensor::scalar(0.5f64)], |v| v[0].logsumexp(&[], false));
}

#[test]
fn impossible_classes_keep_zero_gradient() {
    let mut x = random(&[2, 4], 8);
    x.make_mut::<f64>()[1] = f64::NEG_INFINITY;
    let tape = gradus_autograd::Tape::training(0, 0);
    let v = tape.leaf(x);
    let grads = tape.backward(&[(&v.softmax(1), random(&[2, 4], 9))]);
    let g = grads.wrt(&v).unwrap().to_vec::<f64>();
    assert!(g[1] == 0.0 && g.iter().all(|g| g.is_finite()));
}
