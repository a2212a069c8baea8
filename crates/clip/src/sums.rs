//! One pass over one tensor: the sum that its norm is the root of, its largest element, and how many
//! elements are not finite.

use gradus_core::{FloatElement, SliceMut, bf16, f16};
use gradus_kernel::kernel;
use num_traits::Float;

use crate::{NormType, pieces};

/// What a pass over some elements finds. Additive.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub(crate) struct Sums {
    /// Sum of `abs(x)^p`; 0 for the infinity norm.
    pub(crate) sum: f64,
    /// Largest finite `abs(x)`.
    pub(crate) max: f64,
    /// Elements that are NaN.
    pub(crate) nan: usize,
    /// Elements that are infinite.
    pub(crate) inf: usize,
}

impl Sums {
    pub(crate) fn add(&mut self, other: Self) {
        self.sum += other.sum;
        self.max = self.max.max(other.max);
        self.nan += other.nan;
        self.inf += other.inf;
    }

    /// The norm of the elements seen.
    pub(crate) fn norm(&self, norm_type: NormType) -> f64 {
        match norm_type {
            _ if self.nan > 0 => f64::NAN,
            _ if self.inf > 0 => f64::INFINITY,
            NormType::L1 => self.sum,
            NormType::L2 => Float::sqrt(self.sum),
            NormType::Lp(p) => Float::powf(self.sum, 1.0 / p),
            NormType::Inf => self.max,
        }
    }
}

/// Elements summed in their own type before the sum goes on in f64, and the lanes that they are summed in:
/// 32 additions a lane keep the rounding of an f32 sum under 2e-6 in the worst case, near 1e-7 as a rule.
const BLOCK: usize = 512;
const LANES: usize = 16;

/// The pass. The order of additions depends on the length alone.
pub(crate) fn sums(slice: &SliceMut<'_>, norm_type: NormType) -> Sums {
    // Exact, and without the branch on NaN of the general conversion, which vectors do not take.
    let widen_bf16 = |x: &bf16| f32::from_bits(u32::from(x.to_bits()) << 16);
    let widen_f16 = |x: &f16| FloatElement::to_f32(*x);
    match slice {
        SliceMut::F32(s) => pieces::sum(s, |piece| blocks(piece, norm_type)),
        SliceMut::F64(s) => pieces::sum(s, |piece| blocks(piece, norm_type)),
        SliceMut::BF16(s) => pieces::sum(s, |piece| widened(piece, norm_type, widen_bf16)),
        SliceMut::F16(s) => pieces::sum(s, |piece| widened(piece, norm_type, widen_f16)),
    }
}

/// 16-bit elements, widened block by block.
fn widened<T>(s: &[T], norm_type: NormType, widen: impl Fn(&T) -> f32) -> Sums {
    let mut total = Sums::default();
    let mut wide = [0.0f32; BLOCK];
    for block in s.chunks(BLOCK) {
        let wide = &mut wide[..block.len()];
        for (w, x) in wide.iter_mut().zip(block) {
            *w = widen(x);
        }
        total.add(blocks(wide, norm_type));
    }
    total
}

fn blocks<T: FloatElement>(s: &[T], norm_type: NormType) -> Sums {
    let mut total = Sums::default();
    for block in s.chunks(BLOCK) {
        let fast = match norm_type {
            NormType::L1 => Some(reduce(block, |x| x)),
            NormType::L2 => Some(reduce(block, |x| x * x)),
            // 0 for finite elements, NaN for others.
            NormType::Inf => Some(reduce(block, |x| x * T::zero())),
            NormType::Lp(_) => None,
        };
        total.add(match fast {
            Some((sum, max)) if is_exact(sum, max, norm_type) => Sums { sum, max, nan: 0, inf: 0 },
            _ => one_by_one(block, norm_type),
        });
    }
    total
}

/// Whether all elements were finite and no sum overflowed or lost squares to underflow.
fn is_exact(sum: f64, max: f64, norm_type: NormType) -> bool {
    sum.is_finite() && (norm_type != NormType::L2 || sum > 1e-25 || max == 0.0)
}

/// Sum of `term(abs(x))` and largest `abs(x)` but NaN.
#[inline(always)]
fn reduce<T: FloatElement>(block: &[T], term: impl Fn(T) -> T) -> (f64, f64) {
    let (sum, mut max) = lanes(block, term);
    // As a tree: one after the other, these few additions would take as long as all those of the block.
    let mut sum = sum.map(FloatElement::to_f64);
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            sum[l] += sum[l + half];
            max[l] = if max[l + half] > max[l] { max[l + half] } else { max[l] };
        }
    }
    (sum[0], FloatElement::to_f64(max[0]))
}

kernel! {
    /// The same lane by lane, which the compiler maps to vectors. A function of its own, so that what comes after the
    /// loop does not decide how wide they are.
    fn lanes['a, T: FloatElement, F: Fn(T) -> T]['a, T, F](block: &'a [T], term: F) -> ([T; LANES], [T; LANES]) {
        let (mut sum, mut max) = ([T::zero(); LANES], [T::zero(); LANES]);
        let (whole, rest) = block.as_chunks::<LANES>();
        for chunk in whole {
            for l in 0..LANES {
                let x = chunk[l].abs();
                sum[l] = sum[l] + term(x);
                max[l] = if x > max[l] { x } else { max[l] };
            }
        }
        for (l, x) in rest.iter().enumerate() {
            let x = x.abs();
            sum[l] = sum[l] + term(x);
            max[l] = if x > max[l] { x } else { max[l] };
        }
        (sum, max)
    }
}

/// The same in f64, telling NaN and infinities apart.
#[cold]
fn one_by_one<T: FloatElement>(block: &[T], norm_type: NormType) -> Sums {
    let mut total = Sums::default();
    for &x in block {
        let x = FloatElement::to_f64(x).abs();
        if x.is_nan() {
            total.nan += 1;
        } else if x.is_infinite() {
            total.inf += 1;
        } else {
            total.max = total.max.max(x);
            total.sum += match norm_type {
                NormType::L1 => x,
                NormType::L2 => x * x,
                NormType::Lp(p) => Float::powf(x, p),
                NormType::Inf => 0.0,
            };
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    const TYPES: [NormType; 4] = [NormType::L1, NormType::L2, NormType::Inf, NormType::Lp(3.0)];

    fn norm(mut x: Vec<f32>, norm_type: NormType) -> f64 {
        sums(&x.as_mut_slice().into(), norm_type).norm(norm_type)
    }

    #[test]
    fn every_position_counts() {
        for len in [1, 15, 16, 17, 511, 512, 513, 1100] {
            for at in [0, len / 2, len - 1] {
                let mut x = vec![0.0; len];
                x[at] = -2.0;
                for t in TYPES {
                    let got = norm(x.clone(), t);
                    assert!((got - 2.0).abs() < 1e-12, "{len} {at} {t:?}: {got}");
                }
            }
        }
    }

    #[test]
    fn squares_beyond_f32_are_summed_in_f64() {
        for scale in [1e-30f32, 1e-42, 1e20, 1e38] {
            let got = norm(vec![scale; 1000], NormType::L2);
            let want = f64::from(scale) * 1000f64.sqrt();
            assert!((got / want - 1.0).abs() < 1e-12, "{scale}: {got}, want {want}");
        }
        let got = norm(vec![f32::MAX; 1000], NormType::L1);
        assert!((got / (f64::from(f32::MAX) * 1000.0) - 1.0).abs() < 1e-12, "{got}");
    }

    #[test]
    fn long_sums_stay_exact() {
        let got = norm(vec![0.1; 1_000_003], NormType::L2);
        let want = f64::from(0.1f32) * 1_000_003f64.sqrt();
        assert!((got / want - 1.0).abs() < 1e-6, "{got}, want {want}");
    }

    #[test]
    fn nan_and_infinities_are_counted() {
        let mut x = vec![1.0f32; 1000];
        (x[3], x[700], x[999]) = (f32::NAN, f32::NEG_INFINITY, f32::INFINITY);
        for t in TYPES {
            let found = sums(&x.as_mut_slice().into(), t);
            assert_eq!((found.nan, found.inf, found.max), (1, 2, 1.0), "{t:?}");
            assert!(found.norm(t).is_nan());
        }
        x[3] = 0.0;
        for t in TYPES {
            assert_eq!(norm(x.clone(), t), f64::INFINITY, "{t:?}");
        }
    }

    #[test]
    fn halves_are_widened() {
        let mut x: Vec<f16> = vec![f16::from_f32(300.0); 700];
        let t = NormType::L2;
        let got = sums(&x.as_mut_slice().into(), t).norm(t);
        assert!((got / (300.0 * 700f64.sqrt()) - 1.0).abs() < 1e-6, "{got}");
        let mut x: Vec<bf16> = vec![bf16::from_f32(0.5); 4];
        assert_eq!(sums(&x.as_mut_slice().into(), t).norm(t), 1.0);
    }
}
