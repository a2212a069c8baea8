//! Whole runs: same bits for any threads, best weights at the end, errors that change nothing.

use std::path::PathBuf;

use gradus_autograd::{
    DType, Layer, Module, Param, ParamKind, Tape, Tensor, Var, check::random, module,
};
use gradus_clip::ClipNorm;
use gradus_data::{Batch, DataLoader, Dataset};
use gradus_nn::{Activation, BatchNorm, Dropout, Linear, Probability, Seeds, Sequential};
use gradus_optim::{Adam, AdamConfig, Sgd, SgdConfig};
use gradus_schedule::{Constant, from_fn, warmup_cosine};
use gradus_stop::{EarlyStopping, EarlyStoppingConfig, Mode, Reason};
use gradus_train::{
    Outcome, Shown, TrainError, Trainer, TrainerConfig, Update, Validation, classification,
    evaluate, train_step,
};

/// Points in two classes, divided by a curve.
fn data(n: usize, seed: u64) -> Dataset {
    let x = random(&[n, 20], seed).to_dtype(DType::F32);
    let label = |row: &[f32]| i64::from(row[0] * row[1] + row[2] > 0.0);
    let labels: Vec<i64> = x.as_slice::<f32>().chunks(20).map(label).collect();
    Dataset::new(x, Tensor::from_slice(&labels, &[n])).unwrap()
}

fn network(seed: u64) -> Sequential {
    let s = &mut Seeds::new(seed);
    Sequential::new()
        .then(Linear::new(20, 64, s))
        .then(BatchNorm::new(64))
        .then(Activation::Relu)
        .then(Dropout::new(Probability::new(0.2).unwrap()))
        .then(Linear::new(64, 2, s))
}

fn config(epochs: u64) -> TrainerConfig {
    TrainerConfig::new(epochs).with_shown(Shown::Nothing)
}

fn bits(model: &Sequential) -> Vec<(String, Vec<u32>)> {
    let as_bits =
        |t: &Tensor| t.to_dtype(DType::F32).to_vec::<f32>().into_iter().map(f32::to_bits).collect();
    model.snapshot().iter().map(|(name, t)| (name.to_owned(), as_bits(t))).collect()
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("gradus-trainer-{}-{name}", std::process::id()))
}

#[test]
fn a_network_learns_and_threads_do_not_change_a_bit() {
    let (train, test) = (data(2000, 1), data(500, 2));
    let loader = DataLoader::new(128).unwrap().with_shuffle(3).with_drop_last(true);
    let run = |threads| {
        let mut model = network(7);
        let adam = Adam::new(AdamConfig::adamw()).unwrap();
        let schedule = warmup_cosine(0.01, 15, 15 * 12).unwrap();
        let config = config(12).with_seed(5).with_clip(ClipNorm::new(1.0)).with_threads(threads);
        let report = Trainer::new(adam, schedule, config)
            .fit(&mut model, &classification(0.0), &train, &loader, Some(Validation::new(&test)))
            .unwrap();
        assert_eq!((report.steps, report.epochs.len(), report.best_epoch), (180, 12, 11));
        let accuracy =
            evaluate(&model, &classification(0.0), &test, loader.batch_size, Tape::evaluation)
                .unwrap()
                .accuracy
                .unwrap();
        assert!(accuracy > 0.85, "{accuracy}");
        assert_eq!(Some(accuracy), report.epochs[11].validation.unwrap().accuracy);
        bits(&model)
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
}

#[test]
fn the_weights_of_the_best_epoch_are_restored() {
    let (train, held_out) = (data(200, 1), data(100, 2));
    let loader = DataLoader::new(50).unwrap();
    // A rate that grows without end: training goes well for some epochs and then comes apart.
    let schedule = || from_fn(|step| 0.01 * 1.6f64.powi(step as i32 / 4));
    let stop =
        EarlyStopping::new(EarlyStoppingConfig::lightning(Mode::Min).with_patience(4)).unwrap();
    let mut model = network(1);
    let report = Trainer::new(Sgd::new(SgdConfig::new()).unwrap(), schedule(), config(60))
        .fit(
            &mut model,
            &classification(0.0),
            &train,
            &loader,
            Some(Validation::new(&held_out).with_stop(stop)),
        )
        .unwrap();
    assert_eq!(report.stopped, Some(Reason::PatienceExhausted));
    assert_eq!(report.best_epoch + 5, report.epochs.len() as u64);
    let losses: Vec<f64> = report.epochs.iter().map(|e| e.validation.unwrap().loss).collect();
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(losses[report.best_epoch as usize], best);
    assert_eq!(
        evaluate(&model, &classification(0.0), &held_out, loader.batch_size, Tape::evaluation)
            .unwrap()
            .loss,
        best
    );

    // The same weights as those of a run that was never longer.
    let mut short = network(1);
    Trainer::new(Sgd::new(SgdConfig::new()).unwrap(), schedule(), config(report.best_epoch + 1))
        .fit(&mut short, &classification(0.0), &train, &loader, None)
        .unwrap();
    assert_eq!(bits(&short), bits(&model));
}

#[test]
fn the_weights_that_reach_the_goal_are_kept() {
    let (train, held_out) = (data(200, 1), data(100, 2));
    let loader = DataLoader::new(50).unwrap();
    let run = |goal| {
        let config = EarlyStoppingConfig::lightning(Mode::Min).with_patience(9);
        let stop = EarlyStopping::new(match goal {
            Some(goal) => config.with_stopping_threshold(goal),
            None => config,
        });
        let validation = Validation::new(&held_out).with_stop(stop.unwrap());
        let mut model = network(1);
        let report = trainer_of(6)
            .fit(&mut model, &classification(0.0), &train, &loader, Some(validation))
            .unwrap();
        let loss =
            evaluate(&model, &classification(0.0), &held_out, loader.batch_size, Tape::evaluation);
        (report, loss.unwrap().loss)
    };
    let (free, _) = run(None);
    let losses: Vec<f64> = free.epochs.iter().map(|e| e.validation.unwrap().loss).collect();
    assert!(losses[3] < losses[0].min(losses[1]).min(losses[2]), "{losses:?}");
    let (report, kept) = run(Some(losses[3] + 1e-9));
    assert_eq!(report.stopped, Some(Reason::StoppingThreshold));
    assert_eq!((report.epochs.len(), report.best_epoch, kept), (4, 3, losses[3]));
}

fn trainer_of(epochs: u64) -> Trainer {
    let sgd = Sgd::new(SgdConfig::new()).unwrap();
    Trainer::new(sgd, Constant::new(0.05).unwrap(), config(epochs))
}

#[test]
fn metrics_have_a_line_a_step_and_a_line_an_epoch() {
    let path = scratch("metrics").join("metrics.jsonl");
    let config = config(2).with_metrics(&path).with_clip(ClipNorm::new(0.1));
    Trainer::new(Sgd::new(SgdConfig::new()).unwrap(), Constant::new(0.1).unwrap(), config)
        .fit(
            &mut network(0),
            &classification(0.0),
            &data(100, 1),
            &DataLoader::new(40).unwrap(),
            None,
        )
        .unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let events: Vec<&str> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["step", "step", "step", "epoch", "step", "step", "step", "epoch"]);
    assert_eq!(lines[4]["step"], 3);
    assert_eq!((&lines[0]["lr"], &lines[0]["clipped"]), (&0.1.into(), &1.0.into()));
    assert!(lines[3]["train_loss"].as_f64().unwrap() > 0.0 && lines[3].get("val_loss").is_none());
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[test]
fn numbers_that_are_not_finite_end_the_run_and_touch_nothing() {
    let train = data(64, 1);
    let mut inputs = train.inputs().to_contiguous();
    inputs.make_mut::<f32>()[70] = f32::NAN;
    let poisoned = Dataset::new(inputs, train.targets().clone()).unwrap();
    let s = &mut Seeds::new(0);
    let mut model = Sequential::new().then(Linear::new(20, 2, s));
    let before = bits(&model);
    let mut trainer = |lr| {
        Trainer::new(Sgd::new(SgdConfig::new()).unwrap(), from_fn(move |_| lr), config(1)).fit(
            &mut model,
            &classification(0.0),
            &poisoned,
            &DataLoader::new(64).unwrap(),
            None,
        )
    };
    assert!(
        matches!(trainer(0.1), Err(TrainError::NonFiniteLoss { step: 0, loss }) if loss.is_nan())
    );
    assert_eq!(bits(&model), before);
    let tape = Tape::training(0, 0);
    let loss = model.forward(&tape.constant(Tensor::ones(&[1, 20], DType::F32))).sum(&[], false);
    let mut sgd = Sgd::new(SgdConfig::new()).unwrap();
    let wrong = train_step(&mut model, &loss, Update::new(&mut sgd, f64::NAN), 9);
    assert!(matches!(wrong, Err(TrainError::LearningRate { step: 9, .. })));
    assert_eq!(bits(&model), before);
}

struct Root {
    w: Param,
}
module!(Root { w });

#[test]
fn a_gradient_that_is_not_finite_touches_nothing_and_names_its_parameter() {
    for clip in [None, Some(&ClipNorm::new(1.0))] {
        let mut model = Root { w: Param::new(Tensor::zeros(&[2], DType::F32), ParamKind::Weight) };
        let tape = Tape::training(0, 0);
        // The loss is 0, the slope of the root there infinite.
        let loss = tape.watch(&model.w).sqrt().sum(&[], false);
        let mut sgd = Sgd::new(SgdConfig::new()).unwrap();
        let error = train_step(&mut model, &loss, Update::new(&mut sgd, 0.1).with_clip(clip), 3)
            .unwrap_err();
        assert!(matches!(error, TrainError::Clip { step: 3, .. }), "{error}");
        assert!(error.to_string().contains("see parameter w"), "{error}");
        assert_eq!(model.w.value().to_vec::<f32>(), [0.0; 2]);
    }
}

struct Forgetful {
    used: Linear,
    forgotten: Linear,
}
module!(Forgetful { used, forgotten });

#[test]
fn a_parameter_without_a_gradient_is_named() {
    let s = &mut Seeds::new(0);
    let mut model = Forgetful { used: Linear::new(20, 2, s), forgotten: Linear::new(20, 2, s) };
    let objective = |m: &Forgetful, batch: &Batch, tape: &Tape| {
        let y: Var = m.used.forward(&tape.constant(batch.inputs.clone()));
        Outcome::new(y.mean(&[], false), batch.indices.len())
    };
    let error =
        Trainer::new(Sgd::new(SgdConfig::new()).unwrap(), Constant::new(0.1).unwrap(), config(1))
            .fit(&mut model, &objective, &data(10, 1), &DataLoader::new(5).unwrap(), None)
            .unwrap_err();
    assert!(error.to_string().contains("forgotten.weight, forgotten.bias"), "{error}");
}

#[test]
fn no_data_is_an_error() {
    let run = |n, batch, epochs| {
        let loader = DataLoader::new(batch).unwrap().with_drop_last(true);
        Trainer::new(
            Sgd::new(SgdConfig::new()).unwrap(),
            Constant::new(0.1).unwrap(),
            config(epochs),
        )
        .fit(&mut network(0), &classification(0.0), &data(n, 1), &loader, None)
    };
    assert!(matches!(run(10, 20, 1), Err(TrainError::NoBatches { examples: 10, batch_size: 20 })));
    assert!(matches!(run(0, 5, 1), Err(TrainError::NoBatches { examples: 0, .. })));
    assert!(matches!(run(10, 5, 0), Err(TrainError::NoEpochs)));
}
