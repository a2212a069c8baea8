//! Norms of channels of a sample: group norm, instance norm, local response norm.

use gradus_autograd::{
    DType, EntryMut, Layer, Module, Path, Tape, Tensor, Var,
    check::{gradcheck, random},
};
use gradus_norm::{
    GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig, LocalResponseNorm,
    LocalResponseNormConfig, Momentum, NormError, group_norm, instance_norm, layer_norm,
    local_response_norm,
};
use gradus_tensor::simd;

fn values(x: &Var) -> Vec<f64> {
    x.value().to_dtype(DType::F64).to_vec()
}

#[track_caller]
fn close(got: &[f64], want: &[f64], limit: f64) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= limit * (1.0 + w.abs()), "got {got:?}, want {want:?}");
    }
}

fn group(v: &[Var], groups: usize) -> Var {
    group_norm(&v[0], groups, v.get(1), v.get(2), 1e-5).expect("large enough")
}

fn instance(v: &[Var]) -> Var {
    instance_norm(&v[0], v.get(1), v.get(2), 1e-5).expect("large enough")
}

#[test]
fn group_norm_gradients() {
    let shapes: [(&[usize], usize); 8] = [
        (&[2, 4, 5], 2),
        (&[2, 6, 3, 2], 3),
        (&[3, 4], 2),
        (&[3, 4], 4),
        (&[1, 2, 2, 2], 1),
        (&[1, 2, 40], 1),
        (&[2, 1, 3], 1),
        (&[0, 4, 2], 2),
    ];
    for (shape, groups) in shapes {
        let inputs = [random(shape, 1), random(&[shape[1]], 2), random(&[shape[1]], 3)];
        gradcheck(&inputs, |v| group(v, groups));
        gradcheck(&inputs[..2], |v| group(v, groups));
        gradcheck(&inputs[..1], |v| group(v, groups));
        gradcheck(&inputs[1..], |v| {
            let x = v[0].constant(inputs[0].clone());
            group(&[x, v[0].clone(), v[1].clone()], groups)
        });
    }
    let view = random(&[5, 4, 2], 6).transpose(0, 2);
    gradcheck(&[view, random(&[4], 7), random(&[4], 8)], |v| &group(v, 2) * &v[0]);
}

#[test]
fn instance_norm_gradients() {
    for shape in [&[2, 3, 5][..], &[2, 2, 2, 3], &[1, 1, 2], &[1, 2, 40], &[0, 3, 2], &[2, 3, 0]] {
        let inputs = [random(shape, 1), random(&[shape[1]], 2), random(&[shape[1]], 3)];
        gradcheck(&inputs, instance);
        gradcheck(&inputs[..1], instance);
    }
    gradcheck(&[random(&[5, 3, 2], 6).transpose(0, 2)], |v| &instance(v) + &v[0]);
}

fn lrn(size: usize, config: LocalResponseNormConfig) -> impl Fn(&[Var]) -> Var {
    move |v| local_response_norm(&v[0], size, config).expect("the options make sense")
}

#[test]
fn local_response_norm_gradients() {
    let config = LocalResponseNormConfig::default().with_alpha(2.0).with_beta(1.3).with_k(0.7);
    let shapes =
        [&[2, 7, 3][..], &[1, 1, 1], &[2, 3], &[2, 4, 2, 2], &[0, 3, 2], &[2, 0, 3], &[2, 3, 0]];
    for shape in shapes {
        for size in [1, 2, 3, 4, 5, 30] {
            gradcheck(&[random(shape, 1)], lrn(size, config));
        }
    }
    let view = random(&[3, 4, 2], 2).transpose(0, 2);
    gradcheck(&[view], |v| &lrn(3, config)(v) * &v[0]);
}

#[test]
fn local_response_norm_gives_the_numbers_of_pytorch() {
    let config = LocalResponseNormConfig::default().with_alpha(0.5).with_k(2.0);
    let want = [
        (
            2,
            [0.544331054, 0.82626142, -0.864971458, 0.167079502],
            [0.644284924, -0.38312632, 0.182244268, 0.980684036],
        ),
        (
            3,
            [0.457906435, 0.665906758, -1.02103036, 0.193670842],
            [0.494338321, -0.532387717, -0.0282794154, 1.15668255],
        ),
    ];
    for (size, y_want, dx_want) in want {
        for (dtype, limit) in [(DType::F64, 1e-8), (DType::F32, 1e-6)] {
            let tape = Tape::training(0, 0);
            let of = |v: &[f64]| Tensor::from_slice(v, &[1, 4, 1]).to_dtype(dtype);
            let x = tape.leaf(of(&[1.0, 2.0, -3.0, 0.5]));
            let layer = LocalResponseNorm::with_config(size, config).unwrap();
            let y = layer.forward(&x);
            close(&values(&y), &y_want, limit);
            let grads = tape.backward(&[(&y, of(&[1.0, -2.0, 0.5, 3.0]))]);
            close(&grads.wrt(&x).unwrap().to_dtype(DType::F64).to_vec(), &dx_want, limit);
        }
    }
}

/// The input `[2, 2, 3]` of the numbers from PyTorch below.
fn example() -> Tensor {
    let x = [1.0, 2.0, 4.0, 0.5, -1.0, 3.0, 2.0, -2.0, 1.0, 0.0, 1.0, -3.0];
    Tensor::from_slice(&x, &[2, 2, 3])
}

#[test]
fn group_norm_gives_the_numbers_of_pytorch() {
    let tape = Tape::training(0, 0);
    let (x, w) = (tape.leaf(example()), tape.leaf(Tensor::ones(&[2], DType::F64)));
    let y = group_norm(&x, 1, Some(&w), None, 1e-5).unwrap();
    let want = [
        -0.354913432,
        0.253509594,
        1.47035565,
        -0.659124945,
        -1.57175948,
        0.86193262,
        1.22293518,
        -1.03479131,
        0.658503559,
        0.094071937,
        0.658503559,
        -1.59922293,
    ];
    close(&values(&y), &want, 1e-8);
    let dy = [1.0, -1.0, 2.0, 0.5, 0.25, -1.0, 2.0, 1.0, -0.5, 1.0, -2.0, 0.75];
    let grads = tape.backward(&[(&y, Tensor::from_slice(&dy, &[2, 2, 3]))]);
    let want = [
        0.457881239,
        -0.805104691,
        0.927884629,
        0.176739666,
        0.0938437273,
        -0.85124457,
        1.0714206,
        0.222276585,
        -0.410836556,
        0.36463278,
        -1.25748399,
        0.0099905827,
    ];
    close(&grads.wrt(&x).unwrap().to_vec(), &want, 1e-8);
    close(&grads.wrt(&w).unwrap().to_vec(), &[3.41411554, -4.00678734], 1e-8);
}

fn tracked(momentum: Momentum) -> InstanceNorm {
    let config = InstanceNormConfig::default()
        .with_track_running_stats(true)
        .with_momentum(momentum)
        .with_affine(true);
    InstanceNorm::with_config(2, config).unwrap()
}

#[test]
fn running_statistics_of_instance_norm_follow_pytorch() {
    let layer = tracked(Momentum::New(0.25));
    let x = example().to_dtype(DType::F32);
    let y = layer.forward(&Tape::training(0, 0).constant(x.clone()));
    let want = [
        -1.06904153,
        -0.267260383,
        1.33630191,
        -0.202030138,
        -1.11116576,
        1.3131959,
        0.980578979,
        -1.37281057,
        0.392231591,
        0.392231591,
        0.980578979,
        -1.37281057,
    ];
    close(&values(&y), &want, 1e-6);
    let state = |layer: &InstanceNorm, name: &str| {
        layer.snapshot().get(name).unwrap().to_dtype(DType::F64).to_vec::<f64>()
    };
    close(&state(&layer, "running_mean"), &[0.333333333, 0.0208333333], 1e-7);
    close(&state(&layer, "running_var"), &[1.58333333, 1.80208333], 1e-6);
    let y = layer.forward(&Tape::evaluation().constant(x.clone()));
    let want = [
        0.52981127,
        1.32452817,
        2.91396198,
        0.356942251,
        -0.760442188,
        2.21924965,
        1.32452817,
        -1.85433944,
        0.52981127,
        -0.0155192283,
        0.729403731,
        -2.25028811,
    ];
    close(&values(&y), &want, 1e-6);
    // The plain average of two batches.
    let layer = tracked(Momentum::Cumulative);
    for scale in [1.0, 3.0] {
        let _ = layer.forward(&Tape::training(0, 0).constant(x.affine(scale, 0.0)));
    }
    close(&state(&layer, "running_mean"), &[2.0 * 4.0 / 3.0, 2.0 / 12.0], 1e-6);
    assert_eq!(state(&layer, "num_batches_tracked"), [2.0]);
}

#[test]
fn running_statistics_keep_their_type_and_stay_finite() {
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let mut layer = tracked(Momentum::New(0.5));
        layer.walk_mut(&mut Path::default(), &mut |_, entry| match entry {
            EntryMut::Buffer(b) if b.get().dtype().is_float() => {
                b.update(|old| *old = old.to_dtype(dtype));
            }
            _ => {}
        });
        // The second channel is not a number.
        let x = Tensor::from_slice(&[1.0f64, 2.0, f64::NAN, 5.0], &[1, 2, 2]).to_dtype(dtype);
        let _ = layer.forward(&Tape::training(0, 0).constant(x));
        let state = layer.snapshot();
        for (name, want) in [("running_mean", [0.75, 0.0]), ("running_var", [0.75, 1.0])] {
            let got = state.get(name).unwrap();
            assert_eq!(
                (got.dtype(), got.to_dtype(DType::F64).to_vec::<f64>()),
                (dtype, want.to_vec())
            );
        }
    }
}

#[test]
fn too_few_values_are_an_error_that_changes_nothing() {
    let layer = tracked(Momentum::New(0.1));
    let before = format!("{:?}", layer.snapshot());
    for shape in [&[3, 2][..], &[3, 2, 1], &[1, 2, 1, 1]] {
        let x = Tape::training(0, 0).constant(random(shape, 1).to_dtype(DType::F32));
        let error = layer.try_forward(&x).unwrap_err();
        assert_eq!(error, NormError::BatchTooSmall { shape: shape.to_vec() });
        assert_eq!(instance_norm(&x, None, None, 1e-5).unwrap_err(), error);
    }
    // A batch of nothing counts, and moves nothing.
    for shape in [[0, 2, 3], [3, 2, 0]] {
        let y = layer.forward(&Tape::training(0, 0).constant(Tensor::zeros(&shape, DType::F32)));
        assert_eq!(y.shape(), shape);
    }
    let after = layer.snapshot();
    assert_eq!(after.get("num_batches_tracked").unwrap().item(), 2.0);
    for (name, value) in after.iter().filter(|(name, _)| *name != "num_batches_tracked") {
        assert!(before.contains(&format!("{value:?}")), "{name}");
    }
    let tape = Tape::evaluation();
    // Evaluation with running statistics needs no second value.
    let one = tape.constant(Tensor::ones(&[3, 2, 1], DType::F32));
    assert_eq!(layer.forward(&one).shape(), [3, 2, 1]);
    // Group norm: as PyTorch, one value in all of the batch, or none in a sample.
    for (shape, ok) in [(&[1, 2][..], false), (&[3, 2], true), (&[3, 2, 0], false), (&[0, 2], true)]
    {
        let x = tape.constant(random(shape, 1));
        assert_eq!(group_norm(&x, 2, None, None, 1e-5).is_ok(), ok, "{shape:?}");
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for groups in [0, 4, 12] {
        let error = GroupNorm::new(groups, 6).unwrap_err();
        assert_eq!(error, NormError::Groups { groups, channels: 6 });
        let x = Tape::evaluation().constant(random(&[2, 6, 2], 1));
        assert_eq!(group_norm(&x, groups, None, None, 1e-5).unwrap_err(), error);
    }
    for bad in [-1e-5, f64::NAN, f64::INFINITY] {
        let of_group = GroupNorm::with_config(2, 4, GroupNormConfig::default().with_eps(bad));
        let of_instance = InstanceNorm::with_config(4, InstanceNormConfig::default().with_eps(bad));
        for error in [of_group.unwrap_err(), of_instance.unwrap_err()] {
            assert!(matches!(error, NormError::OutOfRange { name: "eps", .. }), "{error}");
        }
        let default = LocalResponseNormConfig::default();
        for (name, config) in [
            ("alpha", default.with_alpha(bad)),
            ("beta", default.with_beta(bad)),
            ("k", default.with_k(bad)),
        ] {
            let error = LocalResponseNorm::with_config(5, config).unwrap_err();
            assert!(matches!(error, NormError::OutOfRange { name: n, .. } if n == name), "{error}");
        }
    }
    let config = InstanceNormConfig::default().with_momentum(Momentum::New(1.5));
    let error = InstanceNorm::with_config(4, config).unwrap_err();
    assert_eq!(error.to_string(), "momentum has to lie in [0, 1], got 1.5");
    let error = LocalResponseNorm::new(0).unwrap_err();
    assert_eq!(error.to_string(), "size has to lie in [1, inf), got 0");
    let config = LocalResponseNormConfig::default().with_k(0.0);
    let error = LocalResponseNorm::with_config(3, config).unwrap_err();
    assert_eq!(error.to_string(), "k has to lie in (0, inf), got 0");
}

#[test]
#[should_panic(expected = "channels of an input of shape [2, 3, 4]")]
fn a_wrong_number_of_channels_panics() {
    let x = Tape::evaluation().constant(random(&[2, 3, 4], 1));
    let _ = GroupNorm::new(2, 4).unwrap().forward(&x);
}

#[test]
fn group_norm_lies_between_layer_and_instance_norm() {
    for shape in [&[3, 4, 5][..], &[2, 6, 3, 3], &[2, 2, 100], &[2, 4, 1, 2]] {
        let tape = Tape::training(0, 0);
        let x = tape.constant(random(shape, 3).affine(2.0, 7.0));
        let one = group_norm(&x, 1, None, None, 1e-5).unwrap();
        let layer = layer_norm(&x, &shape[1..], None, None, 1e-5);
        close(&values(&one), &values(&layer), 1e-12);
        if shape[1] % 2 == 0 {
            let width = shape[1..].iter().product::<usize>() / 2;
            let rows = x.reshape(&[-1, width as isize]);
            let layer = layer_norm(&rows, &[width], None, None, 1e-5);
            let two = group_norm(&x, 2, None, None, 1e-5).unwrap();
            close(&values(&two), &values(&layer), 1e-12);
        }
        let all = group_norm(&x, shape[1], None, None, 1e-5).unwrap();
        assert_eq!(values(&all), values(&instance_norm(&x, None, None, 1e-5).unwrap()));
    }
}

#[test]
fn a_large_mean_costs_no_digits() {
    let x: Vec<f32> = (0..2 * 4 * 5000).map(|i| 999.3 + ((i * 7919) % 13) as f32 / 6.0).collect();
    let x = Tensor::from_slice(&x, &[2, 4, 5000]);
    let tape = Tape::evaluation();
    let ops: [fn(&Var) -> Var; 2] = [
        |x| group_norm(x, 2, None, None, 1e-5).unwrap(),
        |x| instance_norm(x, None, None, 1e-5).unwrap(),
    ];
    for op in ops {
        let narrow = values(&op(&tape.constant(x.clone())));
        let wide = values(&op(&tape.constant(x.to_dtype(DType::F64))));
        // Half a unit in the last place of the mean is 3e-5, and the deviation 0.6.
        close(&narrow, &wide, 6e-5);
    }
}

#[test]
fn sixteen_bit_inputs_are_normalized_in_f32_and_rounded_once() {
    // Exact in eight bits, so that the f32 run has the same input.
    let x = example();
    let ops: [fn(&Var) -> Var; 3] = [
        |x| group_norm(x, 1, None, None, 1e-5).unwrap(),
        |x| instance_norm(x, None, None, 1e-5).unwrap(),
        |x| local_response_norm(x, 2, LocalResponseNormConfig::default().with_alpha(1.0)).unwrap(),
    ];
    for op in ops {
        let run = |dtype| {
            let tape = Tape::training(0, 0);
            let x = tape.leaf(x.to_dtype(dtype));
            let y = op(&x);
            let grads = tape.backward(&[(&y, x.value().clone())]);
            [y.into_value(), grads.wrt(&x).unwrap().clone()]
        };
        for dtype in [DType::BF16, DType::F16] {
            for (got, want) in run(dtype).into_iter().zip(run(DType::F32)) {
                assert_eq!(got.dtype(), dtype);
                let bits = |t: Tensor| t.to_dtype(DType::F32).to_vec::<f32>();
                assert_eq!(bits(got), bits(want.to_dtype(dtype)));
            }
        }
    }
}

#[test]
fn neither_threads_nor_instruction_sets_change_a_bit() {
    let (x, dy) = (random(&[9, 12, 33, 35], 1), random(&[9, 12, 33, 35], 2));
    let affine = InstanceNormConfig::default().with_affine(true);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut all = Vec::new();
        pool.install(|| {
            let layers: [&dyn Layer; 3] = [
                &GroupNorm::new(4, 12).unwrap(),
                &InstanceNorm::with_config(12, affine.clone()).unwrap(),
                &LocalResponseNorm::new(5).unwrap(),
            ];
            for layer in layers {
                let tape = Tape::training(0, 0);
                let x = tape.leaf(x.to_dtype(DType::F32));
                let y = layer.forward(&x);
                let grads = tape.backward(&[(&y, dy.to_dtype(DType::F32))]);
                all.push(y.into_value().to_vec::<f32>());
                all.push(grads.wrt(&x).unwrap().to_vec());
                layer.for_each_param(&mut |_, p| all.push(grads.get(p.id()).unwrap().to_vec()));
            }
        });
        all
    };
    let one = run(1);
    assert!(one == run(2), "threads");
    for level in [simd::Level::Portable, simd::Level::Avx2] {
        simd::force(level);
        let other = run(1);
        simd::force(simd::detected());
        assert!(one == other, "{level:?}");
    }
}
