//! Layers of batch normalization: what their running statistics do, and what is done with them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gradus_autograd::{
    DType, EntryMut, Layer, Module, Path, Snapshot, Tape, Tensor, Var, check::random, module,
};
use gradus_norm::{
    BatchNorm, BatchNormConfig, BatchRenorm, BatchRenormConfig, Momentum, NormError, RenormLimits,
    RenormRamp, update_bn,
};
use gradus_tensor::ConvOptions;

fn config() -> BatchNormConfig {
    BatchNormConfig::default()
}

fn train(norm: &BatchNorm, x: &Tensor) -> Var {
    norm.try_forward(&Tape::training(0, 0).constant(x.clone())).unwrap()
}

fn evaluate(norm: &dyn Layer, x: &Tensor) -> Vec<f64> {
    norm.forward(&Tape::evaluation().constant(x.clone())).value().to_dtype(DType::F64).to_vec()
}

fn numbers(state: &Snapshot, name: &str) -> Vec<f64> {
    state.get(name).unwrap_or_else(|| panic!("no {name}")).to_dtype(DType::F64).to_vec()
}

fn in_f64(module: &mut impl Module) {
    module.walk_mut(&mut Path::default(), &mut |_, entry| match entry {
        EntryMut::Param(p) => *p.value_mut() = p.value().to_dtype(DType::F64),
        EntryMut::Buffer(b) => b.update(|t| {
            if t.dtype().is_float() {
                *t = t.to_dtype(DType::F64);
            }
        }),
    });
}

fn bits(module: &impl Module) -> Vec<(String, Vec<f64>)> {
    let snapshot = module.snapshot();
    let of = |(name, t): (&str, &Tensor)| (name.to_owned(), t.to_dtype(DType::F64).to_vec());
    snapshot.iter().map(of).collect()
}

#[track_caller]
fn close(got: &[f64], want: &[f64], limit: f64) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= limit * (1.0 + w.abs()), "got {got:?}, want {want:?}");
    }
}

#[test]
fn the_running_variance_is_unbiased_or_not() {
    let x = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0], &[4, 1]);
    for (unbiased, want) in [(true, 0.9 + 0.1 * 5.0 / 3.0), (false, 0.9 + 0.1 * 1.25)] {
        let config = config().with_unbiased_running_var(unbiased);
        let norm = BatchNorm::with_config(1, config).unwrap();
        let _ = train(&norm, &x);
        close(&numbers(&norm.snapshot(), "running_var"), &[want], 1e-6);
    }
    let (keras, flax) = (BatchNormConfig::keras(), BatchNormConfig::flax());
    assert_eq!((keras.eps, flax.eps), (1e-3, 1e-5));
    for config in [keras, flax] {
        assert_eq!(config.momentum, Momentum::Old(0.99));
        let norm = BatchNorm::with_config(1, config).unwrap();
        let _ = train(&norm, &x);
        close(&numbers(&norm.snapshot(), "running_var"), &[0.99 + 0.01 * 1.25], 1e-6);
    }
}

#[test]
fn frozen_statistics_normalize_and_stay_while_scale_and_shift_train() {
    let mut norm = BatchNorm::new(2);
    let _ = train(&norm, &random(&[5, 2], 1));
    norm.set_frozen(true).unwrap();
    assert!(norm.is_frozen());
    let (before, x) = (bits(&norm), random(&[4, 2], 2).to_dtype(DType::F32));
    let tape = Tape::training(0, 0);
    let leaf = tape.leaf(x.clone());
    let y = norm.forward(&leaf);
    assert_eq!(y.value().to_dtype(DType::F64).to_vec::<f64>(), evaluate(&norm, &x));
    let grads = tape.backward(&[(&y, Tensor::ones(&[4, 2], DType::F32))]);
    // Through constants: every input of a channel has the same gradient.
    let var = numbers(&norm.snapshot(), "running_var");
    let dx = grads.wrt(&leaf).unwrap().to_dtype(DType::F64).to_vec::<f64>();
    let want: Vec<f64> = (0..8).map(|i| 1.0 / (var[i % 2] + 1e-5).sqrt()).collect();
    close(&dx, &want, 1e-6);
    let mut trained = 0;
    norm.for_each_param(&mut |_, p| trained += usize::from(grads.get(p.id()).is_some()));
    assert_eq!(trained, 2);
    // One value a channel has constants to be normalized by.
    assert!(norm.try_forward(&Tape::training(0, 0).constant(random(&[1, 2], 3))).is_ok());
    assert_eq!(bits(&norm), before);
    norm.set_frozen(false).unwrap();
    let _ = train(&norm, &x);
    assert_ne!(bits(&norm), before);
    let mut untracked =
        BatchNorm::with_config(2, config().with_track_running_stats(false)).unwrap();
    assert_eq!(untracked.set_frozen(true), Err(NormError::NoRunningStats));
    assert!(!untracked.is_frozen());
}

#[test]
fn a_nan_does_not_stay_in_the_running_statistics() {
    let norm = BatchNorm::new(2);
    for bad in [f32::NAN, f32::INFINITY] {
        let y = train(&norm, &Tensor::from_slice(&[1f32, bad, 3.0, 1.0], &[2, 2]));
        assert!(y.value().to_vec::<f32>()[1].is_nan());
    }
    let state = norm.snapshot();
    close(&numbers(&state, "running_mean"), &[0.38, 0.0], 1e-6);
    close(&numbers(&state, "running_var"), &[1.19, 1.0], 1e-6);
    assert_eq!(numbers(&state, "num_batches_tracked"), [2.0]);
    norm.reset_running_stats();
    assert_eq!(bits(&norm), bits(&BatchNorm::new(2)));
}

#[test]
fn a_running_variance_below_zero_is_an_error() {
    let mut norm = BatchNorm::new(1);
    norm.walk_mut(&mut Path::default(), &mut |name, entry| {
        if let (EntryMut::Buffer(b), "running_var") = (entry, name) {
            b.set(Tensor::from_slice(&[-1f32], &[1]));
        }
    });
    let x = Tape::evaluation().constant(Tensor::ones(&[2, 1], DType::F32));
    let error = NormError::OutOfRange { name: "variance", value: -1.0, range: "[0, inf)" };
    assert_eq!(norm.try_forward(&x).unwrap_err(), error);
    assert_eq!(norm.fold_into(&Tensor::ones(&[1, 2], DType::F32), None).unwrap_err(), error);
}

#[test]
fn each_ghost_moves_the_statistics_once() {
    let size = config().with_virtual_batch_size(2);
    let ghosts = BatchNorm::with_config(3, size.clone()).unwrap();
    let x = random(&[6, 3, 2], 1).to_dtype(DType::F32);
    let y = train(&ghosts, &x);
    let norm = BatchNorm::new(3);
    let parts: Vec<Var> = (0..3).map(|i| train(&norm, &x.narrow(0, 2 * i, 2))).collect();
    let parts: Vec<f32> = parts.iter().flat_map(|y| y.value().to_vec::<f32>()).collect();
    assert_eq!(y.value().to_vec::<f32>(), parts);
    assert_eq!(bits(&ghosts), bits(&norm));
    assert_eq!(evaluate(&ghosts, &x), evaluate(&norm, &x));
    // A ghost of one value: nothing has moved.
    let before = bits(&ghosts);
    let bad = ghosts.try_forward(&Tape::training(0, 0).constant(random(&[3, 3], 1)));
    assert_eq!(bad.unwrap_err(), NormError::BatchTooSmall { shape: vec![3, 3] });
    assert_eq!(bits(&ghosts), before);
    let zero = BatchNorm::with_config(3, size.with_virtual_batch_size(0)).unwrap_err();
    assert!(matches!(zero, NormError::OutOfRange { name: "virtual_batch_size", .. }));
}

#[test]
fn padding_moves_no_statistic() {
    let (padded, norm) = (BatchNorm::new(2), BatchNorm::new(2));
    let x = random(&[2, 2, 5], 1).to_dtype(DType::F32);
    let mask = Tensor::from_slice(&[1u8, 1, 1, 0, 0, 1, 1, 1, 0, 0], &[2, 5]);
    let tape = Tape::training(0, 0);
    let y = padded.forward_masked(&tape.constant(x.clone()), &mask).unwrap();
    let short = x.narrow(2, 0, 3).contiguous();
    let want = train(&norm, &short);
    let y = y.value().narrow(2, 0, 3).to_dtype(DType::F64).to_vec::<f64>();
    close(&y, &want.value().to_dtype(DType::F64).to_vec::<f64>(), 1e-6);
    for (got, want) in bits(&padded).iter().zip(bits(&norm)) {
        close(&got.1, &want.1, 1e-6);
    }
    let tape = Tape::evaluation();
    let y = padded
        .forward_masked(&tape.constant(x), &mask)
        .unwrap()
        .value()
        .narrow(2, 3, 2)
        .to_vec::<f32>();
    assert_eq!(y, [0.0; 8]);
    let before = bits(&padded);
    let none = Tensor::zeros(&[2, 5], DType::U8);
    let x = Tape::training(0, 0).constant(random(&[2, 2, 5], 1));
    padded.forward_masked(&x, &none).unwrap();
    assert_eq!(numbers(&padded.snapshot(), "running_mean"), before[2].1);
}

#[test]
fn shards_move_the_statistics_once_and_together() {
    let (apart, together) = (BatchNorm::new(3), BatchNorm::new(3));
    let x = random(&[5, 3, 4], 1);
    let tape = Tape::training(0, 0);
    let shards = [x.narrow(0, 0, 1), x.narrow(0, 1, 4)].map(|s| tape.constant(s));
    let ys = apart.forward_shards(&[&shards[0], &shards[1]]).unwrap();
    let y = train(&together, &x).value().to_vec::<f64>();
    let ys: Vec<f64> = ys.iter().flat_map(|y| y.value().to_vec::<f64>()).collect();
    close(&ys, &y, 1e-12);
    assert_eq!(bits(&apart), bits(&together));
    let small = apart.forward_shards(&[&tape.constant(random(&[1, 3], 1))]);
    assert_eq!(small.unwrap_err(), NormError::BatchTooSmall { shape: vec![1, 3] });
    assert_eq!(bits(&apart), bits(&together));
}

/// Two batch norms in a model whose layers are boxed, as a sequence's are.
struct Model {
    first: Box<dyn Layer>,
    rest: Vec<Box<dyn Layer>>,
}
module!(Model { first, rest });

impl Model {
    /// The model of the numbers from PyTorch below.
    fn new() -> Self {
        let norm = || {
            let mut norm = BatchNorm::new(2);
            in_f64(&mut norm);
            Box::new(norm) as Box<dyn Layer>
        };
        Self { first: norm(), rest: vec![norm()] }
    }

    fn try_forward(&self, x: &Var) -> Var {
        let weight = x.constant(Tensor::from_slice(&[1.0, -2.0, 0.5, 1.0], &[2, 2]));
        let bias = x.constant(Tensor::from_slice(&[0.5, -1.0], &[2]));
        self.rest[0].forward(&self.first.forward(&x.linear(&weight, Some(&bias))).tanh())
    }
}

fn batches() -> [Tensor; 2] {
    let first = [1.0, 2.0, 3.0, -1.0, 0.0, 1.0];
    let second = [2.0, 2.0, -1.0, 0.5, 1.0, 1.0, 0.5, -2.0];
    [Tensor::from_slice(&first, &[3, 2]), Tensor::from_slice(&second, &[4, 2])]
}

fn trained() -> Model {
    let model = Model::new();
    for x in batches() {
        let _ = model.try_forward(&Tape::training(0, 0).constant(x));
    }
    model
}

#[test]
fn update_bn_gives_the_numbers_of_pytorch() {
    let model = trained();
    update_bn(&model, batches(), |tape, x| -> Result<(), NormError> {
        assert!(!tape.is_training() && tape.is_calibrating());
        let y = model.try_forward(&tape.leaf(x));
        assert!(!y.is_tracked());
        Ok(())
    })
    .unwrap();
    let state = model.snapshot();
    close(&numbers(&state, "first.running_mean"), &[0.4375, 0.010416666666666657], 1e-13);
    close(&numbers(&state, "first.running_var"), &[14.364583333333332, 2.611979166666667], 1e-13);
    let mean = [-0.12390187760447043, -0.03587848333205197];
    close(&numbers(&state, "rest.0.running_mean"), &mean, 1e-13);
    close(&numbers(&state, "rest.0.running_var"), &[0.6403834942224957, 0.6730049282214081], 1e-13);
    for count in ["first.num_batches_tracked", "rest.0.num_batches_tracked"] {
        assert_eq!(numbers(&state, count), [2.0]);
    }
    // The momentum is what it was.
    let _ = model.try_forward(&Tape::training(0, 0).constant(batches()[0].clone()));
    let before = numbers(&state, "first.running_mean");
    let want = [before[0] * 0.9 + 0.1 * 0.5, before[1] * 0.9 + 0.1 / 3.0];
    close(&numbers(&model.snapshot(), "first.running_mean"), &want, 1e-13);
}

#[test]
fn an_error_or_a_panic_puts_the_statistics_back() {
    let model = trained();
    let before = bits(&model);
    let mut seen = 0;
    let stop = update_bn(&model, batches(), |tape, x| {
        seen += 1;
        if seen == 2 {
            return Err(NormError::NoRunningStats);
        }
        let _ = model.try_forward(&tape.constant(x));
        assert_ne!(bits(&model), before);
        Ok(())
    });
    assert_eq!(stop, Err(NormError::NoRunningStats));
    assert_eq!(bits(&model), before);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        update_bn(&model, batches(), |tape, x| -> Result<(), NormError> {
            let _ = model.try_forward(&tape.constant(x));
            panic!("in the middle")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(bits(&model), before);
    let none = update_bn(&model, [], |_, _: ()| -> Result<(), NormError> { Ok(()) });
    assert_eq!(none, Err(NormError::NoBatches));
    assert_eq!(bits(&model), before);
}

#[test]
fn what_is_frozen_or_not_reached_keeps_its_statistics() {
    let mut layers = vec![BatchNorm::new(2), BatchNorm::new(2), BatchNorm::new(2)];
    layers.iter().for_each(|norm| drop(train(norm, &random(&[4, 2], 1))));
    layers[0].set_frozen(true).unwrap();
    let before: Vec<_> = layers.iter().map(bits).collect();
    update_bn(&layers, [random(&[4, 2], 2)], |tape, x| -> Result<(), NormError> {
        layers[1].try_forward(&layers[0].try_forward(&tape.constant(x))?)?;
        Ok(())
    })
    .unwrap();
    assert_eq!(bits(&layers[0]), before[0]);
    assert_ne!(bits(&layers[1]), before[1]);
    assert_eq!(bits(&layers[2]), before[2]);
}

#[test]
fn statistics_are_estimated_anew_whatever_they_were() {
    let norm = BatchNorm::new(1);
    norm.walk(&mut Path::default(), &mut |name, entry| {
        if let (gradus_autograd::Entry::Buffer(b), "running_mean" | "running_var") = (entry, name) {
            b.set(Tensor::from_slice(&[f32::NAN], &[1]));
        }
    });
    update_bn(&norm, [[1f32, 3.0]], |tape, x| -> Result<(), NormError> {
        norm.try_forward(&tape.constant(Tensor::from_slice(&x, &[2, 1])))?;
        Ok(())
    })
    .unwrap();
    let state = norm.snapshot();
    assert_eq!((numbers(&state, "running_mean")[0], numbers(&state, "running_var")[0]), (2.0, 2.0));
}

/// A layer that has seen a batch, with scale and shift that are not those of the start, in f64.
fn used(channels: usize, affine: bool) -> BatchNorm {
    let mut norm = BatchNorm::with_config(channels, config().with_affine(affine)).unwrap();
    in_f64(&mut norm);
    let mut seed = 10;
    norm.for_each_param_mut(&mut |_, p| {
        seed += 1;
        *p.value_mut() = random(p.value().shape(), seed);
    });
    let _ = train(&norm, &random(&[6, channels, 3], 1).affine(2.0, 1.0));
    norm
}

#[test]
fn folded_into_the_layer_before_it_does_the_same() {
    for affine in [true, false] {
        let norm = used(4, affine);
        let tape = Tape::evaluation();
        let both =
            |y: &Tensor| norm.forward(&tape.constant(y.clone())).into_value().to_vec::<f64>();
        for bias in [None, Some(random(&[4], 3))] {
            let (x, w) = (random(&[5, 3], 4), random(&[4, 3], 5));
            let (weight, shift) = norm.fold_into(&w, bias.as_ref()).unwrap();
            let folded = x.linear(&weight, Some(&shift)).to_vec::<f64>();
            close(&folded, &both(&x.linear(&w, bias.as_ref())), 1e-13);
            let options = ConvOptions::default().with_groups(2);
            let (x, w) = (random(&[2, 4, 5, 6], 6), random(&[4, 2, 3, 2], 7));
            let (weight, shift) = norm.fold_into(&w, bias.as_ref()).unwrap();
            let folded = x.conv2d(&weight, Some(&shift), options).to_vec::<f64>();
            close(&folded, &both(&x.conv2d(&w, bias.as_ref(), options)), 1e-13);
        }
        // A transposed 1x1 convolution in groups: out = W^T x within each group.
        for groups in [1, 2] {
            let (x, w) = (random(&[6, 1], 8), random(&[6, 4 / groups, 1], 9));
            let product = |w: &Tensor| {
                let part = |g: usize| {
                    let (rows, x) = (
                        w.narrow(0, g * 6 / groups, 6 / groups),
                        x.narrow(0, g * 6 / groups, 6 / groups),
                    );
                    rows.contiguous()
                        .view(&[6 / groups, 4 / groups])
                        .transpose(0, 1)
                        .matmul(&x.contiguous())
                };
                let parts: Vec<Tensor> = (0..groups).map(part).collect();
                Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0).view(&[1, 4])
            };
            let bias = random(&[4], 3);
            let (weight, shift) = norm.fold_into_transposed(&w, Some(&bias), groups).unwrap();
            assert_eq!(weight.shape(), w.shape());
            let folded = product(&weight).add(&shift).to_vec::<f64>();
            close(&folded, &both(&product(&w).add(&bias)), 1e-13);
        }
    }
    let untracked = BatchNorm::with_config(2, config().with_track_running_stats(false)).unwrap();
    let folded = untracked.fold_into(&random(&[2, 3], 1), None);
    assert_eq!(folded.unwrap_err(), NormError::NoRunningStats);
}

#[test]
fn folding_keeps_the_type_of_the_weight() {
    let norm = used(2, true);
    let w = random(&[2, 3], 1);
    let wide = norm.fold_into(&w, None).unwrap();
    for dtype in [DType::F32, DType::BF16] {
        let (weight, bias) = norm.fold_into(&w.to_dtype(dtype), None).unwrap();
        assert_eq!((weight.dtype(), bias.dtype()), (dtype, dtype));
        assert_eq!(
            bias.to_dtype(DType::F64).to_vec::<f64>(),
            wide.1.to_dtype(dtype).to_dtype(DType::F64).to_vec::<f64>()
        );
    }
}

#[test]
#[should_panic(expected = "a weight of shape [3, 2] before 2 channels")]
fn folding_into_other_channels_panics() {
    let _ = BatchNorm::new(2).fold_into(&Tensor::ones(&[3, 2], DType::F32), None);
}

#[test]
fn renorm_corrects_by_the_statistics_before_they_move() {
    let limits = RenormLimits::new(10.0, 10.0).unwrap();
    let norm = BatchRenorm::new(1, BatchRenormConfig::default().with_limits(limits).with_eps(0.0))
        .unwrap();
    // Mean 0 and deviation 1 at first: without reaching the limits, nothing is changed at all.
    let x = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0], &[4, 1]);
    let y = norm.forward(&Tape::training(0, 0).constant(x.clone()));
    close(&y.value().to_dtype(DType::F64).to_vec::<f64>(), &[1.0, 2.0, 3.0, 4.0], 1e-6);
    let state = norm.snapshot();
    close(&numbers(&state, "running_mean"), &[0.025], 1e-6);
    let std = 1.0 + 0.01 * (1.25f64.sqrt() - 1.0);
    close(&numbers(&state, "running_std"), &[std], 1e-6);
    let want: Vec<f64> = [1.0, 2.0, 3.0, 4.0].iter().map(|x| (x - 0.025) / std).collect();
    close(&evaluate(&norm, &x), &want, 1e-6);
    // One value a channel: an error, and nothing moves.
    let before = bits(&norm);
    let small = norm.try_forward(&Tape::training(0, 0).constant(Tensor::ones(&[1, 1], DType::F32)));
    assert_eq!(small.unwrap_err(), NormError::BatchTooSmall { shape: vec![1, 1] });
    assert_eq!(bits(&norm), before);
    // Estimated again: the plain average, corrected by nothing.
    update_bn(&norm, [x.clone(), x.affine(1.0, 2.0)], |tape, x| -> Result<(), NormError> {
        let y = norm.try_forward(&tape.constant(x))?;
        close(&[y.value().to_vec::<f32>().iter().sum::<f32>().into()], &[0.0], 1e-5);
        Ok(())
    })
    .unwrap();
    close(&numbers(&norm.snapshot(), "running_mean"), &[3.5], 1e-6);
    close(&numbers(&norm.snapshot(), "running_std"), &[1.25f64.sqrt()], 1e-6);
    norm.reset_running_stats();
    let fresh = BatchRenorm::new(1, BatchRenormConfig::default()).unwrap();
    assert_eq!(bits(&norm), bits(&fresh));
}

#[test]
fn renorm_limits_grow_with_the_batches() {
    let end = RenormLimits::new(3.0, 5.0).unwrap();
    let ramp = RenormRamp::new(2, 6, 4);
    let at = |n| (ramp.limits(end, n).r_max, ramp.limits(end, n).d_max);
    let want = [
        (1.0, 0.0),
        (1.0, 0.0),
        (1.0, 0.0),
        (1.5, 2.5),
        (2.0, 5.0),
        (2.5, 5.0),
        (3.0, 5.0),
        (3.0, 5.0),
    ];
    for (n, want) in want.into_iter().enumerate() {
        assert_eq!(at(n as u64), want, "after {n} batches");
    }
    let jump = RenormRamp::new(3, 0, 3);
    assert_eq!(jump.limits(end, 2), RenormLimits::NONE);
    assert_eq!(jump.limits(end, 3), end);
    let open = RenormLimits::new(f64::INFINITY, f64::INFINITY).unwrap();
    assert_eq!(ramp.limits(open, 2), RenormLimits::NONE);
    let paper = RenormRamp::default();
    assert_eq!((paper.hold, paper.r_until, paper.d_until), (5_000, 40_000, 25_000));
    let norm = BatchRenorm::new(2, BatchRenormConfig::default().with_ramp(ramp)).unwrap();
    for n in 0..5 {
        assert_eq!(norm.limits(), ramp.limits(end, n));
        let _ = norm.forward(&Tape::training(0, n).constant(random(&[3, 2], n)));
    }
}

#[test]
fn renorm_refuses_numbers_that_make_no_sense() {
    let default = BatchRenormConfig::default;
    let eps = BatchRenorm::new(2, default().with_eps(f64::NAN)).unwrap_err();
    assert!(matches!(eps, NormError::OutOfRange { name: "eps", .. }));
    let momentum = BatchRenorm::new(2, default().with_momentum(Momentum::New(2.0))).unwrap_err();
    assert!(matches!(momentum, NormError::OutOfRange { name: "momentum", .. }));
}
