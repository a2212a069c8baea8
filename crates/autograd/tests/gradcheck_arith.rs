//! Gradients of arithmetic.

use gradus_autograd::{
    Tape, Tensor, Var,
    check::{gradcheck, random},
};

/// Pairs of shapes: equal, broadcast either way, 0-dimensional, of size 1 and of size 0.
const SHAPES: [(&[usize], &[usize]); 7] = [
    (&[2, 3], &[2, 3]),
    (&[2, 1], &[3]),
    (&[], &[2, 2]),
    (&[4, 2, 3], &[1, 3]),
    (&[1], &[1, 1]),
    (&[0, 3], &[3]),
    (&[2, 3], &[]),
];

/// Checks `f` on every pair of shapes, on views, and on one value as both operands; `shift` keeps operands positive.
fn check_pairs(shift: f64, f: impl Fn(&Var, &Var) -> Var) {
    for (a, b) in SHAPES {
        let inputs = [random(a, 1).affine(1.0, shift), random(b, 2).affine(1.0, shift)];
        gradcheck(&inputs, |v| f(&v[0], &v[1]));
    }
    let base = random(&[3, 2], 3).affine(1.0, shift);
    let sliced = random(&[2, 5], 4).affine(1.0, shift).slice(1, 0, None, 2);
    gradcheck(&[base.transpose(0, 1), sliced], |v| f(&v[0], &v[1]));
    gradcheck(&[base], |v| f(&v[0], &v[0]));
}

#[test]
fn binary_operations() {
    check_pairs(0.0, |a, b| a + b);
    check_pairs(0.0, |a, b| a - b);
    check_pairs(0.0, |a, b| a * b);
    check_pairs(1.5, |a, b| a / b);
    check_pairs(1.5, |a, b| a.pow(b));
}

#[test]
fn one_operand_constant() {
    let x = random(&[2, 3], 1).affine(1.0, 1.5);
    let c = random(&[3], 2).affine(1.0, 1.5);
    type Op = fn(&Var, &Var) -> Var;
    let ops: [Op; 5] = [|a, b| a + b, |a, b| a - b, |a, b| a * b, |a, b| a / b, |a, b| a.pow(b)];
    for op in ops {
        gradcheck(std::slice::from_ref(&x), |v| op(&v[0], &v[0].constant(c.clone())));
        gradcheck(std::slice::from_ref(&x), |v| op(&v[0].constant(c.clone()), &v[0]));
    }
}

#[test]
fn numbers_on_either_side() {
    let x = random(&[2, 3], 1).affine(1.0, 1.5);
    gradcheck(std::slice::from_ref(&x), |v| {
        let x = &v[0];
        (x + 2.0) * (3.0 - x) / (2.0 * x - 0.25) + 1.0 / (x / 3.0) - (0.5 + -x) * (x - 1.0)
    });
    gradcheck(&[x], |v| v[0].affine(-2.5, 1.0));
    let tape = Tape::evaluation();
    let x = tape.constant(Tensor::from_slice(&[1f32, -2.0], &[2]));
    assert_eq!((2.0 / &x - 1.0).value().to_vec::<f32>(), [1.0, -2.0]);
    assert_eq!((1.0 - -x * 3.0).value().to_vec::<f32>(), [4.0, -5.0]);
}

fn grads(a: &[f64], b: &[f64], f: impl Fn(&Var, &Var) -> Var) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let tape = Tape::training(0, 0);
    let (a, b) = (
        tape.leaf(Tensor::from_slice(a, &[a.len()])),
        tape.leaf(Tensor::from_slice(b, &[b.len()])),
    );
    let y = f(&a, &b);
    let grads = tape.backward(&[(&y, Tensor::ones(y.shape(), y.dtype()))]);
    let of = |v: &Var| grads.wrt(v).unwrap().to_vec::<f64>();
    (y.value().to_vec(), of(&a), of(&b))
}

#[test]
fn powers_of_zero() {
    let (y, da, db) = grads(&[0.0, 0.0, 0.0, 2.0], &[0.0, 2.0, 1.0, 0.0], |a, b| a.pow(b));
    assert_eq!(y, [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(da, [0.0, 0.0, 1.0, 0.0]);
    assert_eq!(db, [0.0, 0.0, 0.0, 2f64.ln()]);
    let (y, da, db) = grads(&[-2.0], &[3.0], |a, b| a.pow(b));
    assert_eq!((y[0], da[0]), (-8.0, 12.0));
    assert!(db[0].is_nan());
}

#[test]
fn division_by_zero_follows_ieee() {
    let (y, da, db) = grads(&[1.0, 0.0], &[0.0, 0.0], |a, b| a / b);
    assert!(y[0] == f64::INFINITY && y[1].is_nan());
    assert_eq!(da, [f64::INFINITY; 2]);
    assert!(db[0] == f64::NEG_INFINITY && db[1].is_nan());
}

#[test]
fn a_gradient_that_two_operations_share_is_not_overwritten() {
    // The upstream gradient of the sum goes to both products, each of which writes over its own.
    let x = random(&[5], 1);
    gradcheck(&[x], |v| {
        let (a, b) = (v[0].mul_scalar(2.0), v[0].mul_scalar(3.0));
        (&a + &b) * (&a - &b) + (&a + &a)
    });
}

#[test]
#[should_panic(expected = "mul: shapes [2] and [3] do not broadcast")]
fn shapes_that_do_not_fit_panic() {
    let tape = Tape::evaluation();
    let zeros = |n| tape.constant(Tensor::zeros(&[n], gradus_autograd::DType::F32));
    let _ = zeros(2) * zeros(3);
}
