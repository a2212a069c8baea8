//! Pooling against central differences.

use gradus_autograd::{
    Tape, Tensor, Var,
    check::{gradcheck, random},
};
use gradus_tensor::{AvgPoolOptions, MaxPoolOptions};

/// As it is, and through a transposed view whose result is used twice.
fn check(shape: &[usize], f: impl Fn(&Var) -> Var) {
    let x = random(shape, 7);
    gradcheck(std::slice::from_ref(&x), |v| f(&v[0]));
    gradcheck(&[x.transpose(2, 3).to_contiguous().transpose(2, 3)], |v| &f(&v[0]) * &f(&v[0]));
}

const SHAPES: [&[usize]; 5] =
    [&[2, 3, 6, 5], &[1, 1, 4, 4], &[1, 2, 3, 2], &[0, 2, 4, 4], &[2, 0, 4, 4]];

#[test]
fn max_pool2d() {
    let tiles = MaxPoolOptions::new([2, 2]);
    for shape in SHAPES {
        check(shape, |v| v.max_pool2d(tiles));
        check(shape, |v| v.max_pool2d(tiles.with_ceil_mode(true)));
        check(shape, |v| {
            v.max_pool2d(tiles.with_stride([1, 1]).with_padding([1, 1]).with_dilation([2, 1]))
        });
        check(shape, |v| {
            v.max_pool2d(MaxPoolOptions::new([3, 2]).with_stride([1, 2]).with_padding([1, 1]))
        });
        check(shape, |v| v.max_pool2d(MaxPoolOptions::new([1, 1])));
    }
    check(&[1, 1, 1, 1], |v| v.max_pool2d(MaxPoolOptions::new([3, 3]).with_padding([1, 1])));
    check(&[1, 1, 17, 18], |v| v.max_pool2d(MaxPoolOptions::new([16, 16]).with_stride([1, 1])));
}

#[test]
fn the_first_of_equals_takes_the_gradient() {
    for options in [MaxPoolOptions::new([2, 2]), MaxPoolOptions::new([2, 2]).with_ceil_mode(true)] {
        let tape = Tape::training(0, 0);
        let x = tape.leaf(Tensor::from_slice(&[1f32, 2.0, 2.0, 2.0], &[1, 1, 2, 2]));
        let grads = x.max_pool2d(options).backward();
        assert_eq!(grads.wrt(&x).unwrap().to_vec::<f32>(), [0.0, 1.0, 0.0, 0.0]);
    }
}

#[test]
fn evaluation_gives_the_values_of_training() {
    let (x, options) = (random(&[2, 3, 7, 6], 1), MaxPoolOptions::new([3, 3]).with_stride([2, 2]));
    let trained = Tape::training(0, 0).leaf(x.clone()).max_pool2d(options);
    let plain = Tape::evaluation().leaf(x).max_pool2d(options);
    assert!(trained.is_tracked() && !plain.is_tracked());
    assert_eq!(trained.value().to_vec::<f64>(), plain.value().to_vec::<f64>());
}

#[test]
fn avg_pool2d() {
    for shape in SHAPES {
        check(shape, |v| v.avg_pool2d(AvgPoolOptions::new([2, 2])));
        check(shape, |v| v.avg_pool2d(AvgPoolOptions::new([2, 2]).with_padding([1, 1])));
        for include in [true, false] {
            let overlapping = AvgPoolOptions::new([3, 2]).with_stride([2, 1]).with_padding([1, 1]);
            check(shape, |v| {
                v.avg_pool2d(overlapping.with_ceil_mode(true).with_count_include_pad(include))
            });
        }
        check(shape, |v| {
            v.avg_pool2d(AvgPoolOptions::new([2, 2]).with_ceil_mode(true).with_divisor_override(3))
        });
    }
}

#[test]
fn adaptive_avg_pool2d() {
    for shape in SHAPES {
        for output in [[1, 1], [3, 2], [4, 5], [2, 0]] {
            check(shape, |v| v.adaptive_avg_pool2d(output));
        }
    }
}
