//! Gradients of functions of one element.

use gradus_autograd::{
    Tape, Tensor, Var,
    check::{gradcheck, random},
};

/// Checks `f` on values in `shift` + [-scale, scale): dense, transposed, of size 1 and 0, and used twice.
fn check(shift: f64, scale: f64, f: impl Fn(&Var) -> Var) {
    for shape in [&[3, 4][..], &[], &[1, 1], &[0, 2]] {
        gradcheck(&[random(shape, 7).affine(scale, shift)], |v| f(&v[0]));
    }
    let x = random(&[2, 3], 8).affine(scale, shift);
    gradcheck(&[x.transpose(0, 1)], |v| f(&v[0]));
    gradcheck(&[x], |v| f(&v[0]) * &v[0] + f(&v[0]));
}

#[test]
fn smooth_functions() {
    check(0.0, 2.0, Var::exp);
    check(2.0, 1.5, Var::log);
    check(2.0, 1.5, Var::sqrt);
    check(0.0, 2.0, Var::tanh);
    check(0.0, 3.0, Var::sigmoid);
    check(0.0, 3.0, Var::silu);
    check(0.0, 3.0, Var::gelu);
    check(0.0, 3.0, Var::gelu_tanh);
    check(0.0, 3.0, |x| x.softplus(1.0, 20.0));
    check(0.0, 3.0, |x| x.softplus(2.5, 20.0));
    check(0.0, 2.0, |x| -x);
    for p in [0.0, 1.0, 2.0, 3.0] {
        check(0.0, 1.0, |x| x.pow_scalar(p));
    }
    for p in [-1.0, 0.5, 2.5] {
        check(1.5, 1.0, |x| x.pow_scalar(p));
    }
}

#[test]
fn functions_with_kinks() {
    // No sample lies within a step of a kink: the differences would straddle it.
    check(0.0, 3.0, Var::abs);
    check(0.0, 3.0, Var::relu);
    check(0.0, 3.0, |x| x.leaky_relu(0.01));
    check(0.0, 3.0, |x| x.leaky_relu(-0.5));
    check(0.0, 3.0, |x| x.elu(1.0));
    check(0.0, 3.0, |x| x.elu(-0.7));
    check(0.0, 3.0, |x| x.clamp(Some(-1.0), Some(1.5)));
    check(0.0, 3.0, |x| x.clamp(None, Some(0.5)));
    check(0.0, 3.0, |x| x.clamp(Some(0.5), None));
    check(0.0, 3.0, |x| x.clamp(Some(1.0), Some(-1.0)));
    check(0.0, 3.0, |x| x.softplus(1.0, 1.0));
}

fn value_and_slope(x: &[f64], f: impl Fn(&Var) -> Var) -> (Vec<f64>, Vec<f64>) {
    let tape = Tape::training(0, 0);
    let x = tape.leaf(Tensor::from_slice(x, &[x.len()]));
    let y = f(&x);
    let grads = tape.backward(&[(&y, Tensor::ones(y.shape(), y.dtype()))]);
    (y.value().to_vec(), grads.wrt(&x).unwrap().to_vec())
}

#[test]
fn slopes_at_kinks() {
    let at = |x: f64, f: fn(&Var) -> Var| {
        let (y, g) = value_and_slope(&[x], f);
        (y[0], g[0])
    };
    assert_eq!(at(0.0, Var::relu), (0.0, 0.0));
    assert_eq!(at(0.0, Var::abs), (0.0, 0.0));
    assert_eq!(at(0.0, |x| x.leaky_relu(0.25)), (0.0, 0.25));
    assert_eq!(at(0.0, |x| x.elu(0.5)), (0.0, 0.5));
    assert_eq!(at(0.0, Var::sqrt), (0.0, f64::INFINITY));
    assert_eq!(at(0.0, |x| x.pow_scalar(0.0)), (1.0, 0.0));
    assert_eq!(at(0.0, |x| x.pow_scalar(1.0)), (0.0, 1.0));
    for on_bound in [-1.0, 1.0] {
        assert_eq!(at(on_bound, |x| x.clamp(Some(-1.0), Some(1.0))), (on_bound, 0.0));
    }
    assert_eq!(at(0.0, |x| x.clamp(Some(1.0), Some(-1.0))), (-1.0, 0.0));
    // The slopes that PyTorch gives NaN.
    assert_eq!(at(f64::NAN, |x| x.elu(0.5)).1, 1.0);
    assert_eq!(at(f64::NAN, Var::abs).1, 0.0);
}

#[test]
fn nan_stays_nan() {
    let ops: [fn(&Var) -> Var; 15] = [
        Var::exp,
        Var::log,
        Var::sqrt,
        Var::abs,
        Var::tanh,
        Var::sigmoid,
        Var::relu,
        Var::silu,
        Var::gelu,
        Var::gelu_tanh,
        |x| x.leaky_relu(0.1),
        |x| x.elu(1.0),
        |x| x.softplus(1.0, 20.0),
        |x| x.clamp(Some(-1.0), Some(1.0)),
        |x| x.pow_scalar(2.0),
    ];
    for (i, f) in ops.iter().enumerate() {
        assert!(value_and_slope(&[f64::NAN], f).0[0].is_nan(), "operation {i} in f64");
        let tape = Tape::evaluation();
        let y = f(&tape.constant(Tensor::scalar(f32::NAN)));
        assert!(y.item().is_nan(), "operation {i} in f32");
    }
}

#[test]
fn f32_is_near_f64_forward_and_backward() {
    type Op = fn(&Var) -> Var;
    let ops: [(&str, Op); 11] = [
        ("exp", Var::exp),
        ("tanh", Var::tanh),
        ("sigmoid", Var::sigmoid),
        ("silu", Var::silu),
        ("gelu", Var::gelu),
        ("gelu_tanh", Var::gelu_tanh),
        ("elu", |x| x.elu(1.3)),
        ("softplus", |x| x.softplus(2.0, 20.0)),
        ("leaky_relu", |x| x.leaky_relu(0.01)),
        ("pow_scalar", |x| x.pow_scalar(3.0)),
        ("affine", |x| x.affine(3.0, 1.0)),
    ];
    let n = 2001;
    let x: Vec<f32> = (0..n).map(|i| (i as f32 - 1000.0) * 0.012).collect();
    for (name, f) in ops {
        let run = |x: Tensor| {
            let tape = Tape::training(0, 0);
            let x = tape.leaf(x);
            let y = f(&x);
            let g = tape.backward(&[(&y, Tensor::ones(y.shape(), y.dtype()))]);
            let wide = |t: &Tensor| t.to_dtype(gradus_autograd::DType::F64).to_vec::<f64>();
            (wide(y.value()), wide(g.wrt(&x).unwrap()))
        };
        let narrow = run(Tensor::from_slice(&x, &[n]));
        let exact =
            run(Tensor::from_slice(&x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), &[n]));
        for (part, got, want) in [("value", narrow.0, exact.0), ("slope", narrow.1, exact.1)] {
            for ((g, w), x) in got.iter().zip(&want).zip(&x) {
                assert!(
                    (g - w).abs() <= 1e-6 + 3e-6 * w.abs(),
                    "{name}: {part} at {x}: {g}, want {w}"
                );
            }
        }
    }
}

#[test]
fn elu_keeps_its_digits_near_zero() {
    let tape = Tape::evaluation();
    let y = tape.constant(Tensor::scalar(-1e-4f32)).elu(1.0).item();
    assert!((y / f64::from(-1e-4f32).exp_m1() - 1.0).abs() < 1e-6, "{y}");
}
