//! The least time that each row can take on this machine: what it has to compute at the rate of its
//! multiply-adds, or what it has to move at the rate of its memory, whichever is longer.

mod ceilings;
mod work;

use serde_json::Value;

pub use ceilings::{Bandwidth, Ceilings};
pub use work::{Work, work};

use crate::rows::ROWS;

/// What keeps a row from being faster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// Multiply-adds.
    Flops,
    /// Memory.
    Memory,
    /// The last cache, which holds all that the row touches.
    Cache,
}

impl Ceilings {
    /// The least time in ms, and what it is due to.
    #[must_use]
    pub fn floor_ms(&self, work: Work) -> (f64, Limit) {
        let (bandwidth, limit) = if work.bytes <= self.cache_bytes as f64 {
            (self.cache, Limit::Cache)
        } else {
            (self.memory, Limit::Memory)
        };
        let compute = work.flops / self.gflops / 1e6;
        let traffic = work.bytes / bandwidth.best() / 1e6;
        if compute >= traffic { (compute, Limit::Flops) } else { (traffic, limit) }
    }
}

/// Both ceilings and every row's floor in Markdown; with the lines of `cargo xtask bench --all --json` also the time
/// now (of those with as many threads), and how many floors it is.
///
/// # Errors
/// When the lines are not such an array.
pub fn table(ceilings: &[Ceilings], lines: Option<&str>) -> Result<String, String> {
    let lines = lines.map(parse).transpose()?;
    let mut text = String::new();
    text += "| threads | f32 GFLOP/s | memory GB/s: read, copy, triad | cache GB/s: read, copy, triad |\n";
    text += "|---|---|---|---|\n";
    for c in ceilings {
        let [memory, cache] =
            [c.memory, c.cache].map(|b| format!("{:.1}, {:.1}, {:.1}", b.read, b.copy, b.triad));
        text += &format!("| {} | {:.1} | {memory} | {cache} |\n", c.threads, c.gflops);
    }
    let Some(ceilings) = ceilings.last() else { return Ok(text) };
    text += &format!("\nFloors for {} threads:\n\n", ceilings.threads);
    let now = if lines.is_some() { (" now ms | now / floor |", "---|---|") } else { ("", "") };
    text += &format!("| row | GFLOP | MB | floor ms | limit |{}\n", now.0);
    text += &format!("|---|---|---|---|---|{}\n", now.1);
    for row in ROWS {
        let Some(work) = work(row.name) else { continue };
        let (floor, limit) = ceilings.floor_ms(work);
        let (gflop, mb) = (significant(work.flops / 1e9), significant(work.bytes / 1e6));
        let (floor_ms, limit) = (significant(floor), format!("{limit:?}").to_lowercase());
        text += &format!("| {} | {gflop} | {mb} | {floor_ms} | {limit} |", row.name);
        if let Some(lines) = &lines {
            text += &match median_ms(lines, row.name, ceilings.threads) {
                Some(ms) => format!(" {} | {:.1} |", significant(ms), ms / floor),
                None => " | |".into(),
            };
        }
        text.push('\n');
    }
    Ok(text)
}

fn parse(lines: &str) -> Result<Vec<Value>, String> {
    serde_json::from_str(lines).map_err(|e| format!("this is not what bench --all writes: {e}"))
}

fn median_ms(lines: &[Value], row: &str, threads: usize) -> Option<f64> {
    let fits =
        |line: &&Value| line["row"] == row && line["dtype"] == "f32" && line["threads"] == threads;
    lines.iter().find(fits)?["median_ms"].as_f64()
}

/// With three digits.
fn significant(value: f64) -> String {
    let decimals = (2.0 - value.abs().log10().floor()).clamp(0.0, 5.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceilings() -> Ceilings {
        let all = |rate| Bandwidth { read: rate, copy: rate / 2.0, triad: rate };
        Ceilings {
            threads: 2,
            gflops: 200.0,
            memory: all(20.0),
            cache: all(100.0),
            cache_bytes: 32 << 20,
        }
    }

    #[test]
    fn the_longer_one_of_computing_and_moving_is_the_floor() {
        let floor = |flops, bytes| ceilings().floor_ms(Work { flops, bytes });
        assert_eq!(floor(2e9, 1e6), (10.0, Limit::Flops));
        assert_eq!(floor(2e9, 4e8), (20.0, Limit::Memory));
        assert_eq!(floor(0.0, 1e7), (0.1, Limit::Cache));
    }

    #[test]
    fn the_table_has_every_row_and_the_times_given() {
        let lines = r#"[{"row": "gemm_1024", "dtype": "f32", "threads": 2, "median_ms": 21.47},
            {"row": "gemm_256", "dtype": "f32", "threads": 1, "median_ms": 1.0}]"#;
        let text = table(&[ceilings()], Some(lines)).unwrap();
        assert!(text.contains("| 2 | 200.0 | 20.0, 10.0, 20.0 | 100.0, 50.0, 100.0 |"), "{text}");
        assert!(text.contains("| gemm_1024 | 2.15 | 12.6 | 10.7 | flops | 21.5 | 2.0 |"), "{text}");
        assert!(text.contains("| gemm_256 | 0.0336 | 0.786 | 0.168 | flops | | |"), "{text}");
        assert!(ROWS.iter().all(|r| text.contains(&format!("| {} |", r.name))), "{text}");
        assert!(table(&[ceilings()], Some("no")).is_err());
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [12_345.0, 309.7, 3.442, 0.067_89, 0.0].map(significant);
        assert_eq!(shown, ["12345", "310", "3.44", "0.0679", "0.00000"]);
    }
}
