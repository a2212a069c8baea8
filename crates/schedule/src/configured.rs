//! A schedule of any kind that data describes.

use alloc::boxed::Box;

use crate::{
    Anneal, AtEpoch, Clamped, Constant, Cooldown, CosineAnnealing, CosineWave, Cyclic, Delayed,
    Ending, Every, ExponentialDecay, InverseSqrt, InverseTime, Linear, Max, Min, MultiStepDecay,
    Noam, Noise, Piecewise, PiecewiseConstant, Plus, Polynomial, PowerLaw, Scaled, Schedule,
    Sequential, StepDecay, Then, Times, WarmRestarts, Warmup,
};

macro_rules! any {
    ($($(#[$doc:meta])* $name:ident($kind:ty),)*) => {
        /// Any schedule but one with a closure in it: what a configuration file chooses.
        ///
        /// Unlike a `Box<dyn Schedule>` it can be cloned, compared, printed and, with the feature `serde`, written and read;
        /// the field `kind` says which it is, in snake case. Every schedule turns into one by `into()`.
        ///
        /// ```
        /// use gradus_schedule::{AnySchedule, CosineAnnealing, Schedule, ScheduleExt};
        /// let any: AnySchedule = CosineAnnealing::new(0.1, 0.0, 90)?.into();
        /// let warm = AnySchedule::Warmup(Box::new(any.warmup(10)));
        /// assert_eq!(warm.value(5), 0.05);
        /// # Ok::<(), gradus_schedule::ScheduleError>(())
        /// ```
        #[derive(Clone, PartialEq, Debug)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize, serde::Deserialize),
            serde(tag = "kind", rename_all = "snake_case")
        )]
        #[non_exhaustive]
        pub enum AnySchedule {
            $($(#[$doc])* $name($kind),)*
        }

        impl Schedule for AnySchedule {
            fn value(&self, step: u64) -> f64 {
                match self {
                    $(Self::$name(schedule) => schedule.value(step),)*
                }
            }
        }

        $(impl From<$kind> for AnySchedule {
            fn from(schedule: $kind) -> Self {
                Self::$name(schedule)
            }
        })*
    };
}

any! {
    /// The same value at every step.
    Constant(Constant),
    /// Stairs of equal length.
    StepDecay(StepDecay),
    /// Stairs at milestones.
    MultiStepDecay(MultiStepDecay),
    /// Stairs with a factor each.
    PiecewiseConstant(PiecewiseConstant),
    /// A constant ratio.
    ExponentialDecay(ExponentialDecay),
    /// A straight line.
    Linear(Linear),
    /// A power of the steps left.
    Polynomial(Polynomial),
    /// Half a cosine.
    CosineAnnealing(CosineAnnealing),
    /// Whole cosines.
    CosineWave(CosineWave),
    /// A fall that starts over and over.
    WarmRestarts(WarmRestarts),
    /// A triangle wave.
    Cyclic(Cyclic),
    /// One over the root of the step.
    InverseSqrt(InverseSqrt),
    /// The transformer's schedule.
    Noam(Noam),
    /// One over the step.
    InverseTime(InverseTime),
    /// A power of the tokens seen.
    PowerLaw(PowerLaw),
    /// Along any shape.
    Anneal(Anneal),
    /// Through knots; a one-cycle schedule is one of these.
    Piecewise(Piecewise),
    /// One after the other.
    Sequential(Sequential<AnySchedule>),
    /// One, then another.
    Then(Box<Then<AnySchedule, AnySchedule>>),
    /// A ramp before.
    Warmup(Box<Warmup<AnySchedule>>),
    /// A fall from wherever it stands.
    Cooldown(Box<Cooldown<AnySchedule>>),
    /// Its end chosen by name.
    Ending(Box<Ending<AnySchedule>>),
    /// Later.
    Delayed(Box<Delayed<AnySchedule>>),
    /// Slower, in stairs.
    Every(Box<Every<AnySchedule>>),
    /// Slower, in straight lines.
    AtEpoch(Box<AtEpoch<AnySchedule>>),
    /// Within bounds.
    Clamped(Box<Clamped<AnySchedule>>),
    /// Times a constant.
    Scaled(Box<Scaled<AnySchedule>>),
    /// The product of two.
    Times(Box<Times<AnySchedule, AnySchedule>>),
    /// The sum of two.
    Plus(Box<Plus<AnySchedule, AnySchedule>>),
    /// The lower of two.
    Min(Box<Min<AnySchedule, AnySchedule>>),
    /// The higher of two.
    Max(Box<Max<AnySchedule, AnySchedule>>),
    /// Trembling.
    Noise(Box<Noise<AnySchedule>>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ScheduleExt, testing::check};

    #[test]
    fn a_tree_of_schedules_is_its_parts() {
        let half = CosineAnnealing::new(0.1, 0.0, 40).unwrap();
        let plain = half.warmup(10).times(StepDecay::new(1.0, 20, 0.5).unwrap());
        let warm = AnySchedule::Warmup(Box::new(AnySchedule::from(half).warmup(10)));
        let stairs = AnySchedule::from(StepDecay::new(1.0, 20, 0.5).unwrap());
        let any = AnySchedule::from(Box::new(warm.times(stairs)));
        assert_eq!(any.clone(), any);
        for t in 0..60 {
            check(&any, &[(t, plain.value(t))]);
        }
    }
}
