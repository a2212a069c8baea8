//! Sums that vectorise: many accumulators side by side, added up as a tree.
//!
//! Unlike `sum_row` of the tensor they take a function of the elements and stay in the element type for a block,
//! which is twice as fast for the rows of a norm; from block to block the sum goes on in f64.

use gradus_tensor::Real;

const LANES: usize = 32;
/// Elements that are summed in their own type: 64 additions a lane.
const BLOCK: usize = 64 * LANES;

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
    if a.len() < LANES {
        // Too few to fill the lanes, whose adding up would cost more than the elements.
        return a.iter().fold(T::ZERO, |sum, &a| sum + f(a));
    }
    let mut total = 0.0;
    for a in a.chunks(BLOCK) {
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
        total += tree(lanes).to_f64();
    }
    T::from_f64(total)
}

/// The sums of both results of `f(a, b)`.
#[inline(always)]
pub(crate) fn sum2<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> (T, T)) -> (T, T) {
    if a.len() < LANES {
        return a.iter().zip(b).fold((T::ZERO, T::ZERO), |sum, (&a, &b)| {
            let (x, y) = f(a, b);
            (sum.0 + x, sum.1 + y)
        });
    }
    let mut total = (0.0, 0.0);
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
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
        total.0 += tree(first).to_f64();
        total.1 += tree(second).to_f64();
    }
    (T::from_f64(total.0), T::from_f64(total.1))
}
