//! Measures one row and prints one line of JSON; or measures the machine, a model in several sizes, or memory.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{ArgGroup, Parser};
use gradus_benches::{
    measure::{Request, report, unsupported},
    memory::memory,
    pin_to_last_cpus, restart_keeping_memory,
    roofline::{self, Ceilings},
    rows::{Kind, ROWS, Row},
    sweep::{Model, sweep},
};
use gradus_core::DType;

/// Measures one row and prints one line of JSON
#[derive(Parser)]
#[command(
    name = "gradus-bench",
    group(ArgGroup::new("what").required(true).args(["row", "list", "roofline", "sweep", "memory"])),
    after_help = "cargo xtask bench also takes --all (every row) and --vs-torch (every row beside PyTorch)"
)]
struct Args {
    /// Which row
    #[arg(long, value_parser = row)]
    row: Option<&'static Row>,
    /// Prints every row, its kind and its types
    #[arg(long)]
    list: bool,
    /// Measures what the machine can do, and prints the least time that each row can take
    #[arg(long)]
    roofline: bool,
    /// Measures a model in five sizes: mlp or transformer
    #[arg(long, value_parser = model)]
    sweep: Option<Model>,
    /// Measures the memory that a training step's tensors take in f32 and in bf16
    #[arg(long)]
    memory: bool,
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
    /// With --roofline: what bench --all has written, to be set beside the least times
    #[arg(long, conflicts_with_all = ["row", "list", "sweep", "memory"])]
    json: Option<PathBuf>,
}

fn row(name: &str) -> Result<&'static Row, String> {
    ROWS.iter().find(|r| r.name == name).ok_or_else(|| {
        let names: Vec<_> = ROWS.iter().map(|r| r.name).collect();
        format!("rows: {}", names.join(", "))
    })
}

fn model(name: &str) -> Result<Model, String> {
    Model::named(name).ok_or_else(|| "mlp or transformer".into())
}

fn dtype(name: &str) -> Result<DType, String> {
    let known = [DType::F32, DType::BF16];
    known.into_iter().find(|d| d.name() == name).ok_or_else(|| "f32 or bf16".into())
}

fn threads(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "a number above 0".into())
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Box<dyn Error>> {
    if args.list {
        list();
        return Ok(());
    }
    restart_keeping_memory()?;
    pin_to_last_cpus(args.threads)?;
    if let Some(model) = args.sweep {
        sweep(model, args.threads, args.seconds, |line| println!("{line}"))?;
    } else if args.memory {
        memory(args.threads, |line| println!("{line}"))?;
    } else if let Some(row) = args.row {
        println!("{}", measure(row, &args)?);
    } else {
        let lines = args.json.as_deref().map(read).transpose()?;
        let mut counts = vec![1, args.threads];
        counts.dedup();
        let ceilings: Result<Vec<_>, _> = counts.into_iter().map(Ceilings::measure).collect();
        print!("{}", roofline::table(&ceilings?, lines.as_deref())?);
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
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

fn measure(row: &Row, args: &Args) -> Result<String, Box<dyn Error>> {
    let request = Request {
        dtype: args.dtype,
        threads: args.threads,
        seconds: args.seconds,
        dropout: !args.nodrop,
    };
    if !row.dtypes.contains(&request.dtype) {
        return Ok(unsupported(row.name, &request).to_string());
    }
    Ok(report(row.name, &request, &row.measure(&request)?).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        let words = line.split(' ').filter(|w| !w.is_empty());
        Args::try_parse_from(["gradus-bench"].into_iter().chain(words)).map_err(|e| e.to_string())
    }

    #[test]
    fn one_thing_is_asked_for() {
        let args = parse("--row gpt_step --threads 3 --seconds 0.5 --nodrop").unwrap();
        assert_eq!((args.row.unwrap().name, args.threads, args.seconds), ("gpt_step", 3, 0.5));
        assert!(args.nodrop && args.dtype == DType::F32);
        assert_eq!(parse("--sweep mlp").unwrap().sweep, Some(Model::Mlp));
        assert!(parse("--memory --threads 1").unwrap().memory);
        let args = parse("--roofline --json all.json").unwrap();
        assert!(args.roofline && args.json.is_some());
        for wrong in [
            "",
            "--row gpt_step --list",
            "--list --json all.json",
            "--sweep cnn",
            "--sweep mlp --memory",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_values_are_explained() {
        let message = |line| parse(line).err().unwrap();
        assert!(message("--row gpt").contains("rows: gemm_256, "));
        assert!(message("--row gpt_step --dtype f64").contains("f32 or bf16"));
        assert!(message("--row gpt_step --threads 0").contains("a number above 0"));
    }
}
