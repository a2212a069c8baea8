//! Trains a small network on real handwritten digits and says how well it reads digits it has never seen.
//!
//! `cargo run --release --example digits -- --help`

mod args;
mod dataset;
mod models;

#[cfg(test)]
mod tests;

use std::{error::Error, process::ExitCode, time::Instant};

use clap::Parser;
use gradus::{
    Layer, Module, Tape,
    clip::ClipNorm,
    data::DataLoader,
    optim::{Adam, AdamConfig, DecayMask},
    schedule::warmup_cosine,
    stop::{EarlyStopping, EarlyStoppingConfig, Mode},
    train::{
        TrainError, Trainer, TrainerConfig, Validation, classification, curve_svg, evaluate,
        save_weights,
    },
};

use args::Args;

fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.quick {
        args.epochs = args.epochs.min(3);
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let data = dataset::load(args)?;
    let [train, validation, test] = &data.parts;
    let mut model: Box<dyn Layer> = models::build(args.model, &data, args.seed);
    println!(
        "{}: {} training, {} validation and {} test images of {}x{}",
        data.name,
        train.len(),
        validation.len(),
        test.len(),
        data.side,
        data.side
    );
    println!("{:?}: {} parameters, seed {}", args.model, model.num_params(), args.seed);

    let loader = DataLoader::new(args.batch_size)?.with_shuffle(args.seed).with_drop_last(true);
    let epoch = loader.num_batches(train.len()) as u64;
    if epoch == 0 {
        let (examples, batch_size) = (train.len(), args.batch_size);
        return Err(TrainError::NoBatches { examples, batch_size }.into());
    }
    let steps = args.epochs.saturating_mul(epoch);
    let schedule = warmup_cosine(args.lr, (2 * epoch).min(steps / 2), steps)?;
    let optimizer =
        AdamConfig::adamw().with_weight_decay(0.05).with_decay_mask(DecayMask::NoDecay1d);
    let mut config = TrainerConfig::new(args.epochs)
        .with_seed(args.seed)
        .with_clip(ClipNorm::new(1.0))
        .with_metrics(args.out.join("metrics.jsonl"));
    if let Some(threads) = args.threads {
        config = config.with_threads(threads);
    }
    let stop =
        EarlyStopping::new(EarlyStoppingConfig::lightning(Mode::Min).with_patience(args.patience))?;
    let objective = classification::<dyn Layer>(0.1);
    let report = Trainer::new(Adam::new(optimizer)?, schedule, config).fit(
        &mut *model,
        &objective,
        train,
        &loader,
        Some(Validation::new(validation).with_stop(stop)),
    )?;

    let ended =
        report.stopped.map_or("all epochs done".into(), |why| format!("stopped early: {why}"));
    println!(
        "trained {} epochs, {} steps, {:.0} images/s; {ended}; weights of epoch {} kept",
        report.epochs.len(),
        report.steps,
        report.throughput,
        report.best_epoch + 1
    );
    save_weights(&model.snapshot(), args.out.join("weights.safetensors"))?;
    std::fs::write(
        args.out.join("curve.svg"),
        curve_svg(&report, &format!("{}, {:?}, seed {}", data.name, args.model, args.seed)),
    )?;
    let result = evaluate(&*model, &objective, test, loader.batch_size, Tape::evaluation)?;
    let accuracy = result.accuracy.unwrap_or_default();
    println!(
        "test accuracy {:.2}% ({} of {} wrong), loss {:.4}; {:.1} s; metrics, weights and curve in {}",
        accuracy * 100.0,
        (result.count as f64 * (1.0 - accuracy)).round(),
        result.count,
        result.loss,
        start.elapsed().as_secs_f64(),
        args.out.display()
    );
    // An example ends in a checked result; a short run only has to have learned something.
    let floor = if args.epochs >= 20 && args.data.is_none() { 0.96 } else { 0.3 };
    if accuracy < floor {
        return Err(format!(
            "a test accuracy below {:.0}% says that training is broken",
            floor * 100.0
        )
        .into());
    }
    Ok(())
}
