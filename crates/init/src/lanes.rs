//! Standard normals from random bits, sixteen at a time.
//!
//! Philox gives 16 blocks of four words, Box and Muller's transform makes a pair of normals from two words. All
//! of it is plain arithmetic on arrays of 16 without a branch or a call, so that it becomes vector code
//! wherever it is inlined; nothing is fused, so that every instruction set computes the same bits.

use core::f32::consts::{FRAC_PI_4, LN_2};

use gradus_core::RngStream;
use num_traits::Float;

/// Words that are worked on side by side.
const LANES: usize = 16;

/// Elements that are drawn together: element `i` comes from group `i / GROUP`.
pub(crate) const GROUP: usize = 4 * LANES;

/// Something that draws elements a group at a time. (No closure: only what is marked to be inlined becomes
/// code of the caller's instruction set.)
pub(crate) trait Groups<T: Copy> {
    /// The elements of group `group`.
    fn group(&self, group: u64) -> [T; GROUP];

    /// Fills `out` with the elements from number `first` on.
    #[inline(always)]
    fn fill_range(&self, first: usize, mut out: &mut [T]) {
        let mut group = (first / GROUP) as u64;
        let mut skip = first % GROUP;
        while !out.is_empty() {
            let drawn = self.group(group);
            let (part, rest) = out.split_at_mut(out.len().min(GROUP - skip));
            match <&mut [T; GROUP]>::try_from(&mut *part) {
                Ok(whole) => *whole = drawn,
                Err(_) => part.copy_from_slice(&drawn[skip..skip + part.len()]),
            }
            (group, skip, out) = (group + 1, 0, rest);
        }
    }
}

/// The words of a stream.
pub(crate) struct Words(pub(crate) RngStream);

impl Groups<u32> for Words {
    #[inline(always)]
    fn group(&self, group: u64) -> [u32; GROUP] {
        words(&self.0, group)
    }
}

/// The standard normals of a stream.
pub(crate) struct Normals(pub(crate) RngStream);

impl Groups<f32> for Normals {
    #[inline(always)]
    fn group(&self, group: u64) -> [f32; GROUP] {
        normals(&self.0, group)
    }
}

/// Words of 32 bits: those of group `group` of a stream.
#[inline(always)]
pub(crate) fn words(stream: &RngStream, group: u64) -> [u32; GROUP] {
    let blocks = stream.blocks16(group.wrapping_mul(LANES as u64));
    let mut out = [0; GROUP];
    for (out, words) in out.chunks_exact_mut(LANES).zip(&blocks) {
        out.copy_from_slice(words);
    }
    out
}

/// Standard normals: those of group `group` of a stream. Within 6.67, with the resolution of f32.
#[inline(always)]
pub(crate) fn normals(stream: &RngStream, group: u64) -> [f32; GROUP] {
    let [a, b, c, d] = stream.blocks16(group.wrapping_mul(LANES as u64));
    let mut z = [0.0; GROUP];
    let (front, back) = z.split_at_mut(2 * LANES);
    box_muller(&a, &b, front);
    box_muller(&c, &d, back);
    z
}

/// Box, Muller 1958: a point in the plane, by its distance from the origin and its direction.
#[inline(always)]
fn box_muller(radii: &[u32; LANES], angles: &[u32; LANES], out: &mut [f32]) {
    for l in 0..LANES {
        let r = radius(radii[l]);
        let (c, s) = direction(angles[l]);
        out[l] = r * c;
        out[LANES + l] = r * s;
    }
}

/// `sqrt(-2 ln u)` for `u` uniform in `(0, 1]`: the middle of one of 2^31 equal parts, rounded to f32.
#[inline(always)]
fn radius(word: u32) -> f32 {
    /// The bits of `sqrt(1/2)`.
    const SQRT_HALF: u32 = 0x3F35_04F3;
    let u = (word >> 1) as i32 as f32 + 0.5;
    // u / 2^31 = 2^e (1 + f) with 1 + f between sqrt(1/2) and sqrt(2).
    let bits = u.to_bits().wrapping_sub(SQRT_HALF + (31 << 23));
    let e = (bits as i32 >> 23) as f32;
    let f = f32::from_bits((bits & 0x007F_FFFF) + SQRT_HALF) - 1.0;
    // -2 ln(1 + f) = -2 f + f^2 p(f); a minimax fit, within 0.53 units of 2^-24.
    let p = -2.0 * 0.087_004_38;
    let p = p * f - 2.0 * -0.142_674_92;
    let p = p * f - 2.0 * 0.149_147_69;
    let p = p * f - 2.0 * -0.165_775_84;
    let p = p * f - 2.0 * 0.199_630_63;
    let p = p * f - 2.0 * -0.250_013_38;
    let p = p * f - 2.0 * 0.333_339_1;
    let p = p * f + 1.0;
    Float::sqrt(e * (-2.0 * LN_2) + (p * (f * f) - (f + f)))
}

/// Cosine and sine of a uniform angle: 30 bits choose one within 45 degrees of the first axis, one bit mirrors
/// it, one exchanges the axes. Minimax fits, within 0.06 units of 2^-24.
#[inline(always)]
fn direction(word: u32) -> (f32, f32) {
    let t = (word << 2) as i32 as f32 * (1.0 / 2_147_483_648.0);
    let q = t * t;
    let s = -3.595_045_2e-5 * q + 0.002_490_001;
    let s = s * q - 0.080_745_436;
    let s = (s * q + FRAC_PI_4) * t;
    let c = 3.531_334_6e-6 * q - 0.000_325_942;
    let c = c * q + 0.015_854_327;
    let c = c * q - 0.308_425_13;
    let c = c * q + 1.0;
    let c = f32::from_bits(c.to_bits() | (word & 0x8000_0000));
    if word & 0x4000_0000 == 0 { (c, s) } else { (s, c) }
}

#[cfg(test)]
mod tests {
    use core::f64::consts::{self, SQRT_2};

    use super::*;

    /// Words that cover the range, with both ends of it.
    fn samples() -> impl Iterator<Item = u32> {
        let ends = (0..2000).flat_map(|i| [i, !i, (1 << 30) + i, (1 << 31) - i, (1 << 31) + i]);
        ends.chain((0..400_000u32).map(|i| i.wrapping_mul(0x9E37_79B9)))
    }

    #[test]
    fn radii_are_those_of_f64_to_rounding() {
        for word in samples() {
            let u = f64::from((word >> 1) as f32 + 0.5) / 2f64.powi(31);
            let want = libm::sqrt(-2.0 * libm::log(u));
            let got = f64::from(radius(word));
            assert!((got - want).abs() <= 2.5e-7 * want, "{word}: {got} {want}");
        }
        assert!((radius(0) - 6.660_437).abs() < 1e-5 && radius(u32::MAX) == 0.0);
    }

    #[test]
    fn directions_are_those_of_f64_to_rounding() {
        for word in samples() {
            let angle = f64::from((word << 2) as i32) / 2f64.powi(31) * consts::FRAC_PI_4;
            let sign = if word >> 31 == 0 { 1.0 } else { -1.0 };
            let (mut c, mut s) = (sign * libm::cos(angle), libm::sin(angle));
            if word >> 30 & 1 == 1 {
                core::mem::swap(&mut c, &mut s);
            }
            let (x, y) = direction(word);
            let error = (f64::from(x) - c).abs().max((f64::from(y) - s).abs());
            assert!(error < 1.2e-7, "{word}: ({x}, {y}) for ({c}, {s})");
        }
    }

    /// The largest distance of the empirical distribution function of a million draws from the normal one is
    /// below what one in a thousand true samples exceeds (Kolmogorov, Smirnov).
    #[test]
    fn draws_follow_the_normal_distribution_function() {
        let stream = RngStream::new(12, 0, 0);
        let n = 1 << 20;
        let mut z: alloc::vec::Vec<f32> =
            (0..n / GROUP as u64).flat_map(|group| normals(&stream, group)).collect();
        z.sort_by(f32::total_cmp);
        let mut worst = 0f64;
        for (i, &z) in z.iter().enumerate() {
            let below = 0.5 * libm::erfc(-f64::from(z) / SQRT_2);
            let (low, high) = (i as f64 / n as f64, (i + 1) as f64 / n as f64);
            worst = worst.max((below - low).abs()).max((high - below).abs());
        }
        assert!(worst * libm::sqrt(n as f64) < 1.95, "{worst}");
    }

    #[test]
    fn moments_tails_and_pairs_are_those_of_independent_normals() {
        let stream = RngStream::new(3, 1, 4);
        let groups = 40_000;
        let n = f64::from(groups) * GROUP as f64;
        let (mut m, mut across, mut largest, mut tail) = ([0.0; 5], 0.0, 0f32, 0.0);
        for group in 0..groups as u64 {
            let z = normals(&stream, group);
            for (i, &x) in z.iter().enumerate() {
                let x64 = f64::from(x);
                m.iter_mut().enumerate().for_each(|(k, m)| *m += x64.powi(k as i32) / n);
                // The two of a pair lie 16 apart: their squares would show what Box and Muller share.
                let other = f64::from(z[(i + LANES) % GROUP]);
                across += (x64 * x64 - 1.0) * (other * other - 1.0) / n;
                largest = largest.max(x.abs());
                tail += if x.abs() > 3.0 { 1.0 / n } else { 0.0 };
            }
        }
        let sd = 1.0 / n.sqrt();
        assert!(m[1].abs() < 4.0 * sd, "mean {}", m[1]);
        assert!((m[2] - 1.0).abs() < 4.0 * 2f64.sqrt() * sd, "variance {}", m[2]);
        assert!(m[3].abs() < 4.0 * 15f64.sqrt() * sd, "third moment {}", m[3]);
        assert!((m[4] / (m[2] * m[2]) - 3.0).abs() < 4.0 * 24f64.sqrt() * sd, "kurtosis {}", m[4]);
        assert!(across.abs() < 4.0 * 2.0 * sd, "squares of neighbours {across}");
        assert!(largest > 4.8, "largest {largest}");
        let beyond_3: f64 = 0.002_699_796_063_260_19;
        assert!((tail - beyond_3).abs() < 4.0 * (beyond_3 / n).sqrt(), "beyond 3: {tail}");
    }
}
