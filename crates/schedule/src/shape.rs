//! The curve from one value to another.

use core::f64::consts::FRAC_PI_2;

use num_traits::Float;

use crate::{
    ScheduleError,
    error::{positive, within},
    finite::mix,
};

/// How a value goes from one level to another, as the weight that the higher level still has after the
/// fraction `x` of the way down. A rise is the fall played backwards.
///
/// | shape | weight | |
/// |---|---|---|
/// | `Linear` | `1 - x` | |
/// | `Cosine` | `(1 + cos(pi x)) / 2` | slow at both ends |
/// | `OneMinusSqrt` | `1 - sqrt(x)` | fast at first |
/// | `Power(p)` | `(1 - x)^p` | |
/// | `Rex` | `(1 - x) / (1/2 + (1 - x)/2)` | slow at first, fast at the end |
/// | `Tanh` | `(1 - tanh(lower (1 - x) + upper x)) / 2` | 1 and 0 at the ends, which the formula only comes close to |
///
/// ```
/// use gradus_schedule::Shape;
/// assert_eq!([Shape::OneMinusSqrt.fall(0.25), Shape::OneMinusSqrt.rise(0.75)], [0.5, 0.5]);
/// assert_eq!(Shape::Rex.fall(0.5), 2.0 / 3.0);
/// ```
///
/// # References
/// Hägele et al.: Scaling laws and compute-optimal training beyond fixed training durations (2024), for
/// `1 - sqrt`; Chen, Wolfe, Kyrillidis: REX: revisiting budgeted training with an improved schedule (2021);
/// Hsueh, Li, Wu: Stochastic gradient descent with hyperbolic-tangent decay on classification (2019).
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(remote = "Self", rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Shape {
    /// A straight line.
    #[default]
    Linear,
    /// Half a cosine.
    Cosine,
    /// One minus a square root.
    OneMinusSqrt,
    /// A power, which has to be positive, of what is left of the way.
    Power(f64),
    /// Reflected exponential.
    Rex,
    /// A hyperbolic tangent between two bounds, the first of which is the lower one; see [`Shape::TANH`].
    Tanh {
        /// Where it starts.
        lower: f64,
        /// Where it ends.
        upper: f64,
    },
}

impl Shape {
    /// The hyperbolic tangent between timm's bounds, -7 and 3: the last step is a jump from 0.0025. The paper
    /// recommends -6 and 3.
    pub const TANH: Self = Self::Tanh { lower: -7.0, upper: 3.0 };

    /// The weight of the higher level on the way down: 1 for `x <= 0`, 0 for `x >= 1`.
    #[must_use]
    pub fn fall(self, x: f64) -> f64 {
        if x >= 1.0 {
            return 0.0;
        }
        if x <= 0.0 {
            return 1.0;
        }
        match self {
            Self::Linear => 1.0 - x,
            // (1 + cos 2a)/2 = cos^2 a and 1 - s = (1 - s^2)/(1 + s): no cancellation close to the end.
            Self::Cosine => {
                let cos = Float::cos(FRAC_PI_2 * x);
                cos * cos
            }
            Self::OneMinusSqrt => (1.0 - x) / (1.0 + Float::sqrt(x)),
            Self::Power(power) => Float::powf(1.0 - x, power),
            Self::Rex => (1.0 - x) / (1.0 - x / 2.0),
            // (1 - tanh z)/2 = 1/(1 + e^2z)
            Self::Tanh { lower, upper } => {
                1.0 / (1.0 + Float::exp(2.0 * (lower * (1.0 - x) + upper * x)))
            }
        }
    }

    /// The weight of the higher level on the way up: `fall(1 - x)`.
    #[must_use]
    pub fn rise(self, x: f64) -> f64 {
        self.fall(1.0 - x)
    }

    /// The value after the fraction `x` of the way from `start` to `end`; exact at both ends.
    pub(crate) fn between(self, start: f64, end: f64, x: f64) -> f64 {
        if x <= 0.0 {
            return start;
        }
        if start > end { mix(start, end, self.fall(x)) } else { mix(end, start, self.rise(x)) }
    }

    /// Itself, if its number makes sense.
    pub(crate) fn checked(self) -> Result<Self, ScheduleError> {
        match self {
            Self::Power(power) => drop(positive("power", power)?),
            Self::Tanh { lower, upper } => {
                within(
                    "lower",
                    lower,
                    lower.is_finite() && lower < upper,
                    "finite and below upper",
                )?;
                within("upper", upper, upper.is_finite(), "finite")?;
            }
            _ => {}
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Shape; 7] = [
        Shape::Linear,
        Shape::Cosine,
        Shape::OneMinusSqrt,
        Shape::Power(2.0),
        Shape::Power(0.5),
        Shape::Rex,
        Shape::TANH,
    ];

    #[test]
    fn every_shape_falls_from_one_to_zero() {
        for shape in ALL {
            assert_eq!([shape.fall(-1.0), shape.fall(0.0)], [1.0, 1.0], "{shape:?}");
            assert_eq!([shape.fall(1.0), shape.fall(1.5)], [0.0, 0.0], "{shape:?}");
            for i in 0..100 {
                let (x, next) = (f64::from(i) / 100.0, f64::from(i + 1) / 100.0);
                assert!(shape.fall(next) < shape.fall(x), "{shape:?} at {x}");
                assert_eq!(shape.rise(x), shape.fall(1.0 - x), "{shape:?} at {x}");
            }
        }
    }

    #[test]
    fn weights_at_a_quarter() {
        let weights = ALL.map(|shape| shape.fall(0.25));
        let want = [
            0.75,
            0.853_553_390_593_273_8,
            0.5,
            0.5625,
            0.866_025_403_784_438_6,
            6.0 / 7.0,
            0.999_876_605_424_013_7,
        ];
        for (got, want) in weights.into_iter().zip(want) {
            assert!((got - want).abs() < 1e-15, "{got} {want}");
        }
    }

    #[test]
    fn a_way_up_is_the_way_down_backwards() {
        for shape in ALL {
            for i in 0..=10 {
                let x = f64::from(i) / 10.0;
                let (up, down) = (shape.between(0.1, 0.5, x), shape.between(0.5, 0.1, 1.0 - x));
                assert!((up - down).abs() < 1e-16, "{shape:?} at {x}: {up} {down}");
            }
        }
    }

    #[test]
    fn a_power_is_positive() {
        for power in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Shape::Power(power).checked().is_err(), "{power}");
        }
        assert_eq!(Shape::Power(1.5).checked(), Ok(Shape::Power(1.5)));
    }

    #[test]
    fn bounds_of_the_tangent() {
        // (1 - tanh(-6 + 9/3)) / 2
        let third = Shape::Tanh { lower: -6.0, upper: 3.0 }.fall(1.0 / 3.0);
        assert!((third - 0.997_527_376_843_365_2).abs() < 1e-15, "{third}");
        for (lower, upper) in [(3.0, 3.0), (f64::NAN, 1.0), (0.0, f64::NAN), (0.0, f64::INFINITY)] {
            assert!(Shape::Tanh { lower, upper }.checked().is_err(), "{lower} {upper}");
        }
    }
}
