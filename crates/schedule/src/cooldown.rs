//! A fall to the end from wherever another schedule stands.

use crate::{
    Constant, Schedule, ScheduleError, ScheduleExt, Shape, Warmup,
    error::{length, number},
};

/// Another schedule up to a step, from there on a fall from the value it has then.
///
/// Made by [`ScheduleExt::cooldown`](crate::ScheduleExt::cooldown).
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Cooldown<S> {
    schedule: S,
    at: u64,
    steps: u64,
    #[cfg_attr(feature = "serde", serde(default))]
    end: f64,
    #[cfg_attr(feature = "serde", serde(default))]
    shape: Shape,
}

impl<S: Schedule> Cooldown<S> {
    pub(crate) fn new(schedule: S, at: u64, steps: u64) -> Self {
        Self { schedule, at, steps, end: 0.0, shape: Shape::Linear }
    }

    /// Falls (or rises) to this value instead of to 0.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when the value is not finite or is negative.
    pub fn with_end(self, end: f64) -> Result<Self, ScheduleError> {
        Self { end, ..self }.checked()
    }

    /// Falls along this shape instead of a straight line.
    ///
    /// # Errors
    /// [`ScheduleError::OutOfRange`] when the power of [`Shape::Power`] is not positive.
    pub fn with_shape(self, shape: Shape) -> Result<Self, ScheduleError> {
        Self { shape, ..self }.checked()
    }
}

impl<S> Cooldown<S> {
    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("end", self.end)?;
        self.shape.checked()?;
        Ok(self)
    }
}

impl<S: Schedule> Schedule for Cooldown<S> {
    fn value(&self, step: u64) -> f64 {
        let Some(own) = step.checked_sub(self.at) else { return self.schedule.value(step) };
        if own >= self.steps {
            return self.end;
        }
        let x = own as f64 / self.steps as f64;
        self.shape.between(self.schedule.value(self.at), self.end, x)
    }
}

/// Warm-up, stable, decay (WSD): linear from 0 to `peak` over `warmup_steps`, `peak` for `stable_steps`, then
/// linear to 0 over `decay_steps`; 0 afterwards.
///
/// Short for `Constant::new(peak)?.warmup(w).cooldown(w + stable, decay)`; both ends take another
/// [`Shape`] ([`Warmup::with_shape`], [`Cooldown::with_shape`]; transformers' `get_wsd_schedule` falls along
/// a cosine by default). The decay is a branch: the trunk `Constant::new(peak)?.warmup(w)` can be
/// trained on, and cooled down from any checkpoint of it, without having fixed the length beforehand. MiniCPM's decay,
/// `peak 0.5^(t / T)`, is `trunk.then(at, ExponentialDecay::new(peak, 0.5)?.with_period(T)?)`.
///
/// ```
/// use gradus_schedule::{Constant, Schedule, ScheduleExt, Shape, warmup_stable_decay};
/// let lr = warmup_stable_decay(0.1, 10, 70, 20)?.with_shape(Shape::OneMinusSqrt)?;
/// assert_eq!([lr.value(5), lr.value(79), lr.value(85), lr.value(100)], [0.05, 0.1, 0.05, 0.0]);
/// // Branches of one trunk.
/// let trunk = Constant::new(0.1)?.warmup(10);
/// let (short, long) = (trunk.cooldown(50, 10), trunk.cooldown(500, 100));
/// assert_eq!([short.value(49), long.value(49), short.value(55)], [0.1, 0.1, 0.05]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # Errors
/// [`ScheduleError`] when `peak` is not finite or is negative, or `decay_steps` is 0.
///
/// # References
/// Hu et al.: MiniCPM: unveiling the potential of small language models with scalable training strategies
/// (2024).
pub fn warmup_stable_decay(
    peak: f64,
    warmup_steps: u64,
    stable_steps: u64,
    decay_steps: u64,
) -> Result<Cooldown<Warmup<Constant>>, ScheduleError> {
    length("decay_steps", decay_steps)?;
    let peak = Constant::new(number("peak", peak)?)?;
    Ok(peak.warmup(warmup_steps).cooldown(warmup_steps.saturating_add(stable_steps), decay_steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CosineAnnealing, testing::check};

    #[test]
    fn matches_transformers_wsd() {
        // peak 0.1; 10, 20, 20 steps, linear warm-up, cosine decay, min_lr_ratio 0
        let lr = warmup_stable_decay(0.1, 10, 20, 20).unwrap();
        let cosine = lr.with_shape(Shape::Cosine).unwrap();
        check(&cosine, &[(0, 0.0), (1, 0.01), (10, 0.1), (23, 0.1), (31, 0.0993844170297569)]);
        check(&cosine, &[(40, 0.05), (50, 0.0), (60, 0.0)]);
        // peak 1; 10, 20, 20 steps, decay 1-sqrt
        let lr = warmup_stable_decay(1.0, 10, 20, 20).unwrap();
        let lr = lr.with_shape(Shape::OneMinusSqrt).unwrap();
        check(&lr, &[(30, 1.0), (31, 0.7763932022500211), (40, 0.2928932188134524), (50, 0.0)]);
        // peak 0.5; 10, 0, 40 steps, warm-up cosine, decay 1-sqrt, min_lr_ratio 0.01
        let warm = Constant::new(0.5).unwrap().warmup(10).with_start_factor(0.01).unwrap();
        let warm = warm.with_shape(Shape::Cosine).unwrap();
        let lr = warm.cooldown(10, 40).with_end(0.005).unwrap();
        let lr = lr.with_shape(Shape::OneMinusSqrt).unwrap();
        check(&lr, &[(0, 0.005), (1, 0.0171135122169495), (5, 0.2525), (10, 0.5)]);
        check(&lr, &[(17, 0.2929266434328163), (40, 0.0713174251267029), (50, 0.005)]);
        // peak 0.2; 12, 10, 20 steps, warm-up 1-sqrt, decay linear
        let warm = Constant::new(0.2).unwrap().warmup(12).with_shape(Shape::OneMinusSqrt).unwrap();
        let lr = warm.cooldown(22, 20);
        check(&lr, &[(1, 0.00851457844873238), (10, 0.11835034190722743), (31, 0.11), (42, 0.0)]);
    }

    #[test]
    fn a_branch_starts_where_the_trunk_stands() {
        let trunk = CosineAnnealing::new(0.1, 0.0, 100).unwrap();
        let branch = trunk.cooldown(50, 10);
        check(&branch, &[(49, trunk.value(49)), (50, 0.05), (55, 0.025), (60, 0.0), (61, 0.0)]);
        check(&trunk.cooldown(50, 0), &[(49, trunk.value(49)), (50, 0.0)]);
        check(&trunk.cooldown(0, 4), &[(0, 0.1), (1, 0.075), (4, 0.0)]);
    }

    #[test]
    fn bad_arguments_are_refused() {
        let lr = Constant::new(0.1).unwrap().cooldown(5, 5);
        assert!(lr.with_end(f64::NAN).is_err() && lr.with_shape(Shape::Power(-1.0)).is_err());
        assert_eq!(
            warmup_stable_decay(0.1, 5, 5, 0),
            Err(ScheduleError::ZeroSteps { argument: "decay_steps" })
        );
        assert_eq!(
            warmup_stable_decay(-0.1, 5, 5, 5),
            Err(ScheduleError::InvalidNumber { argument: "peak", value: -0.1 })
        );
    }
}
