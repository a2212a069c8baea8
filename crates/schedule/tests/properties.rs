//! Laws that hold for all arguments.

use std::fmt;

use gradus_schedule::{
    Anneal, Constant, CosineAnnealing, CosineRestarts, CosineWave, Cyclic, CyclicMode,
    ExponentialDecay, InverseSqrt, Linear, MultiStepDecay, Noam, OneCycle, Past, Piecewise,
    PiecewiseConstant, Polynomial, Schedule, ScheduleExt, Sequential, Shape, StepDecay, find_step,
    sparkline, svg, warmup_cosine, warmup_linear, warmup_stable_decay,
};
use proptest::prelude::*;

/// Values, steps and factors of a believable run.
fn rate() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 1e-12..10.0]
}

/// A schedule with its description, which a failing case prints.
struct Described(String, Box<dyn Schedule>);

impl fmt::Debug for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Schedule for Described {
    fn value(&self, step: u64) -> f64 {
        self.1.value(step)
    }
}

fn described(schedule: impl Schedule + fmt::Debug + 'static) -> Described {
    Described(format!("{schedule:?}"), Box::new(schedule))
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Linear),
        Just(Shape::Cosine),
        Just(Shape::OneMinusSqrt),
        (0.1..4.0f64).prop_map(Shape::Power),
        Just(Shape::Rex),
        Just(Shape::Tanh),
    ]
}

/// Any schedule, from any valid arguments.
fn any_schedule() -> impl Strategy<Value = Described> {
    let milestones = proptest::collection::vec(0..300u64, 0..5);
    (0..23, rate(), rate(), 1..300u64, 0.0..4.0f64, milestones, shape()).prop_map(
        |(kind, a, b, n, x, milestones, shape)| match kind {
            0 => described(Constant::new(a).unwrap()),
            1 => described(StepDecay::new(a, n, x).unwrap()),
            2 => described(MultiStepDecay::new(a, milestones, x).unwrap()),
            3 => described(ExponentialDecay::new(a, x).unwrap()),
            4 => described(Linear::new(a, b, n).unwrap()),
            5 => described(Polynomial::new(a, b, n, x).unwrap()),
            6 => described(CosineAnnealing::new(a, b, n).unwrap()),
            7 => described(CosineAnnealing::new(a, b, n).unwrap().with_past(Past::Periodic)),
            8 => described(Anneal::new(a, b, n, shape).unwrap()),
            9 => described(CosineRestarts::new(a, b, n).unwrap().with_decay(x).unwrap()),
            10 => described(CosineRestarts::new(a, b, n).unwrap().with_growth(1.0 + x).unwrap()),
            11 => described(CosineRestarts::within(a, b, n, milestones.len() as u64 + 1).unwrap()),
            12 => described(CosineWave::new(a, b, n, x).unwrap()),
            13 => described(Cyclic::new(a, b, n).unwrap()),
            14 => {
                described(Cyclic::new(a, b, n).unwrap().with_mode(CyclicMode::ExpRange(x)).unwrap())
            }
            15 => described(InverseSqrt::new(a, n).unwrap()),
            16 => described(Noam::new(n, n + 1).unwrap()),
            17 => {
                let cycle = OneCycle::new(a, n).with_pct_start(x / 4.0).with_shape(shape);
                described(cycle.with_three_phase(n % 2 == 0).rate().unwrap())
            }
            18 => {
                let scales: Vec<(u64, f64)> = milestones.into_iter().map(|m| (m, x)).collect();
                described(PiecewiseConstant::new(a, scales).unwrap())
            }
            19 => described(Piecewise::new(a, [(n, b), (n + 50, a * x)], shape).unwrap()),
            20 => {
                described(warmup_stable_decay(a, n, n / 2, n).unwrap().with_shape(shape).unwrap())
            }
            21 => described(warmup_linear(a, n, 2 * n).unwrap()),
            _ => described(warmup_cosine(a, n, 2 * n).unwrap()),
        },
    )
}

proptest! {
    #[test]
    fn values_are_finite_and_not_negative(s in any_schedule(), near in 0..1000u64, far: u64) {
        for step in [near, far] {
            let v = s.value(step);
            prop_assert!(v.is_finite() && v >= 0.0, "step {step}: {v}");
        }
    }

    #[test]
    fn interpolations_stay_between_their_ends_and_reach_them(
        a in rate(), b in rate(), n in 1..500u64, power in 0.01..5.0f64, step in 0..1000u64,
    ) {
        let all: [Box<dyn Schedule>; 3] = [
            Box::new(Linear::new(a, b, n).unwrap()),
            Box::new(Polynomial::new(a, b, n, power).unwrap()),
            Box::new(CosineAnnealing::new(a, b, n).unwrap()),
        ];
        let slack = 1e-15 * a.max(b);
        for s in all {
            prop_assert_eq!(s.value(0), a);
            prop_assert_eq!(s.value(n), b);
            prop_assert_eq!(s.value(n + step), b);
            let (v, next) = (s.value(step), s.value(step + 1));
            prop_assert!(v >= a.min(b) - slack && v <= a.max(b) + slack, "{v}");
            prop_assert!(if a < b { next >= v - slack } else { next <= v + slack }, "{v} {next}");
        }
    }

    #[test]
    fn a_polynomial_of_power_one_is_a_line(a in rate(), b in rate(), n in 1..500u64, step in 0..1000u64) {
        let (p, l) = (Polynomial::new(a, b, n, 1.0).unwrap(), Linear::new(a, b, n).unwrap());
        prop_assert!((p.value(step) - l.value(step)).abs() <= 1e-14 * a.max(b));
    }

    #[test]
    fn a_sequence_is_a_chain_of_then(
        parts in proptest::collection::vec(any_schedule(), 3),
        first in 0..200u64, gap in 1..200u64, step in 0..1000u64,
    ) {
        let chain = (&parts[0]).then(first, &parts[1]).then(first + gap, &parts[2]);
        let list: Vec<&Described> = parts.iter().collect();
        let list = Sequential::new(list, [first, first + gap]).unwrap();
        prop_assert_eq!(list.value(step), chain.value(step));
    }

    #[test]
    fn warm_up_rises_to_the_schedule_and_then_delays_it(
        s in any_schedule(), n in 1..200u64, factor in 0.0..1.0f64, step in 0..500u64,
    ) {
        let warm = (&s).warmup(n).with_start_factor(factor).unwrap();
        prop_assert_eq!(warm.value(0), s.value(0) * factor);
        prop_assert_eq!(warm.value(n + step), s.value(step));
        // One step before the end it is one step's rise away: no jump at the join.
        let rise = s.value(0) * (1.0 - factor) / n as f64;
        prop_assert!((s.value(0) - warm.value(n - 1) - rise).abs() <= 1e-14 * s.value(0));
    }

    #[test]
    fn times_and_scale_multiply(a in any_schedule(), b in any_schedule(), k in rate(), step in 0..1000u64) {
        prop_assert_eq!((&a).times(&b).value(step), a.value(step) * b.value(step));
        prop_assert_eq!((&a).scale(k).unwrap().value(step), a.value(step) * k);
    }

    #[test]
    fn every_shape_goes_from_its_start_to_its_end_without_turning(
        a in rate(), b in rate(), n in 1..500u64, shape in shape(), step in 0..1000u64,
    ) {
        let s = Anneal::new(a, b, n, shape).unwrap();
        let slack = 1e-15 * a.max(b);
        prop_assert_eq!((s.value(0), s.value(n), s.value(n + step)), (a, b, b));
        let (v, next) = (s.value(step), s.value(step + 1));
        prop_assert!(v >= a.min(b) - slack && v <= a.max(b) + slack, "{v}");
        prop_assert!(if a < b { next >= v - slack } else { next <= v + slack }, "{v} {next}");
    }

    #[test]
    fn a_cooldown_leaves_the_trunk_and_starts_from_it(
        s in any_schedule(), at in 0..500u64, n in 1..200u64, end in rate(), shape in shape(), step in 0..1000u64,
    ) {
        let branch = (&s).cooldown(at, n).with_end(end).unwrap().with_shape(shape).unwrap();
        if step <= at {
            prop_assert_eq!(branch.value(step), s.value(step));
        }
        prop_assert_eq!(branch.value(at + n + step), end);
    }

    #[test]
    fn what_comes_past_the_end_is_by_name(s in any_schedule(), n in 1..300u64, step in 0..1000u64) {
        let ending = |past| (&s).ending(n, past).unwrap();
        let (hold, periodic, restart) =
            (ending(Past::Hold), ending(Past::Periodic), ending(Past::Restart));
        if step < n {
            for value in [&hold, &periodic, &restart].map(|e| e.value(step)) {
                prop_assert_eq!(value, s.value(step));
            }
        }
        prop_assert_eq!(hold.value(n + step), s.value(n));
        prop_assert_eq!(periodic.value(2 * n + step), periodic.value(step));
        prop_assert_eq!(periodic.value(2 * n - step % n), periodic.value(step % n));
        prop_assert_eq!(restart.value(n + step), restart.value(step));
    }

    #[test]
    fn a_curve_goes_through_its_knots(
        start in rate(), knots in proptest::collection::vec((1..100u64, rate()), 0..6), shape in shape(),
    ) {
        let mut at = 0;
        let knots: Vec<(u64, f64)> = knots.into_iter().map(|(gap, value)| { at += gap; (at, value) }).collect();
        let curve = Piecewise::new(start, knots.clone(), shape).unwrap();
        prop_assert_eq!(curve.value(0), start);
        for (step, value) in knots {
            prop_assert_eq!(curve.value(step), value);
        }
    }

    #[test]
    fn restarts_stay_within_their_cycle(
        a in 0.1..10.0f64, n in 1..100u64, growth in 1.0..3.0f64, t in 0.0..1e7f64,
    ) {
        let lr = CosineRestarts::new(a, 0.0, n).unwrap().with_growth(growth).unwrap();
        let v = lr.value_at(t).unwrap();
        prop_assert!((0.0..=a).contains(&v), "{v}");
        // Cycle by cycle, as the definition has it.
        let (mut own, mut cycle) = (t, n as f64);
        while own >= cycle && growth > 1.01 {
            own -= cycle;
            cycle *= growth;
        }
        // Close to a restart the rounding decides on which side of it a step is.
        let x = own / cycle;
        if growth > 1.01 && x > 1e-6 && x < 1.0 - 1e-6 {
            let want = a * (1.0 + (std::f64::consts::PI * x).cos()) / 2.0;
            prop_assert!((v - want).abs() <= 1e-6 * a, "{v} {want}");
        }
    }

    #[test]
    fn a_value_is_found_where_it_is_first_taken(
        a in rate(), b in rate(), n in 1..300u64, shape in shape(), step in 0..400u64,
    ) {
        let s = Anneal::new(a, b, n, shape).unwrap();
        let value = s.value(step);
        let found = find_step(&s, value, 0..401).unwrap();
        prop_assert!(found <= step);
        prop_assert!((s.value(found) - value).abs() <= 1e-15 * value);
    }

    #[test]
    fn previews_show_anything(s in any_schedule(), steps: u64, width in 0..200usize) {
        let bars = sparkline(&s, steps, width).chars().count() as u64;
        prop_assert_eq!(bars, steps.min(width as u64));
        prop_assert!(!svg(&s, steps).contains("NaN"));
    }
}
