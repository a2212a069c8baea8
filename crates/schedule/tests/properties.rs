//! Laws that hold for all arguments.

use std::fmt;

use gradus_schedule::{
    Anneal, Constant, CosineAnnealing, CosineWave, Cyclic, CyclicMode, ExponentialDecay,
    InverseSqrt, InverseTime, Linear, MultiStepDecay, Noam, OneCycle, Past, Piecewise,
    PiecewiseConstant, Polynomial, PowerLaw, Schedule, ScheduleError, ScheduleExt, Sequential,
    Shape, StepDecay, WarmRestarts, csv, find_step, sparkline, svg, warmup_cosine, warmup_linear,
    warmup_stable_decay,
};
use proptest::prelude::*;

/// Values, steps and factors of a believable run.
fn rate() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 1e-12..10.0]
}

/// Anything that a constructor takes.
fn extreme() -> impl Strategy<Value = f64> {
    let edges =
        vec![0.0, 5e-324, f64::MIN_POSITIVE, f64::EPSILON, 0.5, 1.0, 2.0, 1e19, 1e160, f64::MAX];
    prop_oneof![proptest::sample::select(edges), 0.0..f64::MAX]
}

fn extreme_steps() -> impl Strategy<Value = u64> {
    prop_oneof![
        proptest::sample::select(vec![1, 2, 3, 1 << 53, u64::MAX - 1, u64::MAX]),
        1..u64::MAX
    ]
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
        (-9.0..-1.0f64, 0.0..5.0f64).prop_map(|(lower, upper)| Shape::Tanh { lower, upper }),
    ]
}

fn steep_shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        shape(),
        proptest::sample::select(vec![5e-324, 1e-300, 1e300, f64::MAX]).prop_map(Shape::Power),
        Just(Shape::Tanh { lower: f64::MIN, upper: f64::MAX }),
        Just(Shape::Tanh { lower: f64::MAX / 2.0, upper: f64::MAX }),
    ]
}

/// What a schedule is made of: which, two values, steps, a factor, milestones, a shape.
type Parts = (u8, f64, f64, u64, f64, Vec<u64>, Shape);

/// The schedule of these parts, if they make one.
fn build((kind, a, b, n, x, milestones, shape): Parts) -> Result<Described, ScheduleError> {
    let one = Cyclic::new(a, b, n)?;
    let other = CosineAnnealing::new(b, a, n)?;
    Ok(match kind {
        0 => described(Constant::new(a)?),
        1 => described(StepDecay::new(a, n, x)?),
        2 => described(MultiStepDecay::new(a, milestones, x)?),
        3 => described(ExponentialDecay::new(a, x)?),
        4 => described(Linear::new(a, b, n)?),
        5 => described(Polynomial::new(a, b, n, x)?.with_cycle(n % 2 == 0)),
        6 => described(CosineAnnealing::new(a, b, n)?),
        7 => described(CosineAnnealing::new(a, b, n)?.with_k_decay(x)?.with_past(Past::Periodic)),
        8 => described(Anneal::new(a, b, n, shape)?),
        9 => described(WarmRestarts::new(a, b, n)?.with_decay(x)?.with_shape(shape)?),
        10 => described(WarmRestarts::new(a, b, n)?.with_growth(1.0 + x)?),
        11 => described(WarmRestarts::within(a, b, n, milestones.len() as u64 + 1)?),
        12 => described(CosineWave::new(a, b, n, x)?),
        13 => described(one),
        14 => described(one.with_mode(CyclicMode::ExpRange(x))?),
        15 => described(InverseSqrt::new(a, n)?),
        16 => described(Noam::new(n, n)?),
        17 => {
            let cycle = OneCycle::new(a, n).with_pct_start(x / 4.0).with_shape(shape);
            described(cycle.with_three_phase(n % 2 == 0).rate()?)
        }
        18 => {
            let scales: Vec<(u64, f64)> = milestones.into_iter().map(|m| (m, x)).collect();
            described(PiecewiseConstant::new(a, scales)?)
        }
        19 => described(Piecewise::new(a, [(n, b), (n.saturating_add(50), x)], shape)?),
        20 => described(warmup_stable_decay(a, n, n / 2, n)?.with_shape(shape)?),
        21 => described(warmup_linear(a, n / 2, n)?),
        22 => described(warmup_cosine(a, n / 2, n)?),
        23 => described(InverseTime::new(a, x)?.with_period(n)?.with_staircase(n % 2 == 0)),
        24 => described(PowerLaw::new(a, b, x)?.with_tokens_per_step(n)?),
        25 => described(one.warmup(n / 2).with_start_factor(x)?.with_delay(n % 2 == 0)),
        26 => described(one.times(other).scale(x)?),
        27 => described(one.plus(other).min(Constant::new(x)?)),
        28 => described(one.max(other).noise(0.5, n)?),
        29 => described(other.at_epoch(n)?),
        _ => described(other.cooldown(n / 2, n).with_end(x)?.with_shape(shape)?),
    })
}

fn schedule_of(
    value: impl Strategy<Value = f64> + Clone,
    steps: impl Strategy<Value = u64>,
    factor: impl Strategy<Value = f64>,
    shape: impl Strategy<Value = Shape>,
) -> impl Strategy<Value = Described> {
    let milestones = proptest::collection::vec(0..300u64, 0..5);
    (0..31u8, value.clone(), value, steps, factor, milestones, shape)
        .prop_filter_map("arguments that are refused", |parts| build(parts).ok())
}

/// Any schedule, from the arguments of a believable run.
fn any_schedule() -> impl Strategy<Value = Described> {
    schedule_of(rate().boxed(), 1..300u64, 0.001..4.0f64, shape())
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
    fn nothing_makes_a_schedule_infinite_or_nan(
        s in schedule_of(extreme().boxed(), extreme_steps(), extreme(), steep_shape()), n in extreme_steps(), any: u64,
    ) {
        for step in [0, 1, 2, n - 1, n, n.saturating_add(1), any, u64::MAX - 1, u64::MAX] {
            let v = s.value(step);
            prop_assert!(v.is_finite() && v >= 0.0, "step {step}: {v}");
        }
    }

    #[test]
    fn resuming_at_a_step_gives_what_running_to_it_gives(s in any_schedule(), at in 0..400usize) {
        let run: Vec<u64> = (0..400).map(|t| s.value(t).to_bits()).collect();
        let resumed: Vec<u64> = (at as u64..400).map(|t| s.value(t).to_bits()).collect();
        prop_assert_eq!(&run[at..], resumed);
    }

    #[test]
    fn there_is_no_jump_where_parts_join(
        peak in 0.1..10.0f64, w in 1..200u64, stable in 0..200u64, d in 1..200u64, kind in 0..3usize,
    ) {
        let line = Linear::new(peak, 0.5 * peak, 300).unwrap();
        let (at, slope) = (w + stable, 0.5 * peak / 300.0);
        let joined: Box<dyn Schedule> = match kind {
            0 => Box::new(warmup_stable_decay(peak, w, stable, d).unwrap()),
            1 => Box::new(line.warmup(w).with_delay(false).cooldown(at, d)),
            _ => Box::new(line.at_epoch(w).unwrap().warmup(w).cooldown(at, d)),
        };
        // No step is larger than that of the steepest part.
        let steepest = (peak / w as f64).max(peak / d as f64).max(slope) * (1.0 + 1e-9);
        for t in 0..at + d + 10 {
            let step = (joined.value(t + 1) - joined.value(t)).abs();
            prop_assert!(step <= steepest, "from {t}: {step}, at most {steepest}");
        }
    }

    #[test]
    fn a_schedule_of_epochs_passes_through_its_values(s in any_schedule(), n in 1..50u64, epoch in 0..300u64) {
        let batches = (&s).at_epoch(n).unwrap();
        prop_assert_eq!(batches.value(epoch * n), s.value(epoch));
        prop_assert_eq!((&s).every(n).unwrap().value(epoch * n + n / 2), s.value(epoch));
        let (now, next) = (s.value(epoch), s.value(epoch + 1));
        let between = batches.value(epoch * n + n / 2);
        let slack = 1e-15 * now.max(next);
        prop_assert!(between >= now.min(next) - slack && between <= now.max(next) + slack);
    }

    #[test]
    fn lower_and_higher_are_both_there(a in any_schedule(), b in any_schedule(), step in 0..1000u64) {
        let (low, high) = ((&a).min(&b).value(step), (&a).max(&b).value(step));
        let (a, b) = (a.value(step), b.value(step));
        prop_assert_eq!((low, high), (a.min(b), a.max(b)));
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
        let bounded = |v: f64| v.min(f64::MAX);
        prop_assert_eq!((&a).times(&b).value(step), bounded(a.value(step) * b.value(step)));
        prop_assert_eq!((&a).plus(&b).value(step), bounded(a.value(step) + b.value(step)));
        prop_assert_eq!((&a).scale(k).unwrap().value(step), bounded(a.value(step) * k));
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
        let lr = WarmRestarts::new(a, 0.0, n).unwrap().with_growth(growth).unwrap();
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
        let table = csv(&s, steps, width);
        prop_assert_eq!(table.lines().count() as u64, 1 + bars);
        for line in table.lines().skip(1) {
            let (step, value) = line.split_once(',').unwrap();
            prop_assert_eq!(value.parse::<f64>().unwrap(), s.value(step.parse().unwrap()));
        }
    }
}
