//! Gradients of look-ups by index and choices by mask.

use gradus_autograd::{
    Tape, Tensor, Var,
    check::{gradcheck, random},
};

fn index(data: &[i64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(data, shape)
}

#[test]
fn gathers() {
    let i = index(&[0, 2, 2, 1, 1, 1], &[3, 2]);
    for x in [random(&[3, 4], 1), random(&[4, 3], 2).transpose(0, 1)] {
        gradcheck(std::slice::from_ref(&x), |v| v[0].gather(0, &i));
        gradcheck(std::slice::from_ref(&x), |v| v[0].gather(-1, &i));
        gradcheck(std::slice::from_ref(&x), |v| v[0].gather(1, &index(&[3, 0], &[1, 2])));
        gradcheck(&[x], |v| v[0].gather(1, &i) * v[0].gather(0, &i));
    }
    let i = index(&(0..28).map(|i| i * 7 % 4).collect::<Vec<_>>(), &[2, 7, 2]);
    gradcheck(&[random(&[3, 4, 2], 3)], |v| v[0].gather(1, &i));
    gradcheck(&[random(&[2, 3], 4)], |v| v[0].gather(0, &index(&[], &[0, 3])));
    // Indices that are a view.
    gradcheck(&[random(&[3, 2], 5)], |v| {
        v[0].gather(0, &index(&[0, 2, 1, 1, 0, 2], &[2, 3]).transpose(0, 1))
    });
}

#[test]
fn a_scalar_gathers_as_a_vector_of_one() {
    gradcheck(&[Tensor::scalar(0.5f64)], |v| v[0].gather(0, &index(&[0], &[])));
    gradcheck(&[Tensor::scalar(0.5f64)], |v| v[0].gather(-1, &index(&[0, 0, 0], &[3])));
    gradcheck(&[random(&[3], 6)], |v| v[0].gather(0, &index(&[2], &[])));
}

#[test]
fn selections() {
    let i = index(&[2, 0, 2, 1], &[4]);
    for (shape, dim) in [(&[3, 2][..], 0), (&[2, 3], 1), (&[2, 4, 2], -2), (&[3], 0), (&[3, 0], 0)]
    {
        gradcheck(&[random(shape, 1)], |v| v[0].index_select(dim, &i));
    }
    gradcheck(&[random(&[2, 3], 1).transpose(0, 1)], |v| {
        v[0].index_select(0, &i) * v[0].index_select(0, &i)
    });
    gradcheck(&[random(&[3, 2], 1)], |v| v[0].index_select(0, &index(&[], &[0])));
}

#[test]
fn embeddings() {
    for (shape, data) in [(&[2, 2][..], &[1i64, 0, 1, 3][..]), (&[], &[2]), (&[0, 2], &[])] {
        let i = index(data, shape);
        gradcheck(&[random(&[4, 3], 1)], |v| v[0].embedding(&i, None));
        gradcheck(&[random(&[3, 4], 1).transpose(0, 1)], |v| v[0].embedding(&i, None));
    }
    let i = index(&[1, 3, 1, 0], &[4]);
    for padding in [1, -3] {
        let tape = Tape::training(0, 0);
        let w = tape.leaf(random(&[4, 2], 1));
        let y = w.embedding(&i, Some(padding));
        assert_eq!(
            y.value().slice(0, 0, Some(1), 1).to_vec::<f64>(),
            w.value().slice(0, 1, Some(2), 1).to_vec::<f64>()
        );
        let g = tape.backward(&[(&y, Tensor::ones(&[4, 2], y.dtype()))]);
        assert_eq!(g.wrt(&w).unwrap().to_vec::<f64>(), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    }
}

#[test]
fn choices() {
    let mask = |data: &[u8], shape: &[usize]| Tensor::from_slice(data, shape);
    let full = mask(&[1, 0, 0, 1, 1, 0], &[2, 3]);
    let row = mask(&[0, 1, 1], &[3]);
    for cond in [&full, &row] {
        gradcheck(&[random(&[2, 3], 1), random(&[3, 2], 2).transpose(0, 1)], |v| {
            Var::where_cond(cond, &v[0], &v[1])
        });
        gradcheck(&[random(&[], 1), random(&[2, 1], 2)], |v| Var::where_cond(cond, &v[0], &v[1]));
        gradcheck(&[random(&[2, 3], 1)], |v| Var::where_cond(cond, &v[0], &v[0].mul_scalar(2.0)));
    }
    gradcheck(&[random(&[0, 3], 1), random(&[3], 2)], |v| Var::where_cond(&row, &v[0], &v[1]));
}

#[test]
fn what_is_not_taken_does_not_leak() {
    let tape = Tape::training(0, 0);
    let x = tape.leaf(Tensor::from_slice(&[4.0, -1.0], &[2]));
    let cond = Tensor::from_slice(&[1u8, 0], &[2]);
    let nan = tape.constant(Tensor::from_slice(&[f64::NAN, 7.0], &[2]));
    let y = Var::where_cond(&cond, &x, &nan);
    assert_eq!(y.value().to_vec::<f64>(), [4.0, 7.0]);
    let g = tape.backward(&[(&y, Tensor::from_slice(&[1.0, f64::INFINITY], &[2]))]);
    assert_eq!(g.wrt(&x).unwrap().to_vec::<f64>(), [1.0, 0.0]);
}

#[test]
#[should_panic(expected = "embedding: padding_idx 4 in a table of 4 rows")]
fn a_padding_row_that_does_not_exist_panics() {
    let _ = Tape::evaluation().constant(random(&[4, 2], 1)).embedding(&index(&[0], &[1]), Some(4));
}
