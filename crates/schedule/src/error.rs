//! What can be wrong with a schedule's arguments.

use core::fmt;

/// Why a schedule could not be built.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A number is NaN, infinite or negative.
    InvalidNumber {
        /// The argument's name.
        argument: &'static str,
        /// What was given.
        value: f64,
    },
    /// A number is not in the range of its argument.
    OutOfRange {
        /// The argument's name.
        argument: &'static str,
        /// What was given.
        value: f64,
        /// What it should be.
        expected: &'static str,
    },
    /// A length in steps is zero.
    ZeroSteps {
        /// The argument's name.
        argument: &'static str,
    },
    /// The warm-up leaves no step for what should follow it.
    WarmupTooLong {
        /// Steps of the warm-up.
        warmup_steps: u64,
        /// Steps of the whole schedule.
        total_steps: u64,
    },
    /// A step after the last one, where there is no value.
    PastTheEnd {
        /// The step.
        step: u64,
        /// Steps of the schedule.
        steps: u64,
    },
    /// A group has the name of one before it.
    DuplicateName {
        /// Position of the group in its list.
        index: usize,
    },
    /// A sequence needs one schedule more than it has milestones.
    CountMismatch {
        /// Schedules given.
        schedules: usize,
        /// Milestones given.
        milestones: usize,
    },
    /// A milestone does not lie after the one before it.
    MilestoneOrder {
        /// Position of the milestone in its list.
        index: usize,
        /// The milestone before it.
        previous: u64,
        /// The milestone.
        milestone: u64,
    },
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidNumber { argument, value } => {
                write!(f, "{argument} must be finite and not negative, got {value}")
            }
            Self::OutOfRange { argument, value, expected } => {
                write!(f, "{argument} must be {expected}, got {value}")
            }
            Self::ZeroSteps { argument } => write!(f, "{argument} must be at least 1"),
            Self::WarmupTooLong { warmup_steps, total_steps } => {
                write!(f, "a warm-up of {warmup_steps} steps leaves none of {total_steps} in total")
            }
            Self::PastTheEnd { step, steps } => {
                write!(f, "step {step} is past the end of a schedule of {steps} steps")
            }
            Self::DuplicateName { index } => {
                write!(f, "group {index} has the name of one before it")
            }
            Self::CountMismatch { schedules, milestones } => write!(
                f,
                "{milestones} milestones join one schedule more than that, got {schedules}"
            ),
            Self::MilestoneOrder { index, previous, milestone } => {
                write!(f, "milestone {index} is {milestone}, which is not after {previous}")
            }
        }
    }
}

impl core::error::Error for ScheduleError {}

/// The value, if it is finite and not negative.
pub(crate) fn number(argument: &'static str, value: f64) -> Result<f64, ScheduleError> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(ScheduleError::InvalidNumber { argument, value })
    }
}

/// The value, if it is finite and positive.
pub(crate) fn positive(argument: &'static str, value: f64) -> Result<f64, ScheduleError> {
    within(argument, value, value > 0.0 && value.is_finite(), "finite and positive")
}

/// The value, if it is in [0, 1].
pub(crate) fn fraction(argument: &'static str, value: f64) -> Result<f64, ScheduleError> {
    within(argument, value, (0.0..=1.0).contains(&value), "in [0, 1]")
}

/// The value, if it is finite and 1 or more.
pub(crate) fn growth(argument: &'static str, value: f64) -> Result<f64, ScheduleError> {
    within(argument, value, value >= 1.0 && value.is_finite(), "finite and at least 1")
}

/// The value, if it is inside.
pub(crate) fn within(
    argument: &'static str,
    value: f64,
    inside: bool,
    expected: &'static str,
) -> Result<f64, ScheduleError> {
    if inside { Ok(value) } else { Err(ScheduleError::OutOfRange { argument, value, expected }) }
}

/// The length, if it is not zero.
pub(crate) fn length(argument: &'static str, steps: u64) -> Result<u64, ScheduleError> {
    if steps > 0 { Ok(steps) } else { Err(ScheduleError::ZeroSteps { argument }) }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn numbers_are_finite_and_not_negative() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-300] {
            assert!(matches!(
                number("start", bad),
                Err(ScheduleError::InvalidNumber { argument: "start", .. })
            ));
        }
        assert_eq!(number("start", 0.0), Ok(0.0));
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(positive("x", bad).is_err() && fraction("x", bad).is_err());
            assert!(growth("x", bad).is_err());
        }
        assert!(positive("x", 0.0).is_err() && fraction("x", 1.1).is_err());
        assert!(growth("x", 0.99).is_err());
        assert_eq!((fraction("x", 0.0), fraction("x", 1.0)), (Ok(0.0), Ok(1.0)));
        assert_eq!(length("steps", 0), Err(ScheduleError::ZeroSteps { argument: "steps" }));
    }

    #[test]
    fn messages_name_the_argument_and_the_numbers() {
        assert_eq!(
            number("gamma", -0.5).unwrap_err().to_string(),
            "gamma must be finite and not negative, got -0.5"
        );
        assert_eq!(
            fraction("pct_start", 1.5).unwrap_err().to_string(),
            "pct_start must be in [0, 1], got 1.5"
        );
        assert_eq!(
            ScheduleError::MilestoneOrder { index: 1, previous: 20, milestone: 10 }.to_string(),
            "milestone 1 is 10, which is not after 20"
        );
    }
}
