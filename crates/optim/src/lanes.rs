//! Sums in lanes of the elements' own type, block by block, and across blocks in f64: exact enough for any
//! length, and fast. The order of additions depends on the length alone.

use gradus_core::FloatElement;

use crate::slots::Work;

const LANES: usize = 8;
const BLOCK: usize = 256;

fn fold<W: Work>(lanes: [W; LANES]) -> f64 {
    lanes.iter().fold(0.0, |s, &x| s + FloatElement::to_f64(x))
}

/// For each number of slices, all of one length, a sum over their elements side by side.
macro_rules! sums {
    ($($sum:ident($($slice:ident: $t:ident),*), $len:ident;)*) => {$(
        /// The sum of `term(element..)`.
        #[inline]
        pub(crate) fn $sum<W: Work, $($t: Copy),*>(
            $($slice: &[$t],)*
            term: impl Fn($($t),*) -> W,
        ) -> f64 {
            let mut total = 0.0;
            for start in (0..$len.len()).step_by(BLOCK) {
                let end = $len.len().min(start + BLOCK);
                $(let $slice = $slice[start..end].as_chunks::<LANES>();)*
                let mut lanes = [W::zero(); LANES];
                for i in 0..$len.0.len() {
                    $(let $slice = &$slice.0[i];)*
                    for l in 0..LANES {
                        lanes[l] = lanes[l] + term($($slice[l]),*);
                    }
                }
                for i in 0..$len.1.len() {
                    lanes[i] = lanes[i] + term($($slice.1[i]),*);
                }
                total += fold(lanes);
            }
            total
        }
    )*};
}
sums! {
    sum1(a: A), a;
    sum2(a: A, b: B), a;
    sum3(a: A, b: B, c: C), a;
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
                assert_eq!(sum1(&x, |x| x), 3.0, "{len} {at}");
                assert_eq!(sum2(&x, &x, |x, y| x * y), 9.0, "{len} {at}");
                assert_eq!(sum3(&x, &x, &x, |x, y, z| x * y * z), 27.0, "{len} {at}");
            }
        }
    }
}
