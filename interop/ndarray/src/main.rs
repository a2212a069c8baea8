//! A network written by hand on ndarray, trained with all of floor 1: starting weights, schedule, clip, optimizer with
//! groups, moving average of the weights, early stopping.

#![forbid(unsafe_code)]

mod mlp;
mod params;

use std::error::Error;

use digits::{Digits, PIXELS, Part};
use gradus_clip::{ClipNorm, clip_grad_norm};
use gradus_core::{GradientTransform, ParamKind, State};
use gradus_init::{FanMode, Init, Layout, Nonlinearity, init_parameters};
use gradus_optim::{
    Adam, AdamConfig, Average, Ema, EmaConfig, EmaDecay, Group, Groups, OptimError,
};
use gradus_schedule::{Schedule, warmup_cosine};
use gradus_stop::{EarlyStopping, EarlyStoppingConfig, Mode, Reason};
use ndarray::ArrayView2;

use crate::mlp::Mlp;

const SEED: u64 = 42;
const BATCH: usize = 32;
const MAX_EPOCHS: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let digits = Digits::load()?;
    let mut mlp = started(SEED)?;
    let weights = |mut mlp: Mlp| Average::of(&mut mlp).map(|copy| copy.save_state());
    assert_eq!(weights(started(SEED)?)?, weights(started(SEED)?)?);
    assert_ne!(weights(started(SEED)?)?, weights(started(SEED + 1)?)?);

    let steps_per_epoch = digits.train.len().div_ceil(BATCH) as u64;
    let lr = warmup_cosine(3e-3, 2 * steps_per_epoch, MAX_EPOCHS * steps_per_epoch)?;
    let clip = ClipNorm::new(1.0);
    let mut optimizer = decay_for_weights_alone()?;
    let mut ema = Ema::new(EmaConfig::new([EmaDecay::constant(0.99)?]))?;
    let rules = EarlyStoppingConfig::lightning(Mode::Min).with_patience(5).with_min_delta(1e-3);
    let mut stopper = EarlyStopping::new(rules)?;
    let mut best = Average::of(&mut mlp)?;

    let (mut step, mut clipped, mut reason) = (0, 0, None);
    for epoch in 0..MAX_EPOCHS {
        for batch in digits.train.batches(BATCH, SEED, epoch) {
            mlp.backward(images(&batch), &batch.labels);
            let report = clip_grad_norm(&mut mlp, &clip)?;
            assert!(report.norm_after <= 1.0);
            clipped += u64::from(report.clipped);
            optimizer.step(lr.value(step), &mut mlp)?;
            ema.update(&mut mlp)?;
            step += 1;
        }
        let averaged = ema.average(0).swap_into(&mut mlp)?;
        let verdict =
            stopper.observe(averaged.evaluate(images(&digits.valid), &digits.valid.labels).loss);
        drop(averaged);
        if verdict.improved {
            best = ema.average(0).clone();
        }
        reason = verdict.stop;
        if reason.is_some() {
            break;
        }
    }

    let test = |mlp: &Mlp| mlp.evaluate(images(&digits.test), &digits.test.labels).accuracy;
    let plain = test(&mlp);
    best.copy_to(&mut mlp)?;
    let averaged = test(&mlp);
    println!(
        "ndarray: {} epochs, {step} steps, {clipped} of them clipped; accuracy {plain:.3}, of the best average \
         {averaged:.3}",
        stopper.epochs()
    );
    assert_eq!(reason, Some(Reason::PatienceExhausted));
    assert!(0 < clipped && clipped < step);
    assert!(averaged > 0.94 && averaged > plain - 0.02);
    println!("ndarray: all as expected");
    Ok(())
}

/// A network that starts from what gradus drew for this seed. Its weights are `[in, out]`.
fn started(seed: u64) -> Result<Mlp, Box<dyn Error>> {
    let mut mlp = Mlp::new(128);
    let he = Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn).with_layout(Layout::InOut);
    init_parameters(&mut mlp, seed, |p| {
        Some(if p.kind == ParamKind::Weight { he } else { Init::zeros() })
    })?;
    Ok(mlp)
}

/// AdamW in two groups: weights decay, biases do not.
fn decay_for_weights_alone() -> Result<Groups, OptimError> {
    let weights = Adam::new(AdamConfig::adamw().with_weight_decay(0.05))?;
    let others = Adam::new(AdamConfig::adamw().with_weight_decay(0.0))?;
    let are_weights = |_name: &str, _shape: &[usize], kind| kind == ParamKind::Weight;
    Ok(Groups::new().then(Group::new(are_weights, weights)).otherwise(others))
}

fn images(part: &Part) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((part.len(), PIXELS), &part.images).expect("rows of pixels")
}
