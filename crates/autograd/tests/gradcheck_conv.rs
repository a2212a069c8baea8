//! Convolutions and pooling against central differences.

use gradus_autograd::{
    Tensor, Var,
    check::{gradcheck, random},
};
use gradus_tensor::{AvgPoolOptions, ConvOptions, MaxPoolOptions};

fn conv(x: &[usize], w: &[usize], options: ConvOptions<2>) {
    let inputs = [random(x, 1), random(w, 2), random(&w[..1], 3)];
    gradcheck(&inputs, |v| v[0].conv2d(&v[1], Some(&v[2]), options));
    gradcheck(&inputs[..2], |v| v[0].conv2d(&v[1], None, options));
}

#[test]
fn conv2d_with_every_option() {
    let plain = ConvOptions::default();
    conv(&[2, 3, 5, 4], &[4, 3, 3, 2], plain);
    conv(&[1, 2, 5, 5], &[2, 2, 1, 1], plain);
    conv(&[2, 2, 6, 5], &[3, 2, 3, 3], plain.with_stride([2, 1]).with_padding([1, 2]));
    conv(&[1, 2, 7, 7], &[2, 2, 3, 2], plain.with_dilation([2, 3]).with_padding([2, 1]));
    conv(&[2, 4, 4, 4], &[6, 2, 3, 3], plain.with_groups(2).with_padding([1, 1]));
    conv(&[1, 3, 4, 4], &[3, 1, 2, 2], plain.with_groups(3).with_stride([2, 2]));
    conv(&[0, 2, 4, 4], &[3, 2, 3, 3], plain);
}

#[test]
fn conv2d_of_views_and_of_one_operand_twice() {
    let view = random(&[4, 5, 2, 3], 4).permute(&[3, 2, 0, 1]);
    gradcheck(&[view, random(&[3, 3, 2, 2], 5).transpose(0, 1)], |v| {
        v[0].slice(1, 0, None, 1).conv2d(&v[1].slice(1, 0, Some(2), 1), None, ConvOptions::default())
    });
    gradcheck(&[random(&[2, 2, 3, 3], 6)], |v| {
        v[0].conv2d(&v[0], None, ConvOptions::default().with_padding([1, 1]))
    });
}

#[test]
fn conv1d_is_a_flat_conv2d() {
    let options = ConvOptions::<1>::default().with_stride([2]).with_padding([1]).with_dilation([2]);
    let inputs = [random(&[2, 4, 9], 1), random(&[6, 2, 3], 2), random(&[6], 3)];
    gradcheck(&inputs, |v| v[0].conv1d(&v[1], Some(&v[2]), options.with_groups(2)));
    gradcheck(&[random(&[1, 1, 1], 1), random(&[1, 1, 1], 2)], |v| v[0].conv1d(&v[1], None, ConvOptions::default()));
}

fn pool(x: Tensor, f: impl Fn(&Var) -> Var) {
    gradcheck(std::slice::from_ref(&x), |v| f(&v[0]));
    gradcheck(&[x.transpose(2, 3).to_contiguous().transpose(2, 3)], |v| &f(&v[0]) * &f(&v[0]));
}

#[test]
fn pooling() {
    for shape in [&[2, 3, 6, 5][..], &[1, 1, 4, 4], &[0, 2, 4, 4]] {
        let x = || random(shape, 7);
        pool(x(), |v| v.max_pool2d(MaxPoolOptions::new([2, 2])));
        pool(x(), |v| v.max_pool2d(MaxPoolOptions::new([3, 2]).with_stride([1, 2]).with_padding([1, 1]).with_ceil_mode(true)));
        pool(x(), |v| v.max_pool2d(MaxPoolOptions::new([2, 2]).with_dilation([2, 2]).with_stride([1, 1])));
        pool(x(), |v| v.avg_pool2d(AvgPoolOptions::new([2, 3]).with_padding([1, 1])));
        pool(x(), |v| v.avg_pool2d(AvgPoolOptions::new([3, 3]).with_padding([1, 1]).with_count_include_pad(false)));
        pool(x(), |v| v.avg_pool2d(AvgPoolOptions::new([2, 2]).with_ceil_mode(true).with_divisor_override(3)));
        pool(x(), |v| v.adaptive_avg_pool2d([3, 2]));
        pool(x(), |v| v.adaptive_avg_pool2d([1, 1]));
    }
}
