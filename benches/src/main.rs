//! Measures one row and prints one line of JSON.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use gradus_benches::{
    measure::{Request, report, unsupported},
    pin_to_last_cpus, restart_keeping_memory,
    rows::{Kind, ROWS, Row},
};
use gradus_core::DType;

/// Measures one row and prints one line of JSON.
#[derive(Parser)]
#[command(name = "gradus-bench")]
struct Args {
    /// Which row
    #[arg(long, required_unless_present = "list")]
    row: Option<String>,
    /// Type of the numbers: f32 or bf16
    #[arg(long, default_value = "f32", value_parser = dtype)]
    dtype: DType,
    /// Threads that compute; the process is pinned to as many of the last cpus
    #[arg(long, default_value_t = 2, value_parser = threads)]
    threads: usize,
    /// How long to measure
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Turns dropout off, so that losses can be compared
    #[arg(long)]
    nodrop: bool,
    /// Prints every row, its kind and its types
    #[arg(long)]
    list: bool,
}

fn dtype(name: &str) -> Result<DType, String> {
    let known = [DType::F32, DType::BF16];
    known.into_iter().find(|d| d.name() == name).ok_or_else(|| "f32 or bf16".into())
}

fn threads(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "a number above 0".into())
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Some(name) = args.row.filter(|_| !args.list) else {
        list();
        return ExitCode::SUCCESS;
    };
    let Some(row) = ROWS.iter().find(|r| r.name == name) else {
        let names: Vec<_> = ROWS.iter().map(|r| r.name).collect();
        let message = format!("there is no row {name}; rows: {}", names.join(", "));
        Args::command().error(ErrorKind::InvalidValue, message).exit();
    };
    let request = Request {
        dtype: args.dtype,
        threads: args.threads,
        seconds: args.seconds,
        dropout: !args.nodrop,
    };
    if !row.dtypes.contains(&request.dtype) {
        println!("{}", unsupported(row.name, &request));
        return ExitCode::SUCCESS;
    }
    match run(row, &request) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    for row in ROWS {
        let kind = match row.kind {
            Kind::Kernel => "kernel",
            Kind::Train => "train",
        };
        let dtypes: Vec<_> = row.dtypes.iter().map(|d| d.name()).collect();
        println!("{}\t{kind}\t{}", row.name, dtypes.join(","));
    }
}

/// Measures inside a pool of its own, so that no fork comes from outside of it.
fn run(row: &Row, request: &Request) -> Result<String, Box<dyn std::error::Error>> {
    restart_keeping_memory()?;
    pin_to_last_cpus(request.threads)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(request.threads).build()?;
    let measured = pool.install(|| (row.run)(request));
    Ok(report(row.name, request, &measured).to_string())
}
