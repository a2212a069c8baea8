//! Runs gradus against golden cases: one runner per op, through the public API only.

mod answer;
mod array;
mod case;
mod compare;
mod ops;
mod run;
mod select;

use std::{env, path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::select::Filter;

/// Runs gradus against golden cases from PyTorch, optax and JAX.
///
/// Without a filter everything runs; --area, --op and --case add up, and what none of them names is skipped.
#[derive(Parser)]
struct Cli {
    /// The set: a folder of AREA/OP/NUMBER.{safetensors,json}; the committed one unless given
    dir: Option<PathBuf>,
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

/// The committed set, of the checkout that cargo runs if it is cargo that runs this.
fn committed() -> PathBuf {
    let own = env::var_os("CARGO_MANIFEST_DIR");
    PathBuf::from(own.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())).join("cases")
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let dir = cli.dir.unwrap_or_else(committed);
    let all = match select::files(&dir) {
        Ok(all) if all.is_empty() => {
            eprintln!("error: no cases in {}", dir.display());
            return ExitCode::FAILURE;
        }
        Ok(all) => all,
        Err(e) => {
            eprintln!("error: {}: {e}", dir.display());
            return ExitCode::FAILURE;
        }
    };
    let filter = Filter { areas: cli.areas, ops: cli.ops, cases: cli.cases };
    if let Some(unknown) = filter.unknown(&all) {
        eprintln!("error: no case of {} is {unknown}", dir.display());
        return ExitCode::FAILURE;
    }
    let (chosen, skipped): (Vec<_>, Vec<_>) = all.iter().partition(|file| filter.wants(file));
    let count = run::all(&chosen);
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed, skipped.len());
    if count.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
