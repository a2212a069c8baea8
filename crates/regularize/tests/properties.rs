//! Laws of the regularizers.

use gradus_autograd::{DType, Layer, RngStream, Tape, Tensor};
use gradus_core::VecParam;
use gradus_regularize::{
    AlphaCoefficients, Constraint, CutBox, DepthMode, DropBlock, DropBlockConfig, MixMode, Mixing,
    Mixup, MixupConfig, Probability, Rate, add_kept, depth_rates, drop_path, dropout_with,
    elastic_net, patch_dropout, shared_dropout_with, smooth_labels, symmetric_kl,
};
use proptest::prelude::*;

fn p(p: f64) -> Probability {
    Probability::new(p).unwrap()
}

/// Numbers in [1, 2), so that a zero was dropped.
fn positive(shape: &[usize], seed: u64) -> Tensor {
    let stream = RngStream::new(seed, 0, 0);
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n as u64).map(|i| 1.0 + stream.uniform(i) as f32).collect();
    Tensor::from_slice(&values, shape)
}

fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-5 * (1.0 + b.abs())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_stays_is_scaled_and_its_gradient_is_the_scale(
        prob in 0.0..0.95f64, n in 0usize..400, seed: u64,
    ) {
        let tape = Tape::training(0, 0);
        let x = tape.leaf(positive(&[n], seed));
        let y = dropout_with(&x, p(prob), RngStream::new(seed, 1, 2));
        let grads = tape.backward(&[(&y, Tensor::ones(&[n], DType::F32))]);
        let scale = (1.0 / (1.0 - prob)) as f32;
        let (xs, ys) = (x.value().to_vec::<f32>(), y.value().to_vec::<f32>());
        for ((x, y), g) in xs.iter().zip(ys).zip(grads.wrt(&x).unwrap().to_vec::<f32>()) {
            prop_assert!(y == 0.0 && g == 0.0 || close(y, x * scale) && close(g, scale));
        }
    }

    #[test]
    fn a_mask_of_more_elements_begins_with_that_of_fewer(
        n in 0usize..400, more in 0usize..400, seed: u64,
    ) {
        let stream = RngStream::new(seed, 1, 2);
        let mask = |n: usize| {
            let x = Tape::evaluation().constant(Tensor::ones(&[n], DType::F32));
            dropout_with(&x, p(0.5), stream).into_value().to_vec::<f32>()
        };
        prop_assert_eq!(&mask(n + more)[..n], &mask(n)[..]);
    }

    #[test]
    fn a_shared_mask_is_constant_along_its_dimensions(
        shape in prop::collection::vec(1usize..6, 1..4), dim in 0usize..3, seed: u64,
    ) {
        let dim = (dim % shape.len()) as isize;
        let x = Tape::evaluation().constant(Tensor::ones(&shape, DType::F32));
        let y = shared_dropout_with(&x, p(0.5), &[dim], RngStream::new(seed, 0, 0)).into_value();
        let first = y.narrow(dim, 0, 1).broadcast_to(&shape).to_vec::<f32>();
        prop_assert_eq!(y.to_vec::<f32>(), first);
    }

    #[test]
    fn alpha_coefficients_keep_mean_and_variance(prob in 0.0..0.99f64) {
        let a = AlphaCoefficients::new(p(prob));
        // E y and E y^2 of a standard normal input.
        let mean = (1.0 - prob) * a.shift + prob * a.dropped();
        let square = (1.0 - prob) * (a.scale.powi(2) + a.shift.powi(2)) + prob * a.dropped().powi(2);
        prop_assert!(mean.abs() < 1e-12 && (square - 1.0).abs() < 1e-12);
    }

    #[test]
    fn blocks_keep_the_sum_of_ones(
        n in 1usize..4, c in 1usize..4, h in 3usize..9, w in 3usize..9, side in 1usize..4,
        prob in 0.0..0.6f64, coupled: bool, seed: u64,
    ) {
        let config = DropBlockConfig::default().with_block_size(side).with_couple_channels(coupled);
        let x = Tape::training(seed, 0).constant(Tensor::ones(&[n, c, h, w], DType::F32));
        let y = DropBlock::new(p(prob), config).unwrap().forward(&x).into_value();
        let mean = y.mean(&[], false).item();
        prop_assert!((mean - 1.0).abs() < 1e-5 || mean == 0.0);
    }

    #[test]
    fn a_path_is_whole_or_gone(n in 1usize..9, width in 0usize..9, prob in 0.0..0.9f64, seed: u64) {
        let x = Tape::training(seed, 0).constant(Tensor::ones(&[n, width], DType::F32));
        for (mode, rows) in [(DepthMode::Row, 1), (DepthMode::Batch, n)] {
            let y = drop_path(&x, p(prob), mode).into_value().to_vec::<f32>();
            let scale = (1.0 / (1.0 - prob)) as f32;
            for part in y.chunks((rows * width).max(1)) {
                let whole = part.iter().all(|&v| close(v, scale));
                prop_assert!(whole || part.iter().all(|&v| v == 0.0));
            }
        }
    }

    #[test]
    fn kept_branches_are_added(
        flags in prop::collection::vec(0u8..2, 1..9), width in 0usize..5, k in 0.5..3.0f64, seed: u64,
    ) {
        let shape = [flags.len(), width];
        let tape = Tape::evaluation();
        let (x, branch) = (tape.constant(positive(&shape, seed)), tape.constant(positive(&shape, !seed)));
        let keep = Tensor::from_slice(&flags, &[flags.len()]);
        let factor = keep.to_dtype(DType::F32).affine(k, 0.0).view(&[flags.len(), 1]);
        let want = x.value().add(&branch.value().mul(&factor)).to_vec::<f32>();
        let got = add_kept(&x, &branch, &keep, k).into_value().to_vec::<f32>();
        prop_assert!(got.iter().zip(want).all(|(a, b)| close(*a, b)));
    }

    #[test]
    fn depth_rates_rise_to_the_last(blocks in 2usize..60, last in 0.0..=1.0f64) {
        let rates: Vec<f64> = depth_rates(blocks, p(last)).iter().map(|p| p.get()).collect();
        prop_assert!(rates[0] == 0.0 && rates[blocks - 1] == last);
        prop_assert!(rates.windows(2).all(|w| w[0] <= w[1]));
    }

    #[test]
    fn patches_are_kept_in_order_and_once(
        n in 0usize..4, prefix in 0usize..3, patches in 0usize..20, prob in 0.0..=1.0f64, seed: u64,
    ) {
        let shape = [n, prefix + patches, 1];
        let x = Tape::training(seed, 0).constant(positive(&shape, seed));
        let (y, places) = patch_dropout(&x, p(prob), prefix);
        let width = y.shape()[1];
        let least = ((1.0 - prob) * patches as f64).floor() as usize;
        prop_assert_eq!(width, prefix + least.max(1).min(patches));
        let (y, places) = (y.into_value().to_vec::<f32>(), places.to_vec::<i64>());
        let x = x.value().to_vec::<f32>();
        for sample in 0..n {
            let row = &places[sample * width..(sample + 1) * width];
            prop_assert!(row.windows(2).all(|w| w[0] < w[1]));
            prop_assert!((0..prefix).all(|i| row[i] == i as i64));
            for (k, &i) in row.iter().enumerate() {
                prop_assert_eq!(y[sample * width + k], x[sample * shape[1] + i as usize]);
            }
        }
    }

    #[test]
    fn mixing_with_a_permutation_keeps_sums(
        n in 1usize..7, prob in 0.0..=1.0f64, mode in 0usize..3, seed: u64, step in 0u64..100,
    ) {
        let mode = [MixMode::Batch, MixMode::Pair, MixMode::Elem][mode];
        let config = MixupConfig::default().with_cutmix_alpha(0.7).with_prob(p(prob)).with_mode(mode);
        let mixing = Mixup::new(config).unwrap().draw(n, [5, 6], seed, step).unwrap();
        let mut partners = mixing.partners().to_vec();
        partners.sort_unstable();
        prop_assert_eq!(partners, (0..n).collect::<Vec<_>>());
        prop_assert!(mixing.blends().iter().all(|b| (0.0..=1.0).contains(&b.lam())));
        // Where all share a draw, or partners do, nothing is lost.
        if mode != MixMode::Elem {
            let x = positive(&[n, 2, 5, 6], seed);
            let (before, after) = (x.sum(&[], false).item(), mixing.samples(&x).sum(&[], false).item());
            prop_assert!((before - after).abs() < 1e-4 * before);
        }
        let labels: Vec<i64> = (0..n as i64).collect();
        let targets = smooth_labels(&Tensor::from_slice(&labels, &[n]), n, p(0.1)).unwrap();
        let rows = mixing.targets(&targets).sum(&[1], false).to_vec::<f32>();
        prop_assert!(rows.iter().all(|&sum| close(sum, 1.0)));
    }

    #[test]
    fn a_box_fits_and_is_no_larger_than_asked_for(
        h in 1usize..40, w in 1usize..40, lam in 0.0..=1.0f64, cy: usize, cx: usize,
    ) {
        let cut = CutBox::around([h, w], lam, [cy % h, cx % w]).unwrap();
        prop_assert!(cut.rows.end <= h && cut.columns.end <= w);
        prop_assert!(cut.lam([h, w]) >= lam - 1e-12);
        prop_assert!(Mixing::cutmix(&Tensor::from_slice(&[0i64], &[1]), cut, [h, w]).is_ok());
    }

    #[test]
    fn constraints_hold_and_holding_changes_nothing(
        rows in 0usize..5, width in 0usize..6, min in 0.0..2.0f64, span in 0.0..2.0f64, seed: u64,
    ) {
        let value = positive(&[rows, width], seed).affine(4.0, -6.0).to_vec::<f32>();
        let mut params = vec![VecParam::new("w", &[rows, width], value)];
        let constraint = Constraint::min_max_norm(min, min + span, 1.0).unwrap();
        constraint.apply(&mut params, |_, _, _| true).unwrap();
        for row in params[0].value.chunks(width.max(1)) {
            let norm = row.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
            prop_assert!(norm >= min - 1e-5 && norm <= min + span + 1e-5, "{}", norm);
        }
        let once = params[0].value.clone();
        constraint.apply(&mut params, |_, _, _| true).unwrap();
        prop_assert!(params[0].value.iter().zip(once).all(|(a, b)| close(*a, b)));
    }

    #[test]
    fn penalties_add_up(n in 0usize..70, l1 in 0.0..2.0f64, l2 in 0.0..2.0f64, seed: u64) {
        let tape = Tape::evaluation();
        let (a, b) = (tape.constant(positive(&[n], seed)), tape.constant(positive(&[7], !seed)));
        let penalty = |params: &[_], l1, l2| elastic_net(params, l1, l2).unwrap().item();
        let parts = penalty(&[&a], l1, 0.0) + penalty(&[&b], l1, 0.0) + penalty(&[&a, &b], 0.0, l2);
        let whole = penalty(&[&a, &b], l1, l2);
        prop_assert!((parts - whole).abs() <= 1e-5 * (1.0 + whole), "{} {}", parts, whole);
    }

    #[test]
    fn the_divergence_of_two_predictions_is_symmetric_and_not_negative(
        n in 1usize..5, k in 1usize..6, seed: u64,
    ) {
        let tape = Tape::evaluation();
        let logits = |seed| tape.constant(positive(&[n, k], seed).affine(5.0, 0.0));
        let (a, b) = (logits(seed), logits(!seed));
        let (ab, ba) = (symmetric_kl(&a, &b).item(), symmetric_kl(&b, &a).item());
        prop_assert!(ab >= -1e-6 && (ab - ba).abs() < 1e-5, "{} {}", ab, ba);
    }

    #[test]
    fn early_and_late_rates_are_probabilities(prob in 0.0..=1.0f64, steps in 0u64..1000, at: u64) {
        for rate in [Rate::early(p(prob), steps), Rate::late(p(prob), steps)] {
            prop_assert!(rate.at(at).unwrap().get() <= prob);
            prop_assert!(rate.check((0..steps + 2).step_by(97)).is_ok());
        }
    }
}
