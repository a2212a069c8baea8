//! Long slices cut into pieces, which a thread pool may share out.

use gradus_kernel::par;

use crate::sums::Sums;

/// Elements of a piece. What is found in one depends on it alone, and pieces are added in their order, whoever
/// looked at them: the bits are the same with and without the pool, for any number of threads.
const PIECE: usize = 1 << 16;

/// Nanoseconds that an element takes, most of them for its way from memory.
const NS: f64 = 0.2;

/// The sum of what `find` finds in the pieces.
pub(crate) fn sum<T: Sync>(slice: &[T], find: impl Fn(&[T]) -> Sums + Sync + Send) -> Sums {
    let mut total = Sums::default();
    if slice.len() <= PIECE {
        total.add(find(slice));
        return total;
    }
    let piece = |i: usize| find(&slice[i * PIECE..slice.len().min((i + 1) * PIECE)]);
    for found in par::map(slice.len().div_ceil(PIECE), PIECE as f64 * NS, piece) {
        total.add(found);
    }
    total
}

/// Changes every element by itself, piece by piece.
pub(crate) fn change<T: Send>(slice: &mut [T], change: impl Fn(&mut [T]) + Sync + Send) {
    par::for_each_mut(slice, 1, NS, |_, piece| change(piece));
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use gradus_core::{FloatElement, SliceMut};

    use crate::{ClipNorm, GradSlices, NormType, clip_grad_norm, global_norm};

    fn numbers<T: FloatElement>() -> Vec<T> {
        (0..300_001u32)
            .map(|i| T::from_f32((i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e7))
            .collect()
    }

    fn clipped<T: FloatElement>(norm_type: NormType) -> (Vec<T>, u64)
    where
        for<'a> SliceMut<'a>: From<&'a mut [T]>,
    {
        let mut g = numbers::<T>();
        let found =
            global_norm(&mut GradSlices(&mut [g.as_mut_slice().into()]), norm_type).unwrap();
        let clip = ClipNorm::new(found.norm / 3.0).with_norm_type(norm_type);
        let report =
            clip_grad_norm(&mut GradSlices(&mut [g.as_mut_slice().into()]), &clip).unwrap();
        assert_eq!((report.norm, report.clipped), (found.norm, true));
        (g, found.norm.to_bits())
    }

    /// Exact results, which the feature must not change.
    #[test]
    fn the_bits_of_long_gradients() {
        let single = |t| {
            let (g, norm) = clipped::<f32>(t);
            (norm, u64::from(g[300_000].to_bits()))
        };
        let (double, norm) = clipped::<f64>(NormType::L2);
        let (half, half_norm) = clipped::<gradus_core::bf16>(NormType::L2);
        let got = [
            single(NormType::L2),
            single(NormType::L1),
            (norm, double[200_000].to_bits()),
            (half_norm, u64::from(half[200_001].to_bits())),
        ];
        let want = [
            (0x4080_9454_CFD3_54D4, 0x3DE0_8503),
            (0x410E_B84F_4E2B_0000, 0x3DE0_8503),
            (0x4080_9454_CFBB_D81E, 0x3FDC_89D5_FF18_F807),
            (0x4080_9455_55BC_9EE3, 0x3E6D),
        ];
        assert_eq!(got, want);
    }

    #[cfg(feature = "rayon")]
    #[test]
    fn any_number_of_threads_and_instruction_set_gives_the_same_bits() {
        use gradus_kernel::simd::{self, Level};

        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (clipped::<f32>(NormType::L2), clipped::<f64>(NormType::L1)))
        };
        let one = on(1);
        assert!([2, 3, 7].map(on).iter().all(|many| *many == one));
        for level in [Level::Portable, Level::Avx2] {
            simd::force(level);
            assert!(on(1) == one, "{level:?}");
        }
        simd::force(simd::detected());
    }
}
