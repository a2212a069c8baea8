//! `cargo xtask bench --vs-torch`: every row beside the same row in PyTorch.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use clap::Parser;
use serde_json::{Value, json};

use super::row::{Row, line, list, measure, show, write};
use crate::shell::{Failed, Shell};

/// Measures every row in gradus and in PyTorch by turns, and prints how many times as long PyTorch takes
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Options {
    /// Beside PyTorch
    #[arg(long, required = true)]
    vs_torch: bool,
    /// Also with torch.compile, which needs a C++ compiler and minutes
    #[arg(long)]
    compile: bool,
    /// A Python with PyTorch
    #[arg(long, default_value = "python3")]
    python: String,
    /// Only these rows
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Times that everything is measured; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Threads that compute
    #[arg(long, default_value = "2")]
    threads: String,
    /// How long to measure each time
    #[arg(long, default_value = "1")]
    seconds: String,
    /// Also writes all lines to this file, as an array
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Rows whose results are random numbers: only the first check, a share or a deviation, is alike.
const RANDOM: &[&str] = &["dropout_fwd_bwd", "kaiming_normal_init"];
/// Checks that differ by more, in units of their scale, are of other work.
const TOLERANCE: f64 = 2e-3;
/// Other processes have disturbed a measurement if they took more cpus than this.
const DISTURBED: f64 = 0.15;

pub(super) fn run(shell: &Shell, args: &[String]) -> Result<(), Failed> {
    let options = Options::parse_from([&["bench".into()], args].concat());
    let torch = Torch::find(shell, &options)?;
    let rows = list(shell, &options.rows, "f32")?;
    let mut results: Vec<Measured> = rows.iter().map(Measured::new).collect();
    let mut lines = Vec::new();
    for round in 0..=options.rounds {
        for result in &mut results {
            // Round 0 compares the work: in training rows without dropout, which has other random numbers.
            let seconds = if round == 0 { "0" } else { &options.seconds };
            let mut args = vec!["--row", &result.row, "--threads", &options.threads];
            args.extend(["--seconds", seconds]);
            args.extend((round == 0 && result.trains).then_some("--nodrop"));
            eprintln!("round {round} of {}: {}", options.rounds, result.row);
            let mut sides = vec![measure(shell, &args)?, torch.measure(&args, "eager")?];
            if options.compile {
                sides.push(torch.measure(&args, "compile")?);
            }
            lines.extend(sides.iter().cloned());
            if round == 0 { result.compare(&sides) } else { result.add(&sides) }
        }
    }
    print!("{}", table(&torch.version, options.compile, &results));
    options.json.map_or(Ok(()), |path| write(&path, &lines))?;
    let other = results.iter().filter(|r| !r.same_work()).map(|r| r.row.as_str());
    match other.collect::<Vec<_>>()[..] {
        [] => Ok(()),
        ref rows => Err(Failed::new(format!("the checks differ in {}", rows.join(", ")))),
    }
}

/// A Python with PyTorch, and our program for it.
struct Torch {
    python: String,
    program: PathBuf,
    version: String,
}

impl Torch {
    /// Asks for its version, so that what is missing is said at once.
    fn find(shell: &Shell, options: &Options) -> Result<Self, Failed> {
        let program = shell.root.join("benches/vs_torch/torch_rows.py");
        let mut torch = Self { python: options.python.clone(), program, version: String::new() };
        torch.version = String::from_utf8_lossy(&torch.output(&["--version"])?).trim().into();
        Ok(torch)
    }

    fn measure(&self, args: &[&str], mode: &str) -> Result<Value, Failed> {
        line(&self.output(&[args, &["--mode", mode]].concat())?)
    }

    fn output(&self, args: &[&str]) -> Result<Vec<u8>, Failed> {
        let python = &self.python;
        let mut command = Command::new(python);
        command.arg(&self.program).args(args).stderr(Stdio::inherit());
        let output = command.output().map_err(|e| {
            Failed::new(format!("{python}: {e}; name a Python with PyTorch by --python"))
        })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(Failed::new(format!("{python} torch_rows.py {}: {}", args.join(" "), output.status)))
    }
}

/// What was measured of a row: gradus first, then PyTorch.
struct Measured {
    row: String,
    trains: bool,
    /// Of each side the medians of all rounds.
    ms: Vec<Vec<f64>>,
    mib: Vec<Value>,
    /// The largest difference of PyTorch's checks from ours, in units of their scale.
    difference: f64,
    disturbed: bool,
}

impl Measured {
    fn new(row: &Row) -> Self {
        let (ms, mib) = (Vec::new(), Vec::new());
        let (row, trains) = (row.name.clone(), row.trains);
        Self { row, trains, ms, mib, difference: f64::NAN, disturbed: false }
    }

    fn compare(&mut self, sides: &[Value]) {
        let count = if RANDOM.contains(&self.row.as_str()) { 1 } else { usize::MAX };
        let differences = sides[1..].iter().map(|torch| difference(&sides[0], torch, count));
        self.difference = differences.fold(0.0, max);
    }

    fn add(&mut self, sides: &[Value]) {
        self.ms.resize(sides.len(), Vec::new());
        for (ms, side) in self.ms.iter_mut().zip(sides) {
            ms.push(side["median_ms"].as_f64().unwrap_or(f64::NAN));
            self.disturbed |= side["other_cpus"].as_f64().is_some_and(|cpus| cpus > DISTURBED);
        }
        self.mib = sides.iter().map(|side| side["peak_rss_mib"].clone()).collect();
    }

    fn same_work(&self) -> bool {
        self.difference <= TOLERANCE
    }

    /// The median over the rounds of each side.
    fn medians(&self) -> Vec<f64> {
        self.ms.iter().map(|ms| median(ms)).collect()
    }
}

/// The largest of the first `count` differences, in units of the scale; infinite where there are not as many checks.
fn difference(ours: &Value, theirs: &Value, count: usize) -> f64 {
    let numbers = |line: &Value, key: &str| -> Vec<f64> {
        let values = line[key].as_array().into_iter().flatten();
        values.map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
    };
    let (a, b, scale) =
        (numbers(ours, "checks"), numbers(theirs, "checks"), numbers(ours, "scale"));
    if a.is_empty() || a.len() != b.len() || a.len() != scale.len() {
        return f64::INFINITY;
    }
    let differences = a.iter().zip(&b).zip(&scale).map(|((a, b), s)| (a - b).abs() / s.abs());
    differences.take(count).fold(0.0, max)
}

/// NaN if one of them is: what cannot be compared is not the same.
fn max(a: f64, b: f64) -> f64 {
    if a >= b || a.is_nan() { a } else { b }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    if n == 0 { f64::NAN } else { f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]) }
}

/// All results in Markdown.
fn table(version: &str, compile: bool, results: &[Measured]) -> String {
    let sides: &[&str] = if compile { &["eager", "compile"] } else { &["eager"] };
    let mut head = String::from("| row | gradus ms |");
    for side in sides {
        head += &format!(" {side} ms | {side} / gradus |");
    }
    let mut text = format!("\nPyTorch {version}, f32; above 1 gradus is faster.\n\n");
    text += &format!("{head} gradus MiB | eager MiB | checks differ by |\n");
    text += &format!("{}\n", "|---".repeat(head.matches('|').count() + 2) + "|");
    let mut logarithms = vec![0.0; sides.len()];
    for result in results {
        let ms = result.medians();
        let mark = if result.disturbed { "*" } else { "" };
        text += &format!("| {}{mark} | {} |", result.row, show(&json!(ms[0])));
        for (sum, theirs) in logarithms.iter_mut().zip(&ms[1..]) {
            *sum += (theirs / ms[0]).ln();
            text += &format!(" {} | {:.2} |", show(&json!(theirs)), theirs / ms[0]);
        }
        let verdict = if result.same_work() { "" } else { ": other work" };
        let (mib, difference) = (&result.mib, result.difference);
        text += &format!(" {} | {} | {difference:.0e}{verdict} |\n", mib[0], mib[1]);
    }
    for (side, sum) in sides.iter().zip(logarithms) {
        let mean = (sum / results.len() as f64).exp();
        text += &format!("\nGeometric mean of {side} / gradus: {mean:.2}\n");
    }
    if results.iter().any(|r| r.disturbed) {
        text += "\n* other processes were running meanwhile: measure these rows again.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(ms: f64, checks: &[f64], other_cpus: f64) -> Value {
        let scale = vec![2.0; checks.len()];
        json!({"median_ms": ms, "checks": checks, "scale": scale, "peak_rss_mib": 10.5, "other_cpus": other_cpus})
    }

    fn measured(name: &str) -> Measured {
        Measured::new(&Row { name: name.into(), trains: false, dtypes: Vec::new() })
    }

    #[test]
    fn differences_are_in_units_of_the_scale() {
        let (a, b) = (side(1.0, &[1.0, 5.0], 0.0), side(1.0, &[1.5, 4.0], 0.0));
        assert_eq!(difference(&a, &b, usize::MAX), 0.5);
        assert_eq!(difference(&a, &b, 1), 0.25);
        assert_eq!(difference(&a, &side(1.0, &[1.0], 0.0), 1), f64::INFINITY);
        assert!(difference(&a, &side(1.0, &[1.0, f64::NAN], 0.0), 2).is_nan());
    }

    #[test]
    fn medians_of_rounds_are_divided() {
        let mut row = measured("gemm");
        row.compare(&[side(0.0, &[1.0], 0.0), side(0.0, &[1.0 + 1e-6], 0.0)]);
        for (ours, theirs) in [(1.0, 3.0), (2.0, 5.0), (9.0, 4.0)] {
            row.add(&[side(ours, &[1.0], 0.0), side(theirs, &[1.0], 0.0)]);
        }
        let text = table("2.0", false, &[row]);
        assert!(text.contains("| gemm | 2.000 | 4.000 | 2.00 | 10.5 | 10.5 | 5e-7 |"), "{text}");
        assert!(text.contains("Geometric mean of eager / gradus: 2.00"), "{text}");
        assert_eq!(median(&[4.0, 1.0]), 2.5);
    }

    #[test]
    fn other_work_and_other_load_are_marked() {
        let mut row = measured("gemm");
        assert!(!row.same_work(), "nothing was compared");
        row.compare(&[side(0.0, &[1.0], 0.0), side(0.0, &[1.1], 0.0)]);
        row.add(&[side(1.0, &[1.0], 0.0), side(1.0, &[1.0], 0.5)]);
        assert!(!row.same_work());
        let text = table("2.0", false, &[row]);
        assert!(text.contains("| gemm* |") && text.contains("5e-2: other work |"), "{text}");
        // Random numbers: the first check alone is compared.
        let mut random = measured("dropout_fwd_bwd");
        random.compare(&[side(0.0, &[1.0, 1.0], 0.0), side(0.0, &[1.0, 7.0], 0.0)]);
        assert!(random.same_work());
    }
}
