//! Hyper-parameters that no optimizer can work with.

use core::fmt;

/// Why an optimizer could not be built.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptimError {
    /// A hyper-parameter is NaN or outside its range.
    OutOfRange {
        /// The hyper-parameter.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The values that it may have.
        range: &'static str,
    },
    /// Nesterov momentum is defined only for a momentum above 0 and no dampening.
    Nesterov {
        /// The momentum given.
        momentum: f64,
        /// The dampening given.
        dampening: f64,
    },
}

impl fmt::Display for OptimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { name, value, range } => {
                write!(f, "{name} is {value}, it has to be in {range}")
            }
            Self::Nesterov { momentum, dampening } => write!(
                f,
                "nesterov needs momentum > 0 and dampening 0, got {momentum} and {dampening}"
            ),
        }
    }
}

impl core::error::Error for OptimError {}

/// Checks `value >= 0` and finite.
pub(crate) fn non_negative(name: &'static str, value: f64) -> Result<(), OptimError> {
    if value >= 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(OptimError::OutOfRange { name, value, range: "[0, inf)" })
    }
}

/// Checks `0 <= value < 1`.
pub(crate) fn below_one(name: &'static str, value: f64) -> Result<(), OptimError> {
    if (0.0..1.0).contains(&value) {
        Ok(())
    } else {
        Err(OptimError::OutOfRange { name, value, range: "[0, 1)" })
    }
}

/// Checks `0 <= value <= 1`.
pub(crate) fn at_most_one(name: &'static str, value: f64) -> Result<(), OptimError> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(OptimError::OutOfRange { name, value, range: "[0, 1]" })
    }
}

/// Checks `value > 0` and finite.
pub(crate) fn positive(name: &'static str, value: f64) -> Result<(), OptimError> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(OptimError::OutOfRange { name, value, range: "(0, inf)" })
    }
}

/// Checks that the value is neither NaN nor infinite.
pub(crate) fn finite(name: &'static str, value: f64) -> Result<(), OptimError> {
    if value.is_finite() {
        Ok(())
    } else {
        Err(OptimError::OutOfRange { name, value, range: "(-inf, inf)" })
    }
}
