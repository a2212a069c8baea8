//! Laws of reductions and softmax, for any shape and any numbers.

use gradus_tensor::{DType, Tensor};
use proptest::prelude::*;

/// A tensor of one to three dimensions, possibly empty, and one of its dimensions.
fn tensors() -> impl Strategy<Value = (Tensor, isize)> {
    prop::collection::vec(0usize..6, 1..4).prop_flat_map(|shape| {
        let n: usize = shape.iter().product();
        let (data, dim) = (prop::collection::vec(-20.0f64..20.0, n), 0..shape.len() as isize);
        (data, dim).prop_map(move |(data, dim)| (Tensor::from_slice(&data, &shape), dim))
    })
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.mul(b).to_vec::<f64>().iter().sum()
}

fn near(a: &Tensor, b: &Tensor) -> bool {
    a.shape() == b.shape()
        && a.to_vec::<f64>()
            .iter()
            .zip(b.to_vec::<f64>())
            .all(|(a, b)| *a == b || (a - b).abs() <= 1e-9 * (1.0 + b.abs()))
}

proptest! {
    #[test]
    fn sums_of_sums_are_sums((t, dim) in tensors()) {
        prop_assert!(near(&t.sum(&[dim], false).sum(&[], false), &t.sum(&[], false)));
        prop_assert!(near(&t.sum(&[dim], true), &t.sum(&[dim - t.ndim() as isize], true)));
        prop_assert!(near(&t.transpose(0, -1).sum(&[], true), &t.sum(&[], true)));
    }

    #[test]
    fn sum_to_is_the_adjoint_of_broadcasting((t, dim) in tensors()) {
        let small = t.sum(&[dim], true);
        let there = dot(&small.broadcast_to(t.shape()), &t);
        let back = dot(&small, &t.sum_to(small.shape()));
        prop_assert!((there - back).abs() <= 1e-9 * (1.0 + back.abs()));
    }

    #[test]
    fn running_sums_are_adjoint_to_those_from_the_end_and_end_in_the_sum((t, dim) in tensors()) {
        let (forth, back) = (dot(&t.cumsum(dim), &t), dot(&t, &t.cumsum_reversed(dim)));
        prop_assert!((forth - back).abs() <= 1e-9 * (1.0 + back.abs()));
        if t.shape()[dim as usize] > 0 {
            let last = t.cumsum(dim).slice(dim, -1, None, 1);
            prop_assert!(near(&last, &t.sum(&[dim], true)));
        }
    }

    #[test]
    fn the_index_of_an_extreme_points_at_it((t, dim) in tensors()) {
        prop_assume!(t.shape()[dim as usize] > 0);
        let (values, index) = t.max_dim(dim, true);
        prop_assert!(near(&values, &t.amax(&[dim], true)));
        prop_assert!(near(&values.affine(-1.0, 0.0), &t.affine(-1.0, 0.0).min_dim(dim, true).0));
        let (rows, n) = (t.transpose(dim, -1).to_vec::<f64>(), t.shape()[dim as usize]);
        let (values, index) = (values.transpose(dim, -1).to_vec::<f64>(), index.transpose(dim, -1).to_vec::<i64>());
        for (row, (v, i)) in rows.chunks(n).zip(values.iter().zip(index)) {
            prop_assert_eq!(row[i as usize], *v);
        }
    }

    #[test]
    fn softmax_is_a_distribution_that_no_shift_changes((t, dim) in tensors(), shift in -1e3..1e3) {
        let p = t.softmax(dim);
        let total = p.sum(&[dim], false);
        if t.shape()[dim as usize] > 0 {
            prop_assert!(near(&total, &Tensor::ones(total.shape(), DType::F64)));
        }
        prop_assert!(near(&p, &t.affine(1.0, shift).softmax(dim)));
        prop_assert!(near(&t.sub(&t.logsumexp(&[dim], true)), &t.log_softmax(dim)));
    }

    #[test]
    fn variance_scales_with_the_square_and_ignores_a_shift((t, dim) in tensors(), k in -3.0..3.0, shift in -1e2..1e2) {
        prop_assume!(t.shape()[dim as usize] > 1);
        let want = t.var(&[dim], 1, false).affine(k * k, 0.0);
        prop_assert!(near(&t.affine(k, shift).var(&[dim], 1, false), &want));
    }
}
