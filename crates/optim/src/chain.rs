//! Several transforms as one.

use alloc::{boxed::Box, string::ToString, vec::Vec};
use core::fmt;

use gradus_core::{GradientTransform, Parameters, State, StateDict, StateError, StepError};

/// Transforms that run one after the other on the same walk.
///
/// The order matters: what changes gradients stands before what uses them. All stages get the same
/// learning rate. An empty chain does nothing.
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{Chain, Group, Sgd, SgdConfig};
///
/// let mut rule = Chain::new()
///     .then(Group::new(|_, shape, _| shape.len() >= 2, Sgd::new(SgdConfig::new())?))
///     .then(Group::new(|_, shape, _| shape.len() < 2, Sgd::new(SgdConfig::new())?).with_lr_scale(2.0));
/// let param = |name, shape: &[usize]| VecParam::new(name, shape, vec![1.0f32]).with_grad(vec![1.0]);
/// let mut params = vec![param("weight", &[1, 1]), param("bias", &[1])];
/// rule.step(0.25, &mut params)?;
/// assert_eq!((params[0].value[0], params[1].value[0]), (0.75, 0.5));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Chain {
    stages: Vec<Box<dyn GradientTransform + Send + Sync>>,
}

impl Chain {
    /// An empty chain.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same chain with one more stage at its end.
    #[must_use]
    pub fn then(mut self, stage: impl GradientTransform + Send + Sync + 'static) -> Self {
        self.stages.push(Box::new(stage));
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("stages", &self.stages.len()).finish()
    }
}

impl State for Chain {
    /// Each stage's state under its position: `0.NAME`, `1.NAME`, ...
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        for (i, stage) in self.stages.iter().enumerate() {
            state.insert_all(&i.to_string(), stage.save_state());
        }
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        for (name, _) in state.iter() {
            let stage = name.split_once('.').and_then(|(i, _)| i.parse::<usize>().ok());
            if stage.is_none_or(|i| i >= self.stages.len()) {
                let expected = "the position of a stage of this chain in front";
                return Err(StateError::Invalid { name: name.into(), expected });
            }
        }
        let before = self.save_state();
        for i in 0..self.stages.len() {
            let prefix = i.to_string();
            if let Err(e) = self.stages[i].load_state(&state.sub(&prefix)) {
                for (j, stage) in self.stages[..i].iter_mut().enumerate() {
                    stage.load_state(&before.sub(&j.to_string()))?;
                }
                return Err(e);
            }
        }
        Ok(())
    }
}

impl GradientTransform for Chain {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
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
}
