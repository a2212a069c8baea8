//! Batch norm and its variants.

use gradus_autograd::{EntryMut, Module, Path, Var};
use gradus_norm::{BatchNorm, BatchNormConfig, BatchRenorm, BatchRenormConfig, RenormLimits};

use super::{super::Table, channels, momentum, refusable, refusable_all, tape};
use crate::{
    answer::{Answer, Failure, Values},
    case::{Args, Case},
    ops::differentiate::{self, Inputs},
};

pub(super) const OPS: Table = &[
    ("batch_norm", one_batch),
    ("batch_norm_seq", batches),
    ("sync_batch_norm", shards),
    ("batch_renorm", renorm),
];

fn config(args: &Args) -> Result<BatchNormConfig, Failure> {
    Ok(BatchNormConfig::default().with_eps(args.to("eps")?).with_momentum(momentum(args)?))
}

fn one_batch(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let config = config(args)?
        .with_affine(args.to("affine")?)
        .with_track_running_stats(args.to("track_running_stats")?);
    let inputs = Inputs::new(case, tape(args.to("training")?));
    let x = inputs.var("x")?;
    let mut norm = BatchNorm::with_config(channels(&x)?, config)?;
    differentiate::fill(&mut norm, case)?;
    inputs.watch(&norm);
    refusable(&inputs, &norm, norm.try_forward(&x))
}

/// A fresh layer over several batches, then evaluation.
fn batches(case: &Case) -> Result<Answer, Failure> {
    let config = config(&case.args)?;
    let count: usize = case.args.to("batches")?;
    let x0 = case.tensor("x0")?;
    let channels = channels(&tape(false).constant(x0.clone()))?;
    let mut norm = BatchNorm::with_config(channels, config)?;
    differentiate::fill(&mut norm, case)?;
    // The statistics of a fresh layer are f32, those of the case have its type.
    norm.walk_mut(&mut Path::default(), &mut |_, entry| match entry {
        EntryMut::Buffer(b) if b.get().dtype().is_float() => {
            b.update(|old| *old = old.to_dtype(x0.dtype()))
        }
        _ => {}
    });
    let forward = |name: &str, training| -> Result<Var, Failure> {
        Ok(norm.try_forward(&tape(training).constant(case.tensor(name)?))?)
    };
    let mut values = Values::new();
    for i in 0..count {
        values.out(&format!("y{i}"), forward(&format!("x{i}"), true)?.into_value());
    }
    values.out("y_eval", forward("x_eval", false)?.into_value());
    differentiate::state(&norm, "", &mut values);
    Ok(values.into())
}

/// Several workers' parts of one batch.
fn shards(case: &Case) -> Result<Answer, Failure> {
    let config = config(&case.args)?;
    let count: usize = case.args.to("shards")?;
    let inputs = Inputs::new(case, tape(true));
    let xs: Vec<Var> =
        (0..count).map(|i| inputs.var(&format!("x{i}"))).collect::<Result<_, _>>()?;
    let first = xs.first().ok_or_else(|| Failure::unsupported("no shards"))?;
    let affine = case.find("weight").is_some();
    let mut norm = BatchNorm::with_config(channels(first)?, config.with_affine(affine))?;
    differentiate::fill(&mut norm, case)?;
    inputs.watch(&norm);
    let ys = norm.forward_shards(&xs.iter().collect::<Vec<_>>());
    let named = |ys: Vec<Var>| (0..).map(|i| format!("y{i}")).zip(ys).collect();
    refusable_all(&inputs, &norm, ys.map(named))
}

fn renorm(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let config = BatchRenormConfig::default()
        .with_limits(RenormLimits::new(args.to("r_max")?, args.to("d_max")?)?)
        .with_eps(args.to("eps")?)
        .with_momentum(momentum(args)?)
        .with_affine(case.find("weight").is_some());
    let inputs = Inputs::new(case, tape(args.to("training")?));
    let x = inputs.var("x")?;
    let mut norm = BatchRenorm::new(channels(&x)?, config)?;
    differentiate::fill(&mut norm, case)?;
    inputs.watch(&norm);
    refusable(&inputs, &norm, norm.try_forward(&x))
}
