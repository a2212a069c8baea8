//! Scaled dot-product attention against central differences.

use gradus_autograd::{
    DType, Tape, Tensor, Var,
    check::{gradcheck, random},
};
use gradus_tensor::AttentionOptions;

fn attend(v: &[Var], options: &AttentionOptions) -> Var {
    v[0].scaled_dot_product_attention(&v[1], &v[2], options)
}

fn inputs(b: usize, h: usize, lq: usize, lk: usize, d: usize, dv: usize) -> [Tensor; 3] {
    [random(&[b, h, lq, d], 1), random(&[b, h, lk, d], 2), random(&[b, h, lk, dv], 3)]
}

#[test]
fn masks_scales_and_sizes() {
    let plain = AttentionOptions::new();
    for [b, h, lq, lk, d, dv] in [
        [2, 2, 3, 4, 5, 2],
        [1, 1, 1, 1, 1, 1],
        [1, 2, 5, 3, 2, 4],
        [0, 2, 3, 3, 2, 2],
        [1, 1, 70, 67, 2, 1],
    ] {
        let x = inputs(b, h, lq, lk, d, dv);
        gradcheck(&x, |v| attend(v, &plain));
        gradcheck(&x, |v| attend(v, &plain.clone().with_causal(true).with_scale(0.7)));
        let bytes: Vec<u8> = (0..lq * lk).map(|i| u8::from(i % 3 != 0)).collect();
        let mask = Tensor::from_slice(&bytes, &[lq, lk]);
        gradcheck(&x, |v| attend(v, &plain.clone().with_mask(mask.clone())));
        let added = random(&[h, lq, lk], 5);
        gradcheck(&x, |v| attend(v, &plain.clone().with_mask(added.clone()).with_causal(true)));
    }
}

#[test]
fn operands_that_are_views_or_the_same() {
    let qkv = random(&[2, 4, 3, 2, 3], 9);
    gradcheck(&[qkv], |v| {
        let part = |i| v[0].narrow(2, i, 1).squeeze(2).transpose(1, 2);
        attend(&[part(0), part(1), part(2)], &AttentionOptions::new().with_causal(true))
    });
    gradcheck(&[random(&[1, 2, 3, 4], 8)], |v| {
        attend(&[v[0].clone(), v[0].clone(), v[0].clone()], &AttentionOptions::new())
    });
}

#[test]
fn rows_without_a_key_are_zero_and_so_are_their_gradients() {
    let tape = Tape::training(0, 0);
    let x = inputs(1, 1, 2, 2, 3, 3).map(|t| tape.leaf(t));
    let mask = Tensor::from_slice(&[0u8, 0, 1, 0], &[2, 2]);
    let y = attend(&x, &AttentionOptions::new().with_mask(mask));
    assert_eq!(y.value().to_vec::<f64>()[..3], [0.0; 3]);
    let grads = tape.backward(&[(&y, Tensor::ones(&[1, 1, 2, 3], DType::F64))]);
    assert_eq!(grads.wrt(&x[0]).unwrap().to_vec::<f64>()[..3], [0.0; 3]);
    for v in &x {
        assert!(grads.wrt(v).unwrap().to_vec::<f64>().iter().all(|g| g.is_finite()));
    }
}
