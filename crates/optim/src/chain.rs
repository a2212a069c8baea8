//! Several transforms as one.

use alloc::{boxed::Box, string::ToString, vec::Vec};
use core::{any::type_name, fmt};

use gradus_core::{
    GradientTransform, Parameters, State, StateDict, StateError, StepError, require_gradients,
};

use crate::param::check_lr;

pub(crate) type Boxed = Box<dyn GradientTransform + Send + Sync>;

/// Transforms that run one after the other on the same walk.
///
/// The order matters: what changes gradients stands before what uses them. All stages get the same
/// learning rate. A bad rate or a missing gradient is found before the first stage. An empty chain does nothing.
///
/// Every optimizer whose numbers can be made in stages has its chain, `chain()` of its configuration: the same
/// numbers in more passes over memory, to be taken apart.
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{AdamConfig, AddNoise, Chain};
///
/// let mut rule: Chain = AdamConfig::adamw().chain()?.insert(0, AddNoise::new(0.01, 0.55, 42)?);
/// assert_eq!(format!("{rule:?}"), "Chain[AddNoise, ScaleByAdam, ApplyUpdates]");
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![1.0])];
/// rule.step(0.25, &mut params)?;
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Chain {
    stages: Vec<Boxed>,
    /// Of the stages' types, for reading.
    names: Vec<&'static str>,
}

impl Chain {
    /// An empty chain.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same chain with one more stage at its end.
    #[must_use]
    pub fn then(self, stage: impl GradientTransform + Send + Sync + 'static) -> Self {
        let end = self.len();
        self.insert(end, stage)
    }

    /// The same chain with one more stage, which will be at position `at`.
    ///
    /// # Panics
    /// When the chain has fewer than `at` stages.
    #[must_use]
    #[track_caller]
    pub fn insert<T: GradientTransform + Send + Sync + 'static>(
        mut self,
        at: usize,
        stage: T,
    ) -> Self {
        let len = self.len();
        assert!(at <= len, "Chain::insert: position {at} in a chain of {len} stages");
        self.stages.insert(at, Box::new(stage));
        self.names.insert(at, type_name::<T>());
        self
    }

    /// The same chain without the stage at position `at`.
    ///
    /// # Panics
    /// When there is no such stage.
    #[must_use]
    #[track_caller]
    pub fn without(mut self, at: usize) -> Self {
        let len = self.len();
        assert!(at < len, "Chain::without: position {at} in a chain of {len} stages");
        self.stages.remove(at);
        self.names.remove(at);
        self
    }

    /// Number of stages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stages.len()
    }

    /// Whether there is no stage.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }
}

impl fmt::Debug for Chain {
    /// The names of the stages' types, in order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain[")?;
        for (i, name) in self.names.iter().enumerate() {
            let name = name.split('<').next().and_then(|n| n.rsplit("::").next()).unwrap_or(name);
            write!(f, "{}{name}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

/// The state of each of several transforms under its position: `0.NAME`, `1.NAME`, ...
pub(crate) fn save_each<T: State>(parts: &[T]) -> StateDict {
    let mut state = StateDict::new();
    for (i, part) in parts.iter().enumerate() {
        state.insert_all(&i.to_string(), part.save_state());
    }
    state
}

/// Reads what [`save_each`] wrote; changes nothing on an error.
pub(crate) fn load_each<T: State>(parts: &mut [T], state: &StateDict) -> Result<(), StateError> {
    for (name, _) in state.iter() {
        let part = name.split_once('.').and_then(|(i, _)| i.parse::<usize>().ok());
        if part.is_none_or(|i| i >= parts.len()) {
            let expected = "the position of a stage or group in front";
            return Err(StateError::Invalid { name: name.into(), expected });
        }
    }
    let before = save_each(parts);
    for i in 0..parts.len() {
        if let Err(e) = parts[i].load_state(&state.sub(&i.to_string())) {
            for (j, part) in parts[..i].iter_mut().enumerate() {
                part.load_state(&before.sub(&j.to_string()))?;
            }
            return Err(e);
        }
    }
    Ok(())
}

impl State for Chain {
    /// Each stage's state under its position: `0.NAME`, `1.NAME`, ...
    fn save_state(&self) -> StateDict {
        save_each(&self.stages)
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        load_each(&mut self.stages, state)
    }
}

impl GradientTransform for Chain {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        check_lr(lr)?;
        require_gradients(params)?;
        self.stages.iter_mut().try_for_each(|stage| stage.step(lr, params))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{StateValue, VecParam};

    use super::*;
    use crate::{Adam, AdamConfig, Sgd, SgdConfig};

    fn momentum() -> Sgd {
        Sgd::new(SgdConfig::new().with_momentum(0.9)).unwrap()
    }

    #[test]
    fn a_failed_load_leaves_every_stage_as_it_was() {
        let mut params = vec![VecParam::new("a", &[1], vec![1.0f32]).with_grad(vec![1.0])];
        let mut chain = Chain::new().then(momentum()).then(Adam::new(AdamConfig::adam()).unwrap());
        let mut bad = StateDict::new();
        chain.step(0.1, &mut params).unwrap();
        let good = chain.save_state();
        bad.insert_all("0", good.sub("0"));
        bad.insert("0.a.step", StateValue::U64(7));
        bad.insert("1.a.step", StateValue::U64(7));
        assert_eq!(chain.load_state(&bad), Err(StateError::Missing { name: "a.exp_avg".into() }));
        assert_eq!(chain.save_state(), good);
        let mut foreign = good.clone();
        foreign.insert("2.a.step", StateValue::U64(1));
        assert!(matches!(chain.load_state(&foreign), Err(StateError::Invalid { .. })));
    }

    #[test]
    fn stages_see_what_the_ones_before_them_did() {
        let mut params = vec![VecParam::new("a", &[1], vec![1.0f32]).with_grad(vec![1.0])];
        let plain = || Sgd::new(SgdConfig::new()).unwrap();
        Chain::new().then(plain()).then(plain()).step(0.25, &mut params).unwrap();
        assert_eq!(params[0].value, [0.5]);
    }

    #[test]
    fn stages_can_be_taken_out_and_put_in() {
        let chain = SgdConfig::new().with_momentum(0.9).chain().unwrap();
        assert_eq!(alloc::format!("{chain:?}"), "Chain[Trace, ApplyUpdates]");
        let chain = chain.without(0).insert(0, Chain::new());
        assert_eq!(alloc::format!("{chain:?}"), "Chain[Chain, ApplyUpdates]");
        assert_eq!(chain.len(), 2);
    }

    #[test]
    #[should_panic(expected = "position 1 in a chain of 0 stages")]
    fn a_position_beyond_the_end_panics() {
        let _ = Chain::new().insert(1, Chain::new());
    }
}
