//! The clock: warm-up, the timed loop, and what is reported of it.

use std::{hint::black_box, time::Instant};

use gradus_core::DType;
use gradus_tensor::buffer;
use serde_json::{Value, json};

use crate::{checks::Checks, system};

/// What is asked for, apart from the row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Request {
    /// Type of the numbers.
    pub dtype: DType,
    /// Threads that compute.
    pub threads: usize,
    /// How long to measure.
    pub seconds: f64,
    /// Whether dropout is on in the training rows.
    pub dropout: bool,
}

/// What a row answers.
#[derive(Clone, PartialEq, Debug)]
pub struct Measured {
    /// Its times.
    pub timing: Timing,
    /// That it did the work.
    pub checks: Checks,
}

/// Times of a loop.
#[derive(Clone, PartialEq, Debug)]
pub struct Timing {
    sorted_ms: Vec<f64>,
    warmup_s: f64,
    peak_rss_mib: Option<f64>,
    other_cpus: Option<f64>,
    memory: Memory,
}

/// Bytes of living tensors in a loop; the pool that they come from rounds each up by a quarter at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// When the first iteration begins: inputs and parameters.
    pub held: usize,
    /// At most.
    pub peak: usize,
}

impl Memory {
    /// What an iteration takes beyond what was there before it: activations, gradients, copies in other types.
    #[must_use]
    pub fn added(self) -> usize {
        self.peak - self.held
    }
}

impl Timing {
    /// The median in ms.
    #[must_use]
    pub fn median_ms(&self) -> f64 {
        self.sorted_ms[self.sorted_ms.len() / 2]
    }

    /// Memory in the timed loop, of all tensors of the process.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.memory
    }
}

/// A measurement under way: begins when the inputs and the model are there.
#[derive(Debug)]
pub struct Session {
    seconds: f64,
    start: Instant,
}

const MIN_WARMUP_ITERATIONS: usize = 3;
const MIN_WARMUP_SECONDS: f64 = 0.2;
const MIN_ITERATIONS: usize = 5;

impl Session {
    /// Begins: from here on memory counts, and time is warm-up until [`time`](Self::time).
    #[must_use]
    pub fn begin(request: &Request) -> Self {
        buffer::trim();
        system::reset_peak_rss();
        Self { seconds: request.seconds, start: Instant::now() }
    }

    /// Warms up, then times each single iteration until the time is over. An iteration's results are dropped
    /// within its time.
    pub fn time<R>(self, mut iterate: impl FnMut() -> R) -> Timing {
        let warmup = Instant::now();
        for i in 0.. {
            if i >= MIN_WARMUP_ITERATIONS && warmup.elapsed().as_secs_f64() >= MIN_WARMUP_SECONDS {
                break;
            }
            black_box(iterate());
        }
        let warmup_s = self.start.elapsed().as_secs_f64();
        let held = buffer::stats().in_use;
        buffer::reset_peak();
        let (others, begin) = (system::seconds_of_others(), Instant::now());
        let mut ms = Vec::new();
        while begin.elapsed().as_secs_f64() < self.seconds || ms.len() < MIN_ITERATIONS {
            let start = Instant::now();
            black_box(iterate());
            ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let elapsed = begin.elapsed().as_secs_f64();
        let others = system::seconds_of_others().zip(others).map(|(after, before)| after - before);
        ms.sort_unstable_by(f64::total_cmp);
        Timing {
            sorted_ms: ms,
            warmup_s,
            peak_rss_mib: system::peak_rss_mib(),
            other_cpus: others.map(|s| (s / elapsed).max(0.0)),
            memory: Memory { held, peak: buffer::stats().peak },
        }
    }
}

/// The report of a row, one line of JSON.
#[must_use]
pub fn report(row: &str, request: &Request, measured: &Measured) -> Value {
    let Measured { timing, checks } = measured;
    let (ms, n) = (&timing.sorted_ms, timing.sorted_ms.len());
    json!({
        "impl": "gradus",
        "version": env!("CARGO_PKG_VERSION"),
        "row": row,
        "dtype": request.dtype.name(),
        "threads": request.threads,
        "iters": n,
        "median_ms": round(timing.median_ms(), 6),
        "min_ms": round(ms[0], 6),
        "p90_ms": round(ms[n * 9 / 10], 6),
        "peak_rss_mib": timing.peak_rss_mib.map(|v| round(v, 1)),
        "other_cpus": timing.other_cpus.map(|v| round(v, 2)),
        "warmup_s": round(timing.warmup_s, 3),
        "checks": checks.values,
        "scale": checks.scale,
        "check": checks.headline,
    })
}

/// The report of a row that is not done in this type.
#[must_use]
pub fn unsupported(row: &str, request: &Request) -> Value {
    json!({
        "impl": "gradus",
        "version": env!("CARGO_PKG_VERSION"),
        "row": row,
        "dtype": request.dtype.name(),
        "threads": request.threads,
        "unsupported": format!("{row} is not done in {}", request.dtype),
    })
}

fn round(value: f64, digits: i32) -> f64 {
    let unit = 10f64.powi(digits);
    (value * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request = Request { dtype: DType::F32, threads: 1, seconds: 0.0, dropout: true };

    #[test]
    fn a_loop_warms_up_and_does_enough_iterations() {
        let mut calls = 0;
        let timing = Session::begin(&REQUEST).time(|| {
            calls += 1;
            std::thread::sleep(std::time::Duration::from_millis(30));
        });
        // Up to 0.2 s of at least 30 ms each, then five.
        assert!((3 + 5..=7 + 5).contains(&calls), "{calls}");
        assert_eq!(timing.sorted_ms.len(), 5);
        assert!(timing.sorted_ms[0] >= 30.0 && timing.warmup_s >= 0.2);
    }

    #[test]
    fn the_report_has_the_order_statistics() {
        let timing = Timing {
            sorted_ms: (0..10).map(f64::from).collect(),
            warmup_s: 0.5,
            peak_rss_mib: None,
            other_cpus: Some(0.126),
            memory: Memory { held: 1, peak: 3 },
        };
        let checks = Checks::of_losses(vec![2.0, 1.5]);
        let line = report("a_row", &REQUEST, &Measured { timing, checks });
        assert_eq!(line["iters"], 10);
        assert_eq!([&line["median_ms"], &line["min_ms"], &line["p90_ms"]], [5.0, 0.0, 9.0]);
        assert_eq!((&line["peak_rss_mib"], &line["other_cpus"]), (&Value::Null, &json!(0.13)));
        assert_eq!((&line["check"], &line["checks"]), (&json!(1.5), &json!([2.0, 1.5])));
    }
}
