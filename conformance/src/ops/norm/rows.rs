//! Norms of a sample by itself: layer, RMS, group and instance norm.

use gradus_norm::{InstanceNorm, InstanceNormConfig, Momentum, group_norm, layer_norm, rms_norm};

use super::{super::Table, channels, refusable, tape};
use crate::{
    answer::{Answer, Failure},
    case::Case,
    ops::differentiate::{self, Inputs},
};

pub(super) const OPS: Table =
    &[("layer_norm", layer), ("rms_norm", rms), ("group_norm", group), ("instance_norm", instance)];

fn layer(case: &Case) -> Result<Answer, Failure> {
    let (shape, eps): (Vec<usize>, f64) = (case.args.to("normalized_shape")?, case.args.to("eps")?);
    differentiate::y(case, |i| {
        let (weight, bias) = (i.find("weight")?, i.find("bias")?);
        Ok(layer_norm(&i.var("x")?, &shape, weight.as_ref(), bias.as_ref(), eps))
    })
}

fn rms(case: &Case) -> Result<Answer, Failure> {
    let shape: Vec<usize> = case.args.to("normalized_shape")?;
    let eps: Option<f64> = case.args.maybe("eps")?;
    differentiate::y(case, |i| Ok(rms_norm(&i.var("x")?, &shape, i.find("weight")?.as_ref(), eps)))
}

fn group(case: &Case) -> Result<Answer, Failure> {
    let (groups, eps): (usize, f64) = (case.args.to("num_groups")?, case.args.to("eps")?);
    differentiate::y(case, |i| {
        let (weight, bias) = (i.find("weight")?, i.find("bias")?);
        Ok(group_norm(&i.var("x")?, groups, weight.as_ref(), bias.as_ref(), eps)?)
    })
}

fn instance(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let config = InstanceNormConfig::default()
        .with_eps(args.to("eps")?)
        // Without a count there is no cumulative average: torch does not move the statistics then.
        .with_momentum(Momentum::New(args.maybe("momentum")?.unwrap_or(0.0)))
        .with_affine(args.to("affine")?)
        .with_track_running_stats(args.to("track_running_stats")?);
    let inputs = Inputs::new(case, tape(args.to("training")?));
    let x = inputs.var("x")?;
    let mut norm = InstanceNorm::with_config(channels(&x)?, config)?;
    differentiate::fill(&mut norm, case)?;
    inputs.watch(&norm);
    refusable(&inputs, &norm, norm.try_forward(&x))
}
