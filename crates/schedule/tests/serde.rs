//! Schedules as text and back, and what is no schedule.
#![cfg(feature = "serde")]

use std::fmt::Debug;

use gradus_schedule::{
    Anneal, AnySchedule, Constant, CosineAnnealing, CosineWave, Cyclic, CyclicMode,
    ExponentialDecay, Groups, InverseSqrt, InverseTime, Linear, MultiStepDecay, Noam, NoiseKind,
    OneCycle, Past, Piecewise, PiecewiseConstant, Polynomial, PowerLaw, Schedule, ScheduleError,
    ScheduleExt, Sequential, Shape, StepDecay, WarmRestarts, warmup_stable_decay,
};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

#[track_caller]
fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let text = serde_json::to_string(&value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
}

#[test]
fn every_schedule_comes_back() -> Result<(), ScheduleError> {
    let line = Linear::new(0.1, 0.3, 7)?;
    there_and_back(line);
    there_and_back(Constant::new(0.1)?);
    there_and_back(StepDecay::new(0.1, 3, 0.5)?);
    there_and_back(MultiStepDecay::new(0.1, [5, 3, 3], 0.5)?);
    there_and_back(PiecewiseConstant::new(0.1, [(7, 0.5), (3, 2.0)])?);
    there_and_back(ExponentialDecay::new(0.1, 0.99)?.with_period(4)?);
    there_and_back(Polynomial::new(0.1, 0.0, 5, 0.9)?.with_cycle(true));
    there_and_back(CosineAnnealing::new(0.1, 0.0, 5)?.with_k_decay(2.0)?.with_past(Past::Restart));
    there_and_back(CosineWave::new(0.1, 0.0, 5, 1.5)?);
    let restarts = WarmRestarts::within(0.1, 0.0, 7, 3)?.with_growth(2.0)?;
    there_and_back(restarts.with_shape(Shape::TANH)?.with_decay(0.3)?);
    there_and_back(Cyclic::new(0.1, 0.9, 5)?.with_mode(CyclicMode::ExpRange(0.9))?);
    there_and_back(InverseSqrt::new(0.1, 5)?);
    there_and_back(Noam::new(512, 4000)?);
    there_and_back(InverseTime::new(0.1, 0.5)?.with_period(3)?.with_staircase(true));
    there_and_back(PowerLaw::new(0.1, 4.0, 0.51)?.with_tokens_per_step(1 << 20)?);
    there_and_back(Anneal::new(0.1, 0.0, 5, Shape::Power(0.7))?);
    there_and_back(Piecewise::new(0.1, [(3, 0.2), (9, 0.0)], Shape::Rex)?);
    there_and_back(OneCycle::new(0.1, 10).with_three_phase(true));
    there_and_back(OneCycle::new(0.1, 10).with_pct_start(0.0).rate()?);
    there_and_back(Sequential::new([line, line], [4])?);
    there_and_back(line.then(3, Constant::new(0.3)?));
    there_and_back(line.warmup(3).with_start_factor(0.3)?.with_delay(false));
    there_and_back(warmup_stable_decay(0.1, 2, 3, 4)?.with_end(0.01)?);
    there_and_back(line.ending(3, Past::Periodic)?);
    there_and_back(line.delay(3).every(2)?.at_epoch(5)?);
    there_and_back(line.clamp(0.1, 0.2)?.scale(3.0)?);
    there_and_back(line.times(line).plus(line.min(line).max(line)));
    there_and_back(line.noise(0.5, 7)?.with_kind(NoiseKind::Uniform).with_range(3, 9));
    there_and_back(Groups::new([("a", line), ("b", line)])?);
    Ok(())
}

#[test]
fn a_configuration_chooses_and_says_little() {
    let text = r#"{
        "kind": "warmup", "steps": 10,
        "schedule": { "kind": "cosine_annealing", "start": 0.1, "end": 0.0, "steps": 90 }
    }"#;
    let any: AnySchedule = serde_json::from_str(text).unwrap();
    let want = CosineAnnealing::new(0.1, 0.0, 90).unwrap().warmup(10);
    for t in 0..120 {
        assert_eq!(any.value(t), want.value(t), "step {t}");
    }
    there_and_back(any);
    let sequence = r#"{"kind": "sequential", "milestones": [5], "schedules": [
        {"kind": "constant", "value": 0.5}, {"kind": "warm_restarts", "start": 1, "end": 0, "first_cycle": 4}]}"#;
    let any: AnySchedule = serde_json::from_str(sequence).unwrap();
    assert_eq!([any.value(4), any.value(5), any.value(9)], [0.5, 1.0, 1.0]);
    there_and_back(any);
}

#[track_caller]
fn refused<T: DeserializeOwned + Debug>(text: &str, why: &str) {
    let error = serde_json::from_str::<T>(text).unwrap_err().to_string();
    assert!(error.contains(why), "{text}: {error}");
}

#[test]
fn what_no_constructor_takes_is_not_read() {
    refused::<Linear>(r#"{"start":0.1,"end":0,"steps":0}"#, "steps must be at least 1");
    refused::<Linear>(r#"{"start":-0.1,"end":0,"steps":5}"#, "start must be finite");
    refused::<Linear>(r#"{"start":null,"end":0,"steps":5}"#, "null");
    refused::<Linear>(r#"{"start":1e999,"end":0,"steps":5}"#, "number out of range");
    refused::<Linear>(r#"{"start":0.1,"end":0,"stpes":5}"#, "stpes");
    refused::<Noam>(r#"{"d_model":512,"warmup_steps":0}"#, "warmup_steps must be at least 1");
    refused::<Shape>(r#"{"power":0}"#, "power must be");
    refused::<Anneal>(r#"{"start":1,"end":0,"steps":5,"shape":{"power":-1}}"#, "power must be");
    refused::<CosineAnnealing>(r#"{"start":1,"end":0,"steps":5,"exponent":0}"#, "exponent");
    refused::<Cyclic>(r#"{"base":0,"peak":1,"steps_up":5,"steps_down":0}"#, "steps_down");
    let mode = r#"{"base":0,"peak":1,"steps_up":5,"steps_down":5,"mode":{"exp_range":-1}}"#;
    refused::<Cyclic>(mode, "gamma");
    refused::<Piecewise>(r#"{"knots":[],"shape":"linear"}"#, "knots must be at least 1");
    refused::<Piecewise>(r#"{"knots":[[0,1],[1e300,0]],"shape":"linear"}"#, "position must be");
    refused::<PiecewiseConstant>(r#"{"start":1,"pieces":[[5,1],[3,1]]}"#, "milestone 1 is 3");
    refused::<WarmRestarts>(r#"{"start":1,"end":0,"first_cycle":5,"pace":0}"#, "cycles");
    refused::<WarmRestarts>(r#"{"start":1,"end":0,"first_cycle":5,"growth":0.5}"#, "growth");
    let one = r#"{"value":1}"#;
    let with = |rest: &str| format!(r#"{{"schedule":{one},{rest}}}"#);
    refused::<gradus_schedule::Every<Constant>>(&with(r#""steps":0"#), "steps");
    refused::<gradus_schedule::AtEpoch<Constant>>(&with(r#""steps_per_epoch":0"#), "steps_per");
    refused::<gradus_schedule::Clamped<Constant>>(&with(r#""min":2,"max":1"#), "at most max");
    refused::<gradus_schedule::Scaled<Constant>>(&with(r#""factor":-2"#), "factor");
    refused::<gradus_schedule::Noise<Constant>>(&with(r#""amount":2,"seed":1"#), "amount");
    refused::<gradus_schedule::Warmup<Constant>>(
        &with(r#""steps":2,"start_factor":-1"#),
        "start_factor",
    );
    refused::<gradus_schedule::Cooldown<Constant>>(&with(r#""at":2,"steps":2,"end":-1"#), "end");
    refused::<gradus_schedule::Ending<Constant>>(&with(r#""steps":0,"past":"hold""#), "steps");
    refused::<Sequential<Constant>>(
        &format!(r#"{{"schedules":[{one},{one}],"milestones":[]}}"#),
        "milestones",
    );
    // What is wrong deep inside is found, too.
    let inner = r#"{"kind":"constant","value":-1}"#;
    refused::<AnySchedule>(
        &format!(r#"{{"kind":"warmup","steps":5,"schedule":{inner}}}"#),
        "value must be",
    );
    refused::<AnySchedule>(r#"{"kind":"sawtooth"}"#, "sawtooth");
    refused::<Groups<Constant>>(r#"{"a":{"value":1},"b":{"value":-1}}"#, "value must be");
}

proptest! {
    #[test]
    fn what_was_read_gives_the_same_bits(
        a in 0.0..10.0f64, b in 0.0..10.0f64, n in 1..500u64, x in 0.1..3.0f64, step: u64,
    ) {
        let s = WarmRestarts::new(a, b, n).unwrap().with_growth(1.0 + x).unwrap().with_k_decay(x).unwrap();
        let s = s.warmup(n / 2).then(5 * n, ExponentialDecay::new(a, x).unwrap().clamp(0.0, a).unwrap());
        let mut back = s.warmup(0);
        back = serde_json::from_str(&serde_json::to_string(&back).unwrap()).unwrap();
        for t in [0, n / 3, n, 7 * n, step] {
            prop_assert_eq!(back.value(t).to_bits(), s.value(t).to_bits());
        }
    }
}
