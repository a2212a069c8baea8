//! Noise on gradients.

use core::ops::Range;

use gradus_core::{FloatElement, RngStream, hash_name};
use num_traits::Float;

use crate::{
    OptimError,
    error::non_negative,
    param::Value,
    pieces::in_pieces,
    rule::{Layout, Rule, Turn, transform},
    slots::Slots,
};

/// Adds normal noise of variance `eta / t^gamma` to every gradient, `t` counting the parameter's updates from 1 (the
/// paper counts from 0 and writes `1 + t`).
///
/// The numbers are functions of seed, `t`, the parameter's name and the element: order, threads and interruptions do
/// not change them. The paper tries an `eta` of 0.01, 0.3 and 1 with a `gamma` of 0.55.
///
/// # References
/// Neelakantan, Vilnis, Le, Sutskever, Kaiser, Kurach, Martens: Adding gradient noise improves learning for very deep
/// networks (2015), arXiv:1511.06807.
#[derive(Clone, Debug)]
pub struct AddNoise {
    rule: Noise,
    slots: Slots,
}

#[derive(Clone, Debug)]
struct Noise {
    eta: f64,
    gamma: f64,
    seed: u64,
}

impl AddNoise {
    /// The stage.
    ///
    /// # Errors
    /// [`OptimError`] for an `eta` or `gamma` that is negative or not finite.
    pub fn new(eta: f64, gamma: f64, seed: u64) -> Result<Self, OptimError> {
        let rule = Noise { eta, gamma, seed };
        Ok(Self { slots: Slots::of(&rule)?, rule })
    }
}
transform!(AddNoise { rule }, "`NAME.step`.");

impl Layout for Noise {
    fn check(&self) -> Result<(), OptimError> {
        non_negative("eta", self.eta)?;
        non_negative("gamma", self.gamma)
    }
    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(&[])
    }
}

impl Rule for Noise {
    const NEEDS_VALUE: bool = false;

    fn update<T: Value>(&self, Turn { site, slot, grad, .. }: Turn<'_, T>) {
        let deviation = Float::sqrt(self.eta / Float::powf(slot.step as f64, self.gamma));
        let stream = RngStream::new(self.seed, slot.step, hash_name(site.name));
        let all = 0..grad.len();
        // Pieces start at even elements, of which two share a block of random bits.
        in_pieces((grad, all), move |(grad, at): (&mut [T], Range<usize>)| {
            for (pair, i) in grad.chunks_mut(2).zip(at.step_by(2)) {
                for (g, z) in pair.iter_mut().zip(normals(&stream, i as u64 / 2)) {
                    *g = T::store(g.load() + T::Work::from_f64(deviation * z));
                }
            }
        });
    }
}

/// Two normal numbers from a block of the stream (Box, Muller 1958).
fn normals(stream: &RngStream, block: u64) -> [f64; 2] {
    let [a, b, c, d] = stream.block(block);
    let uniform = |hi: u32, lo: u32| {
        (((u64::from(hi) << 32) | u64::from(lo)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    };
    let length = Float::sqrt(-2.0 * Float::ln(1.0 - uniform(a, b)));
    let (sin, cos) = Float::sin_cos(core::f64::consts::TAU * uniform(c, d));
    [length * cos, length * sin]
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use gradus_core::{GradientTransform, VecParam};

    use super::*;

    fn noise(stage: &mut AddNoise, name: &str, n: usize) -> Vec<f32> {
        let mut params = vec![VecParam::new(name, &[n], vec![0.0f32; n]).with_grad(vec![0.0; n])];
        stage.step(0.1, &mut params).unwrap();
        params[0].grad.take().unwrap()
    }

    #[test]
    fn the_noise_is_normal_and_fades() {
        let n = 40_000;
        let mut stage = AddNoise::new(4.0, 1.0, 7).unwrap();
        for t in 1..=4 {
            let x = noise(&mut stage, "w", n);
            let moment = |k: i32| x.iter().map(|&x| f64::from(x).powi(k)).sum::<f64>() / n as f64;
            let variance = 4.0 / f64::from(t);
            assert!(moment(1).abs() < 4.0 * (variance / n as f64).sqrt(), "{}", moment(1));
            assert!((moment(2) / variance - 1.0).abs() < 0.03, "{}", moment(2));
            assert!((moment(4) / (3.0 * variance * variance) - 1.0).abs() < 0.1, "{}", moment(4));
        }
    }

    #[test]
    fn the_numbers_are_pinned_and_keyed_by_seed_step_and_name() {
        let first = |seed, name: &str| noise(&mut AddNoise::new(1.0, 0.55, seed).unwrap(), name, 3);
        let got = first(1, "w");
        for (got, want) in got.iter().zip(PINNED) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
        assert_eq!(first(1, "w"), got);
        assert_ne!(first(2, "w"), got);
        assert_ne!(first(1, "v"), got);
        // A longer parameter starts with the same numbers.
        let mut stage = AddNoise::new(1.0, 0.55, 1).unwrap();
        assert_eq!(noise(&mut stage, "w", 8)[..3], got);
        assert_ne!(noise(&mut stage, "w", 8)[..3], got);
    }

    /// From a program of its own in Python.
    const PINNED: [f32; 3] = [0.622_825, -0.727_461, -1.459_176_3];
}
