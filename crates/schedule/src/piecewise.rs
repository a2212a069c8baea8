//! Values at certain steps, constant or interpolated between them.

use alloc::vec::Vec;

use crate::{
    Schedule, ScheduleError, Shape,
    error::{length, number, within},
    finite::bounded,
};

/// `start` times every scale whose boundary is at or before the step (optax's `piecewise_constant_schedule`).
///
/// The boundaries may come in any order; at one that is listed twice both scales apply. The product is at most
/// the largest finite number.
///
/// ```
/// use gradus_schedule::{PiecewiseConstant, Schedule};
/// let lr = PiecewiseConstant::new(1.0, [(20, 0.5), (40, 0.2)])?;
/// assert_eq!([lr.value(19), lr.value(20), lr.value(40)], [1.0, 0.5, 0.1]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct PiecewiseConstant {
    start: f64,
    /// In order: where a piece begins, and its value.
    pieces: Vec<(u64, f64)>,
}

impl PiecewiseConstant {
    /// Multiplies `start` by each scale from its boundary on.
    ///
    /// # Errors
    /// [`ScheduleError::InvalidNumber`] when `start` or a scale is not finite or is negative.
    pub fn new(start: f64, scales: impl Into<Vec<(u64, f64)>>) -> Result<Self, ScheduleError> {
        let mut pieces = scales.into();
        pieces.sort_by_key(|&(boundary, _)| boundary);
        let mut value = number("start", start)?;
        for (_, scale) in &mut pieces {
            value = bounded(value * number("scale", *scale)?);
            *scale = value;
        }
        Self { start, pieces }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        number("start", self.start)?;
        let mut previous = 0;
        for (index, &(milestone, value)) in self.pieces.iter().enumerate() {
            if milestone < previous {
                return Err(ScheduleError::MilestoneOrder { index, previous, milestone });
            }
            number("value", value)?;
            previous = milestone;
        }
        Ok(self)
    }
}

impl Schedule for PiecewiseConstant {
    fn value(&self, step: u64) -> f64 {
        let passed = self.pieces.partition_point(|&(boundary, _)| boundary <= step);
        if passed == 0 { self.start } else { self.pieces[passed - 1].1 }
    }
}

/// Values at certain steps, with a [`Shape`] between them; after the last of them its value.
///
/// optax's `piecewise_interpolate_schedule` is this with the running products of its scales as values, its
/// `linear_onecycle_schedule(n, peak)` is
/// `Piecewise::new(peak / 25, [(0.3 n, peak), (0.85 n, peak / 25), (n, peak / 25e4)], Shape::Linear)`.
///
/// ```
/// use gradus_schedule::{Piecewise, Schedule, Shape};
/// let lr = Piecewise::new(0.0, [(10, 0.1), (30, 0.02)], Shape::Linear)?;
/// assert_eq!([lr.value(5), lr.value(10), lr.value(30), lr.value(99)], [0.05, 0.1, 0.02, 0.02]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", deny_unknown_fields)
)]
pub struct Piecewise {
    /// Position and value. Real, since the turns of a one-cycle schedule may lie between two steps.
    knots: Vec<(f64, f64)>,
    shape: Shape,
}

impl Piecewise {
    /// From `start` at step 0 through the knots `(step, value)`.
    ///
    /// # Errors
    /// [`ScheduleError`] when a value is not finite or is negative, the steps do not increase strictly from above
    /// 0, or the power of [`Shape::Power`] is not positive.
    pub fn new(
        start: f64,
        knots: impl Into<Vec<(u64, f64)>>,
        shape: Shape,
    ) -> Result<Self, ScheduleError> {
        let (mut previous, mut all) = (0, Vec::new());
        all.push((0.0, number("start", start)?));
        for (index, (step, value)) in knots.into().into_iter().enumerate() {
            if step <= previous {
                return Err(ScheduleError::MilestoneOrder { index, previous, milestone: step });
            }
            all.push((step as f64, number("value", value)?));
            previous = step;
        }
        Self::through(all, shape)
    }

    /// Knots at any positions, of which the first that is not before the step ends its segment.
    pub(crate) fn through(knots: Vec<(f64, f64)>, shape: Shape) -> Result<Self, ScheduleError> {
        Self { knots, shape }.checked()
    }

    /// Itself, if its numbers make sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        // Far beyond all steps, and the difference of two is finite.
        const FAR: f64 = 1e20;
        length("knots", self.knots.len() as u64)?;
        for &(position, value) in &self.knots {
            let near = (-FAR..=FAR).contains(&position);
            within("position", position, near, "within 1e20 steps of the first")?;
            number("value", value)?;
        }
        self.shape.checked()?;
        Ok(self)
    }
}

impl Schedule for Piecewise {
    fn value(&self, step: u64) -> f64 {
        let t = step as f64;
        let (mut begin, mut start) = self.knots[0];
        for &(end, value) in &self.knots[1..] {
            if t <= end {
                let x = if begin < end { (t - begin) / (end - begin) } else { 1.0 };
                return self.shape.between(start, value, x);
            }
            (begin, start) = (end, value);
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::check;

    #[test]
    fn matches_optax_piecewise_constant() {
        let lr = PiecewiseConstant::new(0.1, [(20, 0.1), (40, 0.5)]).unwrap();
        check(&lr, &[(0, 0.1), (19, 0.1), (20, 0.01), (39, 0.01), (40, 0.005), (60, 0.005)]);
        let lr = PiecewiseConstant::new(0.5, [(30, 2.0), (0, 0.5)]).unwrap();
        check(&lr, &[(0, 0.25), (29, 0.25), (30, 0.5)]);
        check(&PiecewiseConstant::new(0.5, []).unwrap(), &[(0, 0.5), (u64::MAX, 0.5)]);
    }

    #[test]
    fn matches_optax_piecewise_interpolate() {
        // init 0.1, scales 0.1 at 20 and 0.5 at 40
        let lr = Piecewise::new(0.1, [(20, 0.01), (40, 0.005)], Shape::Linear).unwrap();
        check(&lr, &[(1, 0.0955), (10, 0.055), (17, 0.0235), (31, 0.00725), (50, 0.005)]);
        // init 1, scales 3 at 10 and 0.01 at 50
        let lr = Piecewise::new(1.0, [(10, 3.0), (50, 0.03)], Shape::Cosine).unwrap();
        check(&lr, &[(1, 1.0489434837048464), (10, 3.0), (17, 2.781170644065827), (50, 0.03)]);
    }

    #[test]
    fn matches_optax_one_cycle() {
        // cosine_onecycle_schedule(50, 0.1)
        let knots = [(15, 0.1), (50, 4e-7)];
        let lr = Piecewise::new(0.004, knots, Shape::Cosine).unwrap();
        check(&lr, &[(0, 0.004), (1, 0.005048915164777332), (5, 0.028), (50, 4e-7), (60, 4e-7)]);
        check(&lr, &[(17, 0.09919648264401378), (40, 0.0188258346050237)]);
    }

    #[test]
    fn no_knots_are_a_constant() {
        check(&Piecewise::new(0.2, [], Shape::Cosine).unwrap(), &[(0, 0.2), (9, 0.2)]);
    }

    #[test]
    fn bad_knots_are_refused() {
        let order = |index, previous, milestone| {
            Err(ScheduleError::MilestoneOrder { index, previous, milestone })
        };
        let linear = Shape::Linear;
        assert_eq!(Piecewise::new(0.1, [(0, 0.2)], linear), order(0, 0, 0));
        assert_eq!(Piecewise::new(0.1, [(5, 0.2), (5, 0.1)], linear), order(1, 5, 5));
        assert!(Piecewise::new(0.1, [(5, f64::NAN)], linear).is_err());
        assert_eq!(
            PiecewiseConstant::new(0.1, [(5, -0.5)]),
            Err(ScheduleError::InvalidNumber { argument: "scale", value: -0.5 })
        );
    }
}
