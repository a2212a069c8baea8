//! Laws that hold for all metrics and options.

use std::time::Duration;

use gradus_stop::{
    AnyOf, Budget, Criterion, EarlyStopping, EarlyStoppingConfig, Mode, Observation, Prechelt,
    PrecheltRule, Reason, ReduceOnPlateau, ReduceOnPlateauConfig, Smoothed, Smoothing, SpikeConfig,
    SpikeDetector, State, ThresholdMode, Verdict,
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
    (any::<(bool, bool)>(), 0..4u8, 0..4u8, 0..6u64, 0..4u64, 0.01..0.99f64).prop_map(
        |((max, relative), rule, threshold, patience, cooldown, factor)| {
            let mode = if max { Mode::Max } else { Mode::Min };
            let unit = if relative { ThresholdMode::Relative } else { ThresholdMode::Absolute };
            let config = match rule {
                0 => ReduceOnPlateauConfig::keras(mode),
                1 => ReduceOnPlateauConfig::torch(mode),
                2 => ReduceOnPlateauConfig::optax(mode).with_accumulation(1 + cooldown),
                _ => ReduceOnPlateauConfig::greedy(mode).with_warmup(patience),
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

fn observation() -> impl Strategy<Value = Observation> {
    (metric(), option::of(metric()), 0..20u64, 0..9000u64).prop_map(|(m, train, steps, time)| {
        let seen = Observation::new(m).with_train_error(train).with_steps(steps);
        seen.with_tokens(7 * steps).with_elapsed(Duration::from_millis(time))
    })
}

/// Each kind of criterion there is.
fn criterion(
    kind: usize,
    config: EarlyStoppingConfig,
    plateau: &ReduceOnPlateauConfig,
) -> Box<dyn Criterion> {
    let early = || EarlyStopping::new(config).unwrap();
    let prechelt = |rule| Box::new(Prechelt::new(rule).unwrap());
    let (alpha, strip) = (config.min_delta, 1 + config.patience);
    let spikes = || {
        let config = SpikeConfig::new(config.mode).with_window(strip).with_rtol(alpha);
        SpikeDetector::new(config.with_max_consecutive(2)).unwrap()
    };
    match kind {
        0 => Box::new(early()),
        1 => Box::new(ReduceOnPlateau::new([0.1, 1.0], plateau.clone()).unwrap()),
        2 => prechelt(PrecheltRule::GeneralizationLoss { alpha }),
        3 => prechelt(PrecheltRule::ProgressQuotient { alpha, strip }),
        4 => prechelt(PrecheltRule::SuccessiveIncreases { increases: strip, strip: 2 }),
        5 => Box::new(spikes()),
        6 => Box::new(Smoothed::new(early(), Smoothing::Ema { decay: 0.7 }).unwrap()),
        7 => Box::new(Smoothed::new(early(), Smoothing::Median { window: strip }).unwrap()),
        _ => {
            let budget = Budget::new().with_steps(100).unwrap();
            let budget = budget.with_time(Duration::from_secs(50)).unwrap();
            let any = AnyOf::new().with("early", early()).unwrap();
            Box::new(any.with("spikes", spikes()).unwrap().with("budget", budget).unwrap())
        }
    }
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
        // By their text: a mean that is NaN is not equal to itself.
        prop_assert_eq!(format!("{resumed:?}"), format!("{whole:?}"));
        prop_assert_eq!(observe(&mut resumed, &after), observe(&mut whole, &after));
        prop_assert_eq!(format!("{resumed:?}"), format!("{whole:?}"));
    }

    #[test]
    fn rates_change_only_as_it_is_said_and_within_their_bounds(
        config in plateau(), metrics in vec(metric(), 0..40),
    ) {
        let mut plateau = ReduceOnPlateau::new([0.1, 1.0], config).unwrap();
        for metric in metrics {
            let before = plateau.rates().to_vec();
            let verdict = plateau.observe(metric);
            let pairs = || plateau.rates().iter().zip(&before);
            prop_assert!(verdict.increased || pairs().all(|(a, b)| a <= b));
            prop_assert!(verdict.reduced || pairs().all(|(a, b)| a >= b));
            prop_assert_eq!(verdict.reduced || verdict.increased, plateau.rates() != before);
            prop_assert!(!(verdict.reduced && verdict.improved));
            prop_assert!(plateau.rates().iter().all(|rate| (0.01..=1.0).contains(rate)));
        }
    }

    #[test]
    fn a_resumed_criterion_of_any_kind_goes_on_as_if_uninterrupted(
        kind in 0..9usize, config in config(), plateau in plateau(),
        before in vec(observation(), 0..20), after in vec(observation(), 0..20),
    ) {
        let make = || criterion(kind, config, &plateau);
        let (mut whole, mut resumed) = (make(), make());
        for seen in &before {
            let _ = whole.judge(seen);
        }
        let saved = whole.save_state();
        resumed.load_state(&saved).unwrap();
        // By their text: NaN is not equal to itself.
        prop_assert_eq!(format!("{:?}", resumed.save_state()), format!("{saved:?}"));
        for seen in &after {
            prop_assert_eq!(resumed.judge(seen), whole.judge(seen));
        }
        prop_assert_eq!(format!("{:?}", resumed.save_state()), format!("{:?}", whole.save_state()));
    }

    #[test]
    fn generalization_loss_stops_where_the_error_is_above_its_best_by_alpha_per_cent(
        errors in vec(0.1..2.0f64, 1..40), alpha in 0.0..50.0f64,
    ) {
        let mut gl = Prechelt::new(PrecheltRule::GeneralizationLoss { alpha }).unwrap();
        for (i, &error) in errors.iter().enumerate() {
            let best = errors[..=i].iter().copied().fold(f64::INFINITY, f64::min);
            let verdict = gl.observe(error, None);
            prop_assert_eq!(verdict.improved, errors[..i].iter().all(|&e| e > error));
            let loss = 100.0 * (error / best - 1.0);
            if (loss - alpha).abs() > 1e-9 {
                prop_assert_eq!(verdict.stop.is_some(), loss > alpha);
            }
        }
    }

    #[test]
    fn a_smoothed_metric_lies_among_those_it_is_made_of(
        metrics in vec(-2.0..2.0f64, 1..30), window in 1..8usize, decay in 0.0..0.99f64,
    ) {
        let stopper = || EarlyStopping::new(EarlyStoppingConfig::lightning(Mode::Min)).unwrap();
        let size = window as u64;
        for (smoothing, reach) in [
            (Smoothing::Mean { window: size }, window),
            (Smoothing::Median { window: size }, window),
            (Smoothing::Ema { decay }, metrics.len()),
        ] {
            let mut smoothed = Smoothed::new(stopper(), smoothing).unwrap();
            for i in 0..metrics.len() {
                let _ = smoothed.judge(&Observation::new(metrics[i]));
                let part = &metrics[(i + 1).saturating_sub(reach)..=i];
                let low = part.iter().copied().fold(f64::INFINITY, f64::min);
                let high = part.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let value = smoothed.value().unwrap();
                prop_assert!(value >= low - 1e-12 && value <= high + 1e-12, "{smoothing:?} {value}");
            }
        }
    }
}
