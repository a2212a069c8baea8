//! The same model in five sizes: what a step costs per parameter and sample, which should not depend on the size.

use gradus_core::DType;
use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};

use crate::{
    measure::Request,
    rows::{AtSize, gpt_of, mlp_of},
};

/// What grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// The perceptron of `mlp_step`; samples are rows of its batch.
    Mlp,
    /// The transformer of `gpt_step`; samples are tokens.
    Transformer,
}

const SIZES: usize = 5;
/// Width and batch.
const MLP: [[usize; 2]; SIZES] = [[128, 64], [256, 128], [512, 128], [1024, 256], [2048, 256]];
/// Width, blocks and sequences.
const TRANSFORMER: [[usize; 3]; SIZES] =
    [[128, 2, 4], [128, 4, 8], [256, 2, 16], [256, 4, 16], [512, 4, 16]];

impl Model {
    /// The model of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "mlp" => Some(Self::Mlp),
            "transformer" => Some(Self::Transformer),
            _ => None,
        }
    }

    /// Runs the size with this number, from 0 to 4.
    ///
    /// # Panics
    /// When there is no such size.
    #[must_use]
    pub fn measure(self, size: usize, request: &Request) -> AtSize {
        match self {
            Self::Mlp => mlp_of(MLP[size], request),
            Self::Transformer => gpt_of(TRANSFORMER[size], request),
        }
    }
}

/// Measures all five sizes with one thread and with `threads`, and passes each line of a table in Markdown to `print`
/// when it is there.
///
/// # Errors
/// When threads cannot be started.
pub fn sweep(
    model: Model,
    threads: usize,
    seconds: f64,
    mut print: impl FnMut(String),
) -> Result<(), ThreadPoolBuildError> {
    let mut counts = vec![1, threads];
    counts.dedup();
    let heads = counts.iter().map(|n| format!(" ms, threads: {n} | ps / (parameter sample) |"));
    print(format!("| parameters | samples |{}", heads.collect::<String>()));
    print(format!("|{}", "---|".repeat(2 + 2 * counts.len())));
    for size in 0..SIZES {
        let mut line = String::new();
        for &threads in &counts {
            let request = Request { dtype: DType::F32, threads, seconds, dropout: true };
            let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
            let sized = pool.install(|| model.measure(size, &request));
            if line.is_empty() {
                line = format!("| {} | {} |", sized.params, sized.samples);
            }
            let ms = sized.measured.timing.median_ms();
            line += &format!(" {ms:.3} | {:.2} |", picoseconds(&sized, ms));
        }
        print(line);
    }
    Ok(())
}

/// Per parameter and sample.
fn picoseconds(sized: &AtSize, ms: f64) -> f64 {
    ms * 1e9 / (sized.params as f64 * sized.samples as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_names() {
        assert_eq!(Model::named("mlp"), Some(Model::Mlp));
        assert_eq!(Model::named("transformer"), Some(Model::Transformer));
        assert_eq!(Model::named("cnn"), None);
    }

    #[test]
    fn a_size_is_measured_and_put_in_relation() {
        let request = Request { dtype: DType::F32, threads: 1, seconds: 0.0, dropout: true };
        let sized = mlp_of([16, 8], &request);
        // 784-16-16-10 with biases, and scale and shift of two norms.
        assert_eq!((sized.params, sized.samples), (785 * 16 + 17 * 16 + 17 * 10 + 64, 8));
        assert!(sized.measured.timing.median_ms() > 0.0);
        let ps = picoseconds(&sized, 1.0);
        assert!((ps - 1e9 / (sized.params * 8) as f64).abs() < 1e-6, "{ps}");
    }
}
