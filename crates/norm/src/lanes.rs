//! Sums that vectorise: many accumulators side by side, added up as a tree.

use gradus_tensor::Real;

const LANES: usize = 32;

#[inline(always)]
fn tree<T: Real>(mut lanes: [T; LANES]) -> T {
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            lanes[i] += lanes[i + n];
        }
        n /= 2;
    }
    lanes[0]
}

/// The sum of `f(a)`.
#[inline(always)]
pub(crate) fn sum<T: Real>(a: &[T], f: impl Fn(T) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let chunks = a.chunks_exact(LANES);
    for (lane, &a) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = f(a);
    }
    for a in chunks {
        for l in 0..LANES {
            lanes[l] += f(a[l]);
        }
    }
    tree(lanes)
}

/// The sums of both results of `f(a, b)`.
#[inline(always)]
pub(crate) fn sum2<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> (T, T)) -> (T, T) {
    let (mut first, mut second) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    let (ca, cb) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (l, (&a, &b)) in ca.remainder().iter().zip(cb.remainder()).enumerate() {
        (first[l], second[l]) = f(a, b);
    }
    for (a, b) in ca.zip(cb) {
        for l in 0..LANES {
            let (x, y) = f(a[l], b[l]);
            first[l] += x;
            second[l] += y;
        }
    }
    (tree(first), tree(second))
}
