//! Reductions against central differences.

use gradus_autograd::{
    DType, Tape, Tensor, Var,
    check::{gradcheck, random},
};

/// Dense, transposed and sliced inputs, and ones with dimensions of size 1 and 0.
fn inputs() -> Vec<Tensor> {
    vec![
        random(&[2, 3, 4], 1),
        random(&[4, 3, 2], 2).transpose(0, 2),
        random(&[2, 5, 4], 3).slice(1, 0, None, 2),
        random(&[1, 3, 1], 4),
        random(&[2, 0, 4], 5),
    ]
}

const DIMS: [&[isize]; 6] = [&[], &[0], &[-1], &[1], &[0, 2], &[-1, 0]];

fn check_all(f: impl Fn(&Var, &[isize], bool) -> Var) {
    for x in inputs() {
        for dims in DIMS {
            for keepdim in [false, true] {
                gradcheck(std::slice::from_ref(&x), |v| f(&v[0], dims, keepdim));
            }
        }
    }
}

/// As [`check_all`], without inputs that have nothing to choose from.
fn check_nonempty(f: impl Fn(&Var) -> Var) {
    for x in inputs().into_iter().filter(|x| x.numel() > 0) {
        gradcheck(&[x], |v| f(&v[0]));
    }
}

#[test]
fn sum() {
    check_all(|x, dims, keepdim| x.sum(dims, keepdim));
    gradcheck(&[Tensor::scalar(0.5f64)], |v| v[0].sum(&[], true));
}

#[test]
fn mean() {
    check_nonempty(|x| x.mean(&[], false));
    check_nonempty(|x| x.mean(&[0, -1], true));
    check_nonempty(|x| x.mean(&[1], false));
}

#[test]
fn var() {
    for (dims, correction) in [(&[][..], 1), (&[1][..], 0), (&[0, 1][..], 1), (&[-1, 1][..], 0)] {
        check_nonempty(|x| x.var(dims, correction, false));
        check_nonempty(|x| x.var(dims, correction, true));
    }
}

#[test]
fn extremes() {
    for dims in DIMS {
        check_nonempty(|x| x.amax(dims, false));
        check_nonempty(|x| x.amin(dims, true));
    }
    for dim in [0, 1, -1] {
        check_nonempty(|x| x.max_dim(dim, false).0);
        check_nonempty(|x| x.min_dim(dim, true).0);
    }
}

#[test]
fn cumsum() {
    for dim in [0, 1, -1] {
        for x in inputs() {
            gradcheck(&[x], |v| v[0].cumsum(dim));
        }
    }
}

#[test]
fn a_scalar_has_a_first_dimension_to_reduce() {
    let x = [Tensor::scalar(0.5f64)];
    for dim in [0, -1] {
        for keepdim in [false, true] {
            gradcheck(&x, |v| v[0].sum(&[dim], keepdim));
            gradcheck(&x, |v| v[0].mean(&[dim], keepdim));
            gradcheck(&x, |v| v[0].var(&[dim], 0, keepdim));
            gradcheck(&x, |v| v[0].amax(&[dim], keepdim));
            gradcheck(&x, |v| v[0].amin(&[dim], keepdim));
            gradcheck(&x, |v| v[0].max_dim(dim, keepdim).0);
            gradcheck(&x, |v| v[0].min_dim(dim, keepdim).0);
            let index = x[0].argmax(Some(dim), keepdim);
            assert_eq!((index.shape().len(), index.item()), (0, 0.0));
        }
        gradcheck(&x, |v| v[0].cumsum(dim));
        gradcheck(&x, |v| v[0].transpose(dim, 0));
    }
}

#[test]
fn a_correction_above_the_count_has_pytorchs_gradient() {
    assert_eq!(grad(&[3.0], |x| x.var(&[0], 2, false)), [0.0]);
    assert!(grad(&[3.0], |x| x.var(&[], 2, false))[0].is_nan());
    assert!(grad(&[3.0], |x| x.var(&[0], 1, false))[0].is_nan());
}

#[test]
fn a_value_used_twice() {
    gradcheck(&[random(&[3, 4], 6)], |v| {
        v[0].sum(&[0], false).mse_loss(&v[0].mean(&[0], false), Default::default())
    });
    gradcheck(&[random(&[3, 4], 7)], |v| {
        v[0].amax(&[1], true).cumsum(0).l1_loss(&v[0].var(&[1], 1, true), Default::default())
    });
}

fn grad(x: &[f64], f: impl Fn(&Var) -> Var) -> Vec<f64> {
    let tape = Tape::training(0, 0);
    let x = tape.leaf(Tensor::from_slice(x, &[x.len()]));
    let grads = f(&x).backward();
    grads.wrt(&x).unwrap().to_vec()
}

#[test]
fn equals_share_the_gradient_of_amax_and_the_first_takes_that_of_max_dim() {
    let x = [3.0, 1.0, 3.0, 3.0];
    assert_eq!(grad(&x, |x| x.amax(&[], false)), [1.0 / 3.0, 0.0, 1.0 / 3.0, 1.0 / 3.0]);
    assert_eq!(grad(&x, |x| x.max_dim(0, false).0), [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(grad(&[2.0, 0.0, 0.0], |x| x.amin(&[0], false)), [0.0, 0.5, 0.5]);
    assert_eq!(grad(&[2.0, 0.0, 0.0], |x| x.min_dim(-1, false).0), [0.0, 1.0, 0.0]);
}

#[test]
fn f32_takes_the_same_paths() {
    let tape = Tape::training(0, 0);
    let x = tape.leaf(random(&[5, 7], 8).to_dtype(DType::F32));
    let y = x.var(&[1], 1, false).sum(&[], false);
    let got = y.backward().wrt(&x).unwrap().to_dtype(DType::F64).to_vec::<f64>();
    let want = x.value().to_dtype(DType::F64);
    let mean = want.mean(&[1], true);
    for (g, w) in got.iter().zip(want.sub(&mean).to_vec::<f64>()) {
        assert!((g - w / 3.0).abs() < 1e-6);
    }
}
