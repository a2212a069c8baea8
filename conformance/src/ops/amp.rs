//! The area `amp`.

mod autocast;

use gradus_amp::{
    AmpError, Autocast, DynamicScale, Format, LossScaler, MasterWeights, OpClass, Overflow,
    Rounding,
};
use gradus_clip::GradSlices;
use gradus_core::{GradientTransform, VecParam};
use gradus_optim::{Sgd, SgdConfig};
use gradus_tensor::{DType, bf16, f16};
use serde_json::{Map, Value};

use super::{
    Table,
    clip::{gradients, outs, slices},
};
use crate::{
    answer::{Answer, Failure, Values, number},
    array::{Array, Data},
    case::Case,
};

pub(super) const OPS: Table = &[
    ("round_bf16", |c| round(c, DType::BF16)),
    ("round_f16", |c| round(c, DType::F16)),
    ("round_fp8_e4m3", |c| round_fp8(c, Format::E4M3)),
    ("round_fp8_e5m2", |c| round_fp8(c, Format::E5M2)),
    ("fp8_decode", decode),
    ("grad_scaler", scaler),
    ("grad_unscale", unscale),
    ("autocast_policy", policy),
    ("autocast_dtype", autocast::dtypes),
    ("autocast_linear", autocast::linear),
    ("autocast_mlp", autocast::mlp),
    ("master_weights_sgd", master_weights),
    ("bf16_matmul", matmul),
    ("f16_matmul", matmul),
];

/// By the tensor, and by the format alone.
fn round(case: &Case, dtype: DType) -> Result<Answer, Failure> {
    let rounded = case.tensor("x")?.to_dtype(dtype);
    let (bits, format): (Vec<u16>, _) = match dtype {
        DType::BF16 => {
            (rounded.to_vec::<bf16>().iter().map(|x| x.to_bits()).collect(), Format::BF16)
        }
        _ => (rounded.to_vec::<f16>().iter().map(|x| x.to_bits()).collect(), Format::F16),
    };
    let x = case.tensor("x")?.to_vec::<f32>();
    let alone = x.iter().map(|&x| format.encode(x, Overflow::Infinite));
    if !bits.iter().copied().eq(alone) {
        return Ok(Answer::Judged(vec!["the format rounds differently from the tensor".into()]));
    }
    let mut values = Values::new();
    values.out("bits", Array::new(rounded.shape(), Data::U16(bits)));
    values.out("value", rounded.to_dtype(DType::F32));
    Ok(values.into())
}

fn round_fp8(case: &Case, format: Format) -> Result<Answer, Failure> {
    let saturate: bool = case.args.to("saturate")?;
    let overflow = if saturate { Overflow::Saturate } else { Overflow::Infinite };
    let x = case.tensor("x")?;
    let mut value = x.to_vec::<f32>();
    let bits = value.iter().map(|&x| format.encode(x, overflow) as u8).collect();
    format.round_all(&mut value, overflow, Rounding::Nearest);
    let mut values = Values::new();
    values.out("bits", Array::new(x.shape(), Data::U8(bits)));
    values.out("value", Array::f32(x.shape(), value));
    Ok(values.into())
}

fn decode(case: &Case) -> Result<Answer, Failure> {
    let format = match case.args.to::<String>("format")?.as_str() {
        "e4m3" => Format::E4M3,
        "e5m2" => Format::E5M2,
        other => return Err(Failure::unsupported(format!("format {other}"))),
    };
    let bits = case.array("bits")?;
    let Data::U8(codes) = &bits.data else {
        return Err(Failure::unsupported("codes that are no bytes"));
    };
    let value = codes.iter().map(|&code| format.decode(code.into())).collect();
    let mut values = Values::new();
    values.out("value", Array::f32(&bits.shape, value));
    Ok(values.into())
}

/// One gradient, scaled: finite, or infinite.
fn gradient(found: bool) -> Vec<VecParam> {
    let grad = if found { f32::INFINITY } else { 1.0 };
    vec![VecParam::new("w", &[1], vec![0.0]).with_grad(vec![grad])]
}

fn scaler(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let config = DynamicScale::default()
        .with_init_scale(args.to::<f64>("init_scale")? as f32)
        .with_factors(args.to("growth_factor")?, args.to("backoff_factor")?)
        .with_growth_interval(args.to::<u64>("growth_interval")?.try_into()?);
    let enabled: bool = args.to("enabled")?;
    let mut scaler = if enabled { LossScaler::with_config(config)? } else { LossScaler::none() };
    let set: Map<String, Value> = args.maybe("set_scale")?.unwrap_or_default();
    let (mut scales, mut trackers, mut stepped) = (Vec::new(), Vec::new(), Vec::new());
    for (i, found) in args.to::<Vec<Value>>("found_inf")?.iter().enumerate() {
        let mut iteration = scaler.begin();
        let mut one = |found: &Value| -> Result<Value, AmpError> {
            let mut params = gradient(found == &Value::Bool(true));
            let checked = iteration.unscale(&mut params)?.check();
            Ok(checked.map(|finite| finite.step(|_| ())).is_ok().into())
        };
        stepped.push(match found {
            Value::Array(each) => each.iter().map(one).collect::<Result<Value, _>>()?,
            found => one(found)?,
        });
        match set.get(&i.to_string()).and_then(Value::as_f64) {
            Some(scale) => scaler.set_scale(scale as f32)?,
            None => {
                iteration.end()?;
            }
        }
        scales.push(number(scaler.scale().into()));
        trackers.push(scaler.growth_tracker().map_or(Value::Null, Value::from));
    }
    let mut values = Values::new();
    values.json("scale", scales);
    values.json("growth_tracker", trackers);
    values.json("stepped", stepped);
    Ok(values.into())
}

fn unscale(case: &Case) -> Result<Answer, Failure> {
    let mut scaler = LossScaler::constant(case.args.to::<f64>("scale")? as f32)?;
    let mut gradients = gradients(case)?;
    let mut iteration = scaler.begin();
    let mut slices = slices(&mut gradients)?;
    let checked = iteration.unscale(GradSlices(&mut slices))?.check();
    let found = checked.map(|finite| finite.step(|_| ())).is_err();
    iteration.end()?;
    let mut values = outs(gradients);
    values.out("found_inf", Array::new(&[], Data::Bool(vec![found.into()])));
    Ok(values.into())
}

/// Every operation of ours that a list has is in that class, and what is on no list keeps its types.
fn policy(case: &Case) -> Result<Answer, Failure> {
    let autocast = match case.args.to::<String>("device")?.as_str() {
        "cpu" => Autocast::Cpu,
        "cuda" => Autocast::Cuda,
        other => return Err(Failure::unsupported(format!("device {other}"))),
    };
    let lists = [
        ("lower_precision", OpClass::Lower),
        ("fp32", OpClass::Reduction),
        ("widest", OpClass::Widest),
    ];
    // Rows of products: torch lists the cells and the fused kernel that these stand for.
    let recurrent = ["gru", "lstm", "rnn_tanh"];
    let (mut problems, mut known) = (Vec::new(), 0);
    for (op, class) in autocast.ops() {
        let listed = |list: &str| {
            let names = case.expect.get(list).and_then(Value::as_array);
            let name = op.strip_suffix("_scalar").unwrap_or(op);
            names.is_some_and(|names| names.iter().any(|n| n == name))
        };
        let want = lists.iter().find(|(list, _)| listed(list)).map(|&(_, class)| class);
        known += usize::from(want.is_some());
        if class != want.unwrap_or(OpClass::Keep) && !recurrent.contains(&op) {
            problems.push(format!("{op} is {class:?}, expected {want:?}"));
        }
    }
    if known == 0 {
        problems.push("none of the operations is known".into());
    }
    Ok(Answer::Judged(problems))
}

fn matmul(case: &Case) -> Result<Answer, Failure> {
    let (a, b) = (case.tensor("a")?, case.tensor("b")?);
    let mut values = Values::new();
    values.out("y", a.matmul(&b));
    values.out("y_f32", a.matmul_wide(&b));
    Ok(values.into())
}

fn master_weights(case: &Case) -> Result<Answer, Failure> {
    let (p, grad) = (case.array("p")?, case.array("grad")?);
    let (Data::BF16(value), Data::BF16(grads)) = (&p.data, &grad.data) else {
        return Err(Failure::unsupported("parameters that are not bf16"));
    };
    let lr: f64 = case.args.to("lr")?;
    let steps: usize = case.args.to("steps")?;
    let mut sgd = Sgd::new(SgdConfig::new().with_momentum(case.args.to("momentum")?))?;
    let mut model = vec![VecParam::new("p", &p.shape, value.clone())];
    let mut master = MasterWeights::new(&mut model)?;
    let (mut masters, mut rounded) = (Vec::new(), Vec::new());
    for grad in grads.chunks_exact(value.len()).take(steps) {
        model[0].grad = Some(grad.to_vec());
        let mut wide = master.widen(&mut model)?;
        sgd.step(lr, &mut wide)?;
        wide.round(Rounding::Nearest);
        masters.extend_from_slice(master.get("p").unwrap_or_default());
        rounded.extend_from_slice(&model[0].value);
    }
    let shape: Vec<usize> = [steps].iter().chain(&p.shape).copied().collect();
    let mut values = Values::new();
    values.out("master", Array::f32(&shape, masters));
    values.out("p", Array::new(&shape, Data::BF16(rounded)));
    Ok(values.into())
}
