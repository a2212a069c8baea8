//! Random numbers one after the other, for what draws few: lambdas, boxes, permutations.

use std::f64::consts::TAU;

use gradus_core::{RngStream, hash_name};

/// A cursor over a stream.
#[derive(Debug)]
pub(crate) struct Draws {
    stream: RngStream,
    next: u64,
}

impl Draws {
    /// The numbers of `op` in this step of a run.
    pub(crate) fn new(seed: u64, step: u64, op: &str) -> Self {
        Self::of(RngStream::new(seed, step, hash_name(op)))
    }

    pub(crate) fn of(stream: RngStream) -> Self {
        Self { stream, next: 0 }
    }

    /// 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        let [a, b, ..] = self.stream.block(self.next);
        self.next += 1;
        (u64::from(a) << 32) | u64::from(b)
    }

    /// Uniform in `[0, 1)`, with 53 bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `[low, high)`; `low` if they are equal.
    pub(crate) fn within(&mut self, [low, high]: [f64; 2]) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform in `0..n`, exactly: Lemire (2019), arXiv:1805.10941.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        loop {
            let product = u128::from(self.bits()) * u128::from(n);
            if product as u64 >= n.wrapping_neg() % n {
                return (product >> 64) as usize;
            }
        }
    }

    /// A standard normal number: Box and Muller (1958).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }

    /// A number of the Gamma distribution of scale 1 and a shape of at least 1: Marsaglia and Tsang (2000), A simple
    /// method for generating gamma variables.
    fn gamma(&mut self, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// A number of the Beta distribution with both parameters `alpha`, which is positive: `X / (X + Y)` of two Gamma
    /// numbers. They are compared by their logarithms, because those of a small shape are too small for a float.
    pub(crate) fn beta(&mut self, alpha: f64) -> f64 {
        let log_ratio = if alpha >= 1.0 {
            self.gamma(alpha).ln() - self.gamma(alpha).ln()
        } else {
            // A Gamma number of shape a is one of shape a + 1 times u^(1/a).
            let gammas = self.gamma(alpha + 1.0).ln() - self.gamma(alpha + 1.0).ln();
            let powers = (1.0 - self.uniform()).ln() - (1.0 - self.uniform()).ln();
            gammas + powers / alpha
        };
        1.0 / (1.0 + (-log_ratio).exp())
    }

    /// A permutation of `0..n`: Fisher and Yates.
    pub(crate) fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(seed: u64) -> Draws {
        Draws::new(seed, 0, "test")
    }

    #[test]
    fn the_numbers_of_a_seed_are_pinned() {
        let mut d = Draws::new(42, 7, "mixup");
        assert_eq!((0..4).map(|_| d.below(10)).collect::<Vec<_>>(), [1, 2, 3, 1]);
        assert_eq!(d.permutation(8), [0, 4, 1, 2, 3, 5, 6, 7]);
        for (alpha, want) in [
            (0.2, 0.009_903_543_375_647_377),
            (1.0, 0.850_468_127_094_258_2),
            (8.0, 0.722_585_737_921_653_4),
        ] {
            let got = d.beta(alpha);
            // The logarithm is the platform's: its last place may differ elsewhere.
            assert!((got - want).abs() < 1e-12, "{alpha}: {got}");
        }
    }

    #[test]
    fn beta_numbers_have_the_right_moments_and_shares() {
        // Shares below 0.1 of Beta(a, a), from scipy.
        for (alpha, below) in
            [(0.1, 0.406_385_09), (0.5, 0.204_832_76), (1.0, 0.1), (4.0, 0.002_728)]
        {
            let (n, mut d) = (40_000, draws(3));
            let x: Vec<f64> = (0..n).map(|_| d.beta(alpha)).collect();
            let mean = x.iter().sum::<f64>() / n as f64;
            let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            let want = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            let share = x.iter().filter(|v| **v < 0.1).count() as f64 / n as f64;
            let sigma = 1.0 / f64::from(n).sqrt();
            assert!(x.iter().all(|v| (0.0..=1.0).contains(v)));
            assert!((mean - 0.5).abs() < 4.0 * want.sqrt() * sigma, "{alpha}: mean {mean}");
            assert!((var - want).abs() < 4.0 * want * sigma * 1.5, "{alpha}: variance {var}");
            assert!(
                (share - below).abs() < 4.0 * (below * (1.0 - below)).sqrt() * sigma,
                "{alpha}: {share}"
            );
        }
    }

    #[test]
    fn extreme_parameters_are_no_nan() {
        let mut d = draws(5);
        for _ in 0..200 {
            for alpha in [5e-324, 1e-300, 1e-8] {
                let lam = d.beta(alpha);
                assert!(
                    lam == 0.0 || lam == 1.0 || alpha == 1e-8 && (0.0..=1.0).contains(&lam),
                    "{alpha}: {lam}"
                );
            }
            assert!((d.beta(1e300) - 0.5).abs() < 1e-9);
        }
    }

    #[test]
    fn small_integers_and_permutations_are_uniform() {
        let (n, mut d, mut counts) = (30_000, draws(1), [[0u32; 3]; 3]);
        let mut sixths = [0u32; 6];
        for _ in 0..n {
            for (i, at) in d.permutation(3).into_iter().enumerate() {
                counts[i][at] += 1;
            }
            sixths[d.below(6)] += 1;
        }
        for count in counts.as_flattened() {
            assert!(count.abs_diff(n / 3) < 4 * 82, "{counts:?}");
        }
        assert!(sixths.iter().all(|c| c.abs_diff(n / 6) < 4 * 65), "{sixths:?}");
        assert_eq!(d.permutation(0), [0; 0]);
        assert_eq!(d.below(1), 0);
    }
}
