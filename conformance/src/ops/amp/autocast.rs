//! Operations on a tape with a policy.

use std::sync::Arc;

use gradus_amp::{Autocast, Policy};
use gradus_autograd::{CrossEntropy, Reduction, Tape, Var};
use gradus_norm::{batch_norm, layer_norm};
use gradus_tensor::{AttentionOptions, ConvOptions, DType, MaxPoolOptions, Tensor};
use serde_json::{Map, Value};

use crate::{
    answer::{Answer, Failure, Values},
    case::Case,
    ops::differentiate::Inputs,
};

fn dtype(name: &str) -> Result<DType, Failure> {
    [DType::F32, DType::F64, DType::F16, DType::BF16]
        .into_iter()
        .find(|d| d.name() == name)
        .ok_or_else(|| Failure::unsupported(format!("type {name}")))
}

/// The policy that the case describes.
fn policy(case: &Case) -> Result<Arc<Policy>, Failure> {
    let autocast = match case.args.to::<String>("device")?.as_str() {
        "cpu" => Autocast::Cpu,
        other => return Err(Failure::unsupported(format!("device {other}"))),
    };
    let lower = dtype(&case.args.to::<String>("lower_precision")?)?;
    Ok(Arc::new(Policy::mixed(lower)?.with_autocast(autocast)))
}

/// The type of each operation's result.
pub(super) fn dtypes(case: &Case) -> Result<Answer, Failure> {
    let policy = policy(case)?;
    let mut outputs = Vec::new();
    for query in case.args.to::<Vec<Map<String, Value>>>("queries")? {
        let (Some(op), Some(inputs)) = (query["op"].as_str(), query["inputs"].as_array()) else {
            return Err(Failure::unsupported("a query without op or inputs"));
        };
        let tape = Tape::training(0, 0).with_precision(policy.clone());
        let inputs = inputs.iter().filter_map(Value::as_str);
        let dtypes = inputs.map(dtype).collect::<Result<Vec<_>, _>>()?;
        let operand = |i: usize, shape: &[usize]| {
            tape.leaf(Tensor::full(shape, 0.5, dtypes[i.min(dtypes.len() - 1)]))
        };
        outputs.push(Value::from(run(op, operand)?.dtype().name()));
    }
    let mut values = Values::new();
    values.json("outputs", outputs);
    Ok(values.into())
}

/// An operation of operands that `of` makes: of the type of place `i` and this shape.
fn run(op: &str, of: impl Fn(usize, &[usize]) -> Var) -> Result<Var, Failure> {
    let matrix = |i| of(i, &[2, 2]);
    let mean = Reduction::Mean;
    let labels = Tensor::from_slice(&[0i64, 1], &[2]);
    Ok(match op {
        "matmul" => matrix(0).matmul(&matrix(1)),
        "linear" => matrix(0).linear(&matrix(1), None),
        "relu" => matrix(0).relu(),
        "gelu" => matrix(0).gelu(),
        "exp" => matrix(0).exp(),
        "softmax" => matrix(0).softmax(-1),
        "log_softmax" => matrix(0).log_softmax(-1),
        "sum" => matrix(0).sum(&[], false),
        "mean" => matrix(0).mean(&[], false),
        "cumsum" => matrix(0).cumsum(0),
        "add" => matrix(0).add(&matrix(1)),
        "mul" => matrix(0).mul(&matrix(1)),
        "concat" => Var::concat(&[&matrix(0), &matrix(1)], 0),
        "stack" => Var::stack(&[&matrix(0), &matrix(1)], 0),
        "mse_loss" => matrix(0).mse_loss(&matrix(1), mean),
        "l1_loss" => matrix(0).l1_loss(&matrix(1), mean),
        "huber_loss" => matrix(0).huber_loss(&matrix(1), 1.0, mean),
        "kl_div" => matrix(0).kl_div(&matrix(1), false, mean),
        "bce_with_logits" => matrix(0).bce_with_logits(matrix(1).value(), None, None, mean),
        "cross_entropy" => matrix(0).cross_entropy(&labels, &CrossEntropy::default()),
        "nll_loss" => matrix(0).nll_loss(&labels, None, -100, mean),
        "layer_norm" => layer_norm(&matrix(0), &[2], None, None, 1e-5),
        "batch_norm" => batch_norm(&of(0, &[2, 3, 4]), None, None, None, 1e-5)?.0,
        "conv2d" => {
            of(0, &[1, 2, 3, 3]).conv2d(&of(1, &[2, 2, 3, 3]), None, ConvOptions::default())
        }
        "max_pool2d" => of(0, &[1, 1, 2, 2]).max_pool2d(MaxPoolOptions::new([2, 2])),
        "scaled_dot_product_attention" => {
            let [q, k, v] = [0, 1, 1].map(|i| of(i, &[1, 1, 2, 4]));
            q.scaled_dot_product_attention(&k, &v, &AttentionOptions::new())
        }
        "embedding" => matrix(0).embedding(&labels, None),
        "where" => Var::where_cond(&Tensor::from_slice(&[0u8, 1], &[2]), &matrix(0), &matrix(1)),
        other => return Err(Failure::unsupported(format!("operation {other}"))),
    })
}

pub(super) fn linear(case: &Case) -> Result<Answer, Failure> {
    let inputs = Inputs::new(case, Tape::training(0, 0).with_precision(policy(case)?));
    let bias = inputs.find("bias")?;
    let y = inputs.var("x")?.linear(&inputs.var("weight")?, bias.as_ref());
    Ok(inputs.finish(&[("y", y)])?.into())
}

pub(super) fn mlp(case: &Case) -> Result<Answer, Failure> {
    let inputs = Inputs::new(case, Tape::training(0, 0).with_precision(policy(case)?));
    let hidden = inputs.var("x")?.linear(&inputs.var("w1")?, Some(&inputs.var("b1")?));
    let hidden = match case.args.to::<String>("activation")?.as_str() {
        "gelu" => hidden.gelu(),
        "relu" => hidden.relu(),
        "tanh" => hidden.tanh(),
        "silu" => hidden.silu(),
        other => return Err(Failure::unsupported(format!("activation {other}"))),
    };
    let logits = hidden.linear(&inputs.var("w2")?, Some(&inputs.var("b2")?));
    let loss = logits.cross_entropy(&case.tensor("target")?, &CrossEntropy::default());
    Ok(inputs.finish(&[("logits", logits), ("loss", loss)])?.into())
}
