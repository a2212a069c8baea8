use std::fmt;

/// A number in [0, 1], checked once.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Probability(f64);

impl Probability {
    /// Zero: never.
    pub const ZERO: Self = Self(0.0);
    /// A half.
    pub const HALF: Self = Self(0.5);
    /// One: always.
    pub const ONE: Self = Self(1.0);

    /// Checks `p`.
    ///
    /// # Errors
    /// [`ProbabilityError`] when `p` is NaN or outside [0, 1].
    pub fn new(p: f64) -> Result<Self, ProbabilityError> {
        if (0.0..=1.0).contains(&p) { Ok(Self(p)) } else { Err(ProbabilityError { value: p }) }
    }

    /// A share of it, itself in [0, 1].
    pub(crate) fn part(self, share: f64) -> Self {
        debug_assert!((0.0..=1.0).contains(&share));
        Self(self.0 * share)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Probability {
    type Error = ProbabilityError;
    fn try_from(p: f64) -> Result<Self, ProbabilityError> {
        Self::new(p)
    }
}

/// A number that is no probability.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct ProbabilityError {
    /// The number.
    pub value: f64,
}

impl fmt::Display for ProbabilityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a probability has to lie in [0, 1], got {}", self.value)
    }
}

impl std::error::Error for ProbabilityError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_from_zero_to_one_pass() {
        assert_eq!(Probability::new(1.0).map(Probability::get), Ok(1.0));
        for p in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Probability::new(p).is_err(), "{p}");
        }
    }
}
