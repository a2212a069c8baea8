//! The truncated normal.

use core::f64::consts::PI;

use num_traits::Float;

use crate::{
    lanes::{GROUP, normals},
    quadrature::integrate,
    sampler::Attempts,
};

/// A standard normal given that it is within `[low, high]`, drawn by rejection from the proposal that is
/// accepted most often. No tail is too far out.
///
/// The `k`-th proposal for an element is a function of (stream `k`, element), so that every element can be
/// drawn without the others.
///
/// # References
/// Robert: Simulation of truncated normal variables (1995), arXiv:0907.4010.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Truncated {
    proposal: Proposal,
    low: f64,
    high: f64,
    /// Whether low and high are those of the mirror image.
    mirrored: bool,
}

#[derive(Clone, Copy, Debug)]
enum Proposal {
    Normal,
    Uniform,
    /// Exponential of this rate, from `low` on.
    Exponential(f64),
}

impl Truncated {
    pub(crate) fn new(low: f64, high: f64) -> Self {
        let mirrored = high < 0.0;
        let (low, high) = if mirrored { (-high, -low) } else { (low, high) };
        let proposal = if low <= 0.0 {
            if high - low > Float::sqrt(2.0 * PI) { Proposal::Normal } else { Proposal::Uniform }
        } else {
            let root = Float::sqrt(low * low + 4.0);
            let rate = (low + root) / 2.0;
            // Robert's bound on the width from which the exponential is the better proposal.
            let wide = 2.0 / (low + root) * libm::exp((low * low - low * root) / 4.0 + 0.5);
            if high - low > wide { Proposal::Exponential(rate) } else { Proposal::Uniform }
        };
        Self { proposal, low, high, mirrored }
    }

    /// The elements of a group.
    #[inline(always)]
    pub(crate) fn group(&self, attempts: Attempts, group: u64) -> [f64; GROUP] {
        if matches!(self.proposal, Proposal::Normal) {
            self.by_group(attempts, group)
        } else {
            self.one_by_one(attempts, group)
        }
    }

    /// Attempt after attempt for the whole group, until every element has been within the bounds once.
    #[inline(always)]
    fn by_group(&self, attempts: Attempts, group: u64) -> [f64; GROUP] {
        let (low, high) =
            if self.mirrored { (-self.high, -self.low) } else { (self.low, self.high) };
        let (low, high) = (low as f32, high as f32);
        let mut out = [f32::NAN; GROUP];
        for attempt in 0.. {
            let mut outside = 0;
            for (out, z) in out.iter_mut().zip(normals(&attempts.stream(attempt), group)) {
                let kept = if (*out >= low) & (*out <= high) { *out } else { z };
                outside += i32::from(!((kept >= low) & (kept <= high)));
                *out = kept;
            }
            if outside == 0 {
                break;
            }
        }
        out.map(f64::from)
    }

    /// The narrow and the far-out ones, which need a logarithm or an exponential for each proposal.
    #[inline(never)]
    fn one_by_one(&self, attempts: Attempts, group: u64) -> [f64; GROUP] {
        core::array::from_fn(|l| {
            let element = group * GROUP as u64 + l as u64;
            let mut attempt = 0;
            loop {
                let [a, b, c, d] = attempts.stream(attempt).block(element);
                if let Some(x) = self.propose(unit(a, b), unit(c, d)) {
                    break if self.mirrored { -x } else { x };
                }
                attempt += 1;
            }
        })
    }

    /// The proposal made of `u`, if `v` accepts it; both are uniform in `[0, 1)`.
    fn propose(&self, u: f64, v: f64) -> Option<f64> {
        let (x, log_accept) = match self.proposal {
            Proposal::Exponential(rate) => {
                let x = self.low - libm::log(1.0 - u) / rate;
                (x, -(x - rate) * (x - rate) / 2.0)
            }
            _ => {
                let x = self.low + (self.high - self.low) * u;
                // Relative to the density where it is highest: at 0, or at `low` where that is above 0.
                let top = self.low.max(0.0);
                (x, (top - x) * (top + x) / 2.0)
            }
        };
        let accepted = log_accept == 0.0 || v < libm::exp(log_accept);
        (accepted && self.low <= x && x <= self.high).then_some(x)
    }

    /// First and second moment.
    pub(crate) fn moments(&self) -> (f64, f64) {
        let Self { low, high, mirrored, .. } = *self;
        // Beyond this the density is below 1e-32 of the highest.
        let top = low.max(0.0);
        let reach = 74.0 / (top + Float::sqrt(top * top + 74.0)) + 1.0;
        let (from, to) = (low.max(-13.0), high.min(top + reach));
        if from >= to {
            return (if mirrored { -low } else { low }, low * low);
        }
        let mass = |power: i32| {
            let density = |x: f64| libm::exp((top - x) * (top + x) / 2.0);
            integrate(|x| Float::powi(x, power) * density(x), from, to, 64)
        };
        let (total, first) = (mass(0), mass(1));
        (if mirrored { -first } else { first } / total, mass(2) / total)
    }
}

/// Two words as a number in `[0, 1)`.
fn unit(high: u32, low: u32) -> f64 {
    let bits = u64::from(high) << 32 | u64::from(low);
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}
