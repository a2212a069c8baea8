//! Reading and writing schedules: what is read is checked as what is constructed is.
//!
//! `remote = "Self"` makes serde derive inherent functions, which these traits call: the fields are named once, and
//! a `checked` of each type is the one place where its rules stand.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{
    Anneal, AtEpoch, Clamped, Constant, Cooldown, CosineAnnealing, CosineWave, Cyclic, Ending,
    Every, ExponentialDecay, InverseSqrt, InverseTime, Linear, MultiStepDecay, Noam, Noise,
    Piecewise, PiecewiseConstant, Polynomial, PowerLaw, Scaled, Sequential, Shape, StepDecay,
    WarmRestarts, Warmup,
};

macro_rules! checked {
    ($($name:ident $(<$inner:ident>)?),* $(,)?) => {$(
        impl$(<$inner: Serialize>)? Serialize for $name$(<$inner>)? {
            fn serialize<W: Serializer>(&self, to: W) -> Result<W::Ok, W::Error> {
                Self::serialize(self, to)
            }
        }

        impl<'de $(, $inner: Deserialize<'de>)?> Deserialize<'de> for $name$(<$inner>)? {
            fn deserialize<R: Deserializer<'de>>(from: R) -> Result<Self, R::Error> {
                Self::deserialize(from)?.checked().map_err(R::Error::custom)
            }
        }
    )*};
}

checked!(
    Anneal,
    AtEpoch<S>,
    Clamped<S>,
    Constant,
    Cooldown<S>,
    CosineAnnealing,
    CosineWave,
    Cyclic,
    Ending<S>,
    Every<S>,
    ExponentialDecay,
    InverseSqrt,
    InverseTime,
    Linear,
    MultiStepDecay,
    Noam,
    Noise<S>,
    Piecewise,
    PiecewiseConstant,
    Polynomial,
    PowerLaw,
    Scaled<S>,
    Sequential<S>,
    Shape,
    StepDecay,
    Warmup<S>,
    WarmRestarts,
);

/// The number of the fields that are 1 where nothing is said.
pub(crate) fn one<T: num_traits::One>() -> T {
    T::one()
}
