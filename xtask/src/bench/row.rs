//! Rows of gradus-bench, each in a process of its own, and the lines of JSON that they print.

use std::{fs, path::Path};

use serde_json::Value;

use crate::shell::{Failed, Shell};

/// Arguments of `cargo run` before those of gradus-bench.
pub(super) const GRADUS_BENCH: &[&str] = &["-p", "gradus-benches", "--bin", "gradus-bench", "--"];

/// A row, as `--list` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    /// Whether it is a training step, where `--nodrop` turns dropout off.
    pub(super) trains: bool,
    pub(super) dtypes: Vec<String>,
}

/// The rows in this type: those of these names, or all.
pub(super) fn list(shell: &Shell, names: &[String], dtype: &str) -> Result<Vec<Row>, Failed> {
    let text = gradus_bench(shell, &["--list"])?;
    choose(&String::from_utf8_lossy(&text), names, dtype)
}

fn choose(list: &str, names: &[String], dtype: &str) -> Result<Vec<Row>, Failed> {
    let rows: Vec<Row> = list.lines().filter_map(row).collect();
    if let Some(name) = names.iter().find(|name| rows.iter().all(|r| r.name != **name)) {
        return Err(Failed::new(format!("there is no row {name}; --list shows them")));
    }
    let wanted = |r: &Row| names.is_empty() || names.contains(&r.name);
    Ok(rows.into_iter().filter(|r| wanted(r) && r.dtypes.iter().any(|d| d == dtype)).collect())
}

/// Its name, kind and types, with tabs between them.
fn row(line: &str) -> Option<Row> {
    let mut fields = line.split('\t');
    let (name, kind, dtypes) = (fields.next()?, fields.next()?, fields.next()?);
    let dtypes = dtypes.split(',').map(str::to_owned).collect();
    Some(Row { name: name.into(), trains: kind == "train", dtypes })
}

/// What gradus-bench says of a row.
pub(super) fn measure(shell: &Shell, args: &[&str]) -> Result<Value, Failed> {
    line(&gradus_bench(shell, args)?)
}

fn gradus_bench(shell: &Shell, args: &[&str]) -> Result<Vec<u8>, Failed> {
    shell.output(&[&["run", "--release", "-q"], GRADUS_BENCH, args].concat())
}

/// The line of JSON among what a program printed.
pub(super) fn line(stdout: &[u8]) -> Result<Value, Failed> {
    let text = String::from_utf8_lossy(stdout);
    let json = text.lines().rev().find(|l| l.starts_with('{'));
    let json = json.ok_or_else(|| Failed::new(format!("no line of JSON in {text:?}")))?;
    serde_json::from_str(json).map_err(|e| Failed::new(format!("{json}: {e}")))
}

/// Writes the lines as one array, a line each.
pub(super) fn write(path: &Path, lines: &[Value]) -> Result<(), Failed> {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    let text = format!("[\n{}\n]\n", lines.join(",\n"));
    fs::write(path, text).map_err(|e| Failed::new(format!("{}: {e}", path.display())))
}

/// A number of the line with about three digits, or nothing.
pub(super) fn show(value: &Value) -> String {
    let Some(v) = value.as_f64() else { return String::new() };
    let decimals = match v.abs() {
        v if v < 0.1 => 4,
        v if v < 10.0 => 3,
        v if v < 100.0 => 2,
        _ => 0,
    };
    format!("{v:.decimals$}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIST: &str = "gemm_256\tkernel\tf32,bf16\nmlp_step\ttrain\tf32\n";

    #[test]
    fn rows_are_chosen_by_name_and_type() {
        let names = |names: &[&str], dtype| {
            let names: Vec<String> = names.iter().map(|&n| n.into()).collect();
            choose(LIST, &names, dtype).map(|rows| rows.into_iter().map(|r| (r.name, r.trains)))
        };
        let all: Vec<_> = names(&[], "f32").unwrap().collect();
        assert_eq!(all, [("gemm_256".into(), false), ("mlp_step".into(), true)]);
        assert_eq!(names(&[], "bf16").unwrap().count(), 1);
        assert_eq!(names(&["mlp_step"], "f32").unwrap().count(), 1);
        assert_eq!(names(&["mlp_step"], "bf16").unwrap().count(), 0);
        let Err(error) = names(&["mlp"], "f32") else { panic!("there is no such row") };
        assert_eq!(error.what, "there is no row mlp; --list shows them");
    }

    #[test]
    fn the_last_line_of_json_counts() {
        assert_eq!(line(b"warning\n{\"a\":1}\n{\"a\":2}\n").unwrap(), json!({"a": 2}));
        assert!(line(b"nothing\n").is_err() && line(b"{broken\n").is_err());
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0.067_89, 3.442_1, 34.71, 308.9].map(|v| show(&json!(v)));
        assert_eq!(shown, ["0.0679", "3.442", "34.71", "309"]);
        assert_eq!(show(&Value::Null), "");
    }
}
