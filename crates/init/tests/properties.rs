//! Laws of initialization.

use gradus_init::{Distribution, FanMode, Fans, Init, Layout, Nonlinearity, Spread};
use proptest::prelude::*;

fn scheme() -> impl Strategy<Value = Init> {
    let spread =
        prop_oneof![Just(Spread::Uniform), Just(Spread::Normal), Just(Spread::TruncNormal)];
    let mode = prop_oneof![Just(FanMode::FanIn), Just(FanMode::FanOut), Just(FanMode::FanAvg)];
    prop_oneof![
        (-3.0f64..3.0, 0.0f64..2.0).prop_map(|(low, width)| Init::uniform(low, low + width)),
        (-3.0f64..3.0, 0.0f64..2.0).prop_map(|(mean, std)| Init::normal(mean, std)),
        (-3.0f64..3.0, 0.01f64..2.0, -9.0f64..9.0, 0.0f64..9.0)
            .prop_map(|(mean, std, low, width)| Init::trunc_normal(mean, std, low, low + width)),
        (0.1f64..4.0, mode, spread).prop_map(|(s, m, d)| Init::variance_scaling(s, m, d)),
        Just(Init::kaiming_uniform(Nonlinearity::Tanh, FanMode::FanOut)),
    ]
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..6, 2..5)
}

fn fill(init: Init, seed: u64, name: &str, shape: &[usize]) -> Vec<f64> {
    let mut out = vec![f64::NAN; shape.iter().product()];
    init.fill(seed, name, shape, &mut out).unwrap();
    out
}

proptest! {
    #[test]
    fn values_are_finite_and_within_the_bounds(init in scheme(), seed: u64, shape in shape()) {
        let values = fill(init, seed, "w", &shape);
        prop_assert!(values.iter().all(|x| x.is_finite()));
        if let Distribution::Uniform { low, high } | Distribution::TruncNormal { low, high, .. } =
            init.distribution(&shape).unwrap()
        {
            prop_assert!(values.iter().all(|x| (low..=high).contains(x)));
        }
    }

    #[test]
    fn values_depend_on_seed_and_name_alone(init in scheme(), seed: u64, shape in shape()) {
        let values = fill(init, seed, "w", &shape);
        let _ = fill(init, seed, "another", &shape);
        prop_assert_eq!(&values, &fill(init, seed, "w", &shape));
        let spread = values.iter().any(|x| *x != values[0]);
        if spread {
            prop_assert_ne!(&values, &fill(init, seed ^ 1, "w", &shape));
            prop_assert_ne!(&values, &fill(init, seed, "w2", &shape));
        }
    }

    #[test]
    fn transposing_the_layout_swaps_the_fans(shape in shape()) {
        let (a, b) = (Fans::of(&shape, Layout::OutIn).unwrap(), Fans::of(&shape, Layout::InOut).unwrap());
        prop_assert_eq!((a.fan_in, a.fan_out), (b.fan_out, b.fan_in));
        prop_assert_eq!(a.get(FanMode::FanAvg), b.get(FanMode::FanAvg));
    }

    /// Mean and variance of many draws are those asked for.
    #[test]
    fn the_variance_is_scale_over_fan(seed: u64, scale in 0.2f64..3.0, kind in 0usize..3) {
        let spread = [Spread::Uniform, Spread::Normal, Spread::TruncNormal][kind];
        let shape = [200, 50];
        let values = fill(Init::variance_scaling(scale, FanMode::FanIn, spread), seed, "w", &shape);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| x * x).sum::<f64>() / n;
        let want = scale / 50.0;
        prop_assert!(mean.abs() < 6.0 * (want / n).sqrt(), "{mean}");
        // Six deviations of the variance of a normal's sample variance, 2 / n.
        prop_assert!((variance / want - 1.0).abs() < 6.0 * (2.0 / n).sqrt(), "{variance} {want}");
    }
}
