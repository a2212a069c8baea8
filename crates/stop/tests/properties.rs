//! Laws that hold for all metrics and options.

use gradus_stop::{
    EarlyStopping, EarlyStoppingConfig, Mode, Reason, ReduceOnPlateau, ReduceOnPlateauConfig,
    State, ThresholdMode, Verdict,
};
use proptest::{collection::vec, option, prelude::*};

fn metric() -> impl Strategy<Value = f64> {
    // Few distinct values, so that equal ones meet.
    prop_oneof![
        20 => (0..20u8).prop_map(|i| f64::from(i) / 16.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
    ]
}

fn config() -> impl Strategy<Value = EarlyStoppingConfig> {
    let threshold = || option::of(-1.0..2.0f64);
    (
        any::<(bool, bool, bool)>(),
        (0..4u8, 0..6u64, 0..4u64),
        (threshold(), threshold(), threshold()),
    )
        .prop_map(|((keras, max, finite), (delta, patience, start), (a, b, c))| {
            let mode = if max { Mode::Max } else { Mode::Min };
            let config = if keras {
                EarlyStoppingConfig::keras(mode)
            } else {
                EarlyStoppingConfig::lightning(mode)
            };
            config
                .with_check_finite(finite)
                .with_min_delta(f64::from(delta) / 16.0)
                .with_patience(patience)
                .with_start_from_epoch(start)
                .with_baseline(a)
                .with_stopping_threshold(b)
                .with_divergence_threshold(c)
        })
}

fn plateau() -> impl Strategy<Value = ReduceOnPlateauConfig> {
    (any::<(bool, bool, bool)>(), 0..4u8, 0..6u64, 0..4u64, 0.0..0.99f64).prop_map(
        |((keras, max, relative), threshold, patience, cooldown, factor)| {
            let mode = if max { Mode::Max } else { Mode::Min };
            let unit = if relative { ThresholdMode::Relative } else { ThresholdMode::Absolute };
            let config = if keras {
                ReduceOnPlateauConfig::keras(mode)
            } else {
                ReduceOnPlateauConfig::torch(mode)
            };
            config
                .with_threshold(f64::from(threshold) / 16.0, unit)
                .with_patience(patience)
                .with_cooldown(cooldown)
                .with_factor(factor)
                .with_min_rates([0.01])
        },
    )
}

fn observe_all(stopper: &mut EarlyStopping, metrics: &[f64]) -> Vec<Verdict> {
    metrics.iter().map(|&m| stopper.observe(m)).collect()
}

proptest! {
    #[test]
    fn a_resumed_stopper_goes_on_as_if_uninterrupted(
        config in config(), before in vec(metric(), 0..20), after in vec(metric(), 0..20),
    ) {
        let mut stopper = EarlyStopping::new(config).unwrap();
        observe_all(&mut stopper, &before);
        let state = stopper.save_state();
        let mut resumed = EarlyStopping::new(config).unwrap();
        resumed.load_state(&state).unwrap();
        prop_assert_eq!(resumed.best().map(f64::to_bits), stopper.best().map(f64::to_bits));
        prop_assert_eq!(observe_all(&mut resumed, &after), observe_all(&mut stopper, &after));
        prop_assert_eq!(resumed.best_epoch(), stopper.best_epoch());
    }

    #[test]
    fn negated_metrics_under_the_other_mode_give_the_same_verdicts(
        metrics in vec(metric(), 0..40), patience in 0..5u64, delta in 0..4u8, keras: bool,
    ) {
        let verdicts = |mode, sign: f64| {
            let config = if keras {
                EarlyStoppingConfig::keras(mode)
            } else {
                EarlyStoppingConfig::lightning(mode)
            };
            let config = config.with_patience(patience).with_min_delta(f64::from(delta) / 16.0);
            let metrics: Vec<f64> = metrics.iter().map(|m| sign * m).collect();
            observe_all(&mut EarlyStopping::new(config).unwrap(), &metrics)
        };
        prop_assert_eq!(verdicts(Mode::Min, 1.0), verdicts(Mode::Max, -1.0));
    }

    #[test]
    fn on_finite_metrics_both_rules_agree(
        mode in prop_oneof![Just(Mode::Min), Just(Mode::Max)],
        metrics in vec(-2.0..2.0f64, 0..40), patience in 0..5u64,
    ) {
        let [a, b] = [EarlyStoppingConfig::keras(mode), EarlyStoppingConfig::lightning(mode)]
            .map(|c| EarlyStopping::new(c.with_patience(patience)).unwrap());
        let [a, b] = [a, b].map(|mut stopper| observe_all(&mut stopper, &metrics));
        prop_assert_eq!(a, b);
    }

    #[test]
    fn without_min_delta_the_best_is_the_extreme_and_patience_counts_from_it(
        metrics in vec(-2.0..2.0f64, 1..40), patience in 1..5u64,
    ) {
        let config = EarlyStoppingConfig::lightning(Mode::Min).with_patience(patience);
        let mut stopper = EarlyStopping::new(config).unwrap();
        for (i, &metric) in metrics.iter().enumerate() {
            let verdict = stopper.observe(metric);
            let best = metrics[..=i].iter().copied().fold(f64::INFINITY, f64::min);
            let at = metrics.iter().position(|&m| m == best).unwrap();
            prop_assert_eq!((stopper.best(), stopper.best_epoch()), (Some(best), Some(at as u64)));
            prop_assert_eq!((verdict.improved, verdict.waiting), (at == i, (i - at) as u64));
            let stop = ((i - at) as u64 >= patience).then_some(Reason::PatienceExhausted);
            prop_assert_eq!(verdict.stop, stop);
        }
    }

    #[test]
    fn a_resumed_plateau_goes_on_as_if_uninterrupted(
        config in plateau(), before in vec(metric(), 0..20), after in vec(metric(), 0..20),
    ) {
        let observe = |plateau: &mut ReduceOnPlateau, metrics: &[f64]| -> Vec<Verdict> {
            metrics.iter().map(|&m| plateau.observe(m)).collect()
        };
        let mut whole = ReduceOnPlateau::new([0.1, 1.0], config.clone()).unwrap();
        observe(&mut whole, &before);
        let mut resumed = ReduceOnPlateau::new([0.5, 0.5], config).unwrap();
        resumed.load_state(&whole.save_state()).unwrap();
        prop_assert_eq!(&resumed, &whole);
        prop_assert_eq!(observe(&mut resumed, &after), observe(&mut whole, &after));
        prop_assert_eq!(resumed, whole);
    }

    #[test]
    fn rates_only_fall_and_only_when_it_is_said(config in plateau(), metrics in vec(metric(), 0..40)) {
        let mut plateau = ReduceOnPlateau::new([0.1, 1.0], config).unwrap();
        for metric in metrics {
            let before = plateau.rates().to_vec();
            let verdict = plateau.observe(metric);
            prop_assert!(plateau.rates().iter().zip(&before).all(|(a, b)| a <= b));
            prop_assert_eq!(verdict.reduced, plateau.rates() != before);
            prop_assert!(!(verdict.reduced && verdict.improved));
        }
    }
}
