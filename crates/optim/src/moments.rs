//! Running means, and the moments of Adam and its kin.

use num_traits::Float;

use crate::slots::Work;

/// An exponential running mean.
#[derive(Clone, Copy)]
pub(crate) struct Mean<W> {
    keep: W,
    take: W,
}

impl<W: Work> Mean<W> {
    pub(crate) fn new(keep: f64) -> Self {
        Self { keep: W::from_f64(keep), take: W::from_f64(1.0 - keep) }
    }

    /// The mean after one more number.
    #[inline(always)]
    pub(crate) fn of(&self, old: W, new: W) -> W {
        self.keep * old + self.take * new
    }
}

/// `1 - beta^t`: the share of the first `t` numbers in a running mean that started at 0.
pub(crate) fn bias(beta: f64, t: u64) -> f64 {
    1.0 - Float::powf(beta, t as f64)
}

/// Adam's two means at update `t`, with all that is not done once per element computed in f64.
#[derive(Clone, Copy)]
pub(crate) struct Moments<W> {
    first: Mean<W>,
    second: Mean<W>,
    /// 1 / (1 - beta1^t).
    first_scale: W,
    /// 1 / sqrt(1 - beta2^t).
    root_scale: W,
    eps: W,
}

impl<W: Work> Moments<W> {
    pub(crate) fn new(beta1: f64, beta2: f64, eps: f64, t: u64) -> Self {
        Self {
            first: Mean::new(beta1),
            second: Mean::new(beta2),
            first_scale: W::from_f64(1.0 / bias(beta1, t)),
            root_scale: W::from_f64(1.0 / Float::sqrt(bias(beta2, t))),
            eps: W::from_f64(eps),
        }
    }

    /// Takes a gradient in.
    #[inline(always)]
    pub(crate) fn advance(&self, m: &mut W, v: &mut W, g: W) {
        *m = self.first.of(*m, g);
        *v = self.second.of(*v, g * g);
    }

    /// Adam's denominator: the corrected root of the second moment.
    #[inline(always)]
    pub(crate) fn root(&self, v: W) -> W {
        v.sqrt() * self.root_scale + self.eps
    }

    /// Adam's update before the rate.
    #[inline(always)]
    pub(crate) fn direction(&self, m: W, v: W) -> W {
        self.first_scale * m / self.root(v)
    }
}
