//! Laws of clipping.

use gradus_clip::{
    AdaGc, AdaGcConfig, AdaptiveClip, AutoClip, ClipNorm, GradSlices, NormType, OnNonFinite, ZClip,
    ZClipConfig, adaptive_grad_clip, clip_block_rms, clip_grad_norm, clip_grad_value,
    clip_param_norm, global_norm,
};
use gradus_core::{GradientTransform, VecParam};
use proptest::prelude::*;

fn grads() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let scale = prop_oneof![Just(1.0f32), Just(1e-20), Just(1e20), Just(1e-3)];
    let one = (prop::collection::vec(-9.0f32..9.0, 0..700), scale)
        .prop_map(|(g, s)| g.into_iter().map(|x| x * s).collect());
    prop::collection::vec(one, 0..5)
}

fn norm_type() -> impl Strategy<Value = NormType> {
    prop_oneof![
        Just(NormType::L1),
        Just(NormType::L2),
        Just(NormType::Inf),
        (0.5f64..4.0).prop_map(NormType::Lp)
    ]
}

fn norm(grads: &mut [Vec<f32>], norm_type: NormType) -> f64 {
    let mut slices: Vec<_> = grads.iter_mut().map(|g| g.as_mut_slice().into()).collect();
    global_norm(&mut GradSlices(&mut slices), norm_type).unwrap().norm
}

/// The same sums, one by one in f64.
fn reference(grads: &[Vec<f32>], norm_type: NormType) -> f64 {
    let all = grads.iter().flatten().map(|&x| f64::from(x).abs());
    match norm_type {
        NormType::L1 => all.sum(),
        NormType::L2 => all.map(|x| x * x).sum::<f64>().sqrt(),
        NormType::Lp(p) => all.map(|x| x.powf(p)).sum::<f64>().powf(1.0 / p),
        _ => all.fold(0.0, f64::max),
    }
}

proptest! {
    #[test]
    fn the_norm_is_that_of_the_concatenation(mut grads in grads(), t in norm_type()) {
        let (got, want) = (norm(&mut grads, t), reference(&grads, t));
        prop_assert!((got - want).abs() <= 2e-6 * want, "{got} {want}");
        let mut one = vec![grads.concat()];
        let got = norm(&mut one, t);
        prop_assert!((got - want).abs() <= 2e-6 * want, "{got} {want}");
    }

    #[test]
    fn clipping_bounds_the_norm_and_keeps_the_direction(
        before in grads(),
        t in norm_type(),
        share in 0.0f64..2.0,
    ) {
        let mut grads = before.clone();
        let measured = norm(&mut grads, t);
        let max_norm = share * measured;
        let mut slices: Vec<_> = grads.iter_mut().map(|g| g.as_mut_slice().into()).collect();
        let clip = ClipNorm::new(max_norm).with_norm_type(t);
        let report = clip_grad_norm(&mut GradSlices(&mut slices), &clip).unwrap();
        prop_assert_eq!(report.norm, measured);
        prop_assert!(report.norm_after <= report.norm);
        let after = norm(&mut grads, t);
        // Each element may be rounded up by half a unit in the last place, or to a subnormal.
        let slack = 1e-6 * measured + 1e-30;
        prop_assert!(after <= max_norm.min(measured) + slack, "{after} {max_norm}");
        prop_assert!((after - report.norm_after).abs() <= slack, "{after} {report:?}");
        let coefficient = if measured > 0.0 { report.norm_after / measured } else { 1.0 };
        for (x, y) in before.iter().flatten().zip(grads.iter().flatten()) {
            let want = f64::from(*x) * coefficient;
            prop_assert!((want - f64::from(*y)).abs() <= 2e-7 * want.abs() + 1e-44, "{x} {y} {want}");
        }
        if !report.clipped {
            prop_assert_eq!(before, grads);
        }
    }

    #[test]
    fn values_end_within_the_bound_and_those_within_stay(before in grads(), bound in 0.0f64..9.0) {
        let mut grads = before.clone();
        let mut slices: Vec<_> = grads.iter_mut().map(|g| g.as_mut_slice().into()).collect();
        clip_grad_value(&mut GradSlices(&mut slices), bound).unwrap();
        for (&x, &y) in before.iter().flatten().zip(grads.iter().flatten()) {
            let bound = bound as f32;
            prop_assert_eq!(y, if x.abs() <= bound { x } else { bound.copysign(x) });
        }
    }

    #[test]
    fn tensors_clipped_one_by_one_are_those_clipped_alone(
        before in grads(),
        t in norm_type(),
        max_norm in 0.0f64..50.0,
    ) {
        let clip = ClipNorm::new(max_norm).with_norm_type(t);
        let (mut each, mut alone) = (before.clone(), before);
        let mut slices: Vec<_> = each.iter_mut().map(|g| g.as_mut_slice().into()).collect();
        let report = clip_param_norm(&mut GradSlices(&mut slices), &clip).unwrap();
        for (g, norm) in alone.iter_mut().zip(&report.norms) {
            let one = &mut [g.as_mut_slice().into()];
            prop_assert_eq!(clip_grad_norm(&mut GradSlices(one), &clip).unwrap().norm, *norm);
        }
        prop_assert_eq!(each, alone);
    }

    #[test]
    fn units_end_within_their_share_and_keep_their_direction(
        (rows, values, before) in (1usize..5, 1usize..40).prop_flat_map(|(rows, width)| {
            let numbers = || prop::collection::vec(-9.0f64..9.0, rows * width);
            (Just(rows), numbers(), numbers())
        }),
        share in 0.001f64..2.0,
    ) {
        let width = values.len() / rows;
        let param = VecParam::new("w", &[rows, width], values.clone()).with_grad(before.clone());
        let mut params = vec![param];
        let report = adaptive_grad_clip(&mut params, &AdaptiveClip::new(share)).unwrap();
        let after = params[0].grad.clone().unwrap();
        let l2 = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let mut clipped = 0;
        for row in 0..rows {
            let at = row * width..(row + 1) * width;
            let (g, old) = (&after[at.clone()], &before[at.clone()]);
            let limit = share * l2(&values[at]).max(1e-3);
            prop_assert!(l2(g) <= limit.max(1e-6) * (1.0 + 1e-9));
            prop_assert!(l2(g) <= l2(old) * (1.0 + 1e-9));
            let factor = l2(g) / l2(old);
            prop_assert!(g.iter().zip(old).all(|(a, b)| (a - b * factor).abs() <= 1e-9 * b.abs()));
            clipped += usize::from(l2(old) >= limit);
        }
        prop_assert_eq!(report.clipped, clipped);
    }

    #[test]
    fn the_norm_of_shards_is_that_of_the_whole(mut a in grads(), mut b in grads(), t in norm_type()) {
        let measure = |grads: &mut Vec<Vec<f32>>| {
            let mut slices: Vec<_> = grads.iter_mut().map(|g| g.as_mut_slice().into()).collect();
            global_norm(&mut GradSlices(&mut slices), t).unwrap()
        };
        let merged = measure(&mut a).merge(measure(&mut b), t);
        let whole = measure(&mut [a, b].concat());
        prop_assert!((merged.norm - whole.norm).abs() <= 1e-12 * whole.norm, "{merged:?} {whole:?}");
        prop_assert_eq!((merged.max_abs, merged.worst_norm), (whole.max_abs, whole.worst_norm));
    }

    #[test]
    fn block_rms_never_exceeds_the_threshold(mut grads in grads(), threshold in 0.0f64..9.0) {
        let mut slices: Vec<_> = grads.iter_mut().map(|g| g.as_mut_slice().into()).collect();
        clip_block_rms(&mut GradSlices(&mut slices), threshold, OnNonFinite::Error).unwrap();
        for g in grads.iter_mut().filter(|g| !g.is_empty()) {
            let rms = norm(std::slice::from_mut(g), NormType::L2) / (g.len() as f64).sqrt();
            prop_assert!(rms <= threshold * (1.0 + 1e-6) + 1e-30, "{rms} {threshold}");
        }
    }

    /// Norms that follow each other: no clip raises one, and a restored clip goes on to the bit.
    #[test]
    fn clips_with_a_memory_resume_to_the_bit(
        norms in prop::collection::vec(0.0f64..20.0, 1..30),
        cut in 0usize..30,
        kind in 0usize..3,
    ) {
        let make = || -> Box<dyn GradientTransform> {
            match kind {
                0 => Box::new(AutoClip::new(40.0).unwrap().with_window(7).unwrap()),
                1 => Box::new(ZClip::new(ZClipConfig::new().with_warmup_steps(4)).unwrap()),
                _ => Box::new(AdaGc::new(AdaGcConfig::new().with_warmup_steps(4)).unwrap()),
            }
        };
        let (mut whole, mut part) = (make(), make());
        for (i, &norm) in norms.iter().enumerate() {
            if i == cut {
                let saved = part.save_state();
                part = make();
                part.load_state(&saved).unwrap();
                prop_assert_eq!(part.save_state(), saved);
            }
            let (mut a, mut b) = (vec![norm], vec![norm]);
            whole.step(0.1, &mut GradSlices(&mut [a.as_mut_slice().into()])).unwrap();
            part.step(0.1, &mut GradSlices(&mut [b.as_mut_slice().into()])).unwrap();
            prop_assert_eq!(a[0].to_bits(), b[0].to_bits());
            prop_assert!(a[0] <= norm, "{} {norm}", a[0]);
        }
    }
}
