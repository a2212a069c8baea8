//! A transform with a schedule of its own.

use gradus_core::{
    GradientTransform, Parameters, Schedule, State, StateDict, StateError, StateValue, StepError,
};

use crate::param::check_lr;

/// A transform whose rate is that of the step times its own schedule: a parameter group may warm up or cool down
/// apart from the others.
///
/// The schedule is asked for the number of steps that this transform has done; a step that failed is none. For a rate
/// that is the schedule's alone, give the whole a rate of 1.
///
/// ```
/// use gradus_core::{GradientTransform, Schedule, VecParam};
/// use gradus_optim::{Group, Groups, Scheduled, Sgd, SgdConfig};
///
/// struct Freeze(u64);
/// impl Schedule for Freeze {
///     fn value(&self, step: u64) -> f64 {
///         if step < self.0 { 0.0 } else { 1.0 }
///     }
/// }
///
/// let sgd = || Sgd::new(SgdConfig::new());
/// let mut rule = Groups::new()
///     .then(Group::new(|name, _, _| name.starts_with("backbone."), Scheduled::new(Freeze(1), sgd()?)))
///     .otherwise(sgd()?);
/// let param = |name: &str| VecParam::new(name, &[1], vec![1.0f32]).with_grad(vec![1.0]);
/// let mut params = vec![param("backbone.w"), param("head.w")];
/// rule.step(0.25, &mut params)?;
/// assert_eq!((params[0].value[0], params[1].value[0]), (1.0, 0.75));
/// rule.step(0.25, &mut params)?;
/// assert_eq!((params[0].value[0], params[1].value[0]), (0.75, 0.5));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scheduled<S, T> {
    schedule: S,
    transform: T,
    step: u64,
}

impl<S: Schedule, T: GradientTransform> Scheduled<S, T> {
    /// `transform` at the rate times `schedule`.
    pub fn new(schedule: S, transform: T) -> Self {
        Self { schedule, transform, step: 0 }
    }
}

impl<S, T: State> State for Scheduled<S, T> {
    /// `step`, and the transform's state under `transform`.
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("step", StateValue::U64(self.step));
        state.insert_all("transform", self.transform.save_state());
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let step = state.u64("step")?;
        if let Some((name, _)) =
            state.iter().find(|(n, _)| *n != "step" && !n.starts_with("transform."))
        {
            let expected = "`step` or an entry under `transform`";
            return Err(StateError::Invalid { name: name.into(), expected });
        }
        self.transform.load_state(&state.sub("transform"))?;
        self.step = step;
        Ok(())
    }
}

impl<S: Schedule, T: GradientTransform> GradientTransform for Scheduled<S, T> {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        check_lr(lr)?;
        self.transform.step(lr * self.schedule.value(self.step), params)?;
        self.step += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::VecParam;

    use super::*;
    use crate::{Sgd, SgdConfig};

    struct Line;
    impl Schedule for Line {
        fn value(&self, step: u64) -> f64 {
            step as f64
        }
    }

    fn rule() -> Scheduled<Line, Sgd> {
        Scheduled::new(Line, Sgd::new(SgdConfig::new().with_momentum(0.5)).unwrap())
    }

    #[test]
    fn the_step_is_saved_and_counts_only_what_was_done() {
        let mut params = vec![VecParam::new("w", &[1], vec![0.0f64]).with_grad(vec![1.0])];
        let (mut whole, mut other) = (rule(), params.clone());
        for _ in 0..3 {
            whole.step(1.0, &mut params).unwrap();
            assert!(whole.step(f64::NAN, &mut params).is_err());
        }
        assert_eq!(params[0].value, [-(1.5 + 2.0 * 1.75)]);
        let mut first = rule();
        first.step(1.0, &mut other).unwrap();
        let mut second = rule();
        second.load_state(&first.save_state()).unwrap();
        second.step(1.0, &mut other).unwrap();
        second.step(1.0, &mut other).unwrap();
        assert_eq!(params, other);
        assert_eq!(second.save_state(), whole.save_state());
        let mut bad = whole.save_state();
        bad.insert("w.step", StateValue::U64(1));
        assert!(matches!(second.load_state(&bad), Err(StateError::Invalid { .. })));
        assert_eq!(second.save_state(), whole.save_state());
    }
}
