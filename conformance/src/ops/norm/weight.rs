//! Weights as functions of other parameters.

use gradus_autograd::{Entry, Module, Path};
use gradus_norm::{SpectralNorm, SpectralNormConfig, weight_norm};

use super::{super::Table, tape};
use crate::{
    answer::{Answer, Failure},
    case::Case,
    ops::differentiate::{self, Inputs},
};

pub(super) const OPS: Table = &[("weight_norm", of_length), ("spectral_norm", spectral)];

fn of_length(case: &Case) -> Result<Answer, Failure> {
    let dim: Option<isize> = case.args.maybe("dim")?;
    differentiate::outputs(case, |i| Ok(vec![("w", weight_norm(&i.var("g")?, &i.var("v")?, dim))]))
}

fn spectral(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let config = SpectralNormConfig::default()
        .with_n_power_iterations(args.to("n_power_iterations")?)
        .with_dim(args.maybe("dim")?.unwrap_or(0))
        .with_eps(args.to("eps")?);
    let inputs = Inputs::new(case, tape(args.to("training")?));
    let mut norm = SpectralNorm::with_config(case.tensor("weight")?, config, 0)?;
    differentiate::fill(&mut norm, case)?;
    inputs.watch(&norm);
    let weight = norm.weight(&inputs.tape);
    let mut values = inputs.finish(&[("weight", weight)])?;
    norm.walk(&mut Path::default(), &mut |name, entry| {
        if let Entry::Buffer(b) = entry {
            values.out(name, b.get());
        }
    });
    Ok(values.into())
}
