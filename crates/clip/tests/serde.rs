//! Configurations as text and back.
#![cfg(feature = "serde")]

use std::fmt::Debug;

use gradus_clip::{
    AdaGcConfig, AdaptiveClip, ClipNorm, NormType, OnNonFinite, ZClipConfig, ZClipScale,
};
use serde::{Serialize, de::DeserializeOwned};

#[track_caller]
fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
}

#[test]
fn configurations_come_back() {
    let clip = ClipNorm::new(0.3).with_norm_type(NormType::Lp(1.5));
    there_and_back(&clip.with_on_nonfinite(OnNonFinite::Skip));
    there_and_back(&AdaptiveClip::new(0.02).with_eps(1e-4).with_on_nonfinite(OnNonFinite::Zero));
    let zclip = ZClipConfig::new().with_scale(ZClipScale::Threshold).with_max_norm(None);
    there_and_back(&zclip.with_learn_from_spikes(false));
    there_and_back(&AdaGcConfig::new().with_relative(1.1).with_warmup_steps(7));
}

#[test]
fn what_is_not_written_is_the_default_and_what_is_unknown_an_error() {
    assert_eq!(serde_json::from_str::<ClipNorm>(r#"{"max_norm":2}"#).unwrap(), ClipNorm::new(2.0));
    assert_eq!(
        serde_json::from_str::<AdaptiveClip>(r#"{"clip":0.01}"#).unwrap(),
        AdaptiveClip::new(0.01)
    );
    assert_eq!(
        serde_json::from_str::<ZClipConfig>(r#"{"alpha":0.9}"#).unwrap(),
        ZClipConfig::new().with_alpha(0.9)
    );
    assert!(serde_json::from_str::<ClipNorm>(r#"{"max_norm":null}"#).is_err());
    let error = serde_json::from_str::<AdaGcConfig>(r#"{"realtive":1.1}"#).unwrap_err();
    assert!(error.to_string().contains("realtive"), "{error}");
}
