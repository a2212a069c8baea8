//! Sharpness-aware minimization: the gradient at the worst point nearby, applied where the parameters are.

use alloc::string::String;
use core::{
    fmt,
    ops::{Deref, DerefMut},
};

use gradus_core::{FloatElement, ParamMut, Parameters, StepError};
use num_traits::Float;

use crate::{
    AverageError, OptimError,
    backup::Backup,
    error::non_negative,
    param::{Value, try_visit, value_and_grad, with_pair},
    rule::setters,
};

/// Hyper-parameters of [`Sam`].
///
/// | field | default |
/// |---|---|
/// | `rho` | 0.05 |
/// | `adaptive` | false |
/// | `eta` | 0 |
/// | `eps` | 1e-12 |
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SamConfig {
    /// How far away the worst point is looked for. The paper takes 0.05 for CIFAR-10 and ImageNet, 0.1 for
    /// CIFAR-100; adaptive ones are some ten times larger (0.5 to 2).
    pub rho: f64,
    /// Whether distances are measured relative to the size of each weight (ASAM), which makes the sharpness
    /// independent of a rescaling of the weights.
    pub adaptive: bool,
    /// Added to the size of each weight, if adaptive; its authors take 0.01.
    pub eta: f64,
    /// Added to the norm in the denominator.
    pub eps: f64,
}

impl SamConfig {
    /// The values of the paper.
    #[must_use]
    pub fn new() -> Self {
        Self { rho: 0.05, adaptive: false, eta: 0.0, eps: 1e-12 }
    }

    /// The size of a weight.
    #[inline(always)]
    fn size(&self, p: f64) -> f64 {
        if self.adaptive { Float::abs(p) + self.eta } else { 1.0 }
    }
}

impl Default for SamConfig {
    fn default() -> Self {
        Self::new()
    }
}

setters!(SamConfig {
    with_rho => rho: f64,
    with_adaptive => adaptive: bool,
    with_eta => eta: f64,
    with_eps => eps: f64,
});

/// Sharpness-aware minimization: two gradients a step, the second one taken at the worst point within `rho`.
///
/// With gradients `g` of parameters `w`, and `s` = 1, or if adaptive `abs(w) + eta` by element:
///
/// ```text
/// n = norm(s g)                 over all parameters that have a gradient
/// w = w + rho s^2 g / (n + eps)
/// the gradient there, w back, a step of any optimizer with that gradient
/// ```
///
/// [`perturbed`](Self::perturbed) lends the parameters out at the worst point and brings them back, to the bit, when
/// the guard is dropped; until then nothing else can step them. Where parameters cannot be borrowed for that long,
/// [`perturb`](Self::perturb) and [`restore`](Self::restore) do the same in two calls, and a wrong order of them is
/// an error. Norms and moves are
/// computed in f64.
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

    /// Moves the parameters that have a gradient to the worst point; returns the norm of `s g`, which without
    /// `adaptive` is that of the gradients.
    ///
    /// # Errors
    /// [`SamError::NotRestored`] when the parameters are there already. [`SamError::Gradients`] where a gradient is
    /// NaN or infinite or does not fit its parameter. Nothing has changed then.
    pub fn perturb(&mut self, params: &mut dyn Parameters) -> Result<f64, SamError> {
        if self.is_perturbed {
            return Err(SamError::NotRestored);
        }
        let config = self.config;
        let norm = config.norm(params)?;
        let scale = config.rho / (norm + config.eps);
        self.before.clear();
        let before = &mut self.before;
        params.visit(&mut |param| {
            let name = param.name;
            if let Ok(Some(pair)) = value_and_grad(param) {
                before.save(name, &pair.0);
                // Where eps and norm are 0 there is no scale.
                if scale.is_finite() {
                    with_pair!(pair, p, g => config.ascend(scale, p, g));
                }
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
}

impl SamConfig {
    /// The norm of `s g` over all parameters that have a gradient.
    fn norm(&self, params: &mut dyn Parameters) -> Result<f64, SamError> {
        let mut total = 0.0f64;
        let mut first_bad: Option<String> = None;
        let mut count = 0;
        let walked = try_visit(params, |param| {
            let name = param.name;
            let Some(pair) = value_and_grad(param)? else { return Ok(()) };
            total += with_pair!(&pair, p, g => self.sum_of_squares(p, g));
            if !total.is_finite() {
                count += with_pair!(&pair, p, g => self.count_non_finite(p, g));
                first_bad.get_or_insert_with(|| name.into());
            }
            Ok(())
        });
        walked.map_err(SamError::Gradients)?;
        match first_bad {
            None => Ok(Float::sqrt(total)),
            Some(name) => Err(SamError::Gradients(StepError::NonFiniteGradient { name, count })),
        }
    }

    /// One element of `s g`, in f64.
    #[inline(always)]
    fn scaled<T: Value>(&self, p: T, g: T) -> f64 {
        self.size(FloatElement::to_f64(p)) * FloatElement::to_f64(g)
    }

    fn sum_of_squares<T: Value>(&self, p: &[T], g: &[T]) -> f64 {
        let mut lanes = [0.0f64; 8];
        for (p, g) in p.chunks(8).zip(g.chunks(8)) {
            for ((lane, &p), &g) in lanes.iter_mut().zip(p).zip(g) {
                let x = self.scaled(p, g);
                *lane += x * x;
            }
        }
        lanes.iter().sum()
    }

    fn count_non_finite<T: Value>(&self, p: &[T], g: &[T]) -> usize {
        p.iter().zip(g).filter(|&(&p, &g)| !self.scaled(p, g).is_finite()).count()
    }

    fn ascend<T: Value>(&self, scale: f64, p: &mut [T], g: &[T]) {
        // In f64 until the sum: small gradients have scales that are out of the range of f32.
        for (p, &g) in p.iter_mut().zip(g) {
            let x = FloatElement::to_f64(*p);
            let step = self.size(x) * self.scaled(*p, g) * scale;
            *p = T::store(p.load() + T::Work::from_f64(step));
        }
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
    /// A gradient is NaN or infinite or does not fit its parameter.
    Gradients(StepError),
    /// A parameter is not what it was when it was perturbed.
    Parameters(AverageError),
}

impl fmt::Display for SamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRestored => f.write_str("the parameters were perturbed and not restored"),
            Self::NotPerturbed => f.write_str("there is no perturbation to restore from"),
            Self::Gradients(e) => e.fmt(f),
            Self::Parameters(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for SamError {}
