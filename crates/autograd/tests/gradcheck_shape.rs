//! Gradients of changes of shape.

use gradus_autograd::{
    Tape, Tensor, Var,
    check::{gradcheck, random},
};

/// Checks `f` on a dense value, on a transposed view of the same shape, and on the value used again.
fn check(shape: &[usize], f: impl Fn(&Var) -> Var) {
    let x = random(shape, 5);
    gradcheck(std::slice::from_ref(&x), |v| f(&v[0]));
    gradcheck(&[x.transpose(0, -1).to_contiguous().transpose(0, -1)], |v| f(&v[0]));
    // The square makes the upstream gradient depend on the value.
    gradcheck(&[x], |v| {
        let y = f(&v[0]);
        &y * &y + f(&v[0])
    });
}

#[test]
fn views() {
    check(&[2, 3, 4], |x| x.transpose(0, -1));
    check(&[2, 3, 4], |x| x.permute(&[-1, 0, 1]));
    check(&[2, 3, 4], |x| x.permute(&[1, 2, 0]));
    check(&[2, 3, 4], |x| x.reshape(&[4, -1]));
    check(&[2, 3], |x| x.transpose(0, 1).reshape(&[-1]));
    check(&[2, 1, 3], |x| x.squeeze(1).unsqueeze(-1));
    check(&[2, 1, 3], |x| x.broadcast_to(&[2, 2, 4, 3]));
    check(&[1], |x| x.reshape(&[]));
    check(&[0, 3], |x| x.reshape(&[3, 0]).transpose(0, 1));
    check(&[0, 1], |x| x.broadcast_to(&[2, 0, 3]));
}

#[test]
fn slices() {
    check(&[5, 6], |x| x.slice(0, 1, Some(4), 1));
    check(&[5, 6], |x| x.slice(0, 0, None, 2).slice(1, -3, None, 1));
    check(&[2, 7, 3], |x| x.slice(1, 1, Some(100), 3));
    check(&[4, 2], |x| x.slice(0, 2, Some(2), 1));
    check(&[4, 2], |x| x.slice(0, 100, None, 3));
    check(&[4, 2], |x| x.slice(-1, -100, None, 1));
    check(&[4, 5], |x| x.narrow(-1, 2, 3));
    // Slices that overlap.
    check(&[5, 2], |x| x.slice(0, 0, Some(4), 1) * x.slice(0, 1, None, 1));
}

#[test]
fn joins_and_cuts() {
    let (a, b, c) = (random(&[2, 3], 1), random(&[1, 2], 2).transpose(0, 1), random(&[2, 0], 3));
    gradcheck(&[a.clone(), b, c], |v| Var::concat(&[&v[0], &v[1], &v[2], &v[0]], -1));
    gradcheck(&[a.clone(), random(&[4, 3], 4)], |v| Var::concat(&[&v[1], &v[0]], 0));
    gradcheck(&[a.clone(), random(&[3, 2], 4).transpose(0, 1)], |v| {
        Var::stack(&[&v[0], &v[1], &v[0]], -1)
    });
    gradcheck(&[random(&[], 1), random(&[], 2)], |v| Var::stack(&[&v[0], &v[1]], 0));
    gradcheck(&[random(&[0, 2], 1)], |v| Var::stack(&[&v[0], &v[0]], 1));
    check(&[2, 6], |x| {
        let parts = x.split(&[1, 0, 3, 2], 1);
        Var::concat(&[&parts[3], &parts[0], &parts[1], &parts[2]], 1)
    });
    // A part that nobody uses.
    check(&[5, 2], |x| {
        let parts = x.split(&[2, 2, 1], 0);
        &parts[0] * &parts[2]
    });
}

#[test]
fn a_split_is_the_same_as_slices() {
    let x = random(&[3, 4, 6], 9);
    let upstream = random(&[3, 4, 2], 10);
    let run = |f: fn(&Var) -> Vec<Var>| {
        let tape = Tape::training(0, 0);
        let leaf = tape.leaf(x.clone());
        let parts = f(&leaf);
        let outputs: Vec<(&Var, Tensor)> = parts.iter().map(|p| (p, upstream.clone())).collect();
        let grads = tape.backward(&outputs);
        (
            parts.iter().map(|p| p.value().to_vec::<f64>()).collect::<Vec<_>>(),
            grads.wrt(&leaf).unwrap().to_vec::<f64>(),
        )
    };
    let slices = run(|x| (0..3).map(|i| x.slice(-1, 2 * i, Some(2 * i + 2), 1)).collect());
    assert_eq!(run(|x| x.split(&[2, 2, 2], -1)), slices);
}
