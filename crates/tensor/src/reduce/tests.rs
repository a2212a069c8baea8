use gradus_core::DType;

use super::*;

/// Numbers that have nothing to do with each other, and whose f64 sums are exact.
fn noise(n: usize) -> Vec<f64> {
    (0..n as u64)
        .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1 << 24) as f64 - 0.375)
        .collect()
}

fn tensor(shape: &[usize], dtype: DType) -> Tensor {
    Tensor::from_slice(&noise(shape.iter().product()), shape).to_dtype(dtype)
}

/// The plain way: every element goes to where its index, without the reduced dimensions, says.
fn naive(t: &Tensor, dims: &[usize], start: f64, op: fn(f64, f64) -> f64) -> Vec<f64> {
    let mut shape = t.shape().to_vec();
    dims.iter().for_each(|&d| shape[d] = 1);
    let mut out = vec![start; shape.iter().product()];
    for (i, x) in t.to_dtype(DType::F64).to_vec::<f64>().into_iter().enumerate() {
        let (mut rest, mut at, mut step) = (i, 0, 1);
        for d in (0..t.ndim()).rev() {
            let index = rest % t.shape()[d];
            rest /= t.shape()[d];
            at += if shape[d] == 1 { 0 } else { index * step };
            step *= shape[d];
        }
        out[at] = op(out[at], x);
    }
    out
}

fn near(got: &Tensor, want: &[f64], tolerance: f64) {
    let got = got.to_dtype(DType::F64).to_vec::<f64>();
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * (1.0 + w.abs()), "element {i}: {g}, want {w}");
    }
}

#[test]
fn every_path_adds_the_right_elements() {
    let cases: &[(&[usize], &[isize])] = &[
        (&[], &[]),
        (&[7], &[]),
        (&[3, 4], &[0]),
        (&[3, 4], &[-1]),
        (&[2, 3, 4], &[-1, 0]),
        (&[2, 3, 4, 5], &[0, 2]),
        (&[2, 3, 4, 5], &[0, 2, 3]),
        (&[1, 3, 1, 5], &[0, 2]),
        (&[5, 1, 7], &[1]),
        (&[3000, 3], &[0]),
        (&[3001, 100], &[0]),
        (&[257, 300], &[0]),
        (&[5, 70_000], &[1]),
        (&[40, 5000], &[0]),
        (&[2, 70_000, 2], &[1]),
        (&[200_003], &[0]),
        (&[3, 65_537], &[]),
    ];
    for &(shape, dims) in cases {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 3e-7)] {
            let t = tensor(shape, dtype);
            let along = normalize_dims("sum", dims, shape.len());
            near(&t.sum(dims, false), &naive(&t, &along, 0.0, |a, b| a + b), tolerance);
            near(&t.amax(dims, true), &naive(&t, &along, f64::NEG_INFINITY, f64::max), 0.0);
            near(&t.amin(dims, true), &naive(&t, &along, f64::INFINITY, f64::min), 0.0);
            assert_eq!(t.sum(dims, true).ndim(), shape.len());
        }
    }
}

#[test]
fn views_reduce_as_their_copies_do() {
    let t = tensor(&[6, 5, 4], DType::F64);
    for view in
        [t.transpose(0, 2), t.slice(1, 1, None, 2), t.narrow(0, 2, 1).broadcast_to(&[3, 5, 4])]
    {
        let copy = view.to_contiguous();
        for dims in [&[0isize][..], &[1], &[2], &[0, 2], &[]] {
            assert_eq!(
                view.sum(dims, false).to_vec::<f64>(),
                copy.sum(dims, false).to_vec::<f64>()
            );
        }
        assert_eq!(view.cumsum(1).to_vec::<f64>(), copy.cumsum(1).to_vec::<f64>());
        assert_eq!(
            view.argmax(Some(0), false).to_vec::<i64>(),
            copy.argmax(Some(0), false).to_vec::<i64>()
        );
    }
}

#[test]
fn nothing_adds_up_to_zero_and_averages_to_nan() {
    let t = Tensor::zeros(&[0, 3], DType::F32);
    assert_eq!(t.sum(&[0], false).to_vec::<f32>(), [0.0; 3]);
    assert_eq!(t.sum(&[], false).item(), 0.0);
    assert_eq!(t.sum(&[1], true).shape(), [0, 1]);
    assert!(t.mean(&[0], false).to_vec::<f32>().iter().all(|x| x.is_nan()));
    assert!(t.var(&[], 0, false).item().is_nan());
    assert_eq!(t.amax(&[1], false).shape(), [0]);
    assert_eq!(t.cumsum(0).shape(), [0, 3]);
}

#[test]
fn a_long_f32_sum_keeps_its_digits() {
    let n = 3_000_000;
    let t = Tensor::full(&[n], 0.1, DType::F32);
    let want = n as f64 * f64::from(0.1f32);
    assert!((t.sum(&[], false).item() - want).abs() / want < 1e-7);
    let tall = t.view(&[n / 3, 3]).sum(&[0], false).to_vec::<f32>();
    assert!(tall.iter().all(|&s| (f64::from(s) - want / 3.0).abs() / want < 1e-7));
}

#[test]
fn threads_and_instruction_sets_do_not_change_a_bit() {
    use crate::simd;
    let all = || -> Vec<Vec<f32>> {
        let (flat, tall, wide) = (tensor(&[300_000], DType::F32), [100_000, 3], [20, 15_000]);
        vec![
            flat.sum(&[], false).to_vec(),
            flat.view(&tall).sum(&[0], false).to_vec(),
            flat.view(&wide).sum(&[0], false).to_vec(),
            flat.view(&[3000, 100]).sum(&[0], false).to_vec(),
            flat.view(&tall).softmax(0).to_vec(),
            flat.view(&wide).logsumexp(&[1], false).to_vec(),
            flat.view(&wide).log_softmax(1).to_vec(),
        ]
    };
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let alone = pool(1).install(all);
    assert_eq!(pool(3).install(all), alone);
    let widest = simd::level();
    for level in [simd::Level::Portable, simd::Level::Avx2, simd::Level::Avx512] {
        simd::force(level);
        assert_eq!(all(), alone, "{level:?}");
    }
    simd::force(widest);
}

#[test]
fn extremes_take_the_first_of_equals_and_any_nan() {
    let nan = f32::NAN;
    let t = Tensor::from_slice(&[1f32, 5.0, 5.0, 2.0, 3.0, nan, 9.0, nan], &[2, 4]);
    let (values, index) = t.max_dim(1, false);
    assert_eq!(index.to_vec::<i64>(), [1, 1]);
    assert_eq!(values.to_vec::<f32>()[0], 5.0);
    assert!(values.to_vec::<f32>()[1].is_nan() && t.amin(&[1], false).to_vec::<f32>()[1].is_nan());
    assert_eq!(t.min_dim(-1, true).1.to_vec::<i64>(), [0, 1]);
    assert_eq!(t.argmax(None, false).item(), 5.0);
    assert_eq!(t.argmax(None, true).shape(), [1, 1]);
    assert_eq!(t.argmax(Some(0), true).shape(), [1, 4]);
    assert_eq!(t.argmax(Some(0), true).to_vec::<i64>(), [1, 1, 1, 1]);
    let low = Tensor::full(&[3, 40], f64::NEG_INFINITY, DType::F32);
    assert_eq!(low.max_dim(1, false).1.to_vec::<i64>(), [0, 0, 0]);
    assert_eq!(low.amax(&[0], false).to_vec::<f32>(), [f32::NEG_INFINITY; 40]);
}

#[test]
fn variance_survives_a_large_mean() {
    let t = Tensor::from_slice(&[10_000.0f32, 10_001.0, 10_002.0, 10_003.0], &[4]);
    assert_eq!(t.var(&[], 1, false).item(), f64::from(5f32 / 3.0));
    assert_eq!(t.var(&[0], 0, true).to_vec::<f32>(), [1.25]);
    assert!(Tensor::scalar(2f32).var(&[], 1, false).item().is_nan());
    assert_eq!(t.var(&[], 4, false).item(), f64::INFINITY);
}

#[test]
fn running_sums_run_both_ways() {
    let t = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
    assert_eq!(t.cumsum(1).to_vec::<f32>(), [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
    assert_eq!(t.cumsum(0).to_vec::<f32>(), [1.0, 2.0, 3.0, 5.0, 7.0, 9.0]);
    assert_eq!(t.cumsum_reversed(-1).to_vec::<f32>(), [6.0, 5.0, 3.0, 15.0, 11.0, 6.0]);
}

#[test]
fn sum_to_undoes_broadcasting() {
    let t = tensor(&[2, 3, 4], DType::F64);
    for shape in [&[2usize, 3, 4][..], &[3, 4], &[4], &[1], &[], &[1, 3, 1], &[2, 1, 4], &[3, 1]] {
        let y = t.sum_to(shape);
        assert_eq!(y.shape(), shape);
        assert!((y.sum(&[], false).item() - t.sum(&[], false).item()).abs() < 1e-12);
        assert_eq!(y.broadcast_to(t.shape()).shape(), t.shape());
    }
    assert_eq!(Tensor::zeros(&[0, 3], DType::F32).sum_to(&[3]).to_vec::<f32>(), [0.0; 3]);
    assert_eq!(Tensor::zeros(&[0], DType::F32).sum_to(&[1]).to_vec::<f32>(), [0.0]);
}

#[test]
#[should_panic(expected = "sum_to: shape [2] does not broadcast to [3]")]
fn sum_to_a_shape_that_does_not_fit_panics() {
    let _ = Tensor::zeros(&[3], DType::F32).sum_to(&[2]);
}

#[test]
#[should_panic(expected = "amax: nothing to choose from along [0] of shape [0, 2]")]
fn an_extreme_of_nothing_panics() {
    let _ = Tensor::zeros(&[0, 2], DType::F32).amax(&[0], false);
}
