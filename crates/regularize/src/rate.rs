//! Probabilities that follow a schedule.

use std::{fmt, sync::Arc};

use gradus_autograd::Tape;
use gradus_core::Schedule;

use crate::Probability;

/// How far a schedule may miss 0 or 1 by rounding.
const ROUNDING: f64 = 1e-9;

/// A probability that is fixed, or a function of the step.
///
/// Every layer of this crate takes one; a [`Probability`] is a fixed one. A schedule's value that misses \[0, 1\] by
/// at most 1e-9, which is rounding, counts as the nearer end; one further off is an error, which [`check`](Self::check)
/// finds before training does.
///
/// ```
/// use gradus_regularize::{Dropout, Probability, Rate};
///
/// let p = Probability::new(0.1)?;
/// let fixed = Dropout::new(p);
/// let early = Rate::early(p, 1000);
/// assert_eq!(early.at(0)?.get(), 0.1);
/// assert_eq!(early.at(500)?.get(), 0.05);
/// assert_eq!(early.at(1000)?, Probability::ZERO);
/// let scheduled = Dropout::new(early);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Rate(Kind);

#[derive(Clone)]
enum Kind {
    Fixed(Probability),
    Scheduled(Arc<dyn Schedule + Send + Sync>),
}

impl Rate {
    /// The same probability in every step.
    #[must_use]
    pub fn fixed(p: Probability) -> Self {
        Self(Kind::Fixed(p))
    }

    /// The probability that `schedule` gives for the step: see [`check`](Self::check).
    #[must_use]
    pub fn scheduled(schedule: impl Schedule + Send + Sync + 'static) -> Self {
        Self(Kind::Scheduled(Arc::new(schedule)))
    }

    /// Early dropout: from `p` linearly to 0 at step `steps`, 0 from there on. It helps a model that underfits.
    ///
    /// # References
    /// Liu, Xu, Jin, Shen, Darrell: Dropout reduces underfitting (2023), arXiv:2303.01500.
    #[must_use]
    pub fn early(p: Probability, steps: u64) -> Self {
        Self::scheduled(Early { p: p.get(), steps })
    }

    /// Late dropout: 0 before step `steps`, `p` from there on. It helps a model that overfits.
    ///
    /// # References
    /// As [`early`](Self::early).
    #[must_use]
    pub fn late(p: Probability, steps: u64) -> Self {
        Self::scheduled(Late { p: p.get(), steps })
    }

    /// The probability in step `step`.
    ///
    /// # Errors
    /// [`RateError`] when the schedule's value there is no probability.
    pub fn at(&self, step: u64) -> Result<Probability, RateError> {
        let schedule = match &self.0 {
            Kind::Fixed(p) => return Ok(*p),
            Kind::Scheduled(schedule) => schedule,
        };
        let value = schedule.value(step);
        let near = if (-ROUNDING..=1.0 + ROUNDING).contains(&value) {
            value.clamp(0.0, 1.0)
        } else {
            value
        };
        Probability::new(near).map_err(|_| RateError { step, value })
    }

    /// Looks for a step in which this is no probability.
    ///
    /// # Errors
    /// [`RateError`] with the first such step.
    pub fn check(&self, steps: impl IntoIterator<Item = u64>) -> Result<(), RateError> {
        steps.into_iter().try_for_each(|step| self.at(step).map(|_| ()))
    }

    /// The probability on a tape: that of its step where the tape [draws](Tape::is_stochastic), 0 elsewhere.
    ///
    /// # Panics
    /// When the tape draws and the schedule's value at its step is no probability.
    #[must_use]
    #[track_caller]
    pub fn on(&self, tape: &Tape) -> Probability {
        if !tape.is_stochastic() {
            return Probability::ZERO;
        }
        self.at(tape.step()).unwrap_or_else(|e| panic!("{e}"))
    }
}

impl From<Probability> for Rate {
    fn from(p: Probability) -> Self {
        Self::fixed(p)
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Fixed(p) => write!(f, "Rate({})", p.get()),
            Kind::Scheduled(_) => f.write_str("Rate(scheduled)"),
        }
    }
}

struct Early {
    p: f64,
    steps: u64,
}

impl Schedule for Early {
    fn value(&self, step: u64) -> f64 {
        let left = self.steps.saturating_sub(step);
        if left == 0 { 0.0 } else { self.p * (left as f64 / self.steps as f64) }
    }
}

struct Late {
    p: f64,
    steps: u64,
}

impl Schedule for Late {
    fn value(&self, step: u64) -> f64 {
        if step < self.steps { 0.0 } else { self.p }
    }
}

/// A step in which a schedule gives a number that is no probability.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct RateError {
    /// The step.
    pub step: u64,
    /// The number.
    pub value: f64,
}

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, value } = self;
        write!(f, "the schedule of a probability gives {value} in step {step}, outside of [0, 1]")
    }
}

impl std::error::Error for RateError {}

/// Defines a layer that is a function of its input and one probability.
macro_rules! rate_layer {
    ($(#[$doc:meta])* $name:ident = $function:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            rate: $crate::Rate,
        }
        gradus_autograd::module!($name {});

        impl $name {
            /// At this rate: a [`Probability`](crate::Probability) or a scheduled [`Rate`](crate::Rate).
            #[must_use]
            pub fn new(rate: impl Into<$crate::Rate>) -> Self {
                Self { rate: rate.into() }
            }

            /// The rate.
            #[must_use]
            pub fn rate(&self) -> &$crate::Rate {
                &self.rate
            }
        }

        impl gradus_autograd::Layer for $name {
            #[track_caller]
            fn forward(&self, x: &gradus_autograd::Var) -> gradus_autograd::Var {
                $function(x, self.rate.on(x.tape()))
            }
        }
    };
}
pub(crate) use rate_layer;

#[cfg(test)]
mod tests {
    use super::*;

    struct Line;
    impl Schedule for Line {
        fn value(&self, step: u64) -> f64 {
            step as f64 * 0.25
        }
    }

    struct Constant(f64);
    impl Schedule for Constant {
        fn value(&self, _: u64) -> f64 {
            self.0
        }
    }

    #[test]
    fn a_schedule_is_followed_and_its_end_noticed() {
        let rate = Rate::scheduled(Line);
        assert_eq!(rate.at(2).unwrap().get(), 0.5);
        assert_eq!(rate.check(0..=4), Ok(()));
        assert_eq!(rate.check(0..9), Err(RateError { step: 5, value: 1.25 }));
        assert_eq!(rate.on(&Tape::training(0, 3)).get(), 0.75);
        assert_eq!(rate.on(&Tape::monte_carlo(0, 3, 1)).get(), 0.75);
        assert_eq!(rate.on(&Tape::evaluation()), Probability::ZERO);
    }

    #[test]
    fn rounding_counts_as_the_end_and_nothing_else_does() {
        let at = |value| Rate::scheduled(Constant(value)).at(0);
        assert_eq!(at(-1e-12).unwrap().get(), 0.0);
        assert_eq!(at(1.0 + 1e-12).unwrap().get(), 1.0);
        for bad in [-1e-6, 1.000_001, f64::NAN, f64::INFINITY] {
            assert_eq!(at(bad).unwrap_err().step, 0, "{bad}");
        }
    }

    #[test]
    #[should_panic(expected = "gives 1.25 in step 5, outside of [0, 1]")]
    fn a_layer_does_not_train_on_with_a_number_that_is_no_probability() {
        let _ = Rate::scheduled(Line).on(&Tape::training(0, 5));
    }

    #[test]
    fn early_and_late() {
        let p = Probability::new(0.4).unwrap();
        let values = |rate: Rate| [0, 1, 2, 3, 100].map(|t| rate.at(t).unwrap().get());
        assert_eq!(values(Rate::early(p, 2)), [0.4, 0.2, 0.0, 0.0, 0.0]);
        assert_eq!(values(Rate::late(p, 2)), [0.0, 0.0, 0.4, 0.4, 0.4]);
        assert_eq!(values(Rate::early(p, 0)), [0.0; 5]);
        assert_eq!(values(Rate::late(p, 0)), [0.4; 5]);
    }
}
