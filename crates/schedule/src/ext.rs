//! The methods that combine schedules.

use crate::{
    AtEpoch, Clamped, Cooldown, Delayed, Ending, Every, Map, Max, Min, Noise, Past, Plus, Scaled,
    Schedule, ScheduleError, Then, Times, Warmup,
};

/// What every [`Schedule`] can be turned into.
pub trait ScheduleExt: Schedule + Sized {
    /// This schedule before step `at`, from there on `next`, which counts its own steps from 0.
    ///
    /// `a.then(10, b).then(40, c)` is PyTorch's `SequentialLR([a, b, c], milestones=[10, 40])`: both positions
    /// count from the very beginning. At 0, only `next` is left.
    ///
    /// ```
    /// use gradus_schedule::{Constant, Linear, Schedule, ScheduleExt};
    /// let lr = Constant::new(0.1)?.then(10, Linear::new(0.1, 0.0, 5)?);
    /// assert_eq!([lr.value(9), lr.value(10), lr.value(15)], [0.1, 0.1, 0.0]);
    /// # Ok::<(), gradus_schedule::ScheduleError>(())
    /// ```
    fn then<N: Schedule>(self, at: u64, next: N) -> Then<Self, N> {
        Then::new(self, at, next)
    }

    /// Puts a linear ramp of `steps` from 0 to this schedule's first value in front of it.
    ///
    /// The value is `value(0) t / steps` before step `steps` and `value(t - steps)` from there on: the schedule
    /// is delayed, not cut, unless told otherwise ([`Warmup::with_delay`]). The first step is at 0, as in optax and
    /// transformers; PyTorch's `LinearLR` starts at a fraction ([`Warmup::with_start_factor`]); other shapes by
    /// [`Warmup::with_shape`]. Zero steps mean no warm-up. For a ramp that is a factor, multiply:
    /// `schedule.times(Linear::new(0.0, 1.0, steps)?)`.
    ///
    /// ```
    /// use gradus_schedule::{Constant, Schedule, ScheduleExt};
    /// let lr = Constant::new(0.5)?.warmup(2);
    /// assert_eq!([lr.value(0), lr.value(1), lr.value(2)], [0.0, 0.25, 0.5]);
    /// # Ok::<(), gradus_schedule::ScheduleError>(())
    /// ```
    fn warmup(self, steps: u64) -> Warmup<Self> {
        Warmup::new(self, steps)
    }

    /// Lets this schedule run to step `at` and then fall linearly to 0 over `steps` from the value it has there;
    /// 0 afterwards.
    ///
    /// Another end value by [`Cooldown::with_end`], another way down by [`Cooldown::with_shape`]. With no steps
    /// the value drops at once. This is the decay of a warm-up-stable-decay schedule
    /// ([`warmup_stable_decay`](crate::warmup_stable_decay)), which can branch off anywhere.
    ///
    /// ```
    /// use gradus_schedule::{Constant, Schedule, ScheduleExt};
    /// let lr = Constant::new(0.4)?.cooldown(80, 20);
    /// assert_eq!([lr.value(80), lr.value(90), lr.value(100)], [0.4, 0.2, 0.0]);
    /// # Ok::<(), gradus_schedule::ScheduleError>(())
    /// ```
    fn cooldown(self, at: u64, steps: u64) -> Cooldown<Self> {
        Cooldown::new(self, at, steps)
    }

    /// Says what happens after step `steps`, whatever the schedule itself would do.
    ///
    /// ```
    /// use gradus_schedule::{Linear, Past, Schedule, ScheduleExt};
    /// let teeth = Linear::new(0.4, 0.0, 4)?.ending(4, Past::Restart)?;
    /// assert_eq!([teeth.value(2), teeth.value(4), teeth.value(6)], [0.2, 0.4, 0.2]);
    /// # Ok::<(), gradus_schedule::ScheduleError>(())
    /// ```
    ///
    /// # Errors
    /// [`ScheduleError::ZeroSteps`] when there are none.
    fn ending(self, steps: u64, past: Past) -> Result<Ending<Self>, ScheduleError> {
        Ending::new(self, steps, past)
    }

    /// This schedule's first value for `steps`, then the schedule from its own step 0.
    fn delay(self, steps: u64) -> Delayed<Self> {
        Delayed::new(self, steps)
    }

    /// This schedule's value `floor(t / steps)`: one counted in epochs, of so many steps each.
    ///
    /// # Errors
    /// [`ScheduleError::ZeroSteps`] when there are none.
    fn every(self, steps: u64) -> Result<Every<Self>, ScheduleError> {
        Every::new(self, steps)
    }

    /// This schedule, counted in epochs, at the batch's part of its epoch: on a straight line from the value of one epoch
    /// to that of the next. [`every`](Self::every) is the same in stairs.
    ///
    /// ```
    /// use gradus_schedule::{Schedule, ScheduleExt, warmup_cosine};
    /// let per_batch = warmup_cosine(0.1, 5, 90)?.at_epoch(1000)?; // 5 of 90 epochs of 1000 batches each
    /// assert_eq!([per_batch.value(2_500), per_batch.value(5_000)], [0.05, 0.1]);
    /// # Ok::<(), gradus_schedule::ScheduleError>(())
    /// ```
    ///
    /// # Errors
    /// [`ScheduleError::ZeroSteps`] when an epoch has no steps.
    fn at_epoch(self, steps_per_epoch: u64) -> Result<AtEpoch<Self>, ScheduleError> {
        AtEpoch::new(self, steps_per_epoch)
    }

    /// This schedule, but never below `min` or above `max`.
    ///
    /// # Errors
    /// [`ScheduleError`] when a bound is not finite or is negative, or `min` is above `max`.
    fn clamp(self, min: f64, max: f64) -> Result<Clamped<Self>, ScheduleError> {
        Clamped::new(self, min, max)
    }

    /// The product with `other`, step by step (PyTorch's `ChainedScheduler`, its factors as schedules from 1).
    ///
    /// ```
    /// use gradus_schedule::{ExponentialDecay, Schedule, ScheduleExt, StepDecay};
    /// let lr = ExponentialDecay::new(0.4, 0.5)?.times(StepDecay::new(1.0, 2, 0.1)?);
    /// assert_eq!(lr.value(1), 0.2);
    /// # Ok::<(), gradus_schedule::ScheduleError>(())
    /// ```
    fn times<O: Schedule>(self, other: O) -> Times<Self, O> {
        Times::new(self, other)
    }

    /// The sum with `other`, step by step. At most the largest finite number, as all sums and products here.
    fn plus<O: Schedule>(self, other: O) -> Plus<Self, O> {
        Plus::new(self, other)
    }

    /// The lower of this schedule and `other` at each step.
    ///
    /// ```
    /// use gradus_schedule::{Constant, InverseSqrt, Schedule, ScheduleExt};
    /// let capped = InverseSqrt::new(0.4, 10)?.min(Constant::new(0.3)?);
    /// assert_eq!([capped.value(0), capped.value(30)], [0.3, 0.2]);
    /// # Ok::<(), gradus_schedule::ScheduleError>(())
    /// ```
    fn min<O: Schedule>(self, other: O) -> Min<Self, O> {
        Min::new(self, other)
    }

    /// The higher of this schedule and `other` at each step.
    fn max<O: Schedule>(self, other: O) -> Max<Self, O> {
        Max::new(self, other)
    }

    /// `function` of this schedule's value. Nothing checks what it returns.
    ///
    /// ```
    /// use gradus_schedule::{Linear, Schedule, ScheduleExt};
    /// let keep = Linear::new(0.0, 0.5, 10)?.map(|drop| 1.0 - drop);
    /// assert_eq!(keep.value(10), 0.5);
    /// # Ok::<(), gradus_schedule::ScheduleError>(())
    /// ```
    fn map<F: Fn(f64) -> f64>(self, function: F) -> Map<Self, F> {
        Map::new(self, function)
    }

    /// This schedule times `1 + x`, with another random `x` in plus and minus `amount` at each step: a function of `seed`
    /// and the step, see [`Noise`]. timm's default is 0.67.
    ///
    /// # Errors
    /// [`ScheduleError::OutOfRange`] when `amount` is not in \[0, 1\].
    fn noise(self, amount: f64, seed: u64) -> Result<Noise<Self>, ScheduleError> {
        Noise::new(self, amount, seed)
    }

    /// This schedule times a constant.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when `factor` is not finite or is negative.
    fn scale(self, factor: f64) -> Result<Scaled<Self>, ScheduleError> {
        Scaled::new(self, factor)
    }
}

impl<S: Schedule> ScheduleExt for S {}
