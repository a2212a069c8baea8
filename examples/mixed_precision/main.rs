//! The same networks trained in f32, in bf16 and in f16: what mixed precision costs, and what it takes.
//!
//! `cargo run --release --example mixed_precision`

mod tasks;

use std::{error::Error, fmt, process::ExitCode, sync::Arc};

use clap::Parser;
use gradus::{
    Layer, Tape,
    amp::{LossScaler, Policy},
    core::Precision,
    data::DataLoader,
    optim::{Adam, AdamConfig},
    schedule::warmup_cosine,
    tensor::{DType, buffer},
    train::{Shown, Trainer, TrainerConfig, evaluate},
};

use tasks::{Task, characters, digits, objective};

/// Trains a CNN and a transformer in three precisions, over several seeds.
#[derive(Parser, Debug)]
struct Args {
    /// Runs of each kind; one alone would say nothing of their spread.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..))]
    seeds: u64,
    /// One seed and a few steps, to see that all works.
    #[arg(long)]
    quick: bool,
}

/// One way to train.
struct Mode {
    name: &'static str,
    compute: DType,
    scaler: LossScaler,
    /// What the loss is multiplied by, as one of several losses in a sum is.
    weight: f64,
}

/// So small a weight that gradients of it vanish in f16, which holds nothing below 6e-8.
const SMALL: f64 = 1e-4;

fn modes() -> [Mode; 6] {
    let mode = |name, compute, scaler, weight| Mode { name, compute, scaler, weight };
    let (none, dynamic) = (LossScaler::none, LossScaler::dynamic);
    [
        mode("f32", DType::F32, none(), 1.0),
        mode("bf16", DType::BF16, none(), 1.0),
        mode("f16, scaled", DType::F16, dynamic(), 1.0),
        mode("f16", DType::F16, none(), 1.0),
        mode("f16, small loss, scaled", DType::F16, dynamic(), SMALL),
        mode("f16, small loss", DType::F16, none(), SMALL),
    ]
}

/// What a run came to.
struct Run {
    accuracy: f64,
    loss: f64,
    /// Milliseconds of a step.
    ms: f64,
    /// The most bytes of tensors at a time, beyond what there was before training: values kept for backward, mostly.
    peak: usize,
    /// Steps left out because the scale was too large.
    skipped: u64,
}

fn run(task: &Task, mode: &Mode, seed: u64) -> Result<Run, Box<dyn Error>> {
    let policy: Arc<dyn Precision> = Arc::new(Policy::mixed(mode.compute)?);
    let mut model = (task.build)(seed);
    let loader = DataLoader::new(task.batch_size)?.with_shuffle(seed).with_drop_last(true);
    let steps = task.epochs * loader.num_batches(task.train.len()) as u64;
    let config = TrainerConfig::new(task.epochs)
        .with_seed(seed)
        .with_shown(Shown::Nothing)
        .with_precision(policy.clone())
        .with_scaler(mode.scaler.clone());
    // Adam divides by the size of the gradients: a small loss trains as a large one does, unless its gradients vanish or
    // come near eps.
    let optimizer = Adam::new(AdamConfig::adamw().with_eps(1e-15))?;
    let schedule = warmup_cosine(task.lr, steps / 10, steps)?;
    let mut trainer = Trainer::new(optimizer, schedule, config);
    buffer::reset_peak();
    let before = buffer::stats().in_use;
    let objective = objective::<dyn Layer>(mode.weight);
    let report = trainer.fit(&mut *model, &objective, &task.train, &loader, None)?;
    let peak = buffer::stats().peak - before;
    let tape = || Tape::evaluation().with_precision(policy.clone());
    let judged = evaluate(&*model, &objective, &task.test, loader.batch_size, tape)?;
    Ok(Run {
        accuracy: judged.accuracy.unwrap_or_default(),
        loss: judged.loss / mode.weight,
        ms: 1e3 * task.batch_size as f64 / report.throughput,
        peak,
        skipped: report.skipped,
    })
}

/// A mean and its standard error.
#[derive(Clone, Copy)]
struct Spread {
    mean: f64,
    error: f64,
}

impl Spread {
    fn of(runs: &[Run], value: impl Fn(&Run) -> f64) -> Self {
        let n = runs.len() as f64;
        let mean = runs.iter().map(&value).sum::<f64>() / n;
        let squares: f64 = runs.iter().map(|run| (value(run) - mean).powi(2)).sum();
        // One run says nothing of their spread.
        Self { mean, error: (squares / (n - 1.0) / n).sqrt() }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mean, error } = self;
        f.pad(&if error.is_nan() {
            format!("{mean:.4}")
        } else {
            format!("{mean:.4} ± {error:.4}")
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let tasks = if args.quick {
        digits(2).and_then(|digits| Ok([digits, characters(256, 1)?]))
    } else {
        digits(12).and_then(|digits| Ok([digits, characters(4096, 1)?]))
    };
    match tasks.and_then(|tasks| tasks.iter().try_for_each(|task| compare(task, &args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Trains in every way, prints what came of it, and checks it.
fn compare(task: &Task, args: &Args) -> Result<(), Box<dyn Error>> {
    let seeds = if args.quick { 1 } else { args.seeds };
    println!("\n{}, seeds 0 to {}", task.name, seeds - 1);
    println!(
        "{:24}{:>10}{:>10}{:>9}{:>20}{:>20}",
        "", "ms a step", "peak MB", "skipped", "test accuracy", "test loss"
    );
    let mut all = Vec::new();
    for mode in modes() {
        let runs: Vec<Run> =
            (0..seeds).map(|seed| run(task, &mode, seed)).collect::<Result<_, _>>()?;
        let (accuracy, loss) = (Spread::of(&runs, |r| r.accuracy), Spread::of(&runs, |r| r.loss));
        let ms = Spread::of(&runs, |r| r.ms).mean;
        let peak = Spread::of(&runs, |r| r.peak as f64).mean / 1e6;
        let skipped = Spread::of(&runs, |r| r.skipped as f64).mean;
        println!("{:24}{ms:10.2}{peak:10.2}{skipped:9.1}{accuracy:>20}{loss:>20}", mode.name);
        all.push((mode.name, accuracy, loss));
    }
    let [single, rest @ .., lost] = all.as_slice() else { unreachable!("there are six") };
    for (name, accuracy, loss) in rest {
        for (what, got, want) in [("accuracy", accuracy, &single.1), ("loss", loss, &single.2)] {
            let difference = got.mean - want.mean;
            // One run knows no spread; short ones lie within this.
            let error = if args.quick { 0.02 } else { want.error.hypot(got.error) };
            if difference.abs() > 2.0 * error + 0.002 {
                return Err(format!(
                    "{}: the {what} of {name} differs from that of f32 by {difference:.4}, and chance explains {error:.4}",
                    task.name
                )
                .into());
            }
        }
    }
    if lost.2.mean < single.2.mean + 0.1 {
        return Err("a loss that vanishes in f16 should not have been learned".into());
    }
    Ok(())
}
