//! Exponential moving averages of parameters.

use alloc::{vec, vec::Vec};

use gradus_core::{Parameters, Schedule, State, StateDict, StateError, StateValue};

use crate::{
    Average, AverageError, EmaDecay, OptimError,
    average::update,
    average_state::{load_all, save_all},
};

/// Hyper-parameters of [`Ema`].
///
/// | field | default |
/// |---|---|
/// | `decays` | one average for each; to be given |
/// | `start` | 0 |
/// | `every` | 1 |
/// | `zero_init` | false |
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EmaConfig<D = EmaDecay> {
    /// The decay of each average as a function of the number of its update, from 0: an [`EmaDecay`] or any other
    /// [`Schedule`] with values in `[0, 1]`.
    pub decays: Vec<D>,
    /// The first step whose parameters are averaged, from 0.
    pub start: u64,
    /// From there on every `every`-th step counts.
    pub every: u64,
    /// Whether the averages start from zeros, not from the parameters (optax).
    pub zero_init: bool,
}

impl<D: Schedule> EmaConfig<D> {
    /// An average for each of these decays, updated at every step.
    pub fn new(decays: impl Into<Vec<D>>) -> Self {
        Self { decays: decays.into(), start: 0, every: 1, zero_init: false }
    }

    /// Sets [`start`](Self::start).
    #[must_use]
    pub fn with_start(mut self, start: u64) -> Self {
        self.start = start;
        self
    }

    /// Sets [`every`](Self::every).
    #[must_use]
    pub fn with_every(mut self, every: u64) -> Self {
        self.every = every;
        self
    }

    /// Sets [`zero_init`](Self::zero_init).
    #[must_use]
    pub fn with_zero_init(mut self, zero_init: bool) -> Self {
        self.zero_init = zero_init;
        self
    }
}

/// Exponential moving averages of the parameters, one for each decay, all updated in one pass over memory.
///
/// Call [`update`](Self::update) after each optimizer step. For update number `n` (from 0; steps that are passed
/// over do not count) with decay `d = decays[i].value(n)`:
///
/// ```text
/// average_i = d average_i + (1 - d) params
/// ```
///
/// computed as torch's `lerp`. The averages start from the parameters as [`init`](Self::init) or, without it, the
/// first update finds them. They are kept in f32 (f64 for f64 parameters), also of f16 and bf16 parameters.
/// [`Average`] says how to evaluate with them, and what about batch norm. Every walk has to show the same parameters,
/// those without a gradient too. A NaN in the parameters stays in the average, so let a clip look for such gradients
/// before the optimizer.
///
/// # References
/// Polyak, Juditsky: Acceleration of stochastic approximation by averaging (1992).
///
/// ```
/// use gradus_core::VecParam;
/// use gradus_optim::{Ema, EmaConfig, EmaDecay};
///
/// let decays = [EmaDecay::averaged_model(0.5)?, EmaDecay::averaged_model(0.75)?];
/// let mut ema = Ema::new(EmaConfig::new(decays))?;
/// let mut params = vec![VecParam::new("w", &[1], vec![0.0f32])];
/// for w in [1.0, 5.0] {
///     params[0].value[0] = w; // an optimizer step
///     ema.update(&mut params)?;
/// }
/// {
///     let averaged = ema.average(0).swap_into(&mut params)?;
///     assert_eq!(averaged[0].value, [3.0]); // evaluate here
/// }
/// assert_eq!(params[0].value, [5.0]);
/// ema.average(1).copy_to(&mut params)?;
/// assert_eq!(params[0].value, [2.0]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ema<D = EmaDecay> {
    config: EmaConfig<D>,
    /// One for each decay, all of the same parameters; empty before the start.
    averages: Vec<Average>,
    step: u64,
    updates: u64,
}

impl<D: Schedule> Ema<D> {
    /// Averages that have seen nothing yet.
    ///
    /// # Errors
    /// [`OptimError`] when `every` is 0 or there is no decay.
    pub fn new(config: EmaConfig<D>) -> Result<Self, OptimError> {
        at_least_one("number of decays", config.decays.len() as u64)?;
        at_least_one("every", config.every)?;
        let averages = vec![Average::default(); config.decays.len()];
        Ok(Self { config, averages, step: 0, updates: 0 })
    }

    /// The hyper-parameters.
    #[must_use]
    pub fn config(&self) -> &EmaConfig<D> {
        &self.config
    }

    /// Starts anew from the parameters as they are now, or with `zero_init` from zeros.
    ///
    /// # Errors
    /// As [`Average::of`]; nothing has changed then.
    pub fn init(&mut self, params: &mut dyn Parameters) -> Result<(), AverageError> {
        let first =
            if self.config.zero_init { Average::zeros(params)? } else { Average::of(params)? };
        self.averages.fill(first);
        (self.step, self.updates) = (0, 0);
        Ok(())
    }

    /// Takes in the parameters after an optimizer step, if this step counts; returns whether it does.
    ///
    /// # Errors
    /// [`AverageError`] for a decay outside `[0, 1]` or, naming the parameter, where one has appeared, disappeared
    /// or changed its length since the start. Nothing has changed then, and the step has not been counted.
    pub fn update(&mut self, params: &mut dyn Parameters) -> Result<bool, AverageError> {
        let EmaConfig { start, every, .. } = self.config;
        let due = self.step >= start && (self.step - start).is_multiple_of(every);
        if due {
            let decays = self.decays()?;
            if self.averages[0].is_empty() {
                let step = self.step;
                self.init(params)?;
                self.step = step;
            }
            update(&mut self.averages, &decays, params)?;
            self.updates += 1;
        }
        self.step += 1;
        Ok(due)
    }

    /// The decays of the next update.
    fn decays(&self) -> Result<Vec<f64>, AverageError> {
        let update = self.updates;
        let checked = |decay: f64| match decay {
            0.0..=1.0 => Ok(decay),
            _ => Err(AverageError::Decay { update, decay }),
        };
        self.config.decays.iter().map(|d| checked(d.value(update))).collect()
    }

    /// The average with decay number `i`; empty before the start.
    ///
    /// # Panics
    /// When there are not that many decays.
    #[must_use]
    #[track_caller]
    pub fn average(&self, i: usize) -> &Average {
        let n = self.averages.len();
        assert!(i < n, "Ema::average: there is no average {i} of {n}");
        &self.averages[i]
    }

    /// Number of steps that went into the averages.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }
}

impl<D: Schedule> State for Ema<D> {
    /// `step`, `updates` and `average.I.NAME` for each average and parameter.
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("step", StateValue::U64(self.step));
        state.insert("updates", StateValue::U64(self.updates));
        save_all(&mut state, "average", &self.averages);
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let (step, updates) = (state.u64("step")?, state.u64("updates")?);
        let count = self.averages.len();
        let mut averages = load_all(state, "average", count, &["step", "updates"])?;
        match averages.len() {
            0 => averages = vec![Average::default(); count],
            found if found < count => {
                let name = "average".into();
                return Err(StateError::WrongLength { name, expected: count, found });
            }
            _ => {}
        }
        (self.step, self.updates, self.averages) = (step, updates, averages);
        Ok(())
    }
}

/// Checks a count.
pub(crate) fn at_least_one(name: &'static str, count: u64) -> Result<(), OptimError> {
    if count > 0 {
        Ok(())
    } else {
        Err(OptimError::OutOfRange { name, value: 0.0, range: "[1, inf)" })
    }
}
