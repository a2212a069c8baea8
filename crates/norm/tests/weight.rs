//! Weights as functions of other parameters: weight norm, spectral norm, weight standardization.

use gradus_autograd::{
    DType, Module, Tape, Tensor, Var,
    check::{gradcheck, random},
};
use gradus_norm::{
    NormError, SpectralNorm, SpectralNormConfig, WeightNorm, WeightStandardization,
    power_iteration, spectral_norm, weight_norm, weight_standardization,
};
use gradus_tensor::ConvOptions;
use proptest::prelude::*;

fn values(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).to_vec()
}

#[track_caller]
fn close(got: &[f64], want: &[f64], limit: f64) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= limit * (1.0 + w.abs()), "got {got:?}, want {want:?}");
    }
}

fn length(x: &Tensor) -> f64 {
    values(x).iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn weight_norm_gradients() {
    for (shape, dim, kept) in [
        (&[4, 3][..], Some(0), &[4, 1][..]),
        (&[4, 3], Some(1), &[1, 3]),
        (&[2, 3, 2, 2], Some(-3), &[1, 3, 1, 1]),
        (&[3, 5], None, &[]),
        (&[5], Some(0), &[5]),
        (&[1, 40], Some(0), &[1, 1]),
        (&[0, 3], Some(0), &[0, 1]),
        (&[3, 0], Some(0), &[3, 1]),
        (&[], None, &[]),
    ] {
        let inputs = [random(kept, 1), random(shape, 2)];
        gradcheck(&inputs, |v| weight_norm(&v[0], &v[1], dim));
        gradcheck(&inputs[1..], |v| weight_norm(&v[0].constant(inputs[0].clone()), &v[0], dim));
    }
    let view = random(&[3, 4, 2], 3).transpose(0, 2);
    gradcheck(&[random(&[1, 4, 1], 1), view], |v| &weight_norm(&v[0], &v[1], Some(1)) * &v[1]);
}

#[test]
fn a_direction_of_zeros_gives_zeros() {
    let tape = Tape::training(0, 0);
    let v = tape.leaf(Tensor::from_slice(&[0f32, 0.0, 3.0, 4.0], &[2, 2]));
    let g = tape.leaf(Tensor::from_slice(&[2f32, 10.0], &[2, 1]));
    let w = weight_norm(&g, &v, Some(0));
    assert_eq!(values(w.value()), [0.0, 0.0, 6.0, 8.0]);
    let grads = tape.backward(&[(&w, Tensor::ones(&[2, 2], DType::F32))]);
    close(&values(grads.wrt(&g).unwrap()), &[0.0, 1.4], 1e-6);
    assert_eq!(values(grads.wrt(&v).unwrap())[..2], [0.0, 0.0]);
    let zeros = WeightNorm::new(Tensor::zeros(&[2, 2], DType::F32), Some(0));
    assert_eq!(zeros.unwrap_err(), NormError::NoDirection { row: 0 });
    let row = Tensor::from_slice(&[1f32, 0.0, 2.0, 0.0], &[2, 2]);
    assert_eq!(WeightNorm::new(row, Some(1)).unwrap_err(), NormError::NoDirection { row: 1 });
}

#[test]
fn squares_that_would_overflow_do_not() {
    let tape = Tape::evaluation();
    let v = tape.constant(Tensor::from_slice(&[3e30f32, 4e30], &[1, 2]));
    let g = tape.constant(Tensor::from_slice(&[1f32], &[1, 1]));
    close(&values(weight_norm(&g, &v, Some(0)).value()), &[0.6, 0.8], 1e-6);
}

#[test]
fn a_weight_norm_starts_as_its_weight() {
    for (shape, dim) in [(&[3, 2, 2, 2][..], Some(0)), (&[3, 4], Some(1)), (&[3, 4], None)] {
        let w = random(shape, 1);
        let layer = WeightNorm::new(w.clone(), dim).unwrap();
        close(&values(layer.weight(&Tape::evaluation()).value()), &values(&w), 1e-14);
        assert_eq!(layer.param_names(), ["g", "v"]);
    }
}

#[test]
fn spectral_norm_gradients() {
    for (shape, dim, u, v) in [
        (&[4, 3][..], 0, 4, 3),
        (&[3, 4], 1, 4, 3),
        (&[4, 2, 3, 2], 0, 4, 12),
        (&[2, 3, 4], -1, 4, 6),
        (&[1, 1], 0, 1, 1),
        (&[2, 0], 0, 2, 0),
    ] {
        let (u, v) = (random(&[u], 2), random(&[v], 3));
        gradcheck(&[random(shape, 1)], |w| spectral_norm(&w[0], &u, &v, dim));
    }
    let (u, v) = (random(&[3], 2), random(&[2], 3));
    gradcheck(&[random(&[2, 3], 4).transpose(0, 1)], |w| &spectral_norm(&w[0], &u, &v, 0) * &w[0]);
    // A vector is divided by its length, unless that is too small.
    for eps in [1e-12, 10.0] {
        let config = SpectralNormConfig::default().with_eps(eps);
        let layer = SpectralNorm::with_config(random(&[5], 1), config, 0).unwrap();
        let tape = Tape::training(0, 0);
        let w = layer.weight(&tape);
        let upstream = random(&[5], 2);
        let grads = tape.backward(&[(&w, upstream.clone())]);
        let mut got = Vec::new();
        layer.for_each_param(&mut |_, p| got = values(grads.get(p.id()).unwrap()));
        let (x, g) = (values(&random(&[5], 1)), values(&upstream));
        let n = length(&random(&[5], 1));
        let dot: f64 = x.iter().zip(&g).map(|(x, g)| x * g).sum();
        let of = |(x, g): (&f64, &f64)| {
            if n >= eps { g / n - x * dot / n.powi(3) } else { g / eps }
        };
        close(&got, &x.iter().zip(&g).map(of).collect::<Vec<_>>(), 1e-13);
        close(&[length(w.value())], &[(n / eps).min(1.0)], 1e-13);
    }
}

#[test]
fn power_iteration_finds_the_largest_singular_value() {
    // Singular values 3, 2 and 1 of rotated axes.
    let rotate = |t: f64| {
        Tensor::from_slice(&[t.cos(), -t.sin(), 0.0, t.sin(), t.cos(), 0.0, 0.0, 0.0, 1.0], &[3, 3])
    };
    let axes = Tensor::from_slice(&[3.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0], &[3, 3]);
    let w = rotate(0.7).matmul(&axes).matmul(&rotate(-0.3));
    let (u, v) = power_iteration(&w, &random(&[3], 1), &random(&[3], 2), 0, 60, 1e-12);
    close(&[length(&u), length(&v), u.matmul(&w).matmul(&v).item()], &[1.0, 1.0, 3.0], 1e-12);
    let layer = SpectralNorm::new(w.clone(), 3);
    let tape = Tape::training(0, 0);
    close(&values(layer.weight(&tape).value()), &values(&w.affine(1.0 / 3.0, 0.0)), 1e-5);
}

#[test]
fn only_training_moves_the_vectors() {
    // Two singular values near each other: fifteen rounds do not settle on one.
    let layer = SpectralNorm::new(Tensor::from_slice(&[1f32, 0.0, 0.0, 0.95], &[2, 2]), 7);
    let state = || layer.snapshot().iter().map(|(_, t)| values(t)).collect::<Vec<_>>();
    let before = state();
    for tape in [Tape::evaluation(), Tape::frozen(), Tape::calibration()] {
        let _ = layer.weight(&tape);
        assert_eq!(state(), before);
    }
    let trained = layer.weight(&Tape::training(0, 0));
    assert_ne!(state(), before);
    // Evaluation uses what training left.
    assert_eq!(values(layer.weight(&Tape::evaluation()).value()), values(trained.value()));
}

#[test]
fn the_first_vectors_are_a_function_of_the_seed() {
    // All singular values are equal: fifteen rounds leave the start as it was.
    let identity = Tensor::from_slice(&[1f32, 0.0, 0.0, 1.0], &[2, 2]);
    let of = |seed| {
        let state = SpectralNorm::new(identity.clone(), seed).snapshot();
        (values(state.get("u").unwrap()), values(state.get("v").unwrap()))
    };
    let (u, v) = of(7);
    assert_eq!(u, v);
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
    let stream = gradus_autograd::RngStream::new(7, 0, 1);
    let normal = |i| {
        (-2.0 * (1.0 - stream.uniform(i)).ln()).sqrt()
            * (std::f64::consts::TAU * stream.uniform(i + 1)).cos()
    };
    let n = Tensor::from_slice(&[normal(0), normal(2)], &[2]);
    close(&v, &values(&n.affine(1.0 / length(&n), 0.0)), 1e-6);
    close(&v, &PINNED, 1e-6);
}

const PINNED: [f64; 2] = [-0.9810051321983337, 0.1939818561077118];

#[test]
fn a_weight_of_zeros_gives_zeros_and_can_recover() {
    let zeros = Tensor::zeros(&[2, 3], DType::F32);
    let mut layer = SpectralNorm::new(zeros, 1);
    let tape = Tape::training(0, 0);
    let w = layer.weight(&tape);
    assert_eq!(values(w.value()), [0.0; 6]);
    let grads = tape.backward(&[(&w, Tensor::ones(&[2, 3], DType::F32))]);
    layer.for_each_param(&mut |_, p| assert_eq!(values(grads.get(p.id()).unwrap()), [0.0; 6]));
    layer.for_each_param_mut(&mut |_, p| p.set(random(&[2, 3], 2).to_dtype(DType::F32)));
    for step in 0..20 {
        let _ = layer.weight(&Tape::training(0, step));
    }
    let (u, v) =
        power_iteration(&random(&[2, 3], 2), &random(&[2], 3), &random(&[3], 4), 0, 50, 1e-12);
    let sigma = u.matmul(&random(&[2, 3], 2)).matmul(&v).item();
    let want = values(&random(&[2, 3], 2).affine(1.0 / sigma, 0.0));
    close(&values(layer.weight(&Tape::evaluation()).value()), &want, 1e-5);
}

#[test]
fn weight_standardization_gradients() {
    for shape in [&[3, 4][..], &[2, 3, 2, 2], &[1, 2], &[2, 5, 1], &[2, 80], &[0, 3]] {
        let mut kept = vec![1; shape.len()];
        kept[0] = shape[0];
        let inputs = [random(shape, 1), random(&kept, 2)];
        gradcheck(&inputs, |v| weight_standardization(&v[0], v.get(1), 1.3, 1e-5).unwrap());
        gradcheck(&inputs[..1], |v| weight_standardization(&v[0], None, 0.7, 1e-5).unwrap());
    }
    let view = random(&[2, 3, 4], 3).transpose(0, 2);
    gradcheck(&[view], |v| &weight_standardization(&v[0], None, 1.0, 1e-5).unwrap() * &v[0]);
}

#[test]
fn weight_standardization_gives_the_numbers_of_timm() {
    let w = Tensor::from_slice(&[1.0, 2.0, 4.0, -1.0, 0.5, 3.0], &[2, 3]);
    let dy = Tensor::from_slice(&[1.0, -2.0, 0.5, 3.0, 1.0, -1.0], &[2, 3]);
    let layer = WeightStandardization::new(w.clone()).unwrap();
    let check = |layer: &WeightStandardization, want: &[&[f64]]| {
        let tape = Tape::training(0, 0);
        let y = layer.weight(&tape);
        close(&values(y.value()), want[0], 1e-13);
        let grads = tape.backward(&[(&y, dy.clone())]);
        let mut got = Vec::new();
        layer.for_each_param(&mut |_, p| got.push(values(grads.get(p.id()).unwrap())));
        assert_eq!(got.len(), want.len() - 1);
        got.iter().zip(&want[1..]).for_each(|(got, want)| close(got, want, 1e-11));
    };
    let y = [
        -1.0690446240282667,
        -0.2672611560070668,
        1.336305780035333,
        -1.1111675949154431,
        -0.20203047180280786,
        1.3131980667182512,
    ];
    let dw = [
        0.9735941866242239,
        -1.4603913228889938,
        0.48679713626477,
        0.12369252544713748,
        -0.19790732824903814,
        0.07421480280190046,
    ];
    check(&layer, &[&y, &dw]);
    let mut layer = WeightStandardization::scaled(w.clone(), 1.7).unwrap();
    layer.for_each_param_mut(&mut |name, p| {
        if name == "gain" {
            p.set(Tensor::from_slice(&[2.0, 0.5], &[2, 1]));
        }
    });
    let y = [
        -2.0985248849587026,
        -0.5246312212396758,
        2.623156106198378,
        -0.5453029735333371,
        -0.09914599518787948,
        0.6444489687212166,
    ];
    let dw = [
        1.9111565434784312,
        -2.866734899533324,
        0.9555783560548932,
        0.06070182593410203,
        -0.09712257185330452,
        0.036420745919202385,
    ];
    check(&layer, &[&y, &dw, &[0.13115780530991894, -4.759007769018215]]);
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let w = || random(&[2, 3], 1);
    let name = |e: NormError| match e {
        NormError::OutOfRange { name, .. } => name,
        other => panic!("{other}"),
    };
    let default = SpectralNormConfig::default;
    for (config, bad) in [
        (default().with_n_power_iterations(0), "n_power_iterations"),
        (default().with_eps(-1.0), "eps"),
    ] {
        assert_eq!(name(SpectralNorm::with_config(w(), config, 0).unwrap_err()), bad);
    }
    assert_eq!(name(WeightStandardization::new(random(&[3, 1], 1)).unwrap_err()), "fan_in");
    assert_eq!(name(WeightStandardization::new(random(&[3, 0, 2], 1)).unwrap_err()), "fan_in");
    assert_eq!(name(WeightStandardization::scaled(w(), f64::NAN).unwrap_err()), "gamma");
    let eps = WeightStandardization::new(w()).unwrap().with_eps(f64::INFINITY).unwrap_err();
    assert_eq!(name(eps), "eps");
    let v = Tape::training(0, 0).constant(w());
    assert_eq!(name(weight_standardization(&v, None, f64::INFINITY, 1e-5).unwrap_err()), "scale");
    assert_eq!(name(weight_standardization(&v, None, 1.0, -1.0).unwrap_err()), "eps");
}

#[test]
#[should_panic(expected = "weight_norm: g for v of shape [2, 3]")]
fn lengths_of_another_shape_panic() {
    let tape = Tape::training(0, 0);
    let _ =
        weight_norm(&tape.constant(random(&[2], 1)), &tape.constant(random(&[2, 3], 1)), Some(0));
}

#[test]
#[should_panic(expected = "is no matrix")]
fn the_spectral_norm_of_a_vector_is_asked_for_from_the_layer() {
    let w = Tape::training(0, 0).constant(random(&[3], 1));
    let _ = spectral_norm(&w, &random(&[3], 1), &random(&[1], 1), 0);
}

#[test]
fn halves_are_computed_in_f32_and_rounded_once() {
    let v = random(&[3, 4], 1).to_dtype(DType::BF16);
    let (g, u) = (random(&[3, 1], 2).to_dtype(DType::BF16), random(&[3], 3));
    let wide = |t: &Tensor| t.to_dtype(DType::F32);
    let tape = Tape::training(0, 0);
    let leaves = [v.clone(), wide(&v)].map(|t| tape.leaf(t));
    let lengths = [g.clone(), wide(&g)].map(|t| tape.leaf(t));
    let all = |i: usize| {
        let (v, g): (&Var, &Var) = (&leaves[i], &lengths[i]);
        let right = random(&[4], 4);
        [
            weight_norm(g, v, Some(0)),
            spectral_norm(v, &u, &right, 0),
            weight_standardization(v, None, 1.0, 1e-6).unwrap(),
        ]
    };
    for (half, wide) in all(0).iter().zip(all(1)) {
        assert_eq!(half.dtype(), DType::BF16);
        assert_eq!(values(half.value()), values(&wide.value().to_dtype(DType::BF16)));
    }
}

#[test]
fn effective_weights_train_through_layers_that_use_them() {
    let tape = Tape::training(0, 0);
    let images = tape.constant(random(&[2, 3, 5, 5], 1));
    let layer = WeightStandardization::scaled(random(&[4, 3, 3, 3], 2), 1.0).unwrap();
    let y = images.conv2d(&layer.weight(&tape), None, ConvOptions::default());
    let spectral = SpectralNorm::new(random(&[2, 4 * 9], 3), 1);
    let y = y.reshape(&[2, 36]).linear(&spectral.weight(&tape), None);
    let normed = WeightNorm::new(random(&[2, 2], 4), Some(0)).unwrap();
    let grads = y.linear(&normed.weight(&tape), None).sum(&[], false).backward();
    let modules: [&dyn Module; 3] = [&layer, &spectral, &normed];
    for module in modules {
        module.for_each_param(&mut |name, p| assert!(grads.get(p.id()).is_some(), "{name}"));
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let run = || {
        let tape = Tape::training(0, 0);
        let w = tape.leaf(random(&[300, 700], 1).to_dtype(DType::F32));
        let g = tape.leaf(random(&[300, 1], 2).to_dtype(DType::F32));
        let (u, v) =
            power_iteration(w.value(), &random(&[300], 3), &random(&[700], 4), 0, 2, 1e-12);
        let all = [
            weight_norm(&g, &w, Some(0)),
            spectral_norm(&w, &u, &v, 0),
            weight_standardization(&w, None, 1.0, 1e-6).unwrap(),
        ];
        let upstream = random(&[300, 700], 5).to_dtype(DType::F32);
        let pairs: Vec<(&Var, Tensor)> = all.iter().map(|y| (y, upstream.clone())).collect();
        let grads = tape.backward(&pairs);
        let results = all.iter().map(|y| values(y.value()));
        results.chain([&w, &g].map(|x| values(grads.wrt(x).unwrap()))).collect::<Vec<_>>()
    };
    let with = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(run);
    assert!(with(1) == with(3));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_have_the_lengths_that_are_asked_for(rows in 1usize..8, width in 1usize..80, seed in 0u64..1000) {
        let tape = Tape::evaluation();
        let g = random(&[rows, 1], seed).affine(3.0, 0.0);
        let w = weight_norm(&tape.constant(g.clone()), &tape.constant(random(&[rows, width], seed + 1)), Some(0));
        for (i, g) in values(&g).into_iter().enumerate() {
            prop_assert!((length(&w.value().narrow(0, i, 1)) - g.abs()).abs() < 1e-12);
        }
    }

    #[test]
    fn the_largest_singular_value_becomes_one(rows in 1usize..6, width in 1usize..20, seed in 0u64..1000) {
        let w = random(&[rows, width], seed);
        let start = (random(&[rows], seed + 1), random(&[width], seed + 2));
        let (u, v) = power_iteration(&w, &start.0, &start.1, 0, 400, 1e-12);
        let w = spectral_norm(&Tape::evaluation().constant(w), &u, &v, 0).into_value();
        // No vector is made longer, and that along v keeps its length.
        prop_assert!((length(&w.matmul(&v)) - 1.0).abs() < 1e-6);
        let other = random(&[width], seed + 3);
        prop_assert!(length(&w.matmul(&other)) <= length(&other) * (1.0 + 1e-3));
    }

    #[test]
    fn outputs_have_mean_zero_and_variance_one(out in 1usize..6, width in 2usize..200, seed in 0u64..1000) {
        let w = Tape::evaluation().constant(random(&[out, width], seed).affine(2.0, 5.0));
        let w = weight_standardization(&w, None, 1.0, 0.0).unwrap();
        for i in 0..out {
            let row = values(&w.value().narrow(0, i, 1));
            let mean = row.iter().sum::<f64>() / width as f64;
            prop_assert!(mean.abs() < 1e-10);
            let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            prop_assert!((var - 1.0).abs() < 1e-9);
        }
    }
}
