//! Runs gradus against golden cases: one runner per op, through the public API only.

mod answer;
mod array;
mod case;
mod compare;
mod ops;
mod run;
mod select;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::select::Filter;

/// Runs gradus against golden cases from PyTorch, optax and JAX.
///
/// Without a filter everything runs; --area, --op and --case add up, and what none of them names is skipped.
#[derive(Parser)]
struct Cli {
    /// The set: a folder of <area>/<op>/<number>.{safetensors,json}
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/cases"))]
    dir: PathBuf,
    /// Run the ops of this area
    #[arg(long = "area", value_name = "AREA")]
    areas: Vec<String>,
    /// Run this op
    #[arg(long = "op", value_name = "OP")]
    ops: Vec<String>,
    /// Run this case: tensor/gelu/04
    #[arg(long = "case", value_name = "CASE")]
    cases: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let all = match select::files(&cli.dir) {
        Ok(all) if all.is_empty() => {
            eprintln!("error: no cases in {}", cli.dir.display());
            return ExitCode::FAILURE;
        }
        Ok(all) => all,
        Err(e) => {
            eprintln!("error: {}: {e}", cli.dir.display());
            return ExitCode::FAILURE;
        }
    };
    let filter = Filter { areas: cli.areas, ops: cli.ops, cases: cli.cases };
    if let Some(unknown) = filter.unknown(&all) {
        eprintln!("error: no case of {} is {unknown}", cli.dir.display());
        return ExitCode::FAILURE;
    }
    let (chosen, skipped): (Vec<_>, Vec<_>) = all.iter().partition(|file| filter.wants(file));
    let count = run::all(&chosen);
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, skipped.len());
    if count.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
