use std::fmt;

/// A hyper-parameter outside of its range.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct RangeError {
    /// The hyper-parameter.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// What it has to be.
    pub expected: &'static str,
}

impl RangeError {
    /// Refuses `value` unless `ok`.
    pub(crate) fn check(
        ok: bool,
        name: &'static str,
        value: f64,
        expected: &'static str,
    ) -> Result<(), Self> {
        if ok { Ok(()) } else { Err(Self { name, value, expected }) }
    }

    /// Refuses what is not in `[0, inf)`.
    pub(crate) fn not_negative(name: &'static str, value: f64) -> Result<(), Self> {
        Self::check(value >= 0.0 && value.is_finite(), name, value, "finite and not negative")
    }
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has to be {}, got {}", self.name, self.expected, self.value)
    }
}

impl std::error::Error for RangeError {}
