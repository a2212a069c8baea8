//! Sharpness-aware minimization: the gradient at the worst point nearby, applied where the parameters are.

use alloc::string::String;
use core::{
    fmt,
    ops::{Deref, DerefMut},
};

use gradus_core::{
    FloatElement, GradientTransform, ParamMut, Parameters, StepError, require_gradients,
};
use num_traits::Float;

use crate::{
    AverageError, OptimError,
    backup::Backup,
    config::config,
    error::non_negative,
    lanes::sum2,
    param::{Value, check, try_visit, with_pair},
    pieces::in_pieces,
};

config! {
    /// Hyper-parameters of [`Sam`].
    pub struct SamConfig;
    /// The values of the paper.
    pub fn new {
        /// How far away the worst point is looked for; 0.05, as in the paper for CIFAR-10 and ImageNet (0.1 for
        /// CIFAR-100). Adaptive ones are some ten times larger (0.5 to 2).
        rho: f64 = 0.05, with_rho;
        /// Whether distances are measured relative to the size of each weight (ASAM), which makes the sharpness
        /// independent of a rescaling of the weights; false.
        adaptive: bool = false, with_adaptive;
        /// Added to the size of each weight, if adaptive; 0 (the authors of ASAM take 0.01).
        eta: f64 = 0.0, with_eta;
        /// Added to the norm in the denominator; 1e-12.
        eps: f64 = 1e-12, with_eps;
    }
}

/// Sharpness-aware minimization: two gradients a step, the second one taken at the worst point within `rho`.
///
/// With gradients `g` of parameters `w`, and `s` = 1, or if adaptive `abs(w) + eta` by element:
///
/// ```text
/// n = norm(s g)                 over all parameters
/// w = w + rho s^2 g / (n + eps)
/// the gradient there, w back, a step of any optimizer with that gradient
/// ```
///
/// [`perturbed`](Self::perturbed) lends the parameters out at the worst point and brings them back, to the bit, when
/// the guard is dropped; until then nothing else can step them. Where parameters cannot be borrowed for that long
/// (a forward pass needs the model), [`perturb`](Self::perturb) and [`step`](Self::step), or
/// [`restore`](Self::restore) by itself, do the same in two calls, and a wrong order of them is an error. Norms and
/// moves are computed in f64.
///
/// A gradient of norm 0 moves nothing. One that is NaN or infinite is an error, and nothing has moved. There is
/// no state between steps; the second gradient is clipped, averaged or stepped with as any other.
///
/// # References
/// Foret, Kleiner, Mobahi, Neyshabur: Sharpness-aware minimization for efficiently improving generalization (2020,
/// arXiv:2010.01412). Kwon, Kim, Park, Choi: ASAM: adaptive sharpness-aware minimization for scale-invariant
/// learning of deep neural networks (2021, arXiv:2102.11600).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{Sam, SamConfig, Sgd, SgdConfig};
///
/// // loss w^2, gradient 2 w
/// let gradient = |params: &mut [VecParam]| params[0].grad = Some(vec![2.0 * params[0].value[0]]);
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f32])];
/// let mut sam = Sam::new(SamConfig::new().with_rho(0.5))?;
/// let mut sgd = Sgd::new(SgdConfig::new())?;
///
/// gradient(&mut params);
/// {
///     let mut worst = sam.perturbed(&mut params)?;
///     assert_eq!(worst[0].value, [1.5]);
///     gradient(&mut worst);
/// }
/// assert_eq!(params[0].value, [1.0]);
/// sgd.step(0.25, &mut params)?;
/// assert_eq!(params[0].value, [0.25]); // 1 - 0.25 * 3
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sam {
    config: SamConfig,
    before: Backup,
    is_perturbed: bool,
}

impl Sam {
    /// Parameters are where they are.
    ///
    /// # Errors
    /// [`OptimError`] for a hyper-parameter that is negative or not finite.
    pub fn new(config: SamConfig) -> Result<Self, OptimError> {
        non_negative("rho", config.rho)?;
        non_negative("eta", config.eta)?;
        non_negative("eps", config.eps)?;
        Ok(Self { config, before: Backup::default(), is_perturbed: false })
    }

    /// The hyper-parameters.
    #[must_use]
    pub fn config(&self) -> &SamConfig {
        &self.config
    }

    /// Whether the parameters are to be restored.
    #[must_use]
    pub fn is_perturbed(&self) -> bool {
        self.is_perturbed
    }

    /// Moves the parameters to the worst point until the guard that this returns is dropped, also by a panic.
    ///
    /// # Errors
    /// As [`perturb`](Self::perturb).
    pub fn perturbed<'a, P: Parameters + ?Sized>(
        &'a mut self,
        params: &'a mut P,
    ) -> Result<Perturbed<'a, P>, SamError> {
        let norm = self.perturb(&mut &mut *params)?;
        Ok(Perturbed { sam: self, params, norm })
    }

    /// Moves the parameters to the worst point; returns the norm of `s g`, which without `adaptive` is that of the
    /// gradients.
    ///
    /// # Errors
    /// [`SamError::NotRestored`] when the parameters are there already. [`SamError::Step`] where a gradient is missing
    /// ([`PresentGradients`](gradus_core::PresentGradients) hides such parameters), NaN or infinite, or does not fit
    /// its parameter. Nothing has changed then.
    pub fn perturb(&mut self, params: &mut dyn Parameters) -> Result<f64, SamError> {
        if self.is_perturbed {
            return Err(SamError::NotRestored);
        }
        let config = self.config;
        let norm = config.norm(params).map_err(SamError::Step)?;
        let scale = config.rho / (norm + config.eps);
        self.before.clear();
        let before = &mut self.before;
        params.visit(&mut |param| {
            let (Some(value), Some(grad)) = (param.value, param.grad) else { return };
            before.save(param.name, &value);
            // Where eps and norm are 0 there is no scale.
            if scale.is_finite() {
                with_pair!((value, grad), p, g => config.ascend(scale, p, g));
            }
        });
        self.is_perturbed = true;
        Ok(norm)
    }

    /// Puts the parameters back to the bit; gradients are left alone.
    ///
    /// # Errors
    /// [`SamError::NotPerturbed`] without a perturbation before. [`SamError::Parameters`], naming it, where a
    /// parameter that was moved is not in the walk or has another length or type; nothing has changed then.
    pub fn restore(&mut self, params: &mut dyn Parameters) -> Result<(), SamError> {
        if !self.is_perturbed {
            return Err(SamError::NotPerturbed);
        }
        self.before.check(params).map_err(SamError::Parameters)?;
        self.before.write(params);
        self.is_perturbed = false;
        Ok(())
    }

    /// Puts the parameters back and does a step of an optimizer with the gradients that were taken at the worst
    /// point.
    ///
    /// # Errors
    /// As [`restore`](Self::restore); [`SamError::Step`] when the optimizer refuses, and the parameters are restored
    /// then.
    pub fn step(
        &mut self,
        optimizer: &mut dyn GradientTransform,
        lr: f64,
        params: &mut dyn Parameters,
    ) -> Result<(), SamError> {
        self.restore(params)?;
        optimizer.step(lr, params).map_err(SamError::Step)
    }
}

impl SamConfig {
    /// The norm of `s g` over all parameters.
    fn norm(&self, params: &mut dyn Parameters) -> Result<f64, StepError> {
        require_gradients(params)?;
        let mut total = 0.0f64;
        let mut first_bad: Option<String> = None;
        let mut count = 0;
        try_visit(params, |param| {
            check(&param, true)?;
            let (Some(value), Some(grad)) = (param.value, param.grad) else { return Ok(()) };
            let pair = (value, grad);
            total += with_pair!(&pair, p, g => self.sum_of_squares(p, g));
            if !total.is_finite() {
                count += with_pair!(&pair, p, g => self.count_non_finite(p, g));
                first_bad.get_or_insert_with(|| param.name.into());
            }
            Ok(())
        })?;
        match first_bad {
            None => Ok(Float::sqrt(total)),
            Some(name) => Err(StepError::NonFiniteGradient { name, count }),
        }
    }

    /// The size `s` of a weight.
    #[inline(always)]
    fn size(&self, p: f64) -> f64 {
        if self.adaptive { Float::abs(p) + self.eta } else { 1.0 }
    }

    /// One element of `s g`, in f64.
    #[inline(always)]
    fn scaled<T: Value>(&self, p: T, g: T) -> f64 {
        self.size(FloatElement::to_f64(p)) * FloatElement::to_f64(g)
    }

    fn sum_of_squares<T: Value>(&self, p: &[T], g: &[T]) -> f64 {
        sum2(p, g, |p, g| {
            let x = self.scaled(p, g);
            x * x
        })
    }

    fn count_non_finite<T: Value>(&self, p: &[T], g: &[T]) -> usize {
        p.iter().zip(g).filter(|&(&p, &g)| !self.scaled(p, g).is_finite()).count()
    }

    fn ascend<T: Value>(&self, scale: f64, p: &mut [T], g: &[T]) {
        // In f64 until the sum: small gradients have scales that are out of the range of f32.
        in_pieces((p, g), |(p, g): (&mut [T], &[T])| {
            for (p, &g) in p.iter_mut().zip(g) {
                let step = self.size(FloatElement::to_f64(*p)) * self.scaled(*p, g) * scale;
                *p = T::store(p.load() + T::Work::from_f64(step));
            }
        });
    }
}

/// Parameters at the worst point until this is dropped, from [`Sam::perturbed`].
///
/// It can be used as the parameters themselves; the gradients that are written into it stay.
#[derive(Debug)]
#[must_use = "the parameters go back as soon as this is dropped"]
pub struct Perturbed<'a, P: Parameters + ?Sized> {
    sam: &'a mut Sam,
    params: &'a mut P,
    norm: f64,
}

impl<P: Parameters + ?Sized> Perturbed<'_, P> {
    /// What [`Sam::perturb`] returns.
    #[must_use]
    pub fn norm(&self) -> f64 {
        self.norm
    }
}

impl<P: Parameters + ?Sized> Drop for Perturbed<'_, P> {
    fn drop(&mut self) {
        self.sam.before.write(&mut self.params);
        self.sam.is_perturbed = false;
    }
}

impl<P: Parameters + ?Sized> Deref for Perturbed<'_, P> {
    type Target = P;
    fn deref(&self) -> &P {
        self.params
    }
}

impl<P: Parameters + ?Sized> DerefMut for Perturbed<'_, P> {
    fn deref_mut(&mut self) -> &mut P {
        self.params
    }
}

impl<P: Parameters + ?Sized> Parameters for Perturbed<'_, P> {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.params.visit(f);
    }
}

/// Why parameters could not be perturbed or restored. Nothing has changed then.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SamError {
    /// The parameters are perturbed already: [`restore`](Sam::restore) them first.
    NotRestored,
    /// The parameters are not perturbed.
    NotPerturbed,
    /// A gradient is missing, NaN or infinite or does not fit its parameter, or the optimizer refused the step.
    Step(StepError),
    /// A parameter is not what it was when it was perturbed.
    Parameters(AverageError),
}

impl fmt::Display for SamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRestored => f.write_str("the parameters were perturbed and not restored"),
            Self::NotPerturbed => f.write_str("there is no perturbation to restore from"),
            Self::Step(e) => e.fmt(f),
            Self::Parameters(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for SamError {}
