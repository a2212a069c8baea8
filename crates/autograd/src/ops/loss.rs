//! Losses of a prediction and a target of the same shape.

use gradus_tensor::{BinaryOp, Real, Tensor, elementwise_ops};

use crate::{DType, Var};

/// How the losses of single elements (or rows) become the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Reduction {
    /// Their mean; where classes are weighted or ignored, the mean by weight. Over nothing it is NaN.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Their sum divided by the size of the first dimension.
    BatchMean,
    /// All of them.
    None,
}

impl Reduction {
    /// Reduces `losses`; the mean divides by `total`, the batch's mean by `batch`.
    pub(super) fn apply(self, losses: Tensor, total: f64, batch: usize) -> Tensor {
        let mut y = if self == Self::None { return losses } else { losses.sum(&[], false) };
        if let Some(n) = self.divisor(total, batch) {
            y.map_mut(DivideBy { n });
        }
        y
    }

    fn divisor(self, total: f64, batch: usize) -> Option<f64> {
        match self {
            Self::Mean => Some(total),
            Self::BatchMean => Some(batch as f64),
            Self::Sum | Self::None => None,
        }
    }

    /// What the gradient `g` of the reduced loss, if it is one number, is for every single loss.
    pub(super) fn share(self, g: &Tensor, total: f64, batch: usize) -> Option<f64> {
        (self != Self::None).then(|| g.item() / self.divisor(total, batch).unwrap_or(1.0))
    }

    /// Multiplies the slopes of the single losses with the gradient of the reduced loss.
    fn spread(self, mut slopes: Tensor, g: &Tensor) -> Tensor {
        let (total, batch) = sizes(&slopes);
        match self.share(g, total, batch) {
            Some(g) => slopes.scale_assign(g),
            None => slopes = slopes.mul(g),
        }
        slopes
    }
}

/// Number of elements, and size of the first dimension.
fn sizes(t: &Tensor) -> (f64, usize) {
    (t.numel() as f64, t.shape().first().copied().unwrap_or(1))
}

#[inline(always)]
fn abs<T: Real>(x: T) -> T {
    if x < T::ZERO { -x } else { x }
}

/// -1, 0 or 1; 0 for NaN, as PyTorch's.
#[inline(always)]
fn sign<T: Real>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        -T::ONE
    } else {
        T::ZERO
    }
}

/// `ln(1 + e^x)`.
#[inline(always)]
fn softplus<T: Real>(x: T) -> T {
    let positive = if x > T::ZERO { x } else { T::ZERO };
    positive + (-abs(x)).exp_().ln_1p_()
}

#[inline(always)]
fn bce<T: Real>(x: T, y: T, positive: T) -> T {
    (T::ONE - y) * softplus(x) + positive * y * softplus(-x)
}

#[inline(always)]
fn bce_slope<T: Real>(x: T, y: T, positive: T) -> T {
    (T::ONE - y) * x.sigmoid_() - positive * y * (-x).sigmoid_()
}

// Slopes are with respect to the prediction times `k`, which is -1 for the target of a symmetric loss.
elementwise_ops! {
    DivideBy(n) "reduction" 0.3 |self, x| x / T::lit(self.n);
    Squared() "mse_loss" 0.3 |self, a, b| (a - b) * (a - b);
    SquaredSlope(k) "mse_loss" 0.3 |self, a, b| T::lit(2.0 * self.k) * (a - b);
    Absolute() "l1_loss" 0.3 |self, a, b| abs(a - b);
    AbsoluteSlope(k) "l1_loss" 0.3 |self, a, b| T::lit(self.k) * sign(a - b);
    SmoothL1(beta) "smooth_l1_loss" 0.5 |self, a, b| {
        let (d, beta) = (abs(a - b), T::lit(self.beta));
        if d < beta { T::lit(0.5) * d * d / beta } else { d - T::lit(0.5) * beta }
    };
    SmoothL1Slope(beta, k) "smooth_l1_loss" 0.5 |self, a, b| {
        let (d, beta) = (a - b, T::lit(self.beta));
        T::lit(self.k) * if abs(d) >= beta { sign(d) } else { d / beta }
    };
    Huber(delta) "huber_loss" 0.5 |self, a, b| {
        let (d, delta) = (abs(a - b), T::lit(self.delta));
        if d <= delta { T::lit(0.5) * d * d } else { delta * (d - T::lit(0.5) * delta) }
    };
    HuberSlope(delta, k) "huber_loss" 0.5 |self, a, b| {
        let (d, delta) = (a - b, T::lit(self.delta));
        T::lit(self.k) * if abs(d) > delta { delta * sign(d) } else { d }
    };
    Bce() "bce_with_logits" 1.5 |self, x, y| bce(x, y, T::ONE);
    BceSlope() "bce_with_logits" 1.5 |self, x, y| bce_slope(x, y, T::ONE);
    WeightedBce() "bce_with_logits" 1.5 |self, x, y, positive| bce(x, y, positive);
    WeightedBceSlope() "bce_with_logits" 1.5 |self, x, y, positive| bce_slope(x, y, positive);
    Kl() "kl_div" 1.0 |self, q, p| if p == T::ZERO { T::ZERO } else { p * (p.ln_() - q) };
    KlSlope() "kl_div" 0.3 |self, _q, p| -p;
    KlTargetSlope() "kl_div" 1.0 |self, q, p| if p == T::ZERO { T::ZERO } else { p.ln_() + T::ONE - q };
    KlLog() "kl_div" 1.0 |self, q, p| {
        let e = p.exp_();
        if e == T::ZERO { T::ZERO } else { e * (p - q) }
    };
    KlLogSlope() "kl_div" 1.0 |self, _q, p| -p.exp_();
    KlLogTargetSlope() "kl_div" 1.0 |self, q, p| {
        let e = p.exp_();
        if e == T::ZERO { T::ZERO } else { e * (p - q + T::ONE) }
    };
}

/// A loss of pairs of elements, and its slopes with respect to either.
#[track_caller]
fn paired(
    name: &'static str,
    (input, target): (&Var, &Var),
    reduction: Reduction,
    loss: impl BinaryOp,
    slopes: (impl BinaryOp + 'static, impl BinaryOp + 'static),
) -> Var {
    same_shape(name, input, target.value());
    let pair = Var::promoted(name, [input, target]);
    Var::in_compute_type(pair.each_ref().map(|v| &**v), |pair| {
        paired_real(name, pair, reduction, loss, slopes)
    })
}

#[track_caller]
fn paired_real(
    name: &'static str,
    [input, target]: [&Var; 2],
    reduction: Reduction,
    loss: impl BinaryOp,
    slopes: (impl BinaryOp + 'static, impl BinaryOp + 'static),
) -> Var {
    let (x, y) = (input.value().clone(), target.value().clone());
    let losses = x.zip(&y, loss);
    let (total, batch) = sizes(&losses);
    Var::op(name, &[input, target], reduction.apply(losses, total, batch), move |g, sink| {
        if sink.needs(0) {
            sink.add(0, reduction.spread(x.zip(&y, slopes.0), &g));
        }
        if sink.needs(1) {
            sink.add(1, reduction.spread(x.zip(&y, slopes.1), &g));
        }
    })
}

#[track_caller]
fn same_shape(name: &str, input: &Var, target: &Tensor) {
    assert_eq!(
        input.shape(),
        target.shape(),
        "{name}: shapes of the input and its target (they do not broadcast)"
    );
}

impl Var {
    /// A loss of an input against a constant target: cast as the policy wants for both, or to the wider of them, and
    /// computed in f32 for 16-bit floats.
    #[track_caller]
    pub(super) fn loss_of(
        op: &str,
        input: &Self,
        target: Option<DType>,
        loss: impl FnOnce(&Self) -> Self,
    ) -> Self {
        let target = target.filter(|d| d.is_float());
        let wider = || input.dtype().promote(target.unwrap_or(input.dtype()));
        let to = Self::wanted(op, &[input], target.as_slice()).unwrap_or_else(wider);
        Self::in_compute_type([&input.to_dtype(to)], |[input]| loss(input))
    }

    /// `(x - y)^2`, reduced.
    ///
    /// The shapes have to be equal: `[n, 1]` against `[n]` would compare everything with everything, which PyTorch
    /// does with a warning.
    ///
    /// # Panics
    /// When the shapes differ.
    #[must_use]
    #[track_caller]
    pub fn mse_loss(&self, target: &Self, reduction: Reduction) -> Self {
        let slopes = (SquaredSlope { k: 1.0 }, SquaredSlope { k: -1.0 });
        paired("mse_loss", (self, target), reduction, Squared {}, slopes)
    }

    /// `|x - y|`, reduced. Gradient 0 where they are equal.
    ///
    /// # Panics
    /// When the shapes differ.
    #[must_use]
    #[track_caller]
    pub fn l1_loss(&self, target: &Self, reduction: Reduction) -> Self {
        let slopes = (AbsoluteSlope { k: 1.0 }, AbsoluteSlope { k: -1.0 });
        paired("l1_loss", (self, target), reduction, Absolute {}, slopes)
    }

    /// `d^2 / (2 beta)` where `d = |x - y| < beta`, else `d - beta / 2`; reduced (Girshick 2015). PyTorch's default
    /// `beta` is 1; 0 is [`l1_loss`](Self::l1_loss).
    ///
    /// # Panics
    /// When the shapes differ, or `beta` is negative or NaN.
    #[must_use]
    #[track_caller]
    pub fn smooth_l1_loss(&self, target: &Self, beta: f64, reduction: Reduction) -> Self {
        assert!(beta >= 0.0, "smooth_l1_loss: beta is {beta}; it cannot be negative");
        if beta == 0.0 {
            return self.l1_loss(target, reduction);
        }
        let slopes = (SmoothL1Slope { beta, k: 1.0 }, SmoothL1Slope { beta, k: -1.0 });
        paired("smooth_l1_loss", (self, target), reduction, SmoothL1 { beta }, slopes)
    }

    /// `d^2 / 2` where `d = |x - y| <= delta`, else `delta (d - delta / 2)`; reduced (Huber 1964). PyTorch's default
    /// `delta` is 1.
    ///
    /// # Panics
    /// When the shapes differ, or `delta` is not positive.
    #[must_use]
    #[track_caller]
    pub fn huber_loss(&self, target: &Self, delta: f64, reduction: Reduction) -> Self {
        assert!(delta > 0.0, "huber_loss: delta is {delta}; it has to be positive");
        let slopes = (HuberSlope { delta, k: 1.0 }, HuberSlope { delta, k: -1.0 });
        paired("huber_loss", (self, target), reduction, Huber { delta }, slopes)
    }

    /// The divergence `p (ln p - x)` of a distribution from log-probabilities `x`, reduced; 0 where `p` is 0.
    /// The target holds `p`, or `ln p` with `log_target`. The divergence of whole distributions is
    /// [`Reduction::BatchMean`]; the mean divides by the number of elements, as PyTorch's does.
    ///
    /// Gradient of the target: 0 where `p` is 0.
    ///
    /// # Panics
    /// When the shapes differ.
    #[must_use]
    #[track_caller]
    pub fn kl_div(&self, target: &Self, log_target: bool, reduction: Reduction) -> Self {
        if log_target {
            paired(
                "kl_div",
                (self, target),
                reduction,
                KlLog {},
                (KlLogSlope {}, KlLogTargetSlope {}),
            )
        } else {
            paired("kl_div", (self, target), reduction, Kl {}, (KlSlope {}, KlTargetSlope {}))
        }
    }

    /// The cross-entropy of logits `x` against probabilities `y` of yes, each for itself:
    /// `-w (p y ln s(x) + (1 - y) ln(1 - s(x)))` with the sigmoid `s`; reduced. `weight` is `w`, `pos_weight` is `p`
    /// (1 by default; both broadcast to the shape of the logits). Finite for any finite logit; the mean divides by
    /// the number of elements, whatever the weights.
    ///
    /// No gradient flows into the target or the weights.
    ///
    /// # Panics
    /// When the shapes of logits and target differ, or a weight does not broadcast to them.
    #[must_use]
    #[track_caller]
    pub fn bce_with_logits(
        &self,
        target: &Tensor,
        weight: Option<&Tensor>,
        pos_weight: Option<&Tensor>,
        reduction: Reduction,
    ) -> Self {
        const OP: &str = "bce_with_logits";
        same_shape(OP, self, target);
        Self::loss_of(OP, self, Some(target.dtype()), |logits| {
            logits.bce_real(target, [weight, pos_weight], reduction)
        })
    }

    #[track_caller]
    fn bce_real(
        &self,
        target: &Tensor,
        weights: [Option<&Tensor>; 2],
        reduction: Reduction,
    ) -> Self {
        let (x, y) = (self.value().clone(), target.to_dtype(self.dtype()));
        let [weight, positive] =
            weights.map(|w| Some(w?.to_dtype(x.dtype()).broadcast_to(x.shape())));
        let weighted = move |t: Tensor| weight.as_ref().map_or(t.clone(), |w| t.mul(w));
        let losses = weighted(match &positive {
            Some(p) => x.zip3(&y, p, WeightedBce {}),
            None => x.zip(&y, Bce {}),
        });
        let (total, batch) = sizes(&losses);
        Self::op(
            "bce_with_logits",
            &[self],
            reduction.apply(losses, total, batch),
            move |g, sink| {
                let slopes = weighted(match &positive {
                    Some(p) => x.zip3(&y, p, WeightedBceSlope {}),
                    None => x.zip(&y, BceSlope {}),
                });
                sink.add(0, reduction.spread(slopes, &g));
            },
        )
    }
}
