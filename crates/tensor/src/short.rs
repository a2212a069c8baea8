//! The 16-bit floats as slices: widened to f32, which is exact, and rounded from it.

use gradus_core::{Element, bf16, f16};
use gradus_kernel::convert::{self, Bf16, F16, Overflow};
use half::slice::HalfFloatSliceExt;

/// A 16-bit float.
pub(crate) trait Short: Element {
    /// A slice in f32; both are of one length.
    fn widen(x: &[Self], out: &mut [f32]);
    /// The nearest numbers to a slice of f32, ties to even; both are of one length.
    fn narrow(x: &[f32], out: &mut [Self]);
}

macro_rules! short {
    ($t:ty, $format:ty) => {
        impl Short for $t {
            fn widen(x: &[Self], out: &mut [f32]) {
                convert::widen::<$format>(x.reinterpret_cast(), out);
            }

            fn narrow(x: &[f32], out: &mut [Self]) {
                convert::narrow::<$format>(x, out.reinterpret_cast_mut(), Overflow::Infinite);
            }
        }
    };
}
short!(f16, F16);
short!(bf16, Bf16);
