//! `cargo xtask bench --all`: every row, one after the other.

use std::path::PathBuf;

use clap::Parser;

use super::row::{list, measure, show, write};
use crate::shell::{Failed, Shell};

/// Measures every row, each in a process of its own
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Options {
    /// Every row
    #[arg(long, required = true)]
    all: bool,
    /// Only these rows
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Also writes the lines of all rows to this file, as an array
    #[arg(long)]
    json: Option<PathBuf>,
    /// Type of the numbers
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Threads that compute
    #[arg(long, default_value = "2")]
    threads: String,
    /// How long to measure each
    #[arg(long, default_value = "3")]
    seconds: String,
    /// Turns dropout off in the training rows
    #[arg(long)]
    nodrop: bool,
}

pub(super) fn run(shell: &Shell, args: &[String]) -> Result<(), Failed> {
    let Options { rows, json, dtype, threads, seconds, nodrop, all: _ } =
        Options::parse_from([&["bench".into()], args].concat());
    let mut lines = Vec::new();
    println!("| row | median ms | min ms | p90 ms | iterations | peak MiB | other cpus |");
    println!("|---|---|---|---|---|---|---|");
    for row in list(shell, &rows, &dtype)? {
        let mut args = vec!["--row", &row.name, "--dtype", &dtype];
        args.extend(["--threads", &threads, "--seconds", &seconds]);
        args.extend((nodrop && row.trains).then_some("--nodrop"));
        let line = measure(shell, &args)?;
        let numbers = ["median_ms", "min_ms", "p90_ms"].map(|key| show(&line[key]));
        let rest = ["iters", "peak_rss_mib", "other_cpus"].map(|key| line[key].to_string());
        println!("| {} | {} | {} |", row.name, numbers.join(" | "), rest.join(" | "));
        lines.push(line);
    }
    json.map_or(Ok(()), |path| write(&path, &lines))
}
