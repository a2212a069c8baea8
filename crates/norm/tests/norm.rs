//! Gradients in f64, moments of the output, running statistics, and the rules at the edges.

use gradus_autograd::{
    DType, Layer, Module, Tape, Tensor, Var,
    check::{gradcheck, random},
};
use gradus_norm::{
    BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Momentum, NormError, batch_norm,
    layer_norm,
};
use proptest::prelude::*;

fn bn(v: &[Var], given: Option<(&Tensor, &Tensor)>) -> Var {
    batch_norm(&v[0], v.get(1), v.get(2), given, 1e-5).expect("the batch is large enough").0
}

#[test]
fn batch_norm_gradients() {
    for shape in [&[5, 3][..], &[4, 3, 2], &[2, 3, 4, 5], &[3, 1, 1, 2], &[2, 40]] {
        let c = [shape[1]];
        let inputs = [random(shape, 1), random(&c, 2), random(&c, 3)];
        gradcheck(&inputs, |v| bn(v, None));
        gradcheck(&inputs[..1], |v| bn(v, None));
        let (mean, var) = (random(&c, 4), random(&c, 5).affine(0.4, 1.0));
        gradcheck(&inputs, |v| bn(v, Some((&mean, &var))));
    }
    // A view as input, and the input used twice.
    let view = random(&[3, 5], 6).transpose(0, 1);
    gradcheck(&[view, random(&[3], 7), random(&[3], 8)], |v| bn(v, None));
    gradcheck(&[random(&[4, 3], 9), random(&[3], 7), random(&[3], 8)], |v| &bn(v, None) * &v[0]);
    // No samples at all, with constant statistics.
    let (mean, var) = (random(&[3], 4), Tensor::ones(&[3], DType::F64));
    gradcheck(&[random(&[0, 3, 2], 1), random(&[3], 2), random(&[3], 3)], |v| {
        bn(v, Some((&mean, &var)))
    });
}

#[test]
fn layer_norm_gradients() {
    for (shape, normalized) in [
        (&[5, 7][..], &[7][..]),
        (&[2, 3, 4], &[3, 4]),
        (&[1, 1], &[1]),
        (&[0, 4], &[4]),
        (&[70, 3], &[3]),
    ] {
        let inputs = [random(shape, 1), random(normalized, 2), random(normalized, 3)];
        gradcheck(&inputs, |v| layer_norm(&v[0], normalized, Some(&v[1]), Some(&v[2]), 1e-5));
        gradcheck(&inputs[..2], |v| layer_norm(&v[0], normalized, Some(&v[1]), None, 1e-5));
        gradcheck(&inputs[..1], |v| layer_norm(&v[0], normalized, None, None, 1e-5));
    }
    let view = random(&[6, 4], 5).transpose(0, 1);
    gradcheck(&[view, random(&[6], 2), random(&[6], 3)], |v| {
        layer_norm(&v[0], &[6], Some(&v[1]), Some(&v[2]), 1e-5)
    });
    gradcheck(&[random(&[2, 4], 5), random(&[4], 2)], |v| {
        &layer_norm(&v[0], &[4], Some(&v[1]), None, 1e-5) + &v[0]
    });
}

#[test]
fn long_rows_on_a_large_mean_keep_their_digits() {
    let n = 100_000;
    let x: Vec<f32> = (0..n).map(|i| 999.3 + ((i * 7919) % 13) as f32 / 6.0).collect();
    let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let mean = wide.iter().sum::<f64>() / n as f64;
    let std = (wide.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64).sqrt();
    let tape = Tape::training(0, 0);
    let rows = tape.constant(Tensor::from_slice(&x, &[1, n]));
    let of_layer = layer_norm(&rows, &[n], None, None, 1e-5).into_value();
    let planes = tape.constant(Tensor::from_slice(&x, &[1, 1, n]));
    let of_batch = bn(&[planes], None).into_value();
    for y in [of_layer, of_batch] {
        for (y, x) in y.as_slice::<f32>().iter().zip(&wide) {
            let want = (x - mean) / std;
            // Half a unit in the last place of the mean is 3e-5.
            assert!((f64::from(*y) - want).abs() < 1e-3, "{y}, want {want}");
        }
    }
}

#[test]
fn running_statistics_follow_pytorch() {
    let layer = BatchNorm::new(1);
    let tape = Tape::training(0, 0);
    let x = tape.constant(Tensor::from_slice(&[1f32, 2.0, 3.0, 6.0], &[4, 1]));
    let y = layer.forward(&x).into_value().to_vec::<f32>();
    // Mean 3, biased variance 3.5, unbiased 14/3.
    assert!((y[3] - 3.0 / 3.5f32.sqrt()).abs() < 1e-5);
    let state = layer.snapshot();
    let get = |name: &str| state.get(name).unwrap().item();
    assert!((get("running_mean") - 0.3).abs() < 1e-7);
    assert!((get("running_var") - (0.9 + 0.1 * 14.0 / 3.0)).abs() < 1e-6);
    assert_eq!(get("num_batches_tracked"), 1.0);
    let tape = Tape::evaluation();
    let x = tape.constant(Tensor::from_slice(&[0.3f32], &[1, 1]));
    assert!(layer.forward(&x).item().abs() < 1e-6);
}

#[test]
fn an_empty_batch_counts_but_moves_nothing() {
    let layer = BatchNorm::new(2);
    let tape = Tape::training(0, 0);
    let x = tape.leaf(Tensor::zeros(&[0, 2, 3], DType::F32));
    let y = layer.try_forward(&x).unwrap();
    assert_eq!(y.shape(), [0, 2, 3]);
    let state = layer.snapshot();
    assert_eq!(state.get("running_mean").unwrap().to_vec::<f32>(), [0.0; 2]);
    assert_eq!(state.get("running_var").unwrap().to_vec::<f32>(), [1.0; 2]);
    assert_eq!(state.get("num_batches_tracked").unwrap().item(), 1.0);
    let weight = tape.leaf(Tensor::full(&[2], 1.0, DType::F32));
    let (y, _) = batch_norm(&x, Some(&weight), None, None, 1e-5).unwrap();
    let grads = tape.backward(&[(&y, Tensor::zeros(&[0, 2, 3], DType::F32))]);
    assert_eq!(grads.wrt(&weight).unwrap().to_vec::<f32>(), [0.0; 2]);
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let default = BatchNormConfig::default;
    for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        for momentum in [Momentum::New(bad), Momentum::Old(bad)] {
            let error = BatchNorm::with_config(2, default().with_momentum(momentum)).unwrap_err();
            assert_eq!(error.to_string(), format!("momentum has to lie in [0, 1], got {bad}"));
        }
    }
    for bad in [-1e-5, f64::NAN, f64::INFINITY] {
        let of_batch = BatchNorm::with_config(2, default().with_eps(bad)).unwrap_err();
        let config = LayerNormConfig::default().with_eps(bad);
        let of_layer = LayerNorm::with_config(&[2], config).unwrap_err();
        for error in [of_batch, of_layer] {
            assert!(matches!(error, NormError::OutOfRange { name: "eps", .. }), "{error}");
        }
    }
    assert!(LayerNorm::with_config(&[2], LayerNormConfig::default().with_eps(0.0)).is_ok());
}

#[test]
fn momentum_says_whose_weight_it_is() {
    let run = |momentum| {
        let config = BatchNormConfig::default().with_momentum(momentum);
        let layer = BatchNorm::with_config(1, config).unwrap();
        for batch in [[0f32, 2.0], [4.0, 6.0]] {
            let tape = Tape::training(0, 0);
            let _ = layer.forward(&tape.constant(Tensor::from_slice(&batch, &[2, 1])));
        }
        layer.snapshot().get("running_mean").unwrap().item()
    };
    assert!((run(Momentum::New(0.25)) - (0.25 * 0.75 + 5.0 * 0.25)).abs() < 1e-6);
    assert_eq!(run(Momentum::New(0.25)), run(Momentum::Old(0.75)));
    assert!((run(Momentum::Cumulative) - 3.0).abs() < 1e-6);
}

#[test]
fn one_value_per_channel_is_an_error_that_changes_nothing() {
    let layer = BatchNorm::new(2);
    let before = layer.snapshot();
    let tape = Tape::training(0, 0);
    let bad = layer.try_forward(&tape.constant(Tensor::ones(&[1, 2, 1], DType::F32)));
    assert_eq!(bad.unwrap_err(), NormError::BatchTooSmall { shape: vec![1, 2, 1] });
    for (name, value) in layer.snapshot().iter() {
        assert_eq!(format!("{value:?}"), format!("{:?}", before.get(name).unwrap()), "{name}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let x = random(&[64, 16, 14, 14], 1).to_dtype(DType::F32);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let tape = Tape::training(0, 0);
            let x = tape.leaf(x.clone());
            let y = BatchNorm::new(16).forward(&x);
            let y = layer_norm(&y, &[14, 14], None, None, 1e-5);
            let grads = tape.backward(&[(&y, y.value().affine(0.5, 0.1))]);
            (y.value().to_vec::<f32>(), grads.wrt(&x).unwrap().to_vec::<f32>())
        })
    };
    assert_eq!(run(1), run(2));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn normalized_output_has_mean_zero_and_variance_one(
        rows in 2usize..40, width in 2usize..70, seed in 0u64..1000, mean in -50.0..50.0f64, scale in 0.1..20.0f64,
    ) {
        let x = random(&[rows, width], seed).affine(scale, mean);
        let tape = Tape::training(0, 0);
        let moments = |values: &[f64]| {
            let n = values.len() as f64;
            let m = values.iter().sum::<f64>() / n;
            (m, values.iter().map(|x| (x - m) * (x - m)).sum::<f64>() / n)
        };
        let check = |before: &[f64], after: &[f64]| {
            let (m, v) = moments(after);
            // Exactly one but for eps, which counts where the values hardly differ.
            let input = moments(before).1;
            prop_assert!(m.abs() < 1e-8, "mean {m}");
            prop_assert!((v - input / (input + 1e-5)).abs() < 1e-8, "variance {v}");
            Ok(())
        };
        let x = tape.constant(x);
        let y = layer_norm(&x, &[width], None, None, 1e-5).value().to_vec::<f64>();
        for (x, y) in x.value().to_vec::<f64>().chunks(width).zip(y.chunks(width)) {
            check(x, y)?;
        }
        let (y, _) = batch_norm(&x, None, None, None, 1e-5).unwrap();
        for c in 0..width {
            let column = |v: &Var| v.value().narrow(1, c, 1).to_vec::<f64>();
            check(&column(&x), &column(&y))?;
        }
    }
}
