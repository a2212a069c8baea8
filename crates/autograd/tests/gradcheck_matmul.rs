//! Gradients of matrix products.

use gradus_autograd::{
    Tape, Tensor, Var,
    check::{gradcheck, random},
};

/// Both orders of memory for a value of this shape.
fn layouts(shape: &[usize], seed: u64) -> Vec<Tensor> {
    let dense = random(shape, seed);
    if shape.len() < 2 {
        return vec![dense];
    }
    vec![dense.transpose(-1, -2).to_contiguous().transpose(-1, -2), dense]
}

#[test]
fn products() {
    let shapes: [(&[usize], &[usize]); 14] = [
        (&[3, 4], &[4, 2]),
        (&[4], &[4]),
        (&[3, 4], &[4]),
        (&[4], &[4, 2]),
        (&[2, 3, 4], &[2, 4, 2]),
        (&[2, 1, 3, 4], &[3, 4, 2]),
        (&[2, 3, 4], &[4, 2]),
        (&[3, 4], &[2, 4, 2]),
        (&[2, 3, 4], &[4]),
        (&[4], &[2, 4, 3]),
        (&[1, 1], &[1, 1]),
        (&[3, 0], &[0, 2]),
        (&[0, 2, 3], &[3, 2]),
        (&[2, 0, 3], &[2, 3, 1]),
    ];
    for (a, b) in shapes {
        for a in layouts(a, 1) {
            for b in layouts(b, 2) {
                gradcheck(&[a.clone(), b], |v| v[0].matmul(&v[1]));
            }
        }
    }
}

#[test]
fn one_value_as_both_operands() {
    gradcheck(&[random(&[3, 3], 1)], |v| v[0].matmul(&v[0]));
    gradcheck(&[random(&[2, 3], 1)], |v| v[0].matmul(&v[0].transpose(0, 1)));
    gradcheck(&[random(&[4], 1)], |v| v[0].matmul(&v[0]));
}

#[test]
fn views_of_a_batch() {
    // A gradient that arrives as a view, and operands that are heads of one projection.
    gradcheck(&[random(&[2, 3, 2, 4], 1)], |v| {
        let heads = v[0].permute(&[0, 2, 1, 3]);
        heads.matmul(&heads.transpose(-1, -2)).permute(&[0, 2, 3, 1])
    });
    gradcheck(&[random(&[3, 2, 4], 1), random(&[4, 2], 2)], |v| {
        v[0].transpose(0, 1).matmul(&v[1]).transpose(0, 2)
    });
    gradcheck(
        &[random(&[5, 6], 1).slice(0, 1, None, 2).slice(1, 0, None, 2), random(&[3, 2], 2)],
        |v| v[0].matmul(&v[1]),
    );
}

#[test]
fn linear() {
    for shape in [&[3][..], &[2, 3], &[2, 2, 3], &[0, 3], &[1, 3]] {
        for x in layouts(shape, 1) {
            for w in layouts(&[4, 3], 2) {
                gradcheck(&[x.clone(), w.clone()], |v| v[0].linear(&v[1], None));
                gradcheck(&[x.clone(), w, random(&[4], 3)], |v| v[0].linear(&v[1], Some(&v[2])));
            }
        }
    }
    gradcheck(&[random(&[2, 0], 1), random(&[3, 0], 2), random(&[3], 3)], |v| {
        v[0].linear(&v[1], Some(&v[2]))
    });
    gradcheck(&[random(&[3, 3], 1), random(&[3], 2)], |v| v[0].linear(&v[0], Some(&v[1])));
}

#[test]
fn linear_is_the_product_with_the_transpose_plus_the_bias() {
    let (x, w, b) = (random(&[2, 5, 3], 1), random(&[4, 3], 2), random(&[4], 3));
    let upstream = random(&[2, 5, 4], 4);
    let run = |f: fn(&Var, &Var, &Var) -> Var| {
        let tape = Tape::training(0, 0);
        let vars = [&x, &w, &b].map(|t| tape.leaf(t.clone()));
        let y = f(&vars[0], &vars[1], &vars[2]);
        let grads = tape.backward(&[(&y, upstream.clone())]);
        let mut all = y.value().to_vec::<f64>();
        for v in &vars {
            all.extend(grads.wrt(v).unwrap().to_vec::<f64>());
        }
        all
    };
    let fused = run(|x, w, b| x.linear(w, Some(b)));
    let plain = run(|x, w, b| x.matmul(&w.transpose(0, 1)) + b);
    assert_eq!(fused.len(), plain.len());
    for (a, b) in fused.iter().zip(&plain) {
        assert!((a - b).abs() < 1e-13, "{a} and {b}");
    }
}

#[test]
fn only_wanted_gradients_are_computed() {
    let tape = Tape::training(0, 0);
    let x = tape.constant(random(&[2, 3], 1));
    let (w, b) = (tape.leaf(random(&[4, 3], 2)), tape.constant(random(&[4], 3)));
    let y = x.linear(&w, Some(&b));
    let grads = tape.backward(&[(&y, Tensor::ones(&[2, 4], y.dtype()))]);
    assert!(grads.wrt(&w).is_some() && grads.wrt(&x).is_none() && grads.len() == 1);
}

#[test]
#[should_panic(expected = "linear: an input of shape [2, 3] and a weight of shape [4, 2]")]
fn a_weight_that_does_not_fit_panics() {
    let tape = Tape::evaluation();
    let _ = tape.constant(random(&[2, 3], 1)).linear(&tape.constant(random(&[4, 2], 2)), None);
}
