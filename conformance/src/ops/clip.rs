//! The area `clip`.

use gradus_clip::{
    AdaptiveClip, ClipNorm, GradSlices, NormType, OnNonFinite, adaptive_grad_clip, clip_grad_norm,
    clip_grad_value, clip_param_norm, global_norm,
};
use gradus_core::{ParamKind, ParamMut, Parameters, SliceMut};

use super::Table;
use crate::{
    answer::{Answer, Failure, Values},
    array::{Array, Data},
    case::{Args, Case},
};

pub(super) const OPS: Table = &[
    ("clip_grad_norm", clip_norm),
    ("clip_param_norm", clip_each),
    ("adaptive_grad_clip", adaptive),
    ("global_norm", norm),
    ("clip_grad_value", clip_value),
];

/// The gradients of a case, changed in place.
pub(super) fn gradients(case: &Case) -> Result<Vec<Array>, Failure> {
    case.numbered("g").iter().map(|name| case.array(name).cloned()).collect()
}

pub(super) fn slices(gradients: &mut [Array]) -> Result<Vec<SliceMut<'_>>, Failure> {
    gradients
        .iter_mut()
        .map(|g| match &mut g.data {
            Data::F16(v) => Ok(v.as_mut_slice().into()),
            Data::BF16(v) => Ok(v.as_mut_slice().into()),
            Data::F32(v) => Ok(v.as_mut_slice().into()),
            Data::F64(v) => Ok(v.as_mut_slice().into()),
            _ => Err(Failure::unsupported("a gradient of integers")),
        })
        .collect()
}

pub(super) fn outs(gradients: Vec<Array>) -> Values {
    let mut values = Values::new();
    for (i, g) in gradients.into_iter().enumerate() {
        values.out(&format!("g{i}"), g);
    }
    values
}

fn scalar(x: f64) -> Array {
    Array::f32(&[], vec![x as f32])
}

fn order(args: &Args) -> Result<NormType, Failure> {
    Ok(NormType::of_order(args.to("norm_type")?)?)
}

fn clip_norm(case: &Case) -> Result<Answer, Failure> {
    let strict: bool = case.args.to("error_if_nonfinite")?;
    let clip = ClipNorm::new(case.args.to("max_norm")?)
        .with_norm_type(order(&case.args)?)
        .with_on_nonfinite(if strict { OnNonFinite::Error } else { OnNonFinite::Propagate });
    let mut gradients = gradients(case)?;
    match clip_grad_norm(&mut GradSlices(&mut slices(&mut gradients)?), &clip) {
        Ok(report) => {
            let mut values = outs(gradients);
            values.out("total_norm", scalar(report.norm));
            Ok(values.into())
        }
        Err(error) => Ok(Answer::Refused { why: error.to_string(), state: outs(gradients) }),
    }
}

fn clip_each(case: &Case) -> Result<Answer, Failure> {
    let clip = ClipNorm::new(case.args.to("max_norm")?)
        .with_norm_type(order(&case.args)?)
        .with_on_nonfinite(OnNonFinite::Propagate);
    let mut gradients = gradients(case)?;
    let report = clip_param_norm(&mut GradSlices(&mut slices(&mut gradients)?), &clip)?;
    let mut values = outs(gradients);
    values.out("norms", Array::row(report.norms.iter().map(|&norm| norm as f32).collect()));
    Ok(values.into())
}

/// Values and gradients with their shapes.
struct Units<'a> {
    names: Vec<String>,
    shapes: Vec<Vec<usize>>,
    values: Vec<SliceMut<'a>>,
    grads: Vec<SliceMut<'a>>,
}

impl Parameters for Units<'_> {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        let pairs = self.values.iter_mut().zip(&mut self.grads);
        for ((name, shape), (value, grad)) in self.names.iter().zip(&self.shapes).zip(pairs) {
            f(ParamMut {
                name,
                shape,
                kind: ParamKind::Weight,
                value: Some(value.reborrow()),
                grad: Some(grad.reborrow()),
            });
        }
    }
}

fn adaptive(case: &Case) -> Result<Answer, Failure> {
    let clip = AdaptiveClip::new(case.args.to("clip")?)
        .with_eps(case.args.to("eps")?)
        .with_on_nonfinite(OnNonFinite::Propagate);
    let mut gradients = gradients(case)?;
    let shapes: Vec<_> = gradients.iter().map(|g| g.shape.clone()).collect();
    let names = case.numbered("p");
    let mut params =
        names.iter().map(|name| case.array(name).cloned()).collect::<Result<Vec<_>, _>>()?;
    let (values, grads) = (slices(&mut params)?, slices(&mut gradients)?);
    adaptive_grad_clip(&mut Units { names, shapes, values, grads }, &clip)?;
    Ok(outs(gradients).into())
}

fn norm(case: &Case) -> Result<Answer, Failure> {
    let mut gradients = gradients(case)?;
    let found = global_norm(&mut GradSlices(&mut slices(&mut gradients)?), order(&case.args)?)?;
    let mut values = Values::new();
    values.out("total_norm", scalar(found.norm));
    Ok(values.into())
}

fn clip_value(case: &Case) -> Result<Answer, Failure> {
    let bound = case.args.to("clip_value")?;
    let mut gradients = gradients(case)?;
    clip_grad_value(&mut GradSlices(&mut slices(&mut gradients)?), bound)?;
    Ok(outs(gradients).into())
}
