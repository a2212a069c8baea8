//! Convolutions against central differences.

use gradus_autograd::{
    Tape,
    check::{gradcheck, random},
};
use gradus_tensor::ConvOptions;

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
        v[0].slice(1, 0, None, 1).conv2d(
            &v[1].slice(1, 0, Some(2), 1),
            None,
            ConvOptions::default(),
        )
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
    gradcheck(&[random(&[1, 1, 1], 1), random(&[1, 1, 1], 2)], |v| {
        v[0].conv1d(&v[1], None, ConvOptions::default())
    });
}

#[test]
fn conv1d_has_the_values_of_conv2d() {
    let tape = Tape::evaluation();
    let [x, w, b] =
        [random(&[2, 4, 9], 1), random(&[6, 2, 3], 2), random(&[6], 3)].map(|t| tape.constant(t));
    let options = ConvOptions::<1>::default().with_stride([2]).with_padding([1]).with_groups(2);
    let y = x.conv1d(&w, Some(&b), options);
    let wide = ConvOptions::<2>::default().with_stride([1, 2]).with_padding([0, 1]).with_groups(2);
    let want = x.unsqueeze(2).conv2d(&w.unsqueeze(2), Some(&b), wide);
    assert_eq!(y.shape(), [2, 6, 5]);
    assert_eq!(y.value().to_vec::<f64>(), want.value().to_vec::<f64>());
}

#[test]
#[should_panic(expected = "conv1d: input [1, 2, 3, 4] and weight [2, 2, 3] have to be 3-d")]
fn conv1d_of_images_panics() {
    let tape = Tape::evaluation();
    let [x, w] = [random(&[1, 2, 3, 4], 1), random(&[2, 2, 3], 2)].map(|t| tape.constant(t));
    let _ = x.conv1d(&w, None, ConvOptions::default());
}
