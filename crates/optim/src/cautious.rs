//! Updates only where they agree with the gradient.

use alloc::vec::Vec;

use gradus_core::{
    FloatElement, GradientTransform, ParamMut, Parameters, State, StateDict, StateError, StepError,
    require_gradients, with_slice,
};

use crate::param::{Value, check_lr};

/// Drops the elements of an update that point against the gradient, and scales the rest up to make good for it:
/// `u = u m / max(mean(m), 1e-3)` with `m = 1` where `u g > 0`, otherwise 0, and the mean over the parameter.
///
/// It wraps the stages that make the update of the gradient, without those that add a decay or move the values. One
/// byte an element is kept during a step, nothing between steps but the state of the stages.
///
/// # References
/// Liang, Chen, Liu, Liu: Cautious optimizers: improving training with one line of code (2024), arXiv:2411.16085; the
/// bound of the mean is that of its authors' code.
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{ApplyUpdates, Cautious, Chain, SgdConfig, Trace};
///
/// let momentum = Trace::new(SgdConfig::new().with_momentum(0.5))?;
/// let mut rule = Chain::new().then(Cautious::new(momentum)).then(ApplyUpdates::new());
/// let mut params = vec![VecParam::new("w", &[2], vec![0.0f32; 2]).with_grad(vec![4.0, 4.0])];
/// rule.step(1.0, &mut params)?;
/// params[0].grad = Some(vec![-1.0, 4.0]);
/// rule.step(1.0, &mut params)?;
/// // The momentum of the first element, 1, points up while its gradient points down: it waits.
/// assert_eq!(params[0].value, [-4.0, -4.0 - 2.0 * 6.0]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cautious<T> {
    stages: T,
}

impl<T: GradientTransform> Cautious<T> {
    /// The updates that `stages` make, with caution.
    pub fn new(stages: T) -> Self {
        Self { stages }
    }
}

impl<T: State> State for Cautious<T> {
    /// That of the stages.
    fn save_state(&self) -> StateDict {
        self.stages.save_state()
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        self.stages.load_state(state)
    }
}

impl<T: GradientTransform> GradientTransform for Cautious<T> {
    fn step(&mut self, lr: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        check_lr(lr)?;
        require_gradients(params)?;
        let mut signs = Vec::new();
        params.visit(&mut |ParamMut { grad, .. }| {
            if let Some(grad) = grad {
                with_slice!(grad, g => signs.extend(g.iter().map(|&g| sign(g))));
            }
        });
        self.stages.step(lr, params)?;
        let mut signs = signs.as_slice();
        params.visit(&mut |ParamMut { grad, .. }| {
            if let Some(grad) = grad {
                let (own, rest) = signs.split_at(grad.len());
                signs = rest;
                with_slice!(grad, u => mask(u, own));
            }
        });
        Ok(())
    }
}

/// 1, -1, or 0, which agrees with nothing.
fn sign<T: FloatElement>(x: T) -> i8 {
    i8::from(x > T::zero()) - i8::from(x < T::zero())
}

fn mask<T: Value>(update: &mut [T], signs: &[i8]) {
    let agrees = |u: T, s: i8| sign(u) * s > 0;
    let count = update.iter().zip(signs).filter(|&(&u, &s)| agrees(u, s)).count();
    let scale = T::Work::from_f64(1.0 / (count as f64 / update.len() as f64).max(1e-3));
    let zero = T::Work::from_f64(0.0);
    for (u, &s) in update.iter_mut().zip(signs) {
        // A product, so that a NaN comes through.
        *u = T::store(u.load() * if agrees(*u, s) { scale } else { zero });
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::VecParam;

    use super::*;
    use crate::{Chain, Scale};

    #[test]
    fn what_disagrees_everywhere_stands_still_and_what_agrees_is_not_changed() {
        let grad = vec![1.0f32, -2.0, 0.0, f32::NAN];
        let run = |factor| {
            let mut params = vec![VecParam::new("w", &[4], vec![0.0; 4]).with_grad(grad.clone())];
            let mut rule = Cautious::new(Chain::new().then(Scale::new(factor).unwrap()));
            rule.step(0.1, &mut params).unwrap();
            params[0].grad.take().unwrap()
        };
        let agreed = run(3.0);
        assert_eq!(agreed[..3], [6.0, -12.0, 0.0]); // half of the elements agree
        assert!(agreed[3].is_nan());
        assert_eq!(run(-1.0)[..3], [0.0; 3]);
    }
}
