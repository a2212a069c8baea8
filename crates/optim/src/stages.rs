//! Stages of a chain without state: scale, sign, decay, and the last one, which moves the values.

use gradus_core::FloatElement;

use crate::{
    DecayMask, OptimError,
    error::{finite, non_negative},
    lion::sign,
    param::Value,
    pass::{Out, decayed},
    pieces::in_pieces,
    rule::{Direction, Frame, Layout, Rule, Turn, transform},
    slots::{Slot, Slots},
};

/// The traits of a stage that is a `rule` and has no state.
macro_rules! stateless {
    ($stage:ident, $rule:ident) => {
        impl $stage {
            fn of(rule: $rule) -> Result<Self, OptimError> {
                Ok(Self { slots: Slots::of(&rule)?, rule })
            }
        }
        transform!($stage { rule }, "Nothing.");
    };
}

/// Multiplies gradients by a number: -1 climbs instead of descending.
#[derive(Clone, Debug)]
pub struct Scale {
    rule: Factor,
    slots: Slots,
}

#[derive(Clone, Debug)]
struct Factor(f64);

impl Scale {
    /// Times `factor`.
    ///
    /// # Errors
    /// [`OptimError`] for a factor that is not finite.
    pub fn new(factor: f64) -> Result<Self, OptimError> {
        Self::of(Factor(factor))
    }
}
stateless!(Scale, Factor);

impl Layout for Factor {
    fn check(&self) -> Result<(), OptimError> {
        finite("factor", self.0)
    }
    fn fields(&self) -> Option<&'static [&'static str]> {
        None
    }
}

impl Rule for Factor {
    const NEEDS_VALUE: bool = false;

    fn update<T: Value>(&self, turn: Turn<'_, T>) {
        let factor = T::Work::from_f64(self.0);
        Out::Gradient(turn.grad).pass0(move |g| factor * g);
    }
}

/// The sign of each element: -1, 0 or 1; NaN stays.
///
/// # References
/// Bernstein, Wang, Azizzadenesheli, Anandkumar: signSGD: compressed optimisation for non-convex problems (2018),
/// arXiv:1802.04434.
#[derive(Clone, Debug)]
pub struct ScaleBySign {
    rule: Sign,
    slots: Slots,
}

#[derive(Clone, Debug)]
struct Sign;

impl ScaleBySign {
    /// The stage.
    #[must_use]
    pub fn new() -> Self {
        Self { rule: Sign, slots: Slots::none() }
    }
}

impl Default for ScaleBySign {
    fn default() -> Self {
        Self::new()
    }
}
transform!(ScaleBySign { rule }, "Nothing.");

impl Layout for Sign {
    fn fields(&self) -> Option<&'static [&'static str]> {
        None
    }
}

impl Rule for Sign {
    const NEEDS_VALUE: bool = false;

    fn update<T: Value>(&self, turn: Turn<'_, T>) {
        Out::Gradient(turn.grad).pass0(sign);
    }
}

/// Adds `weight_decay p` to the gradient: an L2 penalty before the stage that scales, a decay that the rate scales
/// after it.
///
/// A cautious decay leaves an element out where the update moves it away from zero by itself, that is where
/// `u p < 0`, so that it never works against the update.
///
/// # References
/// Cautious: Chen, Li, Liang, Su, Xie, Pierse, Liang, Lao, Liu: Cautious weight decay (2025), arXiv:2510.12402.
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{AddDecayedWeights, DecayMask};
///
/// let mut params = vec![VecParam::new("w", &[2], vec![4.0f32, -4.0]).with_grad(vec![1.0; 2])];
/// AddDecayedWeights::new(0.5, DecayMask::All)?.cautious().step(0.1, &mut params)?;
/// assert_eq!(params[0].grad, Some(vec![3.0, 1.0]));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct AddDecayedWeights {
    rule: Decay,
    slots: Slots,
}

#[derive(Clone, Debug)]
struct Decay {
    weight_decay: f64,
    mask: DecayMask,
    cautious: bool,
}

impl AddDecayedWeights {
    /// For the parameters that `mask` lets decay.
    ///
    /// # Errors
    /// [`OptimError`] for a decay that is negative or not finite.
    pub fn new(weight_decay: f64, mask: DecayMask) -> Result<Self, OptimError> {
        Self::of(Decay { weight_decay, mask, cautious: false })
    }

    /// The same with a cautious decay.
    #[must_use]
    pub fn cautious(mut self) -> Self {
        self.rule.cautious = true;
        self
    }
}
stateless!(AddDecayedWeights, Decay);

impl Layout for Decay {
    fn check(&self) -> Result<(), OptimError> {
        non_negative("weight_decay", self.weight_decay)
    }
    fn fields(&self) -> Option<&'static [&'static str]> {
        None
    }
}

impl Rule for Decay {
    fn update<T: Value>(&self, Turn { site, value, grad, .. }: Turn<'_, T>) {
        let decay = T::Work::from_f64(self.mask.decay(self.weight_decay, site));
        let zero = T::Work::from_f64(0.0);
        let cautious = self.cautious;
        in_pieces((grad, &*value), move |(grad, value): (&mut [T], &[T])| {
            for (g, p) in grad.iter_mut().zip(value) {
                let (u, p) = (g.load(), p.load());
                let decays = !(cautious && u * p < zero);
                *g = if decays { T::store(decayed(u, decay, p)) } else { *g };
            }
        });
    }
}

/// Moves the values, at the end of a chain: `p = (1 - lr weight_decay) p - lr u`.
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::ApplyUpdates;
///
/// let mut params = vec![VecParam::new("w", &[1], vec![1.0f32]).with_grad(vec![2.0])];
/// ApplyUpdates::new().step(0.25, &mut params)?;
/// assert_eq!(params[0].value, [0.5]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ApplyUpdates {
    rule: Apply,
    slots: Slots,
}

#[derive(Clone, Debug)]
struct Apply {
    weight_decay: f64,
    mask: DecayMask,
}

impl ApplyUpdates {
    /// Without decay.
    #[must_use]
    pub fn new() -> Self {
        Self { rule: Apply { weight_decay: 0.0, mask: DecayMask::All }, slots: Slots::none() }
    }

    /// With a decoupled decay, as in AdamW, of the parameters that `mask` lets decay.
    ///
    /// # Errors
    /// [`OptimError`] for a decay that is negative or not finite.
    pub fn decoupled(weight_decay: f64, mask: DecayMask) -> Result<Self, OptimError> {
        Self::of(Apply { weight_decay, mask })
    }
}

impl Default for ApplyUpdates {
    fn default() -> Self {
        Self::new()
    }
}
stateless!(ApplyUpdates, Apply);

impl Layout for Apply {
    fn check(&self) -> Result<(), OptimError> {
        non_negative("weight_decay", self.weight_decay)
    }
    fn fields(&self) -> Option<&'static [&'static str]> {
        None
    }
}

impl Direction for Apply {
    fn frame(&self) -> Frame {
        let Self { weight_decay, mask } = *self;
        Frame { weight_decay, decoupled: true, mask, maximize: false }
    }

    fn send<T: Value>(&self, out: Out<'_, T>, _shape: &[usize], _slot: &mut Slot) {
        out.pass0(|u| u);
    }
}
