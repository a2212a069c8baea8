//! The operation of batch normalization in all its forms: gradients in f64, and the laws that tie the forms together.

use gradus_autograd::{
    DType, Tape, Tensor, Var,
    check::{gradcheck, random},
};
use gradus_norm::{
    BatchStats, NormError, RenormLimits, batch_norm, batch_renorm, ghost_batch_norm,
    masked_batch_norm, sync_batch_norm,
};
use gradus_tensor::{bf16, simd};
use proptest::prelude::*;

/// Columns, short and long planes, one channel or value, blocks that are not full, nothing.
const SHAPES: [&[usize]; 9] = [
    &[5, 3],
    &[4, 3, 2],
    &[2, 3, 4, 5],
    &[3, 1, 1, 2],
    &[2, 40],
    &[2, 2, 70],
    &[33, 2],
    &[3, 2, 0],
    &[4, 0, 2],
];

fn inputs(shape: &[usize]) -> [Tensor; 3] {
    [random(shape, 1), random(&[shape[1]], 2), random(&[shape[1]], 3)]
}

/// A mask over the places of `shape`, with at least two valid ones.
fn mask(shape: &[usize]) -> Tensor {
    let places = [&shape[..1], &shape[2..]].concat();
    let n: usize = places.iter().product();
    let valid = |i: usize| u8::from(i < 2 || !(i * 7).is_multiple_of(3));
    Tensor::from_slice(&(0..n).map(valid).collect::<Vec<_>>(), &places)
}

fn plain(v: &[Var]) -> Var {
    batch_norm(&v[0], v.get(1), v.get(2), None, 1e-5).unwrap().0
}

fn values(x: &Var) -> Vec<f64> {
    x.value().to_dtype(DType::F64).to_vec()
}

#[track_caller]
fn close(got: &[f64], want: &[f64], limit: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= limit * (1.0 + w.abs()), "element {i}: got {g}, want {w}");
    }
}

/// Result and gradients of `f` for leaves with these values, for a fixed upstream gradient.
fn run(inputs: &[Tensor], f: impl Fn(&[Var]) -> Var) -> Vec<Vec<f64>> {
    let tape = Tape::training(0, 0);
    let leaves: Vec<Var> = inputs.iter().map(|t| tape.leaf(t.clone())).collect();
    let y = f(&leaves);
    let upstream = random(y.shape(), 50).to_dtype(y.dtype());
    let grads = tape.backward(&[(&y, upstream)]);
    let of = |leaf: &Var| grads.wrt(leaf).unwrap().to_dtype(DType::F64).to_vec::<f64>();
    std::iter::once(values(&y)).chain(leaves.iter().map(of)).collect()
}

#[track_caller]
fn same(a: &[Vec<f64>], b: &[Vec<f64>]) {
    for (a, b) in a.iter().zip(b) {
        close(a, b, 1e-11);
    }
}

#[test]
fn plain_gradients() {
    for shape in SHAPES {
        let inputs = inputs(shape);
        let (mean, var) = (random(&[shape[1]], 4), random(&[shape[1]], 5).affine(0.4, 1.0));
        let given =
            |v: &[Var]| batch_norm(&v[0], v.get(1), v.get(2), Some((&mean, &var)), 1e-5).unwrap().0;
        for f in [&plain as &dyn Fn(&[Var]) -> Var, &given] {
            gradcheck(&inputs, f);
            gradcheck(&inputs[..1], f);
            // Weight and bias alone, and a bias without a weight.
            gradcheck(&inputs[1..], |v| {
                f(&[v[0].constant(inputs[0].clone()), v[0].clone(), v[1].clone()])
            });
        }
        gradcheck(&[inputs[0].clone(), inputs[2].clone()], |v| {
            batch_norm(&v[0], None, Some(&v[1]), None, 1e-5).unwrap().0
        });
    }
}

#[test]
fn masked_gradients() {
    for shape in SHAPES {
        let (mask, inputs) = (mask(shape), inputs(shape));
        let masked = |v: &[Var], given: Option<(&Tensor, &Tensor)>| {
            masked_batch_norm(&v[0], &mask, v.get(1), v.get(2), given, 1e-5).unwrap().0
        };
        gradcheck(&inputs, |v| masked(v, None));
        gradcheck(&inputs[..1], |v| masked(v, None));
        let (mean, var) = (random(&[shape[1]], 4), random(&[shape[1]], 5).affine(0.4, 1.0));
        gradcheck(&inputs, |v| masked(v, Some((&mean, &var))));
    }
    let view = random(&[2, 3, 5], 6).transpose(0, 2);
    let mask = mask(&[5, 3, 2]);
    gradcheck(&[view], |v| {
        &masked_batch_norm(&v[0], &mask, None, None, None, 1e-5).unwrap().0 * &v[0]
    });
}

#[test]
fn ghost_gradients() {
    for (shape, size) in [(&[7, 3][..], 3), (&[4, 2, 3], 2), (&[3, 2, 70], 1), (&[0, 2, 2], 4)] {
        let inputs = inputs(shape);
        let ghost = |v: &[Var]| ghost_batch_norm(&v[0], v.get(1), v.get(2), size, 1e-5).unwrap().0;
        gradcheck(&inputs, ghost);
        gradcheck(&inputs[..1], ghost);
    }
    let view = random(&[3, 6], 6).transpose(0, 1);
    gradcheck(&[view], |v| &ghost_batch_norm(&v[0], None, None, 3, 1e-5).unwrap().0 + &v[0]);
}

#[test]
fn synchronized_gradients() {
    let shards = [random(&[1, 2, 3], 1), random(&[3, 2, 3], 2), random(&[0, 2, 3], 3)];
    let affine = [random(&[2], 4), random(&[2], 5)];
    let all = [&shards[..], &affine[..]].concat();
    let f = |v: &[Var]| {
        let (ys, _) = sync_batch_norm(&[&v[0], &v[1], &v[2]], v.get(3), v.get(4), 1e-5).unwrap();
        Var::concat(&[&ys[0], &ys[1], &ys[2]], 0)
    };
    gradcheck(&all, f);
    gradcheck(&shards, f);
    // Only one result is used, and one shard is there twice.
    gradcheck(&all[..2], |v| {
        sync_batch_norm(&[&v[0], &v[1], &v[0]], None, None, 1e-5).unwrap().0.swap_remove(1)
    });
}

#[test]
fn renorm_gradients() {
    // At the limits r and d are constants for differences too.
    for shape in [&[5, 3][..], &[2, 3, 70], &[3, 3, 2]] {
        let inputs = inputs(shape);
        let (mean, std) =
            (Tensor::full(&[3], 9.0, DType::F64), Tensor::full(&[3], 0.01, DType::F64));
        let limits = RenormLimits::new(1.5, 0.5).unwrap();
        let renorm = |v: &[Var]| {
            batch_renorm(&v[0], v.get(1), v.get(2), (&mean, &std), limits, 1e-5).unwrap().0
        };
        gradcheck(&inputs, renorm);
        gradcheck(&inputs[..1], renorm);
    }
}

#[test]
fn renorm_within_its_limits_is_a_scaled_and_shifted_batch_norm() {
    let x = random(&[6, 2], 1);
    let stats = BatchStats::of(&x);
    let (mean, std) = (random(&[2], 2), random(&[2], 3).affine(0.2, 0.7));
    let (m, s) = (mean.to_vec::<f64>(), std.to_vec::<f64>());
    let of = |f: &dyn Fn(usize) -> f64| Tensor::from_slice(&[f(0), f(1)], &[2]);
    let r = of(&|c| (stats.var(c) + 1e-5).sqrt() / s[c]);
    let d = of(&|c| (stats.mean[c] - m[c]) / s[c]);
    let limits = RenormLimits::new(f64::INFINITY, f64::INFINITY).unwrap();
    let renorm = run(std::slice::from_ref(&x), |v| {
        batch_renorm(&v[0], None, None, (&mean, &std), limits, 1e-5).unwrap().0
    });
    let by_hand = run(std::slice::from_ref(&x), |v| {
        let y = plain(v);
        &(&y * &y.constant(r.clone())) + &y.constant(d.clone())
    });
    same(&renorm, &by_hand);
    // Without limits the running statistics normalize.
    let running = |i: usize, x: &f64| (x - m[i % 2]) / s[i % 2];
    let want: Vec<f64> = x.to_vec::<f64>().iter().enumerate().map(|(i, x)| running(i, x)).collect();
    close(&renorm[0], &want, 1e-12);
}

#[test]
fn renorm_without_limits_to_use_is_batch_norm() {
    for shape in [&[5, 3][..], &[2, 3, 70]] {
        let (mean, std) = (random(&[3], 8), random(&[3], 9).affine(0.2, 1.0));
        let renorm = run(&inputs(shape), |v| {
            let (w, b) = (v.get(1), v.get(2));
            batch_renorm(&v[0], w, b, (&mean, &std), RenormLimits::NONE, 1e-5).unwrap().0
        });
        assert_eq!(renorm, run(&inputs(shape), plain));
    }
}

#[test]
fn a_full_mask_hides_nothing() {
    for shape in &SHAPES[..8] {
        let places = [&shape[..1], &shape[2..]].concat();
        let masked = run(&inputs(shape), |v| {
            let all = Tensor::ones(&places, DType::U8);
            masked_batch_norm(&v[0], &all, v.get(1), v.get(2), None, 1e-5).unwrap().0
        });
        same(&masked, &run(&inputs(shape), plain));
    }
}

#[test]
fn masked_statistics_are_those_of_the_valid_rows_alone() {
    let rows = |mask: &[u8]| Tensor::from_slice(mask, &[mask.len()]);
    let x = random(&[5, 3], 1);
    let kept = Tensor::concat(&[&x.narrow(0, 1, 2), &x.narrow(0, 4, 1)], 0);
    let tape = Tape::training(0, 0);
    let (y, stats) =
        masked_batch_norm(&tape.constant(x), &rows(&[0, 1, 1, 0, 1]), None, None, None, 1e-5)
            .unwrap();
    let (want, want_stats) = batch_norm(&tape.constant(kept), None, None, None, 1e-5).unwrap();
    let (y, want) = (values(&y), values(&want));
    assert_eq!(y[..3], [0.0; 3]);
    assert_eq!(y[9..12], [0.0; 3]);
    assert_eq!(y[3..9], want[..6]);
    assert_eq!(y[12..], want[6..]);
    assert_eq!(stats, want_stats);
}

#[test]
fn what_a_mask_hides_may_be_anything() {
    for spatial in [1, 3, 5000] {
        let mut x = random(&[2, 2, spatial], 1);
        let mask = Tensor::from_slice(
            &[[1u8; 5000], [0; 5000]].map(|m| m[..spatial].to_vec()).concat(),
            &[2, spatial],
        );
        let short = x.narrow(0, 0, 1);
        x.make_mut::<f64>()[2 * spatial..].fill(f64::NAN);
        let tape = Tape::training(0, 0);
        let (x, weight) = (tape.leaf(x), tape.leaf(random(&[2], 2)));
        if spatial == 1 {
            let refused = masked_batch_norm(&x, &mask, None, None, None, 1e-5).unwrap_err();
            assert_eq!(refused, NormError::BatchTooSmall { shape: vec![2, 2, 1] });
            continue;
        }
        let (y, _) = masked_batch_norm(&x, &mask, Some(&weight), None, None, 1e-5).unwrap();
        let mut upstream = random(&[2, 2, spatial], 3);
        upstream.make_mut::<f64>()[2 * spatial..].fill(f64::INFINITY);
        let grads = tape.backward(&[(&y, upstream)]);
        let dx = grads.wrt(&x).unwrap().to_vec::<f64>();
        assert!(dx[2 * spatial..].iter().chain(&values(&y)[2 * spatial..]).all(|&v| v == 0.0));
        let dw = grads.wrt(&weight).unwrap().to_vec::<f64>();
        let alone = run(&[short, random(&[2], 2)], |v| {
            batch_norm(&v[0], Some(&v[1]), None, None, 1e-5).unwrap().0
        });
        close(&values(&y)[..2 * spatial], &alone[0], 1e-11);
        assert!(dx.iter().chain(&dw).all(|v| v.is_finite()));
    }
}

#[test]
fn nothing_valid_is_nothing_to_do() {
    let tape = Tape::training(0, 0);
    let x = tape.leaf(random(&[2, 3, 4], 1));
    let none = Tensor::zeros(&[2, 4], DType::U8);
    let (y, stats) = masked_batch_norm(&x, &none, None, None, None, 1e-5).unwrap();
    assert_eq!(values(&y), [0.0; 24]);
    assert_eq!(stats.unwrap().count, 0);
    let grads = tape.backward(&[(&y, random(&[2, 3, 4], 2))]);
    assert_eq!(grads.wrt(&x).unwrap().to_vec::<f64>(), [0.0; 24]);
}

#[test]
fn one_ghost_is_the_batch() {
    for shape in SHAPES {
        for size in [shape[0].max(1), 100] {
            let ghost = run(&inputs(shape), |v| {
                ghost_batch_norm(&v[0], v.get(1), v.get(2), size, 1e-5).unwrap().0
            });
            assert_eq!(ghost, run(&inputs(shape), plain));
        }
    }
}

#[test]
fn ghosts_are_as_equal_as_can_be_and_normalized_each_by_itself() {
    for shape in [&[7, 2][..], &[7, 2, 3], &[7, 2, 70]] {
        let x = random(shape, 1);
        let tape = Tape::training(0, 0);
        let (y, stats) = ghost_batch_norm(&tape.constant(x.clone()), None, None, 3, 1e-5).unwrap();
        let spatial: usize = shape[2..].iter().product();
        let counts: Vec<usize> = stats.iter().map(|s| s.count / spatial).collect();
        assert_eq!(counts, [2, 2, 3]);
        let mut start = 0;
        let mut want = Vec::new();
        for (n, stats) in counts.into_iter().zip(stats) {
            let part = x.narrow(0, start, n);
            assert_eq!(stats, BatchStats::of(&part));
            want.extend(values(&plain(&[tape.constant(part)])));
            start += n;
        }
        assert_eq!(values(&y), want);
    }
}

#[test]
fn one_value_is_refused_wherever_it_stands_alone() {
    let tape = Tape::training(0, 0);
    let x = |shape: &[usize]| tape.constant(random(shape, 1));
    let small = |shape: &[usize]| NormError::BatchTooSmall { shape: shape.to_vec() };
    let ghost = ghost_batch_norm(&x(&[4, 3]), None, None, 1, 1e-5);
    assert_eq!(ghost.unwrap_err(), small(&[4, 3]));
    assert!(ghost_batch_norm(&x(&[4, 3, 2]), None, None, 1, 1e-5).is_ok());
    let one = Tensor::from_slice(&[0u8, 1, 0, 0], &[2, 2]);
    let masked = masked_batch_norm(&x(&[2, 3, 2]), &one, None, None, None, 1e-5);
    assert_eq!(masked.unwrap_err(), small(&[2, 3, 2]));
    let shards = sync_batch_norm(&[&x(&[1, 3]), &x(&[0, 3])], None, None, 1e-5);
    assert_eq!(shards.unwrap_err(), small(&[1, 3]));
    assert!(sync_batch_norm(&[&x(&[1, 3]), &x(&[1, 3])], None, None, 1e-5).is_ok());
    let running = (&random(&[3], 2), &Tensor::ones(&[3], DType::F64));
    let renorm = batch_renorm(&x(&[1, 3]), None, None, running, RenormLimits::NONE, 1e-5);
    assert_eq!(renorm.unwrap_err(), small(&[1, 3]));
}

#[test]
fn numbers_out_of_range_are_refused() {
    let tape = Tape::training(0, 0);
    let x = tape.constant(random(&[4, 2], 1));
    let (zeros, ones) = (Tensor::zeros(&[2], DType::F64), Tensor::ones(&[2], DType::F64));
    let minus = ones.affine(-1.0, 0.0);
    let name = |e: NormError| match e {
        NormError::OutOfRange { name, .. } => name,
        other => panic!("{other}"),
    };
    for eps in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(name(batch_norm(&x, None, None, None, eps).unwrap_err()), "eps");
        assert_eq!(name(ghost_batch_norm(&x, None, None, 2, eps).unwrap_err()), "eps");
        assert_eq!(name(sync_batch_norm(&[&x], None, None, eps).unwrap_err()), "eps");
        let running = (&zeros, &ones);
        let limits = RenormLimits::NONE;
        assert_eq!(name(batch_renorm(&x, None, None, running, limits, eps).unwrap_err()), "eps");
    }
    assert_eq!(name(ghost_batch_norm(&x, None, None, 0, 1e-5).unwrap_err()), "virtual_batch_size");
    let given = Some((&zeros, &minus));
    assert_eq!(name(batch_norm(&x, None, None, given, 1e-5).unwrap_err()), "variance");
    let running = (&zeros, &minus);
    let renorm = batch_renorm(&x, None, None, running, RenormLimits::NONE, 1e-5);
    assert_eq!(name(renorm.unwrap_err()), "running_std");
    for (r, d, bad) in [
        (0.9, 0.0, "r_max"),
        (f64::NAN, 0.0, "r_max"),
        (1.0, -0.1, "d_max"),
        (1.0, f64::NAN, "d_max"),
    ] {
        assert_eq!(name(RenormLimits::new(r, d).unwrap_err()), bad);
    }
}

#[test]
#[should_panic(expected = "a mask for input of shape [2, 3, 4]")]
fn a_mask_of_another_shape_panics() {
    let x = Tape::training(0, 0).constant(random(&[2, 3, 4], 1));
    let _ = masked_batch_norm(&x, &Tensor::ones(&[2, 3, 4], DType::U8), None, None, None, 1e-5);
}

#[test]
#[should_panic(expected = "shards of shapes [2, 3] and [2, 4]")]
fn shards_that_do_not_fit_panic() {
    let tape = Tape::training(0, 0);
    let (a, b) = (tape.constant(random(&[2, 3], 1)), tape.constant(random(&[2, 4], 1)));
    let _ = sync_batch_norm(&[&a, &b], None, None, 1e-5);
}

#[test]
fn a_constant_channel_without_eps_becomes_the_bias() {
    for shape in [&[3, 2][..], &[3, 2, 70]] {
        let x = Tensor::full(shape, 0.1, DType::F32);
        let bias = Tensor::from_slice(&[2f32, -1.0], &[2]);
        let out = run(&[x, Tensor::ones(&[2], DType::F32), bias], |v| {
            batch_norm(&v[0], Some(&v[1]), Some(&v[2]), None, 0.0).unwrap().0
        });
        let spatial: usize = shape[2..].iter().product();
        assert!(out[0].iter().enumerate().all(|(i, &y)| y == [2.0, -1.0][i / spatial % 2]));
        assert!(out[1].iter().chain(&out[2]).all(|&g| g == 0.0));
    }
}

#[test]
fn halves_are_computed_in_f32_and_rounded_once() {
    let mask = Tensor::ones(&[6, 5], DType::U8);
    for dtype in [DType::BF16, DType::F16] {
        let half: Vec<Tensor> = inputs(&[6, 3, 5]).iter().map(|t| t.to_dtype(dtype)).collect();
        let wide: Vec<Tensor> = half.iter().map(|t| t.to_dtype(DType::F32)).collect();
        let masked =
            |v: &[Var]| masked_batch_norm(&v[0], &mask, v.get(1), v.get(2), None, 1e-5).unwrap().0;
        for f in [&plain as &dyn Fn(&[Var]) -> Var, &masked] {
            let tape = Tape::training(0, 0);
            let leaves = |t: &[Tensor]| t.iter().map(|t| tape.leaf(t.clone())).collect::<Vec<_>>();
            let (half, wide) = (leaves(&half), leaves(&wide));
            let (y, want) = (f(&half), f(&wide));
            assert_eq!(y.dtype(), dtype);
            assert_eq!(values(&y), values(&y.constant(want.value().to_dtype(dtype))));
            let g = random(y.shape(), 9).to_dtype(dtype);
            let grads = tape.backward(&[(&y, g.clone()), (&want, g.to_dtype(DType::F32))]);
            for (half, wide) in half.iter().zip(&wide) {
                let (got, want) = (grads.wrt(half).unwrap(), grads.wrt(wide).unwrap());
                assert_eq!(got.dtype(), dtype);
                let want = want.to_dtype(dtype).to_dtype(DType::F64).to_vec::<f64>();
                assert_eq!(got.to_dtype(DType::F64).to_vec::<f64>(), want);
            }
        }
    }
    // Parameters may be wider than what they scale.
    let tape = Tape::training(0, 0);
    let x = tape.constant(random(&[4, 2], 1).to_dtype(DType::BF16));
    let w = tape.leaf(random(&[2], 2).to_dtype(DType::F32));
    let (y, _) = batch_norm(&x, Some(&w), None, None, 1e-5).unwrap();
    assert_eq!(y.value().to_vec::<bf16>().len(), 8);
    let grads = tape.backward(&[(&y, Tensor::ones(&[4, 2], DType::BF16))]);
    assert_eq!(grads.wrt(&w).unwrap().dtype(), DType::F32);
}

/// What follows has large units, which threads share, and small ones, which they do not.
fn large() -> Vec<Vec<f64>> {
    let shapes = [&[64, 16, 14, 14][..], &[3, 1, 200, 200], &[20_000, 6], &[300, 20, 3]];
    shapes
        .iter()
        .flat_map(|shape| {
            let inputs = inputs(shape).map(|t| t.to_dtype(DType::F32));
            let mask = mask(shape);
            let mut all = run(&inputs, plain);
            all.extend(run(&inputs, |v| {
                masked_batch_norm(&v[0], &mask, v.get(1), v.get(2), None, 1e-5).unwrap().0
            }));
            all.extend(run(&inputs, |v| {
                ghost_batch_norm(&v[0], v.get(1), v.get(2), 30, 1e-5).unwrap().0
            }));
            all
        })
        .collect()
}

#[test]
fn neither_threads_nor_instruction_sets_change_a_bit() {
    let with = |threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(large)
    };
    let one = with(1);
    assert!(one == with(2));
    for level in [simd::Level::Portable, simd::Level::Avx2] {
        simd::force(level);
        assert!(one == with(3), "{level:?}");
    }
    simd::force(simd::Level::Avx512);
}

#[test]
fn large_means_cost_no_digits() {
    // Exact in f32: the mean is 4096 + 1/3, which is not, and the deviation 1.7.
    let pattern = [4094.0, 4096.0, 4097.0, 4095.0, 4098.0, 4098.0];
    for shape in [&[600, 2][..], &[60, 2, 10], &[6, 2, 100], &[1, 2, 10_000 * 6]] {
        let n: usize = shape.iter().product();
        let x: Vec<f64> = (0..n).map(|i| pattern[i % 6] + (i % 2) as f64 / 512.0).collect();
        let x = Tensor::from_slice(&x, shape);
        let exact = run(std::slice::from_ref(&x), plain);
        let rounded = run(&[x.to_dtype(DType::F32)], plain);
        // The mean is kept in two parts: its half unit in the last place, 2e-4, does not show.
        close(&rounded[0], &exact[0], 1e-6);
        close(&rounded[1], &exact[1], 1e-5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shards_equal_their_concatenation(
        sizes in prop::collection::vec(0usize..5, 1..5), channels in 1usize..40, spatial in 1usize..4, seed in 0u64..1000,
        mean in -1e4..1e4f64,
    ) {
        prop_assume!(sizes.iter().sum::<usize>() * spatial > 1);
        let shapes: Vec<[usize; 3]> = sizes.iter().map(|&n| [n, channels, spatial]).collect();
        let of = |i: usize| random(&shapes[i], seed + i as u64).affine(1.0, mean);
        let shards: Vec<Tensor> = (0..sizes.len()).map(of).collect();
        let whole = Tensor::concat(&shards.iter().collect::<Vec<_>>(), 0);
        let affine = [random(&[channels], 1), random(&[channels], 2)];
        let apart = run(&[&shards[..], &affine[..]].concat(), |v| {
            let (xs, affine) = v.split_at(shards.len());
            let xs: Vec<&Var> = xs.iter().collect();
            let (ys, _) = sync_batch_norm(&xs, Some(&affine[0]), Some(&affine[1]), 1e-5).unwrap();
            Var::concat(&ys.iter().collect::<Vec<_>>(), 0)
        });
        let together = run(&[&[whole.clone()][..], &affine[..]].concat(), plain);
        close(&apart[0], &together[0], 1e-10);
        close(&apart[1..=sizes.len()].concat(), &together[1], 1e-9);
        close(&apart[sizes.len() + 1..].concat(), &together[2..].concat(), 1e-9);
        let mut merged = BatchStats::of(&shards[0]);
        shards[1..].iter().for_each(|s| merged.merge(&BatchStats::of(s)));
        let stats = BatchStats::of(&whole);
        prop_assert_eq!(merged.count, stats.count);
        close(&merged.mean, &stats.mean, 1e-14);
        close(&merged.m2, &stats.m2, 1e-10);
    }

    #[test]
    fn statistics_are_those_of_the_definition(
        n in 1usize..40, channels in 1usize..40, spatial in 1usize..100, seed in 0u64..1000, mean in -1e3..1e3f64,
    ) {
        let x = random(&[n, channels, spatial], seed).affine(1.0, mean);
        let stats = BatchStats::of(&x);
        prop_assert_eq!(stats.count, n * spatial);
        for c in 0..channels {
            let values = x.narrow(1, c, 1).to_vec::<f64>();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let m2 = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
            prop_assert!((stats.mean[c] - mean).abs() < 1e-13 * (1.0 + mean.abs()));
            prop_assert!((stats.m2[c] - m2).abs() < 1e-9 * (1.0 + m2));
        }
    }
}
