//! Training in mixed precision: policies, scaled losses, models in 16 bits.

use std::sync::Arc;

use gradus_amp::{DynamicScale, LossScaler, Policy};
use gradus_autograd::{
    DType::{self, BF16, F16, F32},
    Layer, Module, NameMismatch, Tape, Tensor,
    check::random,
};
use gradus_core::Schedule;
use gradus_data::{Batch, DataLoader, Dataset};
use gradus_nn::{Activation, BatchNorm, Linear, Seeds, Sequential};
use gradus_optim::{Sgd, SgdConfig};
use gradus_schedule::{Constant, from_fn};
use gradus_train::{
    Outcome, RunReport, Shown, TrainError, Trainer, TrainerConfig, Update, classification,
    evaluate, load_weights, save_weights, train_step,
};

fn data(n: usize, seed: u64) -> Dataset {
    let x = random(&[n, 20], seed).to_dtype(F32);
    let label = |row: &[f32]| i64::from(row[0] * row[1] + row[2] > 0.0);
    let labels: Vec<i64> = x.as_slice::<f32>().chunks(20).map(label).collect();
    Dataset::new(x, Tensor::from_slice(&labels, &[n])).unwrap()
}

fn mlp(seed: u64) -> Sequential {
    let s = &mut Seeds::new(seed);
    Sequential::new()
        .then(Linear::new(20, 64, s))
        .then(BatchNorm::new(64))
        .then(Activation::Relu)
        .then(Linear::new(64, 2, s))
}

fn config(epochs: u64) -> TrainerConfig {
    TrainerConfig::new(epochs).with_shown(Shown::Nothing)
}

fn sgd() -> Sgd {
    Sgd::new(SgdConfig::new().with_momentum(0.9)).unwrap()
}

fn fit(model: &mut Sequential, config: TrainerConfig) -> Result<RunReport, TrainError> {
    let mut trainer = Trainer::new(sgd(), Constant::new(0.05).unwrap(), config);
    let loader = DataLoader::new(64).unwrap().with_shuffle(1);
    trainer.fit(model, &classification(0.0), &data(2000, 1), &loader, None)
}

fn mixed(dtype: DType) -> Arc<Policy> {
    Arc::new(Policy::mixed(dtype).unwrap())
}

fn accuracy(model: &Sequential, tape: impl Fn() -> Tape) -> f64 {
    let size = 100.try_into().unwrap();
    evaluate(model, &classification(0.0), &data(1000, 2), size, tape).unwrap().accuracy.unwrap()
}

#[test]
fn every_precision_learns_as_well_as_f32() {
    let mut single = mlp(5);
    fit(&mut single, config(8)).unwrap();
    let want = accuracy(&single, Tape::evaluation);
    assert!(want > 0.85, "{want}");
    for (dtype, scaler) in [(BF16, LossScaler::none()), (F16, LossScaler::dynamic())] {
        let mut model = mlp(5);
        let report =
            fit(&mut model, config(8).with_precision(mixed(dtype)).with_scaler(scaler)).unwrap();
        let got = accuracy(&model, || Tape::evaluation().with_precision(mixed(dtype)));
        assert!((got - want).abs() < 0.03, "{dtype}: {got}, not {want}");
        assert_eq!(report.steps + report.skipped, 8 * 32);
        model.for_each_param(&mut |name, p| assert_eq!(p.value().dtype(), F32, "{name}"));
    }
}

#[test]
fn a_model_in_16_bits_trains_by_its_masters() {
    // Steps that are too small for a weight in bf16 are lost without weights in f32.
    for dtype in [BF16, F16] {
        let mut model = mlp(5);
        model.to_dtype(dtype);
        let scaler = LossScaler::dynamic();
        fit(&mut model, config(8).with_precision(mixed(dtype)).with_scaler(scaler)).unwrap();
        let got = accuracy(&model, || Tape::evaluation().with_precision(mixed(dtype)));
        assert!(got > 0.85, "{dtype}: {got}");
        model.for_each_param(&mut |name, p| assert_eq!(p.value().dtype(), dtype, "{name}"));
    }
}

#[test]
fn a_skipped_step_changes_nothing_and_the_schedule_stands_still() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    let schedule = from_fn(move |step| {
        seen.lock().unwrap().push(step);
        0.01
    });
    assert_eq!(schedule.value(0), 0.01);
    // f16 holds 65504 at most: a scale of 2^40 overflows until it has backed off.
    let scale = DynamicScale::default().with_init_scale(2f32.powi(40)).with_growth_interval(1000);
    let config =
        config(1).with_precision(mixed(F16)).with_scaler(LossScaler::with_config(scale).unwrap());
    let mut trainer = Trainer::new(sgd(), schedule, config);
    let (mut model, before) = (mlp(5), mlp(5).snapshot());
    let loader = DataLoader::new(64).unwrap();
    let report =
        trainer.fit(&mut model, &classification(0.0), &data(2000, 1), &loader, None).unwrap();
    assert!(report.skipped > 10, "{report:?}");
    assert_eq!(report.steps + report.skipped, 32);
    // The schedule is asked for the number of steps that were done, which is 0 until the scale has backed off enough.
    let steps = asked.lock().unwrap()[1..].to_vec();
    assert!(steps[..10].iter().all(|&step| step == 0), "{steps:?}");
    let repeats = steps.windows(2).filter(|w| w[0] == w[1]).count() as u64;
    assert!(steps.windows(2).all(|w| w[1] - w[0] <= 1), "{steps:?}");
    assert!([repeats, repeats + 1].contains(&report.skipped), "{report:?}, {steps:?}");

    // By hand: one step that is skipped.
    let mut model = mlp(5);
    let tape = Tape::training(0, 0).with_precision(mixed(F16));
    let batch = loader.epoch(&data(2000, 1), 0).next().unwrap();
    let loss = classification(0.0)(&model, &batch, &tape).loss;
    drop(tape);
    let mut scaler = LossScaler::with_config(scale).unwrap();
    let mut optimizer = sgd();
    let update = Update::new(&mut optimizer, 0.1).with_scaler(&mut scaler);
    let report = train_step(&mut model, &loss, update, 0).unwrap();
    let skipped = report.skipped.expect("the scale is too large");
    assert!(skipped.count > 0 && !skipped.name.is_empty());
    assert_eq!((report.scale.before, report.scale.after), (2f32.powi(40), 2f32.powi(39)));
    for (name, value) in before.iter().filter(|(name, _)| !name.contains("running")) {
        let now = model.snapshot();
        let now = now.get(name).unwrap();
        if now.dtype() == F32 {
            assert_eq!(now.to_vec::<f32>(), value.to_vec::<f32>(), "{name}");
        }
    }
}

#[test]
fn a_scale_at_its_floor_is_an_error_that_names_the_parameter() {
    // The gradient of sqrt at 0 is infinite at every scale.
    let scale = DynamicScale::default().with_init_scale(4.0).with_bounds(2.0, 8.0);
    let mut scaler = LossScaler::with_config(scale).unwrap();
    let mut model = Linear::new(1, 1, &mut Seeds::new(0));
    model.for_each_param_mut(&mut |_, p| *p.value_mut() = Tensor::zeros(p.value().shape(), F32));
    let mut step = |i| {
        let tape = Tape::training(0, i);
        let y = model.forward(&tape.constant(Tensor::ones(&[1, 1], F32)));
        let loss = y.sqrt().sum(&[], false);
        let mut optimizer = sgd();
        train_step(&mut model, &loss, Update::new(&mut optimizer, 0.1).with_scaler(&mut scaler), i)
    };
    assert_eq!(step(0).unwrap().scale.after, 2.0);
    match step(1).unwrap_err() {
        error @ TrainError::Scale { step: 1, scale: 2.0, .. } => {
            assert!(error.to_string().contains("weight"), "{error}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn nan_in_the_inputs_is_an_error_in_every_precision() {
    for (dtype, scaler) in
        [(F32, LossScaler::none()), (BF16, LossScaler::none()), (F16, LossScaler::dynamic())]
    {
        let mut x = vec![0f32; 20 * 4];
        x[7] = f32::NAN;
        let labels = Tensor::from_slice(&[0i64, 1, 0, 1], &[4]);
        let broken = Dataset::new(Tensor::from_slice(&x, &[4, 20]), labels).unwrap();
        let mut model = mlp(1);
        let before = model.snapshot();
        let config = config(1).with_precision(mixed(dtype)).with_scaler(scaler);
        let mut trainer = Trainer::new(sgd(), Constant::new(0.1).unwrap(), config);
        let loader = DataLoader::new(4).unwrap();
        let error = trainer.fit(&mut model, &classification(0.0), &broken, &loader, None);
        assert!(matches!(error, Err(TrainError::NonFiniteLoss { step: 0, .. })), "{error:?}");
        model.for_each_param(&mut |name, p| {
            let before = before.get(name).unwrap();
            assert_eq!(p.value().to_vec::<f32>(), before.to_vec::<f32>(), "{name}");
        });
    }
}

#[test]
fn a_policy_by_module_is_followed_in_training_and_validation() {
    let policy: Policy = "compute=bf16,module:3=f32".parse().unwrap();
    let policy = Arc::new(policy);
    let seen = std::sync::Mutex::new(Vec::new());
    let objective = |model: &Sequential, batch: &Batch, tape: &Tape| {
        let x = tape.constant(batch.inputs.clone());
        let y = model.forward(&x);
        seen.lock().unwrap().push(y.dtype());
        let loss = y.cross_entropy(&batch.targets, &Default::default());
        Outcome::new(loss, batch.indices.len())
    };
    let config = config(1).with_precision(policy);
    let mut trainer = Trainer::new(sgd(), Constant::new(0.1).unwrap(), config);
    let (train, held_out) = (data(64, 1), data(64, 2));
    let validation = gradus_train::Validation::new(&held_out);
    let loader = DataLoader::new(64).unwrap();
    let mut model = mlp(1);
    let names = model.param_names();
    assert!(names.contains(&"3.weight".to_owned()), "{names:?}");
    trainer.fit(&mut model, &objective, &train, &loader, Some(validation)).unwrap();
    assert_eq!(*seen.lock().unwrap(), [F32, F32]);
}

#[test]
fn a_checkpoint_in_16_bits_goes_into_f32_and_back() {
    let path = std::env::temp_dir().join(format!("gradus-short-{}", std::process::id()));
    let (mut short, mut wide) = (mlp(1), mlp(2));
    short.to_dtype(BF16);
    save_weights(&short.snapshot(), &path).unwrap();
    let loaded = load_weights(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    // Types are not changed unasked, and nothing has changed.
    let before = wide.snapshot();
    match wide.restore(&loaded) {
        Err(NameMismatch::Shape { expected_dtype: F32, found_dtype: BF16, .. }) => {}
        other => panic!("{other:?}"),
    }
    let bits = |model: &Sequential| -> Vec<Vec<u32>> {
        let values = model.snapshot();
        let values = values.iter().filter(|(_, t)| t.dtype().is_float());
        values
            .map(|(_, t)| t.to_dtype(F32).to_vec::<f32>().iter().map(|x| x.to_bits()).collect())
            .collect()
    };
    let mut same = mlp(2);
    same.restore(&before).unwrap();
    assert_eq!(bits(&wide), bits(&same));
    wide.restore_cast(&loaded).unwrap();
    wide.for_each_param(&mut |name, p| assert_eq!(p.value().dtype(), F32, "{name}"));
    assert_eq!(bits(&wide), bits(&short));
    // And back, to the bit.
    let mut back = mlp(3);
    back.to_dtype(BF16);
    back.restore_cast(&wide.snapshot()).unwrap();
    assert_eq!(bits(&back), bits(&short));
    let too_few = Sequential::new().then(Linear::new(20, 64, &mut Seeds::new(1)));
    assert!(matches!(wide.restore_cast(&too_few.snapshot()), Err(NameMismatch::Missing { .. })));
}
