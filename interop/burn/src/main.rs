//! A burn module, burn's autodiff and burn's AdamW; from gradus the starting weights, the schedule, and a clip over all
//! gradients together (burn's own clips each tensor by itself).

#![forbid(unsafe_code)]

mod params;

use std::error::Error;

use burn::{
    lr_scheduler::{LrScheduler, module_lr_scheduler::ModuleLrScheduler},
    module::Module,
    nn::{Linear, LinearConfig, loss::CrossEntropyLossConfig},
    optim::{AdamWConfig, GradientsParams},
    tensor::{Device, Int, Tensor, TensorData, activation::relu},
};
use digits::{CLASSES, Digits, PIXELS, Part};
use gradus_clip::{ClipNorm, clip_grad_norm};
use gradus_core::{ParamKind, Schedule, require_gradients};
use gradus_init::{FanMode, Init, Layout, Nonlinearity, init_parameters};
use gradus_schedule::warmup_cosine;

use crate::params::{BurnSchedule, read, read_with_grads, write, write_grads};

const SEED: u64 = 42;
const BATCH: usize = 32;
const EPOCHS: u64 = 15;

fn main() -> Result<(), Box<dyn Error>> {
    starting_weights_are_a_function_of_seed_and_name()?;
    a_schedule_goes_on_from_its_record()?;
    training()?;
    println!("burn: all as expected");
    Ok(())
}

#[derive(Module, Debug)]
struct Mlp {
    hidden: Linear,
    head: Linear,
}

/// burn's linear weights are `[in, out]`.
fn he() -> Init {
    Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn).with_layout(Layout::InOut)
}

impl Mlp {
    /// A module that starts from what gradus drew for this seed.
    fn new(seed: u64, device: &Device) -> Result<Self, Box<dyn Error>> {
        let mlp = Self {
            hidden: LinearConfig::new(PIXELS, 128).init(device),
            head: LinearConfig::new(128, CLASSES).init(device),
        };
        let mut params = read(&mlp);
        init_parameters(&mut params, seed, |p| {
            Some(if p.kind == ParamKind::Weight { he() } else { Init::zeros() })
        })?;
        Ok(write(mlp, &params))
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.head.forward(relu(self.hidden.forward(x)))
    }

    fn loss(&self, x: Tensor<2>, y: Tensor<1, Int>) -> Tensor<1> {
        let logits = self.forward(x);
        CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, y)
    }

    /// Mean loss and accuracy.
    fn evaluate(&self, part: &Part, device: &Device) -> (f32, f32) {
        let (x, y) = tensors(part, device);
        let found = self.forward(x.clone()).argmax(1).reshape([part.len()]);
        let right = found.equal(y.clone()).float().mean();
        (self.loss(x, y).into_scalar(), right.into_scalar())
    }
}

fn tensors(part: &Part, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    let x = TensorData::new(part.images.clone(), [part.len(), PIXELS]);
    let y = part.labels.iter().map(|&l| i64::from(l)).collect();
    (Tensor::from_data(x, device), Tensor::from_data(TensorData::new(y, [part.len()]), device))
}

fn starting_weights_are_a_function_of_seed_and_name() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    let weights = |seed| Mlp::new(seed, &device).map(|mlp| read(&mlp));
    assert_eq!(weights(SEED)?, weights(SEED)?);
    assert_ne!(weights(SEED)?, weights(SEED + 1)?);
    // Whatever else is in the module, and whenever it is made.
    let mut alone = vec![0f32; 128 * CLASSES];
    he().fill(SEED, "head.weight", &[128, CLASSES], &mut alone)?;
    let found = weights(SEED)?.into_iter().find(|p| p.name == "head.weight");
    assert_eq!(found.map(|p| p.value), Some(alone));
    Ok(())
}

fn a_schedule_goes_on_from_its_record() -> Result<(), Box<dyn Error>> {
    let lr = warmup_cosine(3e-3, 10, 100)?;
    let (mut whole, mut resumed) = (BurnSchedule::new(lr), BurnSchedule::new(lr));
    for step in 0..40 {
        assert_eq!(whole.step(), lr.value(step));
    }
    resumed.load_record(whole.to_record());
    assert_eq!(resumed.step(), lr.value(40));
    Ok(())
}

fn training() -> Result<(), Box<dyn Error>> {
    let digits = Digits::load()?;
    let device = Device::flex().autodiff();
    let mut model = Mlp::new(SEED, &device)?;
    let steps_per_epoch = digits.train.len().div_ceil(BATCH) as u64;
    let lr = warmup_cosine(5e-3, steps_per_epoch, EPOCHS * steps_per_epoch)?;
    let mut lr = ModuleLrScheduler::new(BurnSchedule::new(lr));
    let clip = ClipNorm::new(1.0);
    let mut optimizer = AdamWConfig::new().init();
    let (before, _) = model.valid().evaluate(&digits.test, &device.clone().inner());

    let (mut steps, mut clipped) = (0, 0);
    for epoch in 0..EPOCHS {
        for batch in digits.train.batches(BATCH, SEED, epoch) {
            let (x, y) = tensors(&batch, &device);
            let mut grads = GradientsParams::from_grads(model.loss(x, y).backward(), &model);
            let mut params = read_with_grads(&model, &grads);
            require_gradients(&mut params)?;
            let report = clip_grad_norm(&mut params, &clip)?;
            write_grads(&model, &params, &mut grads);
            model = optimizer.step(lr.step(), model, grads);
            steps += 1;
            clipped += u64::from(report.clipped);
        }
    }

    let (after, accuracy) = model.valid().evaluate(&digits.test, &device.inner());
    println!(
        "burn: {steps} steps, {clipped} of them clipped; loss {before:.3} -> {after:.3}, accuracy {accuracy:.3}"
    );
    assert!(0 < clipped && clipped < steps);
    assert!(after < before / 5.0 && accuracy > 0.94);
    Ok(())
}
