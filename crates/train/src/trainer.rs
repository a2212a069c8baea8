//! The loop over epochs.

use std::{path::PathBuf, sync::Arc};

use gradus_amp::{LossScaler, MasterWeights};
use gradus_autograd::{Module, Precision, Snapshot, Tape, Values};
use gradus_clip::ClipNorm;
use gradus_core::{GradientTransform, Schedule};
use gradus_data::{DataLoader, Dataset};
use gradus_stop::{EarlyStopping, Reason};

use crate::{
    Average, MetricsFile, Objective, Progress, Shown, TrainError, Update, evaluate, train_step,
};

/// How a [`Trainer`] trains.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainerConfig {
    /// Passes over the training data, at most.
    pub epochs: u64,
    /// Seed of everything random inside the model (dropout); 0. The order of the data is the loader's own.
    pub seed: u64,
    /// Bound of the global gradient norm; none.
    pub clip: Option<ClipNorm>,
    /// Which operation computes in which type; by default each in the type of its operands.
    pub precision: Option<Arc<dyn Precision>>,
    /// The scale of the loss; none by default. f16 needs [`LossScaler::dynamic`], bf16 does not.
    pub scaler: LossScaler,
    /// Threads that compute, 0 for all cores; by default those of the pool that the caller runs in.
    pub threads: Option<usize>,
    /// Where `metrics.jsonl` goes; nowhere by default.
    pub metrics: Option<PathBuf>,
    /// Where progress is shown.
    pub shown: Shown,
}

impl TrainerConfig {
    /// Trains for `epochs` epochs.
    #[must_use]
    pub fn new(epochs: u64) -> Self {
        Self {
            epochs,
            seed: 0,
            clip: None,
            precision: None,
            scaler: LossScaler::none(),
            threads: None,
            metrics: None,
            shown: Shown::Auto,
        }
    }

    /// With this seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// With a bound on the gradients' global norm.
    #[must_use]
    pub fn with_clip(mut self, clip: ClipNorm) -> Self {
        self.clip = Some(clip);
        self
    }

    /// With mixed precision by this policy, in training and validation. `gradus_amp::Policy` is one.
    #[must_use]
    pub fn with_precision(mut self, precision: Arc<dyn Precision>) -> Self {
        self.precision = Some(precision);
        self
    }

    /// With a scale of the loss.
    #[must_use]
    pub fn with_scaler(mut self, scaler: LossScaler) -> Self {
        self.scaler = scaler;
        self
    }

    /// With a pool of this many threads.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// With a metrics file.
    #[must_use]
    pub fn with_metrics(mut self, path: impl Into<PathBuf>) -> Self {
        self.metrics = Some(path.into());
        self
    }

    /// With progress shown elsewhere.
    #[must_use]
    pub fn with_shown(mut self, shown: Shown) -> Self {
        self.shown = shown;
        self
    }
}

/// Validation after each epoch: what data, and whether it may end the run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Validation<'a> {
    /// Data that is never trained on.
    pub data: &'a Dataset,
    /// Watches the mean validation loss; the weights that it judged best are those the model has at the end.
    pub stop: Option<EarlyStopping>,
}

impl<'a> Validation<'a> {
    /// Only watches.
    #[must_use]
    pub fn new(data: &'a Dataset) -> Self {
        Self { data, stop: None }
    }

    /// Stops early, and restores the best weights at the end.
    #[must_use]
    pub fn with_stop(mut self, stop: EarlyStopping) -> Self {
        self.stop = Some(stop);
        self
    }
}

/// One epoch of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct EpochReport {
    /// While training: each batch before its update, dropout on.
    pub train: Average,
    /// After the epoch.
    pub validation: Option<Average>,
    /// The learning rate of its last step.
    pub lr: f64,
}

/// What a run came to.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct RunReport {
    /// The last epoch's training average.
    pub train: Average,
    /// All epochs.
    pub epochs: Vec<EpochReport>,
    /// Updates done.
    pub steps: u64,
    /// Updates left out because scaled gradients were not finite.
    pub skipped: u64,
    /// The epoch (from 0) whose weights the model has now: the best one where a stopper judged, else the last.
    pub best_epoch: u64,
    /// Why the run ended before its last epoch, if it did.
    pub stopped: Option<Reason>,
    /// Examples trained on in a second.
    pub throughput: f64,
}

/// Trains models: an optimizer, the schedule of its learning rate, and how to go about it.
pub struct Trainer {
    optimizer: Box<dyn GradientTransform + Send>,
    schedule: Box<dyn Schedule + Send + Sync>,
    config: TrainerConfig,
}

impl Trainer {
    /// A trainer; `schedule` is asked for the learning rate of each step, from 0.
    #[must_use]
    pub fn new(
        optimizer: impl GradientTransform + Send + 'static,
        schedule: impl Schedule + Send + Sync + 'static,
        config: TrainerConfig,
    ) -> Self {
        Self { optimizer: Box::new(optimizer), schedule: Box::new(schedule), config }
    }

    /// Trains `model` on the batches that `loader` makes of `data`.
    ///
    /// Same seeds, same bits, for any number of threads. A model that is stored in 16 bits is trained by weights in f32,
    /// made here, to which it is rounded after each update.
    ///
    /// # Errors
    /// [`TrainError`] when a number is not finite, a parameter gets no gradient, there is no data, or the metrics
    /// file cannot be written. The parameters are as the last good step left them; running statistics may have seen
    /// the batch that failed.
    pub fn fit<M: Module + Send + ?Sized>(
        &mut self,
        model: &mut M,
        objective: &(impl Objective<M> + Sync),
        data: &Dataset,
        loader: &DataLoader,
        validation: Option<Validation<'_>>,
    ) -> Result<RunReport, TrainError> {
        match self.config.threads {
            None => self.run(model, objective, data, loader, validation),
            Some(n) => {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(n)
                    .build()
                    .map_err(TrainError::Threads)?;
                pool.install(|| self.run(model, objective, data, loader, validation))
            }
        }
    }

    fn run<M: Module + ?Sized>(
        &mut self,
        model: &mut M,
        objective: &impl Objective<M>,
        data: &Dataset,
        loader: &DataLoader,
        mut validation: Option<Validation<'_>>,
    ) -> Result<RunReport, TrainError> {
        let batches = loader.num_batches(data.len()) as u64;
        if batches == 0 {
            let (examples, batch_size) = (data.len(), loader.batch_size.get());
            return Err(TrainError::NoBatches { examples, batch_size });
        }
        if self.config.epochs == 0 {
            return Err(TrainError::NoEpochs);
        }
        let mut metrics = self.config.metrics.as_ref().map(MetricsFile::create).transpose()?;
        let steps = self.config.epochs.saturating_mul(batches);
        let mut progress = Progress::new(self.config.shown, self.config.epochs, steps);
        let mut best: Option<(u64, Snapshot)> = None;
        let mut epochs = Vec::new();
        let (mut step, mut iteration, mut stopped) = (0, 0, None);
        let mut scaler = self.config.scaler.clone();
        let mut masters = masters(model)?;
        let precision = self.config.precision.clone();
        for epoch in 0..self.config.epochs {
            let mut train = Average::default();
            let mut lr = 0.0;
            for batch in loader.epoch(data, epoch) {
                lr = self.schedule.value(step);
                let tape = mixed(Tape::training(self.config.seed, iteration), &precision, model);
                let outcome = objective.outcome(model, &batch, &tape);
                let update = Update::new(&mut *self.optimizer, lr)
                    .with_clip(self.config.clip.as_ref())
                    .with_scaler(&mut scaler)
                    .with_masters(masters.as_mut());
                let report = train_step(model, &outcome.loss, update, iteration)?;
                train.add(&outcome);
                progress.step(epoch, &train, lr, batch.indices.len());
                if let Some(file) = &mut metrics {
                    let values = [
                        ("loss", Some(report.loss)),
                        (
                            "accuracy",
                            outcome.correct.map(|c| c as f64 / outcome.count.max(1) as f64),
                        ),
                        ("lr", Some(lr)),
                        ("grad_norm", Some(report.grad_norm).filter(|norm| !norm.is_nan())),
                        ("clipped", Some(f64::from(u8::from(report.clipped)))),
                        ("scale", scaler.is_enabled().then(|| report.scale.before.into())),
                        ("skipped", report.skipped.as_ref().map(|_| 1.0)),
                    ];
                    file.write("step", iteration, &values)?;
                }
                // The schedule stands still where nothing was updated.
                step += u64::from(report.skipped.is_none());
                iteration += 1;
            }
            let held_out = match &validation {
                Some(v) => {
                    let tape = || mixed(Tape::evaluation(), &precision, model);
                    Some(evaluate(model, objective, v.data, loader.batch_size, tape)?)
                }
                None => None,
            };
            let mut note = "";
            if let (Some(average), Some(stop)) =
                (&held_out, validation.as_mut().and_then(|v| v.stop.as_mut()))
            {
                let verdict = stop.observe(average.loss);
                // The epoch that reaches the goal is not compared with those before it, and is the one that was sought.
                if verdict.improved || verdict.stop == Some(Reason::StoppingThreshold) {
                    best = Some((epoch, model.snapshot()));
                    note = " | best";
                }
                stopped = verdict.stop;
            }
            progress.epoch(epoch, &train, held_out.as_ref(), lr, note);
            if let Some(file) = &mut metrics {
                let values = [
                    ("epoch", Some(epoch as f64)),
                    ("train_loss", Some(train.loss)),
                    ("train_accuracy", train.accuracy),
                    ("val_loss", held_out.map(|v| v.loss)),
                    ("val_accuracy", held_out.and_then(|v| v.accuracy)),
                    ("lr", Some(lr)),
                    ("examples_per_second", Some(progress.throughput())),
                ];
                file.write("epoch", iteration, &values)?;
            }
            epochs.push(EpochReport { train, validation: held_out, lr });
            if stopped.is_some() {
                break;
            }
        }
        progress.finish();
        let last = epochs.len() as u64 - 1;
        let best_epoch = best.as_ref().map_or(last, |b| b.0);
        if let Some((_, snapshot)) = best.filter(|b| b.0 != last) {
            model.restore(&snapshot).expect("the snapshot is of this very model");
        }
        let train = epochs.last().map(|e| e.train).unwrap_or_default();
        let throughput = progress.throughput();
        let skipped = iteration - step;
        Ok(RunReport { train, epochs, steps: step, skipped, best_epoch, stopped, throughput })
    }
}

/// The tape with the policy, if there is one.
fn mixed<M: Module + ?Sized>(
    tape: Tape,
    precision: &Option<Arc<dyn Precision>>,
    model: &M,
) -> Tape {
    match precision {
        Some(precision) if precision.differs_by_module() => {
            tape.with_precision(precision.clone()).with_modules(model)
        }
        Some(precision) => tape.with_precision(precision.clone()),
        None => tape,
    }
}

/// Weights in f32 behind a model that is stored in 16 bits.
fn masters<M: Module + ?Sized>(model: &mut M) -> Result<Option<MasterWeights>, TrainError> {
    let mut short = false;
    model.for_each_param(&mut |_, p| short |= p.value().dtype() != p.value().dtype().compute());
    Ok(if short { Some(MasterWeights::new(&mut Values(model))?) } else { None })
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer").field("config", &self.config).finish_non_exhaustive()
    }
}
