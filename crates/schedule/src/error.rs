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
            Self::ZeroSteps { argument } => write!(f, "{argument} must be at least 1"),
            Self::WarmupTooLong { warmup_steps, total_steps } => {
                write!(f, "a warm-up of {warmup_steps} steps leaves none of {total_steps} in total")
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
        assert_eq!(length("steps", 0), Err(ScheduleError::ZeroSteps { argument: "steps" }));
    }

    #[test]
    fn messages_name_the_argument_and_the_numbers() {
        assert_eq!(
            number("gamma", -0.5).unwrap_err().to_string(),
            "gamma must be finite and not negative, got -0.5"
        );
        assert_eq!(
            ScheduleError::MilestoneOrder { index: 1, previous: 20, milestone: 10 }.to_string(),
            "milestone 1 is 10, which is not after 20"
        );
    }
}
