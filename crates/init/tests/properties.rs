//! Laws of initialization.

use gradus_init::{Distribution, FanMode, Fans, Init, Layout, Nonlinearity, Spread};
use proptest::prelude::*;

fn mode() -> impl Strategy<Value = FanMode> {
    prop_oneof![
        Just(FanMode::FanIn),
        Just(FanMode::FanOut),
        Just(FanMode::FanAvg),
        Just(FanMode::FanGeoAvg),
        Just(FanMode::Spectral)
    ]
}

/// Schemes that draw element by element, for matrices and kernels.
fn scheme() -> impl Strategy<Value = Init> {
    let spread =
        prop_oneof![Just(Spread::Uniform), Just(Spread::Normal), Just(Spread::TruncNormal)];
    prop_oneof![
        (-3.0f64..3.0, 0.0f64..2.0).prop_map(|(low, width)| Init::uniform(low, low + width)),
        (-3.0f64..3.0, 0.0f64..2.0).prop_map(|(mean, std)| Init::normal(mean, std)),
        (-3.0f64..3.0, 0.01f64..2.0, -9.0f64..9.0, 0.0f64..9.0)
            .prop_map(|(mean, std, low, width)| Init::trunc_normal(mean, std, low, low + width)),
        (0.1f64..4.0, mode(), spread).prop_map(|(s, m, d)| Init::variance_scaling(s, m, d)),
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

    /// Any cut into pieces, in any order, gives the whole.
    #[test]
    fn pieces_are_parts_of_the_whole(
        init in scheme(), seed: u64, cuts in prop::collection::vec(0usize..400, 0..6)
    ) {
        let shape = [20, 20];
        let sampler = init.sampler(seed, "w", &shape).unwrap().unwrap();
        let whole = fill(init, seed, "w", &shape);
        let mut ends = cuts;
        ends.extend([0, 400]);
        ends.sort_unstable();
        for pair in ends.windows(2).rev() {
            let mut piece = vec![f64::NAN; pair[1] - pair[0]];
            sampler.fill_range(pair[0], &mut piece);
            prop_assert_eq!(&piece, &whole[pair[0]..pair[1]]);
        }
    }

    #[test]
    fn transposing_the_layout_swaps_the_fans(shape in shape(), mode in mode()) {
        let fans = |shape: &[usize], layout| Fans::of(shape, layout).unwrap();
        let (a, b) = (fans(&shape, Layout::OutIn), fans(&shape, Layout::InOut));
        prop_assert_eq!((a.fan_in, a.fan_out), (b.fan_out, b.fan_in));
        prop_assert_eq!(a.get(FanMode::FanAvg), b.get(FanMode::FanAvg));
        // The kernel's place makes no difference.
        let mut last: Vec<usize> = shape[2..].to_vec();
        last.extend([shape[1], shape[0]]);
        prop_assert_eq!(a, fans(&last, Layout::KernelInOut));
        prop_assert!(a.get(mode) >= 1.0);
    }

    /// Mean and variance of many draws are those asked for, and those stated.
    #[test]
    fn the_variance_is_scale_over_fan(seed: u64, scale in 0.2f64..3.0, kind in 0usize..3) {
        let spread = [Spread::Uniform, Spread::Normal, Spread::TruncNormal][kind];
        let shape = [200, 50];
        let init = Init::variance_scaling(scale, FanMode::FanIn, spread);
        let values = fill(init, seed, "w", &shape);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| x * x).sum::<f64>() / n;
        let want = scale / 50.0;
        prop_assert!((init.distribution(&shape).unwrap().mean_square() / want - 1.0).abs() < 1e-12);
        prop_assert!(mean.abs() < 6.0 * (want / n).sqrt(), "{mean}");
        // Six deviations of the variance of a normal's sample variance, 2 / n.
        prop_assert!((variance / want - 1.0).abs() < 6.0 * (2.0 / n).sqrt(), "{variance} {want}");
    }

    #[test]
    fn orthogonal_weights_have_one_singular_value(
        seed: u64, rows in 1usize..80, cols in 1usize..80, gain in 0.1f64..3.0
    ) {
        let w = fill(Init::orthogonal(gain), seed, "w", &[rows, cols]);
        let (short, long) = (rows.min(cols), rows.max(cols));
        let at = |k: usize, l: usize| w[if rows <= cols { k * cols + l } else { l * cols + k }];
        for a in 0..short {
            for b in 0..=a {
                let dot: f64 = (0..long).map(|l| at(a, l) * at(b, l)).sum();
                let want = if a == b { gain * gain } else { 0.0 };
                prop_assert!((dot - want).abs() < 1e-12 * gain * gain, "{a} {b}: {dot}");
            }
        }
        let square = w.iter().map(|x| x * x).sum::<f64>() / w.len() as f64;
        let stated = Init::orthogonal(gain).distribution(&[rows, cols]).unwrap().mean_square();
        prop_assert!((square / stated - 1.0).abs() < 1e-12);
    }

    #[test]
    fn sparse_weights_have_exactly_their_zeros(
        seed: u64, rows in 1usize..30, cols in 1usize..10, sparsity in 0.0f64..=1.0
    ) {
        let zeros = (sparsity * rows as f64).ceil() as usize;
        let w = fill(Init::sparse(sparsity, 1.0), seed, "w", &[rows, cols]);
        let by_input = Init::sparse(sparsity, 1.0).with_layout(Layout::InOut);
        let t = fill(by_input, seed, "w", &[cols, rows]);
        for c in 0..cols {
            let column = (0..rows).filter(|r| w[r * cols + c] == 0.0).count();
            let row = (0..rows).filter(|r| t[c * rows + r] == 0.0).count();
            prop_assert_eq!((column, row), (zeros, zeros));
        }
    }

    #[test]
    fn scaled_schemes_scale_their_values(init in scheme(), seed: u64, exponent in -3i32..3) {
        let factor = 2f64.powi(exponent);
        let shape = [4, 5];
        let want: Vec<f64> = fill(init, seed, "w", &shape).iter().map(|x| x * factor).collect();
        let got = fill(init.times(factor), seed, "w", &shape);
        // Powers of two commute with every rounding, apart from those of the bounds of a truncated normal.
        prop_assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs().max(1e-3)));
    }
}

/// All places are equally likely to be set to 0.
#[test]
fn zeros_are_spread_evenly() {
    let (rows, draws) = (7, 20_000);
    let mut counts = [0.0; 7];
    for seed in 0..draws {
        let w = fill(Init::sparse(0.4, 1.0), seed, "w", &[rows, 1]);
        w.iter().zip(&mut counts).for_each(|(&x, count)| *count += f64::from(u8::from(x == 0.0)));
    }
    // Three of seven.
    let sd = (3.0 / 7.0 * 4.0 / 7.0 / draws as f64).sqrt();
    let shares = counts.map(|count| count / draws as f64);
    assert!(shares.iter().all(|share| (share - 3.0 / 7.0).abs() < 4.5 * sd), "{shares:?}");
}
