//! A candle model, candle's autograd and candle's AdamW; from gradus the starting weights, the schedule, the clip, the
//! moving average of the weights and early stopping. Then the same model in half precision, with master weights, the loss
//! scale and AdamW from gradus.

#![forbid(unsafe_code)]

mod params;

use std::error::Error;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{
    AdamW, Linear, Module, Optimizer, VarBuilder, VarMap, linear, loss::cross_entropy, ops,
};
use digits::{CLASSES, Digits, PIXELS, Part};
use gradus_amp::{DynamicScale, LossScaler, MasterWeights, Rounding};
use gradus_clip::{ClipNorm, clip_grad_norm};
use gradus_core::{GradientTransform, ParamKind, State, StepError, require_gradients};
use gradus_init::{FanMode, Init, Nonlinearity, init_parameters};
use gradus_optim::{Adam, AdamConfig, Average, Ema, EmaConfig, EmaDecay};
use gradus_schedule::{Schedule, warmup_cosine};
use gradus_stop::{EarlyStopping, EarlyStoppingConfig, Mode, Reason};

use crate::params::CandleParams;

const SEED: u64 = 42;
const BATCH: usize = 32;
const MAX_EPOCHS: u64 = 100;

fn main() -> std::result::Result<(), Box<dyn Error>> {
    starting_weights_are_a_function_of_the_seed()?;
    training()?;
    a_lost_gradient_is_named()?;
    half_precision_needs_a_scale()?;
    println!("candle: all as expected");
    Ok(())
}

struct Mlp {
    hidden: Linear,
    head: Linear,
}

impl Mlp {
    /// The model and its parameters, which start from what gradus drew for this seed.
    fn new(seed: u64) -> std::result::Result<(Self, CandleParams), Box<dyn Error>> {
        Self::stored(DType::F32, seed)
    }

    /// The same in this type.
    fn stored(
        dtype: DType,
        seed: u64,
    ) -> std::result::Result<(Self, CandleParams), Box<dyn Error>> {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, dtype, &Device::Cpu);
        let model = Self {
            hidden: linear(PIXELS, 128, vb.pp("hidden"))?,
            head: linear(128, CLASSES, vb.pp("head"))?,
        };
        let mut params = CandleParams::new(&map)?;
        let he = Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn);
        init_parameters(&mut params, seed, |p| {
            Some(if p.kind == ParamKind::Weight { he } else { Init::zeros() })
        })?;
        Ok((model, params))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.hidden.forward(x)?.relu()?)
    }

    /// Mean loss and accuracy.
    fn evaluate(&self, part: &Part) -> Result<(f64, f64)> {
        let (x, y) = tensors(part)?;
        let logits = self.forward(&x)?;
        let right = logits.argmax(D::Minus1)?.eq(&y)?.to_dtype(DType::F32)?.mean_all()?;
        let loss = cross_entropy(&logits, &y)?;
        Ok((loss.to_scalar::<f32>()?.into(), right.to_scalar::<f32>()?.into()))
    }
}

fn tensors(part: &Part) -> Result<(Tensor, Tensor)> {
    let x = Tensor::from_slice(&part.images, (part.len(), PIXELS), &Device::Cpu)?;
    Ok((x, Tensor::from_slice(&part.labels, part.len(), &Device::Cpu)?))
}

/// candle itself cannot do this on the CPU: its generator has no seed.
fn starting_weights_are_a_function_of_the_seed() -> std::result::Result<(), Box<dyn Error>> {
    assert!(Device::Cpu.set_seed(SEED).is_err());
    let weights = |mut params: CandleParams| Average::of(&mut params).map(|copy| copy.save_state());
    assert_eq!(weights(Mlp::new(SEED)?.1)?, weights(Mlp::new(SEED)?.1)?);
    assert_ne!(weights(Mlp::new(SEED)?.1)?, weights(Mlp::new(SEED + 1)?.1)?);
    Ok(())
}

fn training() -> std::result::Result<(), Box<dyn Error>> {
    let digits = Digits::load()?;
    let (model, mut params) = Mlp::new(SEED)?;
    let steps_per_epoch = digits.train.len().div_ceil(BATCH) as u64;
    let lr = warmup_cosine(3e-3, 2 * steps_per_epoch, MAX_EPOCHS * steps_per_epoch)?;
    let clip = ClipNorm::new(1.0);
    let mut optimizer = AdamW::new_lr(params.vars(), lr.value(0))?;
    let mut ema = Ema::new(EmaConfig::new([EmaDecay::constant(0.99)?]))?;
    let rules = EarlyStoppingConfig::lightning(Mode::Min).with_patience(5).with_min_delta(1e-3);
    let mut stopper = EarlyStopping::new(rules)?;
    let mut best = Average::of(&mut params)?;

    let (mut step, mut clipped) = (0, 0);
    let reason = 'training: {
        for epoch in 0..MAX_EPOCHS {
            for batch in digits.train.batches(BATCH, SEED, epoch) {
                let (x, y) = tensors(&batch)?;
                let mut grads = cross_entropy(&model.forward(&x)?, &y)?.backward()?;
                params.bind(&mut grads)?;
                require_gradients(&mut params)?;
                let report = clip_grad_norm(&mut params, &clip)?;
                assert!(report.norm_after <= 1.0);
                clipped += u64::from(report.clipped);
                optimizer.set_learning_rate(lr.value(step));
                optimizer.step(&grads)?;
                ema.update(&mut params)?;
                step += 1;
            }
            let averaged = ema.average(0).swap_into(&mut params)?;
            let verdict = stopper.observe(model.evaluate(&digits.valid)?.0);
            drop(averaged);
            if verdict.improved {
                best = ema.average(0).clone();
            }
            if let Some(reason) = verdict.stop {
                break 'training Some(reason);
            }
        }
        None
    };

    let (_, plain) = model.evaluate(&digits.test)?;
    best.copy_to(&mut params)?;
    let (_, averaged) = model.evaluate(&digits.test)?;
    println!(
        "candle: {} epochs, {step} steps, {clipped} of them clipped; \
         accuracy {plain:.3}, of the best average {averaged:.3}",
        stopper.epochs()
    );
    assert_eq!(reason, Some(Reason::PatienceExhausted));
    assert!(0 < clipped && clipped < step);
    assert!(averaged > 0.94 && averaged > plain - 0.02);
    Ok(())
}

/// Backward does not go through candle's fused layer norm: nothing from there down gets a gradient, and candle's
/// optimizers pass over parameters without one.
fn a_lost_gradient_is_named() -> std::result::Result<(), Box<dyn Error>> {
    type Norm = fn(&Tensor, &Tensor, &Tensor, f32) -> Result<Tensor>;
    let check = |norm: Norm| -> Result<_> {
        let map = VarMap::new();
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let below = linear(PIXELS, 32, vb.pp("below"))?;
        let scale = vb.get_with_hints(32, "norm.weight", candle_nn::Init::Const(1.0))?;
        let shift = vb.get_with_hints(32, "norm.bias", candle_nn::Init::Const(0.0))?;
        let above = linear(32, CLASSES, vb.pp("above"))?;
        let x = Tensor::ones((2, PIXELS), DType::F32, &Device::Cpu)?;
        let y = Tensor::new(&[3u32, 5], &Device::Cpu)?;
        let logits = above.forward(&norm(&below.forward(&x)?, &scale, &shift, 1e-5)?)?;
        let mut grads = cross_entropy(&logits, &y)?.backward()?;
        // candle has no complaint.
        AdamW::new_lr(map.all_vars(), 1e-3)?.step(&grads)?;
        let mut params = CandleParams::new(&map)?;
        params.bind(&mut grads)?;
        Ok(require_gradients(&mut params))
    };
    let names = ["below.bias", "below.weight", "norm.bias", "norm.weight"].map(String::from).into();
    let lost = StepError::MissingGradient { names };
    println!("candle: fused layer norm: {lost}");
    assert_eq!(check(ops::layer_norm)?, Err(lost));
    assert_eq!(check(ops::layer_norm_slow)?, Ok(()));
    Ok(())
}

/// A loss that counts little, like one position of a sum over millions: its gradients are below what half precision
/// holds, until they are scaled.
fn half_precision_needs_a_scale() -> std::result::Result<(), Box<dyn Error>> {
    let digits = Digits::load()?;
    let (lost, _) = trained_in_half(&digits, LossScaler::none())?;
    // Far too large at first: the scaler skips steps until it has found its size.
    let large = DynamicScale::default().with_init_scale(2f32.powi(44));
    let (saved, skipped) = trained_in_half(&digits, LossScaler::with_config(large)?)?;
    println!(
        "candle in f16: accuracy {lost:.3} without a scale, {saved:.3} with one, {skipped} steps skipped"
    );
    assert!(lost < 0.3 && saved > 0.93 && (1..40).contains(&skipped));
    Ok(())
}

/// The accuracy of a model in f16 after a few epochs, and the number of steps that its scaler skipped.
fn trained_in_half(
    digits: &Digits,
    mut scaler: LossScaler,
) -> std::result::Result<(f64, u64), Box<dyn Error>> {
    const EPOCHS: u64 = 8;
    let weight = 2f64.powi(-24);
    let (model, mut params) = Mlp::stored(DType::F16, SEED)?;
    let logits = |x: &Tensor| model.forward(&x.to_dtype(DType::F16)?)?.to_dtype(DType::F32);
    let mut master = MasterWeights::new(&mut params)?;
    // The true gradients are far below the usual eps.
    let mut adam = Adam::new(AdamConfig::adamw().with_eps(1e-16))?;
    let steps_per_epoch = digits.train.len().div_ceil(BATCH) as u64;
    let lr = warmup_cosine(3e-3, steps_per_epoch, EPOCHS * steps_per_epoch)?;
    let clip = ClipNorm::new(1.0);
    let mut step = 0;
    for epoch in 0..EPOCHS {
        for batch in digits.train.batches(BATCH, SEED, epoch) {
            let (x, y) = tensors(&batch)?;
            let loss = cross_entropy(&logits(&x)?, &y)?;
            let mut grads = (loss * (weight * f64::from(scaler.scale())))?.backward()?;
            params.bind(&mut grads)?;
            let mut wide = master.widen(&mut params)?;
            let outcome = scaler.step(&mut wide, |mut finite| {
                finite.clip(|params| clip_grad_norm(params, &clip))?;
                finite.step(|params| adam.step(lr.value(step), params))?;
                Ok::<_, Box<dyn Error>>(())
            })?;
            if outcome.stepped() {
                wide.round(Rounding::Nearest);
                step += 1;
            }
        }
    }
    let (x, y) = tensors(&digits.test)?;
    let right = logits(&x)?.argmax(D::Minus1)?.eq(&y)?.to_dtype(DType::F32)?.mean_all()?;
    Ok((right.to_scalar::<f32>()?.into(), scaler.skipped()))
}
