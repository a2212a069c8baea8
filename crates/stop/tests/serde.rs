//! Configurations as text and back.
#![cfg(feature = "serde")]

use std::fmt::Debug;

use gradus_stop::{
    EarlyStoppingConfig, Mode, PrecheltRule, ReduceOnPlateau, ReduceOnPlateauConfig, Smoothing,
    SpikeConfig, ThresholdMode,
};
use serde::{Serialize, de::DeserializeOwned};

#[track_caller]
fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let text = serde_json::to_string(&value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
}

#[test]
fn configurations_come_back() {
    let early = EarlyStoppingConfig::keras(Mode::Max).with_baseline(0.7).with_min_delta(0.1);
    there_and_back(early.with_delta_mode(ThresholdMode::Magnitude));
    there_and_back(EarlyStoppingConfig::lightning(Mode::Min).with_divergence_threshold(9.0));
    there_and_back(ReduceOnPlateauConfig::greedy(Mode::Min).with_min_rates([0.1, 0.2]));
    there_and_back(ReduceOnPlateauConfig::optax(Mode::Min).with_accumulation(5));
    there_and_back(SpikeConfig::new(Mode::Min).with_max_consecutive(3));
    there_and_back(PrecheltRule::ProgressQuotient { alpha: 0.7, strip: 5 });
    there_and_back([Smoothing::Ema { decay: 0.9 }, Smoothing::Median { window: 5 }]);
}

#[test]
fn what_is_unknown_is_an_error_and_what_is_wrong_is_found_when_it_is_used() {
    let text = serde_json::to_string(&SpikeConfig::new(Mode::Min)).unwrap();
    assert!(serde_json::from_str::<SpikeConfig>(&text.replace("rtol", "tolerance")).is_err());
    let text = serde_json::to_string(&ReduceOnPlateauConfig::torch(Mode::Min)).unwrap();
    let config: ReduceOnPlateauConfig =
        serde_json::from_str(&text.replace("\"factor\":0.1", "\"factor\":1.5")).unwrap();
    assert!(ReduceOnPlateau::new([0.1], config).is_err());
}
