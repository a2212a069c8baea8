//! The decays that exponential moving averages are known by.

use gradus_core::Schedule;
use num_traits::Float;

use crate::{
    OptimError,
    error::{at_most_one, below_one, non_negative, positive},
};

/// The decay of each update of an [`Ema`](crate::Ema), by the name of who uses it.
///
/// `average = d average + (1 - d) params`, where for update number `n`, from 0, `d` is
///
/// | | `d` |
/// |---|---|
/// | [`constant`](Self::constant) | `decay` |
/// | [`averaged_model`](Self::averaged_model) | 0 for the first update, then `decay` |
/// | [`bias_corrected`](Self::bias_corrected) | `decay (1 - decay^n) / (1 - decay^(n+1))` |
/// | [`timm_v3`](Self::timm_v3) | see [`TimmDecay`] |
/// | [`tf_warmup`](Self::tf_warmup) | `min(decay, (1 + n) / (10 + n))` |
/// | [`power`](Self::power) | `(1 - 1/(n+1))^(gamma+1)` |
/// | [`equal`](Self::equal) | `n / (n+1)` |
///
/// All but `constant` and `tf_warmup` are 0 at first: the first update copies the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmaDecay(Kind);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Constant(f64),
    AveragedModel(f64),
    BiasCorrected(f64),
    Timm(TimmDecay),
    TfWarmup(f64),
    Power(f64),
}

impl EmaDecay {
    /// The same decay for every update. With [`zero_init`](crate::EmaConfig::zero_init): `optax.ema(debias=False)`.
    ///
    /// # Errors
    /// [`OptimError`] for a decay outside `[0, 1]`.
    pub fn constant(decay: f64) -> Result<Self, OptimError> {
        at_most_one("decay", decay)?;
        Ok(Self(Kind::Constant(decay)))
    }

    /// torch's `AveragedModel` with `get_ema_multi_avg_fn(decay)`: the first update copies. torch's default
    /// decay is 0.999.
    ///
    /// # Errors
    /// [`OptimError`] for a decay outside `[0, 1]`.
    pub fn averaged_model(decay: f64) -> Result<Self, OptimError> {
        at_most_one("decay", decay)?;
        Ok(Self(Kind::AveragedModel(decay)))
    }

    /// `optax.ema(debias=True)`: the average from zeros divided by `1 - decay^t` after `t` updates, which is the
    /// mean of the parameters with weights `decay^age`. The division is part of the decay, so that the average is
    /// at hand without it.
    ///
    /// # Errors
    /// [`OptimError`] for a decay outside `[0, 1)`.
    pub fn bias_corrected(decay: f64) -> Result<Self, OptimError> {
        below_one("decay", decay)?;
        Ok(Self(Kind::BiasCorrected(decay)))
    }

    /// timm's `ModelEmaV3`.
    ///
    /// # Errors
    /// [`OptimError`] for a decay or minimum outside `[0, 1]`, or a gamma or power that is not positive.
    pub fn timm_v3(decay: TimmDecay) -> Result<Self, OptimError> {
        at_most_one("decay", decay.decay)?;
        at_most_one("min_decay", decay.min_decay)?;
        positive("warmup_gamma", decay.warmup_gamma)?;
        positive("warmup_power", decay.warmup_power)?;
        Ok(Self(Kind::Timm(decay)))
    }

    /// The warm-up of TensorFlow's `ExponentialMovingAverage` with `num_updates`. It does not forget its start, so
    /// [`init`](crate::Ema::init) the average before training.
    ///
    /// # Errors
    /// [`OptimError`] for a decay outside `[0, 1]`.
    pub fn tf_warmup(decay: f64) -> Result<Self, OptimError> {
        at_most_one("decay", decay)?;
        Ok(Self(Kind::TfWarmup(decay)))
    }

    /// The power function average of Karras et al. (2023, arXiv:2312.02696): parameters enter in proportion to
    /// `t^gamma`, so that the length of the average grows with that of the training. Of two such averages any other
    /// can be made afterwards, see [`PowerProfile`](crate::PowerProfile).
    ///
    /// # Errors
    /// [`OptimError`] for a gamma that is negative or not finite.
    pub fn power(gamma: f64) -> Result<Self, OptimError> {
        non_negative("gamma", gamma)?;
        Ok(Self(Kind::Power(gamma)))
    }

    /// All parameters so far with equal weight: [`power`](Self::power) with gamma 0.
    #[must_use]
    pub fn equal() -> Self {
        Self(Kind::Power(0.0))
    }
}

impl Schedule for EmaDecay {
    /// The decay of update number `update`, from 0.
    fn value(&self, update: u64) -> f64 {
        let n = update as f64;
        match self.0 {
            Kind::Constant(decay) => decay,
            Kind::AveragedModel(decay) => {
                if update == 0 {
                    0.0
                } else {
                    decay
                }
            }
            Kind::BiasCorrected(decay) => {
                // 1 - decay^n, exact also for a decay near 1.
                let mass = |n: f64| -Float::exp_m1(n * Float::ln(decay));
                if update == 0 || decay == 0.0 { 0.0 } else { decay * mass(n) / mass(n + 1.0) }
            }
            Kind::Timm(timm) => timm.value(update),
            Kind::TfWarmup(decay) => decay.min((1.0 + n) / (10.0 + n)),
            Kind::Power(gamma) => Float::powf(n / (n + 1.0), gamma + 1.0),
        }
    }
}

/// Hyper-parameters of [`EmaDecay::timm_v3`], with timm's names and defaults.
///
/// With `k = n - update_after_step`, the decay of update `n`, from 0, is 0 while `k <= 0`; after that `decay`, or
/// with warm-up `clip(1 - (1 + k / warmup_gamma)^-warmup_power, min_decay, decay)`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct TimmDecay {
    /// The decay in the end.
    pub decay: f64,
    /// The least decay of the warm-up; 0.
    pub min_decay: f64,
    /// Updates after the first one that copy the parameters as well; 0.
    pub update_after_step: u64,
    /// Whether the decay rises to its end; true here, since without it the kind is
    /// [`averaged_model`](EmaDecay::averaged_model) (timm: false).
    pub use_warmup: bool,
    /// The scale of the warm-up in updates; 1.
    pub warmup_gamma: f64,
    /// The exponent of the warm-up; 2/3, for trainings of millions of updates. 3/4 reaches 0.999 after 10 thousand.
    pub warmup_power: f64,
}

impl TimmDecay {
    /// This decay after a warm-up.
    #[must_use]
    pub fn new(decay: f64) -> Self {
        Self {
            decay,
            min_decay: 0.0,
            update_after_step: 0,
            use_warmup: true,
            warmup_gamma: 1.0,
            warmup_power: 2.0 / 3.0,
        }
    }

    /// Sets [`min_decay`](Self::min_decay).
    #[must_use]
    pub fn with_min_decay(mut self, min_decay: f64) -> Self {
        self.min_decay = min_decay;
        self
    }

    /// Sets [`update_after_step`](Self::update_after_step).
    #[must_use]
    pub fn with_update_after_step(mut self, update_after_step: u64) -> Self {
        self.update_after_step = update_after_step;
        self
    }

    /// Sets [`use_warmup`](Self::use_warmup).
    #[must_use]
    pub fn with_use_warmup(mut self, use_warmup: bool) -> Self {
        self.use_warmup = use_warmup;
        self
    }

    /// Sets [`warmup_gamma`](Self::warmup_gamma).
    #[must_use]
    pub fn with_warmup_gamma(mut self, warmup_gamma: f64) -> Self {
        self.warmup_gamma = warmup_gamma;
        self
    }

    /// Sets [`warmup_power`](Self::warmup_power).
    #[must_use]
    pub fn with_warmup_power(mut self, warmup_power: f64) -> Self {
        self.warmup_power = warmup_power;
        self
    }

    fn value(&self, update: u64) -> f64 {
        let k = update.saturating_sub(self.update_after_step);
        if k == 0 {
            return 0.0;
        }
        if !self.use_warmup {
            return self.decay;
        }
        let risen = 1.0 - Float::powf(1.0 + k as f64 / self.warmup_gamma, -self.warmup_power);
        risen.min(self.decay).max(self.min_decay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-12 * want.abs(), "{got} is not {want}");
    }

    #[test]
    fn hyper_parameters_are_checked() {
        for bad in [-0.1, 1.1, f64::NAN] {
            let refused = OptimError::OutOfRange { name: "decay", value: bad, range: "[0, 1]" };
            if !bad.is_nan() {
                assert_eq!(EmaDecay::averaged_model(bad), Err(refused));
            }
            assert!(EmaDecay::constant(bad).is_err());
            assert!(EmaDecay::averaged_model(bad).is_err());
            assert!(EmaDecay::bias_corrected(bad).is_err());
            assert!(EmaDecay::tf_warmup(bad).is_err());
            assert!(EmaDecay::timm_v3(TimmDecay::new(bad)).is_err());
            assert!(EmaDecay::timm_v3(TimmDecay::new(0.9).with_min_decay(bad)).is_err());
        }
        assert!(EmaDecay::bias_corrected(1.0).is_err());
        assert!(EmaDecay::power(-0.1).is_err());
        assert!(EmaDecay::timm_v3(TimmDecay::new(0.9).with_warmup_gamma(0.0)).is_err());
        assert!(EmaDecay::timm_v3(TimmDecay::new(0.9).with_warmup_power(f64::INFINITY)).is_err());
    }

    #[test]
    fn timm_rises_as_in_its_documentation() {
        // gamma 1, power 2/3 from timm's own table: the update numbers count from the copy.
        let decay = EmaDecay::timm_v3(TimmDecay::new(0.9999)).unwrap();
        assert_eq!(decay.value(0), 0.0);
        near(decay.value(1), 1.0 - 2f64.powf(-2.0 / 3.0));
        near(decay.value(10), 0.797_819_991_766_425_8);
        assert!((decay.value(31_600) - 0.999).abs() < 1e-6);
        assert_eq!(decay.value(100_000_000), 0.9999);
        let late = TimmDecay::new(0.9).with_update_after_step(3).with_use_warmup(false);
        let late = EmaDecay::timm_v3(late).unwrap();
        assert_eq!([3, 4].map(|n| late.value(n)), [0.0, 0.9]);
        // As in timm, a minimum above the decay wins.
        let odd = EmaDecay::timm_v3(TimmDecay::new(0.3).with_min_decay(0.6)).unwrap();
        assert_eq!(odd.value(1), 0.6);
    }

    #[test]
    fn a_corrected_decay_is_exact_near_one() {
        let decay = EmaDecay::bias_corrected(1.0 - 1e-12).unwrap();
        // n/(n+1) up to terms of the order of 1e-12.
        near(decay.value(1), 0.5);
        near(decay.value(9), 0.9);
        assert_eq!(EmaDecay::bias_corrected(0.0).unwrap().value(5), 0.0);
    }

    #[test]
    fn power_and_tensorflow_as_in_the_papers() {
        near(EmaDecay::power(6.94).unwrap().value(9), 0.9f64.powf(7.94));
        assert_eq!(EmaDecay::equal().value(0), 0.0);
        near(EmaDecay::equal().value(3), 0.75);
        let tf = EmaDecay::tf_warmup(0.5).unwrap();
        near(tf.value(0), 0.1);
        near(tf.value(5), 0.4);
        assert_eq!(tf.value(100), 0.5);
    }
}
