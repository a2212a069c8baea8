//! Integrals, and means over the standard normal.

use core::f64::consts::PI;

use num_traits::Float;

/// Positive nodes of the Gauss-Legendre rule of eight points, and their weights.
const NODES: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_5),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_3),
];

/// The integral of `f` from `low` to `high`, in `panels` equal parts. `f` may have kinks where parts meet.
pub(crate) fn integrate(f: impl Fn(f64) -> f64, low: f64, high: f64, panels: u32) -> f64 {
    let half = (high - low) / f64::from(2 * panels);
    let mut sum = 0.0;
    for panel in 0..panels {
        let middle = low + half * f64::from(2 * panel + 1);
        for (x, weight) in NODES {
            sum += weight * (f(middle - half * x) + f(middle + half * x));
        }
    }
    half * sum
}

/// `E[f(z)]` for a standard normal `z`. Beyond 12 deviations lies 1e-32 of the mass; parts meet at every
/// multiple of 1/4, where the activations in use have their kinks.
pub(crate) fn normal_mean(f: impl Fn(f64) -> f64) -> f64 {
    let density = |z: f64| libm::exp(-z * z / 2.0);
    integrate(|z| f(z) * density(z), -12.0, 12.0, 96) / Float::sqrt(2.0 * PI)
}

/// `E[phi(s z)^2]` for a standard normal `z`: what is left of the second moment `s^2` behind `phi`.
pub(crate) fn mean_square(phi: impl Fn(f64) -> f64, s: f64) -> f64 {
    normal_mean(|z| {
        let y = phi(s * z);
        y * y
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_the_normal_are_exact() {
        for (power, want) in [(0, 1.0), (1, 0.0), (2, 1.0), (4, 3.0), (6, 15.0), (8, 105.0)] {
            let got = normal_mean(|z| z.powi(power));
            assert!((got - want).abs() < 1e-12 * (1.0 + want), "{power}: {got}");
        }
        assert!((normal_mean(f64::abs) - (2.0 / PI).sqrt()).abs() < 1e-14);
        assert!(
            (normal_mean(|z| (2.0 * z).exp()) / 2f64.exp() - 2f64.exp() / 2f64.exp()).abs() < 1e-12
        );
    }

    #[test]
    fn polynomials_are_integrated_exactly() {
        let got = integrate(|x| 5.0 * x.powi(4) + 1.0, -1.0, 3.0, 1);
        assert!((got - 248.0).abs() < 1e-11, "{got}");
    }
}
