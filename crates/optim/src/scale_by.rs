//! The directions of optimizers as stages of a chain.

use gradus_core::StepError;

use crate::{
    AdadeltaConfig, AdagradConfig, AdamConfig, AdamaxConfig, LionConfig, MuonConfig, NAdamConfig,
    OptimError, RAdamConfig, RmsPropConfig, SgdConfig,
    param::{Site, Value},
    pass::Out,
    rule::{Direction, Layout, Rule, Turn, transform},
    slots::Slots,
};

/// A direction that goes back into the gradient.
#[derive(Clone, Debug)]
struct ScaleBy<D>(D);

impl<D: Layout> Layout for ScaleBy<D> {
    fn check(&self) -> Result<(), OptimError> {
        self.0.check()
    }
    fn fields(&self) -> Option<&'static [&'static str]> {
        self.0.fields()
    }
    fn buffer_len(&self, field: usize, shape: &[usize], len: usize) -> usize {
        self.0.buffer_len(field, shape, len)
    }
    fn accepts(&self, site: Site<'_>) -> Result<(), StepError> {
        self.0.accepts(site)
    }
}

impl<D: Direction> Rule for ScaleBy<D> {
    const NEEDS_VALUE: bool = false;

    fn update<T: Value>(&self, Turn { site, slot, grad, .. }: Turn<'_, T>) {
        self.0.send(Out::Gradient(grad), site.shape, slot);
    }
}

macro_rules! stages {
    ($($(#[$doc:meta])* $stage:ident($config:ident, $($field:ident),+), $state:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// A stage of a [`Chain`](crate::Chain): it rewrites the gradient into the update, before rate and sign,
        /// and needs no values. Of its configuration it takes
        #[doc = concat!($("`", stringify!($field), "`, ",)+ "and")]
        /// nothing else: decay and sign are stages of their own.
        #[derive(Clone, Debug)]
        pub struct $stage {
            rule: ScaleBy<$config>,
            slots: Slots,
        }

        impl $stage {
            /// A stage without state yet.
            ///
            /// # Errors
            /// [`OptimError`] for hyper-parameters out of range, as for the optimizer of this configuration.
            pub fn new(config: $config) -> Result<Self, OptimError> {
                let rule = ScaleBy(config);
                Ok(Self { slots: Slots::of(&rule)?, rule })
            }
        }

        transform!($stage { rule }, $state);
    )*};
}

stages! {
    /// Momentum as [`Sgd`](crate::Sgd) has it: `b = momentum b + (1 - dampening) g`, the first `b` is `g`; the update
    /// is `b`, or `g + momentum b` with `nesterov`.
    Trace(SgdConfig, momentum, dampening, nesterov),
        "`NAME.step` and `NAME.momentum_buffer`; nothing without momentum.";

    /// [`Adam`](crate::Adam)'s corrected mean of gradients over the root of that of their squares.
    ///
    /// ```
    /// use gradus_core::{GradientTransform, VecParam};
    /// use gradus_optim::{AdamConfig, ApplyUpdates, Centralize, Chain, ScaleByAdam};
    ///
    /// // AdamW, with the means of gradients taken out.
    /// let mut rule = Chain::new()
    ///     .then(Centralize::new())
    ///     .then(ScaleByAdam::new(AdamConfig::adam())?)
    ///     .then(ApplyUpdates::decoupled(0.01, Default::default())?);
    /// let mut params = vec![VecParam::new("w", &[1, 2], vec![1.0f32; 2]).with_grad(vec![3.0, 1.0])];
    /// rule.step(0.1, &mut params)?;
    /// assert!(params[0].value[0] < 0.9 && params[0].value[1] > 1.09);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ScaleByAdam(AdamConfig, beta1, beta2, eps, amsgrad),
        "`NAME.step`, `NAME.exp_avg`, `NAME.exp_avg_sq` and, with amsgrad, `NAME.max_exp_avg_sq`.";

    /// The gradient over a running root mean square, as in [`RmsProp`](crate::RmsProp), and then its momentum.
    ScaleByRms(RmsPropConfig, alpha, eps, centered, momentum),
        "`NAME.step`, `NAME.square_avg` and, where in use, `NAME.grad_avg` and `NAME.momentum_buffer`.";

    /// The gradient over the root of the sum of all squares so far, as in [`Adagrad`](crate::Adagrad).
    ScaleByRss(AdagradConfig, lr_decay, initial_accumulator_value, eps), "`NAME.step` and `NAME.sum`.";

    /// The gradient in the units of the parameter, as in [`Adadelta`](crate::Adadelta).
    ScaleByAdadelta(AdadeltaConfig, rho, eps), "`NAME.step`, `NAME.square_avg` and `NAME.acc_delta`.";

    /// [`NAdam`](crate::NAdam)'s update: Adam's with Nesterov momentum.
    ScaleByNAdam(NAdamConfig, beta1, beta2, eps, momentum_decay),
        "`NAME.step`, `NAME.exp_avg`, `NAME.exp_avg_sq` and `NAME.mu_product` (one number).";

    /// [`RAdam`](crate::RAdam)'s update: Adam's, rectified.
    ScaleByRAdam(RAdamConfig, beta1, beta2, eps), "`NAME.step`, `NAME.exp_avg` and `NAME.exp_avg_sq`.";

    /// [`Adamax`](crate::Adamax)'s update: the mean of gradients over their running maximum.
    ScaleByAdamax(AdamaxConfig, beta1, beta2, eps), "`NAME.step`, `NAME.exp_avg` and `NAME.exp_inf`.";

    /// [`Lion`](crate::Lion)'s update: the sign of an interpolated momentum.
    ScaleByLion(LionConfig, beta1, beta2), "`NAME.step` and `NAME.exp_avg`.";

    /// [`Muon`](crate::Muon)'s update: the orthogonalized momentum, times the factor of its shape.
    ScaleByMuon(MuonConfig, momentum, nesterov, ns_coefficients, eps, ns_steps, scale),
        "`NAME.step` and `NAME.momentum_buffer`.";
}
