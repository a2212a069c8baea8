//! From planes of channels to vectors of channels, and back.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use gradus_kernel::simd;

use super::LANES;
use crate::gemm::pack::wide;

/// `out[i * 16 + c] = planes[c * stride + i]` for `i < n`, with zeros for the lanes from `channels` on.
///
/// # Panics
/// When there are more than 16 channels, or a slice is too short.
pub(crate) fn to_lanes(planes: &[f32], stride: usize, channels: usize, n: usize, out: &mut [f32]) {
    if n == 0 {
        return;
    }
    let out = &mut out[..n * LANES];
    if simd::level() == simd::Level::Avx512 {
        return wide::transpose(planes, stride, channels, n, out, LANES);
    }
    assert!(channels <= LANES);
    out.fill(0.0);
    for c in 0..channels {
        for (out, &x) in out[c..].iter_mut().step_by(LANES).zip(&planes[c * stride..][..n]) {
            *out = x;
        }
    }
}

/// Asks for what [`to_lanes`] will read soon: planes lie too far apart for the machine to guess.
#[inline]
pub(crate) fn prefetch(planes: &[f32], stride: usize, channels: usize, n: usize) {
    #[cfg(target_arch = "x86_64")]
    for c in 0..channels {
        for i in (0..n).step_by(LANES) {
            // SAFETY: a prefetch reads nothing: any address will do.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(planes.as_ptr().wrapping_add(c * stride + i).cast())
            };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (planes, stride, channels, n);
}

/// `planes[c * stride + i] = lanes[i * 16 + c]` for `i < n` and `c < channels`.
///
/// # Panics
/// When there are more than 16 channels, or a slice is too short.
pub(crate) fn from_lanes(
    lanes: &[f32],
    n: usize,
    channels: usize,
    planes: &mut [f32],
    stride: usize,
) {
    if n == 0 || channels == 0 {
        return;
    }
    let lanes = &lanes[..n * LANES];
    assert!(channels <= LANES && (channels - 1) * stride + n <= planes.len());
    // SAFETY: the slice holds all of the elements, as was just checked.
    unsafe { write(lanes, n, channels, planes.as_mut_ptr(), stride) }
}

/// As [`from_lanes`], to a place that the caller vouches for.
///
/// # Safety
/// The elements of `planes` are valid and nobody else uses them; `lanes` holds `n * 16` elements; at most 16 channels.
pub(super) unsafe fn write(
    lanes: &[f32],
    n: usize,
    channels: usize,
    planes: *mut f32,
    stride: usize,
) {
    debug_assert!(lanes.len() >= n * LANES && channels <= LANES);
    #[cfg(target_arch = "x86_64")]
    if simd::level() == simd::Level::Avx512 {
        // SAFETY: the level says what the machine has; the caller vouches for the rest.
        return unsafe { wide::x86::untranspose(lanes.as_ptr(), n, channels, planes, stride) };
    }
    for c in 0..channels {
        for (i, &x) in lanes[c..].iter().step_by(LANES).take(n).enumerate() {
            // SAFETY: the caller vouches for it.
            unsafe { *planes.add(c * stride + i) = x }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradus_kernel::simd::{Level, detected, force};

    #[test]
    fn turning_there_and_back_is_the_identity_at_every_level() {
        let widest = detected();
        let planes: Vec<f32> = (0..2000).map(|i| i as f32).collect();
        for level in [Level::Portable, Level::Avx2, Level::Avx512] {
            force(level);
            for channels in [0, 1, 3, 15, 16] {
                for n in [0, 1, 7, 16, 17, 40] {
                    let mut lanes = vec![-1.0; 41 * LANES];
                    to_lanes(&planes, 100, channels, n, &mut lanes);
                    for (i, lanes) in lanes.chunks(LANES).enumerate() {
                        for (c, &x) in lanes.iter().enumerate() {
                            let want = if c < channels { (c * 100 + i) as f32 } else { 0.0 };
                            assert_eq!(x, if i < n { want } else { -1.0 });
                        }
                    }
                    let mut back = vec![-1.0; 2000];
                    from_lanes(&lanes, n, channels, &mut back, 100);
                    for (i, &x) in back.iter().enumerate() {
                        let inside = i / 100 < channels && i % 100 < n;
                        assert_eq!(x, if inside { i as f32 } else { -1.0 });
                    }
                }
            }
        }
        force(widest);
    }
}
