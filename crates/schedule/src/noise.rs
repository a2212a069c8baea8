//! A schedule that trembles.

use gradus_core::{RngStream, hash_name};
use num_traits::Float;

use crate::{Schedule, ScheduleError, error::fraction, finite::bounded};

/// How the noise of a [`Noise`] schedule is spread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum NoiseKind {
    /// Normal with a deviation of 1, cut off at the amount on both sides.
    #[default]
    Normal,
    /// Uniform between minus and plus the amount.
    Uniform,
}

/// Another schedule times `1 + x`, with another random `x` within plus and minus an amount at each step.
///
/// Made by [`ScheduleExt::noise`](crate::ScheduleExt::noise). `x` is a function of seed and step, so that the schedule is
/// as pure as any other: a resumed run draws what the uninterrupted one would have. (timm draws from PyTorch's generator:
/// the same distributions, other numbers.)
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Noise<S> {
    schedule: S,
    amount: f64,
    seed: u64,
    #[cfg_attr(feature = "serde", serde(default))]
    kind: NoiseKind,
    #[cfg_attr(feature = "serde", serde(default))]
    from: u64,
    #[cfg_attr(feature = "serde", serde(default))]
    until: Option<u64>,
}

impl<S: Schedule> Noise<S> {
    pub(crate) fn new(schedule: S, amount: f64, seed: u64) -> Result<Self, ScheduleError> {
        Self { schedule, amount, seed, kind: NoiseKind::default(), from: 0, until: None }.checked()
    }

    /// Spreads the noise in another way.
    #[must_use]
    pub fn with_kind(self, kind: NoiseKind) -> Self {
        Self { kind, ..self }
    }

    /// Trembles only from step `from` on, and before step `until` if there is one (timm's `noise_range_t`).
    #[must_use]
    pub fn with_range(self, from: u64, until: impl Into<Option<u64>>) -> Self {
        Self { from, until: until.into(), ..self }
    }

    fn draw(&self, step: u64) -> f64 {
        let stream = RngStream::new(self.seed, step, hash_name("schedule.noise"));
        let uniform = |i| self.amount * (2.0 * stream.uniform(i) - 1.0);
        match self.kind {
            NoiseKind::Uniform => uniform(0),
            // By rejection. An amount is 1 at most, so that three in five or more are accepted: 64 never fail.
            NoiseKind::Normal => (0..64)
                .map(|i| (uniform(2 * i), stream.uniform(2 * i + 1)))
                .find(|(x, chance)| *chance < Float::exp(-x * x / 2.0))
                .map_or(0.0, |(x, _)| x),
        }
    }
}

impl<S> Noise<S> {
    /// Itself, if the amount is a fraction.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        fraction("amount", self.amount)?;
        Ok(self)
    }
}

impl<S: Schedule> Schedule for Noise<S> {
    fn value(&self, step: u64) -> f64 {
        let value = self.schedule.value(step);
        if step < self.from || self.until.is_some_and(|until| step >= until) {
            return value;
        }
        bounded(value * (1.0 + self.draw(step)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Constant, Linear, ScheduleExt};

    fn noisy(amount: f64, kind: NoiseKind) -> Noise<Constant> {
        Constant::new(1.0).unwrap().noise(amount, 42).unwrap().with_kind(kind)
    }

    #[test]
    fn the_same_numbers_for_ever() {
        let values = |s: &Noise<Constant>| [0, 1, 1_000_000, u64::MAX].map(|t| s.value(t));
        let want = [1.1729110924296318, 1.420777485204641, 0.6385203657225373, 0.545388595534763];
        assert_eq!(values(&noisy(0.67, NoiseKind::Normal)), want);
        let want = [1.1290381286788298, 1.31401304866018, 0.7302390788974159, 0.6607377578617635];
        assert_eq!(values(&noisy(0.5, NoiseKind::Uniform)), want);
    }

    #[test]
    fn moments_are_those_of_the_distribution() {
        let n = 20_000;
        // Variances of U(-1, 1) and of a normal cut at plus and minus 1 (0.29112).
        for (kind, variance) in [(NoiseKind::Uniform, 1.0 / 3.0), (NoiseKind::Normal, 0.291_125)] {
            let s = noisy(1.0, kind);
            let draws = (0..n).map(|t| s.value(t) - 1.0);
            let (sum, squares) = draws.fold((0.0, 0.0), |(a, b), x| (a + x, b + x * x));
            let (mean, square) = (sum / n as f64, squares / n as f64);
            assert!(mean.abs() < 0.012 && (square - variance).abs() < 0.006, "{mean} {square}");
        }
    }

    #[test]
    fn it_stays_within_its_amount_and_its_range() {
        let line = Linear::new(2.0, 1.0, 100).unwrap();
        let s = line.noise(0.1, 7).unwrap().with_range(10, 20);
        for t in 0..30 {
            let (got, plain) = (s.value(t), line.value(t));
            assert!((got - plain).abs() <= 0.1 * plain, "{t}");
            assert_eq!(got != plain, (10..20).contains(&t), "{t}");
        }
        assert_ne!(line.noise(0.1, 8).unwrap().value(15), s.value(15));
        assert_ne!(s.with_range(15, None).value(1_000), line.value(1_000));
        assert_eq!(line.noise(0.0, 8).unwrap().value(15), line.value(15));
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(line.noise(bad, 1).is_err(), "{bad}");
        }
    }
}
