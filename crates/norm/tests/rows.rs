//! Norms of rows, and what stands in their place: layer norm, RMS norm, dynamic tanh.

use gradus_autograd::{
    DType, Layer, Module, Tape, Tensor, Var,
    check::{gradcheck, random},
};
use gradus_norm::{
    DyT, LayerNorm, LayerNormConfig, NormError, RmsNorm, RmsNormConfig, dyt, layer_norm, rms_norm,
};
use gradus_tensor::simd;
use proptest::prelude::*;

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

/// Shapes of an input and of its normalized dimensions.
const SHAPES: [(&[usize], &[usize]); 8] = [
    (&[5, 7], &[7]),
    (&[2, 3, 4], &[3, 4]),
    (&[1, 1], &[1]),
    (&[4], &[4]),
    (&[0, 4], &[4]),
    (&[2, 0], &[0]),
    (&[70, 3], &[3]),
    (&[2, 40], &[40]),
];

#[test]
fn rms_norm_gradients() {
    for (shape, normalized) in SHAPES {
        let inputs = [random(shape, 1), random(normalized, 2)];
        gradcheck(&inputs, |v| rms_norm(&v[0], normalized, Some(&v[1]), Some(1e-5)));
        gradcheck(&inputs[..1], |v| rms_norm(&v[0], normalized, None, None));
    }
    let view = random(&[6, 4], 5).transpose(0, 1);
    gradcheck(&[view, random(&[6], 2)], |v| rms_norm(&v[0], &[6], Some(&v[1]), None));
    gradcheck(&[random(&[3, 4], 5)], |v| &rms_norm(&v[0], &[4], None, None) * &v[0]);
}

#[test]
fn dyt_gradients() {
    for (shape, normalized) in SHAPES {
        for alpha in [&[1][..], &[]] {
            let inputs =
                [random(shape, 1), random(alpha, 2), random(normalized, 3), random(normalized, 4)];
            gradcheck(&inputs, |v| dyt(&v[0], &v[1], &v[2], &v[3]));
        }
    }
    let view = random(&[6, 4], 5).transpose(0, 1);
    let inputs = [view, random(&[1], 2), random(&[6], 3), random(&[6], 4)];
    gradcheck(&inputs, |v| &dyt(&v[0], &v[1], &v[2], &v[3]) * &v[0]);
}

#[test]
fn only_what_is_wanted_gets_a_gradient_and_it_is_the_same() {
    let (x, w, b) = (random(&[130, 5], 1), random(&[5], 2), random(&[5], 3));
    let run = |tracked: [bool; 3]| {
        let tape = Tape::training(0, 0);
        let vars = [&x, &w, &b].map(|t| t.clone());
        let vars: Vec<Var> = vars
            .into_iter()
            .zip(tracked)
            .map(|(t, tracked)| if tracked { tape.leaf(t) } else { tape.constant(t) })
            .collect();
        let y = layer_norm(&vars[0], &[5], Some(&vars[1]), Some(&vars[2]), 1e-5);
        let grads = tape.backward(&[(&y, random(&[130, 5], 4))]);
        vars.iter().map(|v| grads.wrt(v).map(|g| g.to_vec::<f64>())).collect::<Vec<_>>()
    };
    let all = run([true; 3]);
    for only in 0..3 {
        let tracked = std::array::from_fn(|i| i == only);
        for (i, grad) in run(tracked).iter().enumerate() {
            assert_eq!(grad.as_ref(), all[i].as_ref().filter(|_| i == only), "{only} {i}");
        }
    }
}

/// Input and upstream gradient `[2, 2, 3]` of the numbers from PyTorch below.
fn example() -> (Tensor, Tensor) {
    let x = [1.0, 2.0, 4.0, 0.5, -1.0, 3.0, 2.0, -2.0, 1.0, 0.0, 1.0, -3.0];
    let dy = [1.0, -1.0, 2.0, 0.5, 0.25, -1.0, 2.0, 1.0, -0.5, 1.0, -2.0, 0.75];
    (Tensor::from_slice(&x, &[2, 2, 3]), Tensor::from_slice(&dy, &[2, 2, 3]))
}

#[test]
fn rms_norm_and_dyt_give_the_numbers_of_pytorch() {
    let (x, dy) = example();
    let (w, b) = ([1.0, 2.0, -1.0], [0.0, 0.5, 1.0]);
    let tape = Tape::training(0, 0);
    let (x, w) = (tape.leaf(x), tape.leaf(Tensor::from_slice(&w, &[3])));
    let y = rms_norm(&x, &[3], Some(&w), None);
    let want = [
        0.377964473,
        1.51185789,
        -1.51185789,
        0.27050089,
        -1.08200356,
        -1.62300534,
        1.15470054,
        -2.30940108,
        -0.577350269,
        0.0,
        1.09544512,
        1.64316767,
    ];
    close(&values(&y), &want, 1e-8);
    let grads = tape.backward(&[(&y, dy.clone())]);
    let want = [
        0.575945864,
        -0.359966165,
        0.0359966165,
        0.197927481,
        0.41564771,
        0.105561323,
        1.09055051,
        1.21885057,
        0.25660012,
        0.547722558,
        -2.09503878,
        -0.698346261,
    ];
    close(&grads.wrt(&x).unwrap().to_vec(), &want, 1e-8);

    let tape = Tape::training(0, 0);
    let x = tape.leaf(example().0);
    let leaf = |v: &[f64]| tape.leaf(Tensor::from_slice(v, &[v.len()]));
    let (alpha, w, b) = (leaf(&[0.5]), leaf(&w.value().to_vec::<f64>()), leaf(&b));
    let y = dyt(&x, &alpha, &w, &b);
    let want = [
        0.462117157,
        2.02318831,
        0.0359724199,
        0.244918662,
        -0.424234315,
        0.0948517464,
        0.761594156,
        -1.02318831,
        0.537882843,
        0.0,
        1.42423431,
        1.90514825,
    ];
    close(&values(&y), &want, 1e-8);
    let grads = tape.backward(&[(&y, dy)]);
    let grad = |v| grads.wrt(v).unwrap().to_vec::<f64>();
    let want = [
        0.393223866,
        -0.419974342,
        -0.0706508249,
        0.235003712,
        0.196611933,
        0.0903533195,
        0.419974342,
        0.419974342,
        0.196611933,
        0.5,
        -1.57289547,
        -0.0677649896,
    ];
    close(&grad(&x), &want, 1e-8);
    close(&grad(&alpha), &[-3.4207336], 1e-8);
    close(&grad(&w), &[2.1077648, -2.56295192, 0.112987138], 1e-8);
    close(&grad(&b), &[4.5, -1.75, 1.25], 1e-8);
}

#[test]
fn sixteen_bit_inputs_are_normalized_in_f32_and_rounded_once() {
    let x = Tensor::from_slice(&[1.0, 2.5, -3.0, 0.125, 100.0, 101.0, 102.0, 104.0], &[2, 4]);
    let dy = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0, 1.0, -1.0, 1.0, -1.0], &[2, 4]);
    let w = Tensor::from_slice(&[1f32, 0.5, 2.0, -1.0], &[4]);
    let ops: [fn(&Var, &Var) -> Var; 3] = [
        |x, w| layer_norm(x, &[4], Some(w), None, 1e-5),
        |x, w| rms_norm(x, &[4], Some(w), None),
        |x, w| dyt(x, &x.constant(Tensor::scalar(0.1f32)), w, w),
    ];
    for op in ops {
        let run = |dtype| {
            let tape = Tape::training(0, 0);
            let (x, w) = (tape.leaf(x.to_dtype(dtype)), tape.leaf(w.clone()));
            let y = op(&x, &w);
            let grads = tape.backward(&[(&y, dy.to_dtype(dtype))]);
            let grad = |v| grads.wrt(v).unwrap().clone();
            (y.into_value(), grad(&x), grad(&w))
        };
        let wide = run(DType::F32);
        for dtype in [DType::BF16, DType::F16] {
            let (y, dx, dw) = run(dtype);
            for (got, want) in [(y, &wide.0), (dx, &wide.1)] {
                assert_eq!(got.dtype(), dtype);
                let bits = |t: Tensor| t.to_dtype(DType::F32).to_vec::<f32>();
                assert_eq!(bits(got), bits(want.to_dtype(dtype)));
            }
            assert_eq!(dw.to_vec::<f32>(), wide.2.to_vec::<f32>());
        }
    }
}

#[test]
fn the_machine_epsilon_is_that_of_the_type() {
    let tape = Tape::evaluation();
    for (dtype, eps) in [(DType::F32, f64::from(f32::EPSILON)), (DType::F64, f64::EPSILON)] {
        let x = tape.constant(Tensor::full(&[1, 4], 1e-4, dtype));
        let want = 1e-4 / (1e-8 + eps).sqrt();
        close(&values(&rms_norm(&x, &[4], None, None)), &[want; 4], 1e-6);
    }
}

#[test]
fn layers_hold_what_their_options_say() {
    let names = |layer: &dyn Layer| layer.param_names();
    let (of_layer, of_rms) = (LayerNormConfig::default(), RmsNormConfig::default());
    assert_eq!(names(&LayerNorm::new(&[3])), ["weight", "bias"]);
    let without_bias = LayerNorm::with_config(&[3], of_layer.clone().with_bias(false)).unwrap();
    assert_eq!(names(&without_bias), ["weight"]);
    let plain = LayerNorm::with_config(&[3], of_layer.with_affine(false)).unwrap();
    assert!(names(&plain).is_empty());
    assert_eq!(names(&RmsNorm::new(&[3])), ["weight"]);
    let plain = RmsNorm::with_config(&[3], of_rms.with_affine(false)).unwrap();
    assert!(names(&plain).is_empty());
    assert_eq!(names(&DyT::new(&[3])), ["alpha", "weight", "bias"]);
}

#[test]
fn gemma_scales_by_one_plus_the_weight() {
    let mut gemma = RmsNorm::gemma(&[3]);
    let x = Tape::evaluation().constant(example().0.to_dtype(DType::F32));
    let plain = values(&rms_norm(&x, &[3], None, Some(1e-6)));
    assert_eq!(gemma.snapshot().get("weight").unwrap().to_vec::<f32>(), [0.0; 3]);
    assert_eq!(values(&gemma.forward(&x)), plain);
    gemma.for_each_param_mut(&mut |_, p| p.set(Tensor::full(&[3], 0.5, DType::F32)));
    let want: Vec<f64> = plain.iter().map(|y| 1.5 * y).collect();
    close(&values(&gemma.forward(&x)), &want, 1e-6);
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    for bad in [-1e-5, f64::NAN, f64::INFINITY] {
        let config = RmsNormConfig::default().with_eps(bad);
        let error = RmsNorm::with_config(&[2], config).unwrap_err();
        assert_eq!(error.to_string(), format!("eps has to lie in [0, inf), got {bad}"));
    }
    for bad in [f64::NAN, f64::INFINITY] {
        let error = DyT::with_alpha(&[2], bad).unwrap_err();
        assert!(matches!(error, NormError::OutOfRange { name: "alpha", .. }), "{error}");
    }
    assert!(DyT::with_alpha(&[2], 0.2).is_ok());
}

/// The message that `f` panics with.
fn panic_of(f: impl Fn(&Var) -> Var + std::panic::UnwindSafe) -> String {
    let run = move || f(&Tape::evaluation().constant(random(&[2, 3], 1)));
    let error = std::panic::catch_unwind(run).expect_err("no panic");
    *error.downcast::<String>().expect("a message with values")
}

#[test]
fn wrong_shapes_panic_and_name_both() {
    let wrong = panic_of(|x| layer_norm(x, &[2], None, None, 1e-5));
    assert_eq!(wrong, "layer_norm: input of shape [2, 3], normalized shape [2]");
    let wrong = panic_of(|x| rms_norm(x, &[], None, None));
    assert_eq!(wrong, "rms_norm: the normalized shape has no dimension");
    let wrong = panic_of(|x| rms_norm(x, &[3], None, Some(-1.0)));
    assert_eq!(wrong, "rms_norm: eps has to lie in [0, inf), got -1");
    let wrong = panic_of(|x| layer_norm(x, &[3], Some(&x.constant(random(&[2], 1))), None, 1e-5));
    assert!(wrong.contains("[2]") && wrong.contains("[3]"), "{wrong}");
    let wrong = panic_of(|x| dyt(x, x, x, x));
    assert_eq!(wrong, "dyt: alpha of shape [2, 3] is no scalar");
}

#[test]
fn neither_threads_nor_instruction_sets_change_a_bit() {
    let (x, dy) = (random(&[300, 770], 1), random(&[300, 770], 2));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut all = Vec::new();
        pool.install(|| {
            let layers: [&dyn Layer; 3] =
                [&LayerNorm::new(&[770]), &RmsNorm::new(&[770]), &DyT::new(&[770])];
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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn scale_and_shift_make_no_difference(
        rows in 1usize..5, width in 2usize..70, seed in 0u64..1000, shift in -5.0..5.0f64, scale in 0.1..20.0f64,
    ) {
        let tape = Tape::training(0, 0);
        let x = tape.constant(random(&[rows, width], seed));
        let moved = x.affine(scale, shift);
        let layer = |x: &Var| values(&layer_norm(x, &[width], None, None, 0.0));
        close(&layer(&moved), &layer(&x), 1e-8);
        let rms = |x: &Var| values(&rms_norm(x, &[width], None, Some(0.0)));
        close(&rms(&x.affine(scale, 0.0)), &rms(&x), 1e-10);
        // RMS norm of what has mean 0 is layer norm.
        let mean = x.mean(&[-1], true);
        close(&rms(&(&x - &mean)), &layer(&x), 1e-8);
        // Its mean square is 1.
        for row in rms(&moved).chunks(width) {
            let mean_square = row.iter().map(|y| y * y).sum::<f64>() / width as f64;
            prop_assert!((mean_square - 1.0).abs() < 1e-10);
        }
    }
}
