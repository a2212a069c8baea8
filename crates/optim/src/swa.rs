//! Stochastic weight averaging: equal averages, of all steps from some step on or of the last ones.

use alloc::collections::VecDeque;

use gradus_core::{Parameters, State, StateDict, StateError, StateValue};

use crate::{
    Average, AverageError, Ema, EmaConfig, EmaDecay, OptimError,
    average_state::{load_all, save_all},
    config::config,
    ema::at_least_one,
};

config! {
    /// Hyper-parameters of [`Swa`].
    pub struct SwaConfig;
    /// The mean of the parameters after every step.
    pub fn new {
        /// The first step whose parameters are averaged, from 0; 0.
        start: u64 = 0, with_start;
        /// From there on every `every`-th step counts; 1.
        every: u64 = 1, with_every;
    }
}

/// Stochastic weight averaging: the mean of the parameters after steps `start`, `start + every`, ...
///
/// ```text
/// average = average + (params - average) / (n + 1)
/// ```
///
/// with the numbers of torch's `AveragedModel`. Call [`update`](Self::update) after each step, or after each epoch
/// if steps are to be epochs; keep the learning rate high or cyclic from `start` on. In other respects it is an
/// [`Ema`] with [`EmaDecay::equal`]. [`Average`] says how to evaluate with the mean, and what about batch norm.
///
/// # References
/// Izmailov, Podoprikhin, Garipov, Vetrov, Wilson: Averaging weights leads to wider optima and better
/// generalization (2018, arXiv:1803.05407).
///
/// ```
/// use gradus_core::VecParam;
/// use gradus_optim::{Swa, SwaConfig};
///
/// let mut swa = Swa::new(SwaConfig::new().with_start(1).with_every(2))?;
/// let mut params = vec![VecParam::new("w", &[1], vec![0.0f32])];
/// let mut counted = Vec::new();
/// for w in [1.0, 2.0, 3.0, 4.0] {
///     params[0].value[0] = w;
///     counted.push(swa.update(&mut params)?);
/// }
/// assert_eq!(counted, [false, true, false, true]);
/// swa.average().copy_to(&mut params)?;
/// assert_eq!(params[0].value, [3.0]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Swa {
    ema: Ema,
}

impl Swa {
    /// An average that has seen nothing yet.
    ///
    /// # Errors
    /// [`OptimError`] when `every` is 0.
    pub fn new(config: SwaConfig) -> Result<Self, OptimError> {
        let equal = EmaConfig::new([EmaDecay::equal()]);
        let ema = Ema::new(equal.with_start(config.start).with_every(config.every))?;
        Ok(Self { ema })
    }

    /// Starts anew; the average is the parameters as they are now until the first step that counts (torch does
    /// this when it builds an `AveragedModel`).
    ///
    /// # Errors
    /// As [`Average::of`]; nothing has changed then.
    pub fn init(&mut self, params: &mut dyn Parameters) -> Result<(), AverageError> {
        self.ema.init(params)
    }

    /// Takes in the parameters after a step, if this step counts; returns whether it does.
    ///
    /// # Errors
    /// [`AverageError`], naming the parameter, where one has appeared, disappeared or changed its length since the
    /// start. Nothing has changed then, and the step has not been counted.
    pub fn update(&mut self, params: &mut dyn Parameters) -> Result<bool, AverageError> {
        self.ema.update(params)
    }

    /// The mean; empty before the start.
    #[must_use]
    pub fn average(&self) -> &Average {
        self.ema.average(0)
    }

    /// Number of steps that went into the mean.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.ema.updates()
    }
}

impl State for Swa {
    /// `step`, `updates` and `average.0.NAME` for each parameter.
    fn save_state(&self) -> StateDict {
        self.ema.save_state()
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        self.ema.load_state(state)
    }
}

/// Latest weight averaging (LAWA): the mean of the parameters after the last `window` of the steps that count.
///
/// It forgets the start of the training altogether, at the price of `window` copies of the parameters. Kaddour
/// averages the ends of the last six epochs.
///
/// # References
/// Kaddour: Stop wasting my time! Saving days of ImageNet and BERT training with latest weight averaging (2022,
/// arXiv:2209.14981).
///
/// ```
/// use gradus_core::VecParam;
/// use gradus_optim::Lawa;
///
/// let mut lawa = Lawa::new(2, 1)?;
/// let mut params = vec![VecParam::new("w", &[1], vec![0.0f32])];
/// for w in [1.0, 2.0, 4.0] {
///     params[0].value[0] = w;
///     lawa.update(&mut params)?;
/// }
/// lawa.average().copy_to(&mut params)?;
/// assert_eq!(params[0].value, [3.0]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lawa {
    window: usize,
    every: u64,
    /// Oldest first.
    latest: VecDeque<Average>,
    step: u64,
}

impl Lawa {
    /// The mean over the last `window` of steps 0, `every`, `2 every`, ...
    ///
    /// # Errors
    /// [`OptimError`] when one of them is 0.
    pub fn new(window: usize, every: u64) -> Result<Self, OptimError> {
        at_least_one("window", window as u64)?;
        at_least_one("every", every)?;
        Ok(Self { window, every, latest: VecDeque::new(), step: 0 })
    }

    /// Takes in the parameters after a step, if this step counts; returns whether it does.
    ///
    /// # Errors
    /// [`AverageError`], naming the parameter, where one has appeared, disappeared or changed its length since the
    /// start. Nothing has changed then, and the step has not been counted.
    pub fn update(&mut self, params: &mut dyn Parameters) -> Result<bool, AverageError> {
        let due = self.step.is_multiple_of(self.every);
        if due {
            let new = Average::of(params)?;
            if let Some(last) = self.latest.back() {
                last.same_parameters(&new)?;
            }
            if self.latest.len() == self.window {
                self.latest.pop_front();
            }
            self.latest.push_back(new);
        }
        self.step += 1;
        Ok(due)
    }

    /// The mean of what the window holds, fewer than `window` steps at first; empty before the start.
    #[must_use]
    pub fn average(&self) -> Average {
        let weight = 1.0 / self.latest.len() as f64;
        Average::sum(self.latest.iter().map(|average| (weight, average)))
    }
}

impl State for Lawa {
    /// `step` and `latest.I.NAME` for each copy in the window, oldest first, and each parameter.
    fn save_state(&self) -> StateDict {
        let mut state = StateDict::new();
        state.insert("step", StateValue::U64(self.step));
        save_all(&mut state, "latest", &self.latest);
        state
    }

    fn load_state(&mut self, state: &StateDict) -> Result<(), StateError> {
        let step = state.u64("step")?;
        self.latest = load_all(state, "latest", self.window, &["step"])?.into();
        self.step = step;
        Ok(())
    }
}
