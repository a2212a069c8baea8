//! Every optimizer that can be made in stages, made in stages: the same numbers, to be taken apart.

use crate::{
    AdadeltaConfig, AdagradConfig, AdamConfig, AdamaxConfig, AddDecayedWeights, ApplyUpdates,
    Chain, LambConfig, LionConfig, MuonConfig, NAdamConfig, OptimError, RAdamConfig, RmsPropConfig,
    Scale, ScaleByAdadelta, ScaleByAdam, ScaleByAdamax, ScaleByLion, ScaleByMuon, ScaleByNAdam,
    ScaleByRAdam, ScaleByRms, ScaleByRss, ScaleByTrustRatio, SgdConfig, Trace,
    rule::{Direction, Frame},
};

/// The chains of optimizers that are a direction in a frame.
macro_rules! chains {
    ($($config:ident => $stage:ident;)*) => {$(
        impl $config {
            #[doc = concat!("The optimizer of this configuration as a chain around [`", stringify!($stage), "`].")]
            ///
            /// Its numbers are the same to the bit for f32 and f64 parameters; for f16 and bf16 the update is
            /// rounded between stages. Stages that this configuration has no use for are left out: a sign, a coupled
            /// decay.
            ///
            /// # Errors
            /// [`OptimError`] for hyper-parameters out of range.
            pub fn chain(&self) -> Result<Chain, OptimError> {
                framed(self.frame(), |chain| Ok(chain.then($stage::new(*self)?)))
            }
        }
    )*};
}
chains! {
    SgdConfig => Trace;
    AdamConfig => ScaleByAdam;
    RmsPropConfig => ScaleByRms;
    AdagradConfig => ScaleByRss;
    AdadeltaConfig => ScaleByAdadelta;
    NAdamConfig => ScaleByNAdam;
    RAdamConfig => ScaleByRAdam;
    AdamaxConfig => ScaleByAdamax;
    LionConfig => ScaleByLion;
    MuonConfig => ScaleByMuon;
}

fn framed(
    Frame { weight_decay, decoupled, mask, maximize }: Frame,
    direction: impl FnOnce(Chain) -> Result<Chain, OptimError>,
) -> Result<Chain, OptimError> {
    let mut chain = Chain::new();
    if maximize {
        chain = chain.then(Scale::new(-1.0)?);
    }
    if weight_decay != 0.0 && !decoupled {
        chain = chain.then(AddDecayedWeights::new(weight_decay, mask)?);
    }
    let decay = if decoupled { weight_decay } else { 0.0 };
    Ok(direction(chain)?.then(ApplyUpdates::decoupled(decay, mask)?))
}

impl LambConfig {
    /// LAMB as a chain of [`ScaleByAdam`], [`AddDecayedWeights`] (left out without decay), [`ScaleByTrustRatio`] and
    /// [`ApplyUpdates`].
    ///
    /// Its numbers are the same to the bit for f32 and f64 parameters.
    ///
    /// # Errors
    /// [`OptimError`] for hyper-parameters out of range.
    pub fn chain(&self) -> Result<Chain, OptimError> {
        let adam = AdamConfig::adam().with_betas(self.beta1, self.beta2).with_eps(self.eps);
        let mut chain = Chain::new().then(ScaleByAdam::new(adam)?);
        if self.weight_decay != 0.0 {
            chain = chain.then(AddDecayedWeights::new(self.weight_decay, self.decay_mask)?);
        }
        Ok(chain.then(ScaleByTrustRatio::new(1.0, 0.0)?).then(ApplyUpdates::new()))
    }
}
