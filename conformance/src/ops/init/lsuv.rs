//! Layer-sequential unit variance, on a network of plain vectors.

use gradus_core::FloatElement;
use gradus_init::{InitError, Lsuv, Nonlinearity, variance};

use crate::{
    answer::{Answer, Failure, Values},
    array::{Array, Data},
    case::Case,
};

/// `[out, in]` and a bias.
struct Layer {
    weight: Vec<f64>,
    bias: Vec<f64>,
    shape: Vec<usize>,
}

impl Layer {
    fn forward(&self, x: &[f64]) -> Vec<f64> {
        let ins = self.shape[1];
        let unit = |x: &[f64], o: usize| {
            let row = &self.weight[o * ins..][..ins];
            row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + self.bias[o]
        };
        x.chunks_exact(ins).flat_map(|x| (0..self.shape[0]).map(move |o| unit(x, o))).collect()
    }
}

fn rounded<T: FloatElement>(values: &[f64]) -> Vec<T> {
    values.iter().map(|&x| T::from_f64(x)).collect()
}

pub(super) fn lsuv(case: &Case) -> Result<Answer, Failure> {
    let activation = match case.args.to::<String>("activation")?.as_str() {
        "relu" => Nonlinearity::Relu,
        "tanh" => Nonlinearity::Tanh,
        "identity" => Nonlinearity::Linear,
        other => return Err(Failure::unsupported(format!("activation {other}"))),
    };
    let lsuv = Lsuv::new()
        .with_tol_var(case.args.to("tol_var")?)
        .with_max_iters(case.args.to("max_iters")?);
    let sizes: Vec<usize> = case.args.to("layers")?;
    let floats = |name: &str| {
        case.array(name)?.floats().ok_or_else(|| Failure::unsupported(format!("{name}: no floats")))
    };
    let x = floats("x")?;
    let mut layers = (0..sizes.len().saturating_sub(1))
        .map(|l| {
            let (weight, bias) = (floats(&format!("w{l}"))?, floats(&format!("b{l}"))?);
            Ok(Layer { weight, bias, shape: vec![sizes[l + 1], sizes[l]] })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let done = lsuv.run(layers.len(), |l, factor| {
        layers[l].weight.iter_mut().for_each(|w| *w *= factor);
        let mut z = layers[0].forward(&x);
        for layer in &layers[1..=l] {
            z.iter_mut().for_each(|z| *z = activation.apply(*z));
            z = layer.forward(&z);
        }
        Ok::<_, InitError>(variance(&z))
    })?;
    // Results have the element type of the case.
    let array = |shape: &[usize], values: Vec<f64>| match case.array("x")?.data {
        Data::F32(_) => Ok(Array::f32(shape, rounded(&values))),
        Data::F64(_) => Ok(Array::new(shape, Data::F64(values))),
        Data::F16(_) => Ok(Array::new(shape, Data::F16(rounded(&values)))),
        Data::BF16(_) => Ok(Array::new(shape, Data::BF16(rounded(&values)))),
        _ => Err(Failure::unsupported("x: no floats")),
    };
    let mut values = Values::new();
    for (l, (layer, done)) in layers.iter().zip(&done).enumerate() {
        values.out(&format!("w{l}"), array(&layer.shape, layer.weight.clone())?);
        values.out(&format!("var{l}"), array(&[], vec![done.variance])?);
    }
    let iterations = done.iter().map(|done| done.iterations as i64).collect();
    values.out("iterations", Array::new(&[done.len()], Data::I64(iterations)));
    Ok(values.into())
}
