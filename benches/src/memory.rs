//! What the tensors of a training step take in f32 and in bf16.

use gradus_core::DType;
use rayon::ThreadPoolBuildError;

use crate::{
    measure::{Memory, Request},
    rows::{Kind, ROWS, Row},
};

/// Measures every training row that is done in both types, and passes each line of a table in Markdown to `print` when
/// it is there.
///
/// # Errors
/// When threads cannot be started.
pub fn memory(threads: usize, mut print: impl FnMut(String)) -> Result<(), ThreadPoolBuildError> {
    print(
        "| row | f32: peak bytes | bf16 | ratio | f32: bytes of the step | bf16 | ratio |".into(),
    );
    print("|---|---|---|---|---|---|---|".into());
    let in_both = |r: &&Row| r.kind == Kind::Train && r.dtypes.contains(&DType::BF16);
    for row in ROWS.iter().filter(in_both) {
        let [full, short] = [DType::F32, DType::BF16].map(|dtype| of_step(row, dtype, threads));
        print(line(row.name, full?, short?));
    }
    Ok(())
}

/// What a row takes in this type, once the optimizer has its state.
///
/// # Errors
/// When threads cannot be started.
pub fn of_step(row: &Row, dtype: DType, threads: usize) -> Result<Memory, ThreadPoolBuildError> {
    let request = Request { dtype, threads, seconds: 0.0, dropout: true };
    Ok(row.measure(&request)?.timing.memory())
}

fn line(row: &str, full: Memory, short: Memory) -> String {
    let compared =
        |full: usize, short: usize| format!("{full} | {short} | {:.2}", short as f64 / full as f64);
    let (peak, step) = (compared(full.peak, short.peak), compared(full.added(), short.added()));
    format!("| {row} | {peak} | {step} |")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_and_what_steps_add_are_compared() {
        let memory = |peak| Memory { held: 100, peak };
        let text = line("a_row", memory(300), memory(150));
        assert_eq!(text, "| a_row | 300 | 150 | 0.50 | 200 | 50 | 0.25 |");
    }
}
