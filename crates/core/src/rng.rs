//! Random numbers as a function of (seed, step, op, element).
//!
//! A counter-based generator has no state that threads could race on or a checkpoint could lose: the
//! mask of a dropout layer is computed again in backward instead of being kept.

const M0: u64 = 0xD251_1F53;
const M1: u64 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// Philox4x32-10: 128 random bits from a 128-bit counter under a 64-bit key.
///
/// # References
/// Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011). The tests hold
/// the authors' reference vectors.
#[inline(always)]
#[must_use]
pub fn philox4x32(key: [u32; 2], counter: [u32; 4]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p0 = M0 * u64::from(c0);
        let p1 = M1 * u64::from(c2);
        (c0, c1, c2, c3) =
            ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(W0);
        k1 = k1.wrapping_add(W1);
    }
    [c0, c1, c2, c3]
}

/// One step of SplitMix64: a bijective mixer of 64 bits (Steele, Lea, Flood 2014).
#[inline]
#[must_use]
pub fn splitmix64(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FNV-1a of a name, so that randomness can be keyed by a parameter's name instead of by the order of calls.
#[must_use]
pub fn hash_name(name: &str) -> u64 {
    name.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3))
}

/// The random numbers of one operation in one step: element `i` of the stream is always the same.
///
/// ```
/// let stream = gradus_core::RngStream::new(42, 7, 0);
/// assert_eq!(stream.block(3), stream.block(3));
/// assert_ne!(stream.block(3), gradus_core::RngStream::new(42, 8, 0).block(3));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RngStream {
    key: [u32; 2],
    hi: [u32; 2],
}

impl RngStream {
    /// The stream of operation number `op` in step `step` of a run with this seed.
    #[must_use]
    pub fn new(seed: u64, step: u64, op: u64) -> Self {
        let k = splitmix64(seed);
        let h = splitmix64(splitmix64(step) ^ op.wrapping_mul(0xD1B5_4A32_D192_ED03));
        Self { key: [k as u32, (k >> 32) as u32], hi: [h as u32, (h >> 32) as u32] }
    }

    /// The `i`-th 128 bits of the stream.
    #[inline(always)]
    #[must_use]
    pub fn block(&self, i: u64) -> [u32; 4] {
        philox4x32(self.key, [i as u32, (i >> 32) as u32, self.hi[0], self.hi[1]])
    }

    /// Blocks `first` to `first + 15` at once, word by word: `blocks16(f)[w][l]` is word `w` of block `f + l`.
    /// Written so that it becomes vector code where it is inlined: the halves of a product are taken apart
    /// at once, which is one multiplication of 32 bits each and needs no 64-bit lanes.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::needless_range_loop)] // Four arrays walk side by side: an index is the plain way.
    pub fn blocks16(&self, first: u64) -> [[u32; 16]; 4] {
        let [mut c0, mut c1, mut c2, mut c3] =
            [[0; 16], [0; 16], [self.hi[0]; 16], [self.hi[1]; 16]];
        for l in 0..16 {
            let i = first.wrapping_add(l as u64);
            c0[l] = i as u32;
            c1[l] = (i >> 32) as u32;
        }
        let [mut k0, mut k1] = self.key;
        for _ in 0..10 {
            for l in 0..16 {
                let high0 = ((M0 * u64::from(c0[l])) >> 32) as u32;
                let high1 = ((M1 * u64::from(c2[l])) >> 32) as u32;
                let low0 = c0[l].wrapping_mul(M0 as u32);
                let low1 = c2[l].wrapping_mul(M1 as u32);
                (c0[l], c1[l]) = (high1 ^ c1[l] ^ k0, low1);
                (c2[l], c3[l]) = (high0 ^ c3[l] ^ k1, low0);
            }
            k0 = k0.wrapping_add(W0);
            k1 = k1.wrapping_add(W1);
        }
        [c0, c1, c2, c3]
    }

    /// The `i`-th number of the stream, uniform in `[0, 1)` with 53 bits. For a few numbers, not for masks.
    #[must_use]
    pub fn uniform(&self, i: u64) -> f64 {
        let b = self.block(i);
        let bits = (u64::from(b[0]) << 32) | u64::from(b[1]);
        (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_reference_vectors() {
        assert_eq!(
            philox4x32([0; 2], [0; 4]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32([!0; 2], [!0; 4]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32(
                [0xa409_3822, 0x299f_31d0],
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn sixteen_blocks_at_once_are_the_same_blocks() {
        let s = RngStream::new(9, 8, 7);
        let first = u64::from(u32::MAX) - 5;
        let words = s.blocks16(first);
        for l in 0..16usize {
            assert_eq!(s.block(first + l as u64), words.map(|w| w[l]));
        }
    }

    #[test]
    fn streams_differ_by_seed_step_and_op() {
        let base = RngStream::new(1, 2, 3).block(0);
        for other in [RngStream::new(2, 2, 3), RngStream::new(1, 3, 3), RngStream::new(1, 2, 4)] {
            assert_ne!(base, other.block(0));
        }
    }

    #[test]
    fn uniforms_are_uniform() {
        let s = RngStream::new(5, 0, 0);
        let n = 20_000;
        let (mut mean, mut square) = (0.0, 0.0);
        for i in 0..n {
            let u = s.uniform(i);
            assert!((0.0..1.0).contains(&u));
            mean += u / n as f64;
            square += u * u / n as f64;
        }
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert!((square - 1.0 / 3.0).abs() < 0.01, "{square}");
    }
}
