#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod curve;
mod error;
mod evaluate;
mod metrics;
mod objective;
mod progress;
mod step;
mod trainer;
mod weights;

pub use curve::curve_svg;
pub use error::TrainError;
pub use evaluate::{Average, evaluate};
pub use metrics::MetricsFile;
pub use objective::{Objective, Outcome, classification};
pub use progress::{Progress, Shown};
pub use step::{StepReport, Update, train_step};
pub use trainer::{EpochReport, RunReport, Trainer, TrainerConfig, Validation};
pub use weights::{load_weights, save_weights};
