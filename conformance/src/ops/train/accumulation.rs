//! Gradients summed over micro-batches.

use gradus_autograd::{CrossEntropy, Gradients, Param, ParamKind, Reduction, Tape};

use crate::{
    answer::{Answer, Failure, Values},
    array::Array,
    case::Case,
    ops::Table,
};

pub(super) const OPS: Table = &[("grad_accumulation", accumulate)];

fn accumulate(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let micro_batches: Vec<usize> = args.to("micro_batches")?;
    let ignore: i64 = args.to("ignore_index")?;
    let (x, target) = (case.tensor("x")?, case.tensor("target")?);
    let (reduction, share) = match args.to::<String>("normalize")?.as_str() {
        "by_steps" => (Reduction::Mean, 1.0 / micro_batches.len() as f64),
        "by_samples" => {
            let counted = target.to_vec::<i64>().iter().filter(|&&t| t != ignore).count();
            (Reduction::Sum, 1.0 / counted as f64)
        }
        other => return Err(Failure::unsupported(format!("normalize {other}"))),
    };
    let options = CrossEntropy::default().with_ignore_index(ignore).with_reduction(reduction);
    let weight = Param::new(case.tensor("weight")?, ParamKind::Weight);
    let bias = case.find_tensor("bias")?.map(|b| Param::new(b, ParamKind::Bias));
    let upstream =
        case.tensors.get("cotangent.loss").map_or(Ok(1.0), |c| c.to_tensor().map(|c| c.item()))?;
    let (mut total, mut sum, mut start) = (Gradients::default(), 0.0, 0);
    for n in micro_batches {
        let tape = Tape::training(0, 0);
        let (x, target) = (tape.constant(x.narrow(0, start, n)), target.narrow(0, start, n));
        let logits = x.linear(&tape.watch(&weight), bias.as_ref().map(|b| tape.watch(b)).as_ref());
        let loss = logits.cross_entropy(&target, &options);
        sum += share * loss.item();
        total.accumulate(loss.backward(), share * upstream);
        start += n;
    }
    let mut values = Values::new();
    values.out("loss", Array::f32(&[], vec![sum as f32]));
    for (name, param) in [("weight", Some(&weight)), ("bias", bias.as_ref())] {
        if let Some(grad) = param.and_then(|p| total.get(p.id())) {
            values.grad(name, grad);
        }
    }
    Ok(values.into())
}
