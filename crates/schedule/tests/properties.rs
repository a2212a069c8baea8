//! Laws that hold for all arguments.

use std::fmt;

use gradus_schedule::{
    Constant, CosineAnnealing, ExponentialDecay, Linear, MultiStepDecay, Past, Polynomial,
    Schedule, ScheduleExt, Sequential, StepDecay, warmup_cosine,
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

/// Any schedule, from any valid arguments.
fn any_schedule() -> impl Strategy<Value = Described> {
    let milestones = proptest::collection::vec(0..300u64, 0..5);
    (0..9, rate(), rate(), 1..300u64, 0.0..4.0f64, milestones).prop_map(
        |(kind, a, b, n, x, milestones)| match kind {
            0 => described(Constant::new(a).unwrap()),
            1 => described(StepDecay::new(a, n, x).unwrap()),
            2 => described(MultiStepDecay::new(a, milestones, x).unwrap()),
            3 => described(ExponentialDecay::new(a, x).unwrap()),
            4 => described(Linear::new(a, b, n).unwrap()),
            5 => described(Polynomial::new(a, b, n, x).unwrap()),
            6 => described(CosineAnnealing::new(a, b, n).unwrap()),
            7 => described(CosineAnnealing::new(a, b, n).unwrap().with_past(Past::Periodic)),
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
}
