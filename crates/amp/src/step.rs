//! The order of an iteration, kept by types: unscale, check, clip, step.
//!
//! Each stage consumes the one before. Scaled gradients go in and cannot be got back before they are divided and
//! checked; what comes out lends them to a clip, as often as wanted, and once to a step.

use alloc::string::String;
use core::fmt;

use gradus_core::Parameters;

use crate::{
    AmpError, LossScaler, ScaleUpdate,
    unscale::{Found, unscale},
};

/// One iteration with a [`LossScaler`]; several optimizers may take part, each skips by its own gradients. The scale
/// moves at the [end](Self::end), and backs off if any of them had to skip.
///
/// ```
/// use gradus_amp::{AmpError, LossScaler};
/// use gradus_core::VecParam;
///
/// let mut scaler = LossScaler::dynamic();
/// let mut iteration = scaler.begin();
/// let gradients = |g: f32| vec![VecParam::new("w", &[1], vec![0.0f32]).with_grad(vec![g * 65536.0])];
/// let (mut generator, mut critic) = (gradients(0.5), gradients(f32::NAN));
/// let mut finite = iteration.unscale(&mut generator)?.check().expect("0.5 is finite");
/// finite.clip(|params| params.visit(&mut |p| assert_eq!(p.grad.unwrap().len(), 1)));
/// finite.step(|params| { /* optimizer.step(lr, params) */ });
/// let skipped = iteration.unscale(&mut critic)?.check().unwrap_err();
/// assert_eq!((skipped.count, skipped.name.as_str()), (1, "w"));
/// assert_eq!(iteration.end()?.after, 32768.0);
/// # Ok::<(), AmpError>(())
/// ```
#[derive(Debug)]
#[must_use = "the scale moves at its end"]
pub struct Iteration<'s> {
    scaler: &'s mut LossScaler,
    looked: bool,
    found: bool,
}

impl<'s> Iteration<'s> {
    pub(crate) fn new(scaler: &'s mut LossScaler) -> Self {
        Self { scaler, looked: false, found: false }
    }

    /// What to multiply the loss by.
    #[must_use]
    pub fn scale(&self) -> f32 {
        self.scaler.scale()
    }

    /// Divides gradients by the scale and looks for such that are NaN or infinite. After accumulation that is once,
    /// when all of it is done.
    ///
    /// # Errors
    /// [`AmpError::HalfGradient`] for a gradient in f16; nothing has changed then.
    pub fn unscale<P: Parameters>(&mut self, mut scaled: P) -> Result<Unscaled<P>, AmpError> {
        let found = match self.scaler.is_enabled() {
            true => unscale(&mut scaled, self.scale())?,
            false => Found::default(),
        };
        self.looked = true;
        self.found |= found.count > 0;
        Ok(Unscaled { params: scaled, found })
    }

    /// Moves the scale.
    ///
    /// # Errors
    /// [`AmpError::NothingUnscaled`] when no gradient was looked at: then nothing says how the scale should move.
    pub fn end(self) -> Result<ScaleUpdate, AmpError> {
        if self.looked {
            Ok(self.scaler.update(self.found))
        } else {
            Err(AmpError::NothingUnscaled)
        }
    }
}

/// Gradients that were divided by the scale and not checked yet.
#[derive(Debug)]
#[must_use = "a step that is due is not done"]
pub struct Unscaled<P> {
    params: P,
    found: Found,
}

impl<P: Parameters> Unscaled<P> {
    /// The gradients, if all of them are finite.
    ///
    /// # Errors
    /// [`Skipped`] if one is not: the step has to be left out, and a learning rate's schedule does not advance.
    pub fn check(self) -> Result<Finite<P>, Skipped> {
        match self.found {
            Found { count: 0, .. } => Ok(Finite { params: self.params }),
            Found { count, name } => Err(Skipped { count, name: name.unwrap_or_default() }),
        }
    }
}

/// True gradients, all of them finite: to be clipped, then used for a step.
#[derive(Debug)]
#[must_use = "a step that is due is not done"]
pub struct Finite<P> {
    params: P,
}

impl<P: Parameters> Finite<P> {
    /// Lends them to what changes or measures gradients: a clip, a penalty, a meter.
    pub fn clip<R>(&mut self, clip: impl FnOnce(&mut dyn Parameters) -> R) -> R {
        clip(&mut self.params)
    }

    /// Lends them to the optimizer, once.
    pub fn step<R>(mut self, step: impl FnOnce(&mut dyn Parameters) -> R) -> R {
        step(&mut self.params)
    }
}

/// Why a step has to be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Elements of the gradients that are NaN or infinite.
    pub count: usize,
    /// The first parameter that has one.
    pub name: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, name } = self;
        write!(
            f,
            "step skipped: {count} gradients are NaN or infinite, the first in parameter {name}"
        )
    }
}

impl core::error::Error for Skipped {}

/// What became of an iteration.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "after a skipped step a schedule does not advance"]
pub enum Outcome<R> {
    /// The step was done.
    Stepped {
        /// What the update returned.
        result: R,
        /// What became of the scale.
        scale: ScaleUpdate,
    },
    /// It was left out: parameters, the optimizer's state and the schedule stay where they are.
    Skipped {
        /// Why.
        skipped: Skipped,
        /// What became of the scale.
        scale: ScaleUpdate,
    },
}

impl<R> Outcome<R> {
    /// Whether the step was done.
    #[must_use]
    pub fn stepped(&self) -> bool {
        matches!(self, Self::Stepped { .. })
    }

    /// What became of the scale.
    #[must_use]
    pub fn scale(&self) -> ScaleUpdate {
        match self {
            Self::Stepped { scale, .. } | Self::Skipped { scale, .. } => *scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{VecParam, f16};

    use super::*;
    use crate::DynamicScale;

    fn params(grad: f32) -> Vec<VecParam> {
        vec![VecParam::new("w", &[1], vec![1.0]).with_grad(vec![grad])]
    }

    #[test]
    fn without_a_scale_every_step_is_done() {
        let mut scaler = LossScaler::none();
        let outcome = scaler.step(&mut params(f32::NAN), |finite| {
            finite.step(|_| ());
            Ok::<_, AmpError>(7)
        });
        let scale = ScaleUpdate { before: 1.0, after: 1.0, at_floor: false };
        assert_eq!(outcome, Ok(Outcome::Stepped { result: 7, scale }));
        assert_eq!((scaler.growth_tracker(), scaler.skipped()), (None, 0));
    }

    #[test]
    fn a_constant_scale_skips_and_stays() {
        let mut scaler = LossScaler::constant(8.0).unwrap();
        let mut update = |grad| {
            let mut params = params(grad);
            let outcome = scaler.step(&mut params, |mut finite| {
                finite.clip(|params| {
                    params.visit(&mut |p| assert!(matches!(p.grad, Some(g) if g.len() == 1)));
                });
                finite.step(|_| Ok::<_, AmpError>(()))
            });
            (outcome.unwrap(), params[0].grad.clone().unwrap()[0])
        };
        let (outcome, grad) = update(4.0);
        assert!(outcome.stepped() && grad == 0.5);
        let (outcome, _) = update(f32::INFINITY);
        assert_eq!((outcome.stepped(), outcome.scale().after), (false, 8.0));
        assert_eq!(scaler.skipped(), 1);
    }

    #[test]
    fn an_error_leaves_the_scale_alone() {
        let config = DynamicScale::default().with_growth_interval(1);
        let mut scaler = LossScaler::with_config(config).unwrap();
        let before = scaler.clone();
        let failed = scaler.step(&mut params(1.0), |_| Err::<(), _>(AmpError::NothingUnscaled));
        assert_eq!(failed, Err(AmpError::NothingUnscaled));
        assert_eq!(scaler.begin().end(), Err(AmpError::NothingUnscaled));
        let half = vec![f16::from_f32(1.0)];
        let mut half = vec![VecParam::new("h", &[1], half.clone()).with_grad(half)];
        let failed = scaler.step(&mut half, |_| Ok::<_, AmpError>(()));
        assert_eq!(failed, Err(AmpError::HalfGradient { name: "h".into() }));
        assert_eq!(scaler, before);
    }
}
