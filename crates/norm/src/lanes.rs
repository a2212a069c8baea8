//! Sums that vectorise: many accumulators side by side, added up as a tree.
//!
//! Unlike `sum_row` of the tensor they take a function of the elements and stay in the element type for a block,
//! which is twice as fast for the rows of a norm; from block to block the sum goes on in f64.

use std::hint::black_box;

use gradus_tensor::Real;

const LANES: usize = 32;
/// Elements that are summed in their own type: 64 additions a lane.
const BLOCK: usize = 64 * LANES;

#[inline(always)]
pub(crate) fn tree<T: Real>(lanes: [T; LANES]) -> T {
    // Kept apart from the loop, whose lanes the compiler else keeps in memory, cut into vectors of every size.
    let mut lanes = black_box(lanes);
    for i in 0..16 {
        lanes[i] += lanes[i + 16];
    }
    for i in 0..8 {
        lanes[i] += lanes[i + 8];
    }
    for i in 0..4 {
        lanes[i] += lanes[i + 4];
    }
    (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
}

/// The sum of `f(a)`.
#[inline(always)]
pub(crate) fn sum<T: Real>(a: &[T], f: impl Fn(T) -> T) -> T {
    if a.len() < LANES {
        return a.iter().fold(T::ZERO, |sum, &a| sum + f(a));
    }
    let mut total = 0.0;
    for a in a.chunks(BLOCK) {
        let mut lanes = [T::ZERO; LANES];
        let (chunks, rest) = a.as_chunks::<LANES>();
        for a in chunks {
            for (lane, &a) in lanes.iter_mut().zip(a) {
                *lane += f(a);
            }
        }
        total += rest.iter().fold(tree(lanes), |sum, &a| sum + f(a)).to_f64();
    }
    T::from_f64(total)
}

#[inline(always)]
fn tail<T: Real>(sum: (T, T), a: &[T], b: &[T], f: impl Fn(T, T) -> (T, T)) -> (T, T) {
    a.iter().zip(b).fold(sum, |sum, (&a, &b)| {
        let (x, y) = f(a, b);
        (sum.0 + x, sum.1 + y)
    })
}

/// The sums of both results of `f(a, b)`.
#[inline(always)]
pub(crate) fn sum2<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> (T, T)) -> (T, T) {
    if a.len() < LANES {
        return tail((T::ZERO, T::ZERO), a, b, f);
    }
    let mut total = (0.0, 0.0);
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let (mut first, mut second) = ([T::ZERO; LANES], [T::ZERO; LANES]);
        let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            for l in 0..LANES {
                let (x, y) = f(a[l], b[l]);
                first[l] += x;
                second[l] += y;
            }
        }
        let (x, y) = tail((tree(first), tree(second)), rest_a, rest_b, &f);
        total.0 += x.to_f64();
        total.1 += y.to_f64();
    }
    (T::from_f64(total.0), T::from_f64(total.1))
}

/// Mean and biased variance: a sum for the mean, one for what rounding left in it, and one of squared distances.
#[inline(always)]
pub(crate) fn moments<T: Real>(x: &[T]) -> (T, T) {
    let n = T::lit(x.len() as f64);
    let near = sum(x, |x| x) / n;
    let mean = near + sum(x, |x| x - near) / n;
    (mean, sum(x, |x| (x - mean) * (x - mean)) / n)
}
