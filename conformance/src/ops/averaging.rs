//! Weight averaging and SAM, of the area `regularize`.

use gradus_autograd::{Reduction, Tape, Tensor};
use gradus_core::{
    FloatElement, GradientTransform, Parameters, Schedule, SliceMut, VecParam, bf16, f16,
};
use gradus_optim::{
    Average, Ema, EmaConfig, EmaDecay, Sam, SamConfig, Sgd, SgdConfig, Swa, SwaConfig, TimmDecay,
};

use super::Table;
use crate::{
    answer::{Answer, Failure, Values},
    array::{Array, Data},
    case::{Args, Case},
};

pub(super) const OPS: Table = &[("ema", ema), ("swa", swa), ("sam", sam)];

/// Runs `$f::<T>($arg ..)` for the element type of an array.
macro_rules! by_type {
    ($array:expr, $f:ident($($arg:expr),*)) => {
        match $array.data {
            Data::F32(_) => $f::<f32>($($arg),*),
            Data::F64(_) => $f::<f64>($($arg),*),
            Data::F16(_) => $f::<f16>($($arg),*),
            Data::BF16(_) => $f::<bf16>($($arg),*),
            _ => Err(Failure::unsupported(format!("parameters of type {}", $array.dtype()))),
        }
    };
}

/// A type of parameters, as arrays have it.
trait Number: FloatElement {
    fn read(array: &Array) -> Result<Vec<Self>, Failure>;
    fn data(values: Vec<Self>) -> Data;
}

macro_rules! number {
    ($($t:ty => $variant:ident),*) => {$(
        impl Number for $t {
            fn read(array: &Array) -> Result<Vec<Self>, Failure> {
                match &array.data {
                    Data::$variant(v) => Ok(v.clone()),
                    _ => Err(Failure::unsupported(format!("{} among others", array.dtype()))),
                }
            }
            fn data(values: Vec<Self>) -> Data {
                Data::$variant(values)
            }
        }
    )*};
}
number!(f32 => F32, f64 => F64, f16 => F16, bf16 => BF16);

/// An average and the parameters that it follows.
trait Averager {
    fn init(&mut self, params: &mut dyn Parameters) -> Result<(), Failure>;
    fn update(&mut self, params: &mut dyn Parameters) -> Result<(), Failure>;
    fn average(&self) -> &Average;
}

impl<D: Schedule> Averager for Ema<D> {
    fn init(&mut self, params: &mut dyn Parameters) -> Result<(), Failure> {
        Ok(self.init(params)?)
    }
    fn update(&mut self, params: &mut dyn Parameters) -> Result<(), Failure> {
        self.update(params)?;
        Ok(())
    }
    fn average(&self) -> &Average {
        self.average(0)
    }
}

impl Averager for Swa {
    fn init(&mut self, params: &mut dyn Parameters) -> Result<(), Failure> {
        Ok(self.init(params)?)
    }
    fn update(&mut self, params: &mut dyn Parameters) -> Result<(), Failure> {
        self.update(params)?;
        Ok(())
    }
    fn average(&self) -> &Average {
        self.average()
    }
}

/// The average after each of the steps of a case.
fn follow<T: Number>(case: &Case, averager: &mut dyn Averager) -> Result<Answer, Failure>
where
    for<'a> SliceMut<'a>: From<&'a mut [T]>,
{
    let (init, steps) = (case.array("init")?, case.array("p")?);
    let mut params = vec![VecParam::new("p", &init.shape, T::read(init)?)];
    averager.init(&mut params)?;
    let mut history = Vec::new();
    for t in 0..steps.shape[0] {
        params[0].value = T::read(&steps.at(t))?;
        averager.update(&mut params)?;
        let mut averaged = params.clone();
        averager.average().copy_to(&mut averaged)?;
        history.extend_from_slice(&averaged[0].value);
    }
    let mut values = Values::new();
    values.out("avg", Array::new(&steps.shape, T::data(history)));
    Ok(values.into())
}

fn ema(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let kind: String = args.to("kind")?;
    let decay: f64 = args.to("decay")?;
    let decays = match kind.as_str() {
        "averaged_model" => EmaDecay::averaged_model(decay)?,
        "zero_init" => EmaDecay::constant(decay)?,
        "bias_corrected" => EmaDecay::bias_corrected(decay)?,
        "timm_v3" => timm(args, decay)?,
        "tf_warmup" => EmaDecay::tf_warmup(decay)?,
        other => return Err(Failure::unsupported(format!("kind {other}"))),
    };
    let config = EmaConfig::new([decays]).with_zero_init(kind == "zero_init");
    let mut ema = Ema::new(config)?;
    by_type!(case.array("init")?, follow(case, &mut ema))
}

fn timm(args: &Args, decay: f64) -> Result<EmaDecay, Failure> {
    // What the decays come to is seen in the average.
    args.ignore(&["decays"]);
    let mut timm = TimmDecay::new(decay)
        .with_warmup_gamma(args.to("warmup_gamma")?)
        .with_warmup_power(args.to("warmup_power")?);
    if let Some(steps) = args.maybe("update_after_step")? {
        timm = timm.with_update_after_step(steps);
    }
    if let Some(min_decay) = args.maybe("min_decay")? {
        timm = timm.with_min_decay(min_decay);
    }
    if let Some(use_warmup) = args.maybe("use_warmup")? {
        timm = timm.with_use_warmup(use_warmup);
    }
    Ok(EmaDecay::timm_v3(timm)?)
}

fn swa(case: &Case) -> Result<Answer, Failure> {
    let config =
        SwaConfig::new().with_start(case.args.to("start")?).with_every(case.args.to("every")?);
    let mut swa = Swa::new(config)?;
    by_type!(case.array("init")?, follow(case, &mut swa))
}

fn sam(case: &Case) -> Result<Answer, Failure> {
    by_type!(case.array("w")?, regress(case))
}

/// Linear regression on all data at every step.
fn regress<T: Number>(case: &Case) -> Result<Answer, Failure>
where
    for<'a> SliceMut<'a>: From<&'a mut [T]>,
{
    let args = &case.args;
    let steps: usize = args.to("steps")?;
    let lr: f64 = args.to("lr")?;
    let config = SamConfig::new().with_rho(args.to("rho")?).with_adaptive(args.to("adaptive")?);
    let mut sam = Sam::new(config)?;
    let mut sgd = Sgd::new(SgdConfig::new().with_momentum(args.to("momentum")?))?;
    let names = ["w", "b"];
    let mut params = Vec::new();
    for name in names {
        let start = case.array(name)?;
        params.push(VecParam::new(name, &start.shape, T::read(start)?));
    }
    let (x, y) = (case.tensor("x")?, case.tensor("y")?);

    let mut values = Values::new();
    let (mut losses, mut norms, mut history) = (vec![], vec![], [vec![], vec![]]);
    for step in 0..steps {
        losses.push(T::from_f64(gradients(&mut params, &x, &y)));
        {
            let mut worst = sam.perturbed(&mut params)?;
            norms.push(T::from_f64(worst.norm()));
            if step == 0 {
                for p in worst.iter() {
                    let value = Array::new(&p.shape, T::data(p.value.clone()));
                    values.out(&format!("first_perturbed_{}", p.name), value);
                }
            }
            gradients(&mut worst, &x, &y);
        }
        sgd.step(lr, &mut params)?;
        for (p, history) in params.iter().zip(&mut history) {
            history.extend_from_slice(&p.value);
        }
    }
    values.out("losses", Array::new(&[steps], T::data(losses)));
    values.out("grad_norm", Array::new(&[steps], T::data(norms)));
    for (p, history) in params.iter().zip(history) {
        let shape = [&[steps], p.shape.as_slice()].concat();
        values.out(&p.name, Array::new(&shape, T::data(history)));
    }
    Ok(values.into())
}

/// Puts the gradients of `mean((x w^T + b - y)^2)` into the parameters `w` and `b`; returns the loss.
fn gradients<T: Number>(params: &mut [VecParam<T>], x: &Tensor, y: &Tensor) -> f64 {
    let tape = Tape::training(0, 0);
    let leaves: Vec<_> =
        params.iter().map(|p| tape.leaf(Tensor::from_slice(&p.value, &p.shape))).collect();
    let (x, y) = (tape.constant(x.clone()), tape.constant(y.clone()));
    let loss = x.linear(&leaves[0], Some(&leaves[1])).mse_loss(&y, Reduction::Mean);
    let grads = loss.backward();
    for (p, leaf) in params.iter_mut().zip(&leaves) {
        p.grad = grads.wrt(leaf).map(Tensor::to_vec);
    }
    loss.item()
}
