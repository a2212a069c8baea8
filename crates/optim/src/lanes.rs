//! Sums in lanes of the elements' own type, block by block, and across blocks in f64: exact enough for any
//! length, and fast. The order of additions depends on the length alone.

use gradus_core::FloatElement;

use crate::slots::Work;

const LANES: usize = 8;
const BLOCK: usize = 256;

fn fold<W: Work>(lanes: [W; LANES]) -> f64 {
    lanes.iter().fold(0.0, |s, &x| s + FloatElement::to_f64(x))
}

/// `term(0) + .. + term(len - 1)`.
#[inline(always)]
pub(crate) fn sum<W: Work>(len: usize, term: impl Fn(usize) -> W) -> f64 {
    let mut total = 0.0;
    for start in (0..len).step_by(BLOCK) {
        let mut lanes = [W::zero(); LANES];
        for i in start..len.min(start + BLOCK) {
            lanes[i % LANES] = lanes[i % LANES] + term(i);
        }
        total += fold(lanes);
    }
    total
}

/// The inner product of two slices of one length.
#[inline]
pub(crate) fn dot<W: Work>(a: &[W], b: &[W]) -> f64 {
    let mut total = 0.0;
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let mut lanes = [W::zero(); LANES];
        for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
            for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
                *lane = *lane + a * b;
            }
        }
        total += fold(lanes);
    }
    total
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn every_position_counts() {
        for len in [0usize, 1, 7, 8, 9, 255, 256, 257, 600] {
            for at in 0..len {
                let mut x = vec![0.0f32; len];
                x[at] = 3.0;
                assert_eq!(dot(&x, &x), 9.0, "{len} {at}");
                assert_eq!(sum(len, |i| x[i]), 3.0, "{len} {at}");
            }
        }
    }
}
