//! Named arithmetic on tensors, and the macro that defines elementwise operations.

use gradus_core::DType;

use crate::{Tensor, map::same_dtype};

/// Defines elementwise operations of one, two or three operands:
/// `Name(field, ...) "label" cost |self, x| body;` with f64 fields (`Name()` for none). The body sees a type
/// `T:` [`Real`](crate::Real) and is compiled for every instruction set.
///
/// ```
/// use gradus_tensor::{Tensor, elementwise_ops};
///
/// elementwise_ops! {
///     /// `x^2 + k`
///     SquarePlus(k) "square_plus" 0.3 |self, x| x * x + T::lit(self.k);
/// }
/// let y = Tensor::from_slice(&[1f32, 2.0], &[2]).map(SquarePlus { k: 1.0 });
/// assert_eq!(y.to_vec::<f32>(), [2.0, 5.0]);
/// ```
#[macro_export]
macro_rules! elementwise_ops {
    ($($(#[$m:meta])* $vis:vis $name:ident($($f:ident),*) $label:literal $cost:literal |$s:ident, $($x:ident),+| $body:expr;)*) => {$(
        $(#[$m])*
        #[derive(Clone, Copy, Debug)]
        $vis struct $name { $(pub(crate) $f: f64),* }
        $crate::elementwise_ops!(@impl ($($x)+) $name $label $cost |$s, $($x),+| $body);
    )*};
    (@impl ($a:ident) $name:ident $($rest:tt)*) => { $crate::elementwise_ops!(@body UnaryOp $name $($rest)*); };
    (@impl ($a:ident $b:ident) $name:ident $($rest:tt)*) => { $crate::elementwise_ops!(@body BinaryOp $name $($rest)*); };
    (@impl ($a:ident $b:ident $c:ident) $name:ident $($rest:tt)*) => { $crate::elementwise_ops!(@body TernaryOp $name $($rest)*); };
    (@body $kind:ident $name:ident $label:literal $cost:literal |$s:ident, $($x:ident),+| $body:expr) => {
        impl $crate::$kind for $name {
            const NAME: &'static str = $label;
            const COST: f64 = $cost;
            #[inline(always)]
            fn apply<T: $crate::Real>($s, $($x: T),+) -> T {
                $body
            }
        }
    };
}

elementwise_ops! {
    Add() "add" 0.3 |self, a, b| a + b;
    Sub() "sub" 0.3 |self, a, b| a - b;
    Mul() "mul" 0.3 |self, a, b| a * b;
    Div() "div" 0.5 |self, a, b| a / b;
    AddScaled(k) "add_scaled" 0.3 |self, a, b| a + T::lit(self.k) * b;
    Affine(k, c) "affine" 0.3 |self, x| T::lit(self.k) * x + T::lit(self.c);
}

impl Tensor {
    /// `a + b`, broadcast.
    ///
    /// # Panics
    /// When the shapes do not broadcast or the types differ.
    #[must_use]
    #[track_caller]
    pub fn add(&self, other: &Self) -> Self {
        self.zip(other, Add {})
    }

    /// `a - b`, broadcast.
    ///
    /// # Panics
    /// When the shapes do not broadcast or the types differ.
    #[must_use]
    #[track_caller]
    pub fn sub(&self, other: &Self) -> Self {
        self.zip(other, Sub {})
    }

    /// `a * b`, broadcast.
    ///
    /// # Panics
    /// When the shapes do not broadcast or the types differ.
    #[must_use]
    #[track_caller]
    pub fn mul(&self, other: &Self) -> Self {
        self.zip(other, Mul {})
    }

    /// `a / b`, broadcast.
    ///
    /// # Panics
    /// When the shapes do not broadcast or the types differ.
    #[must_use]
    #[track_caller]
    pub fn div(&self, other: &Self) -> Self {
        self.zip(other, Div {})
    }

    /// `self += other`, in place where nobody else holds the buffer.
    ///
    /// # Panics
    /// When `other` does not broadcast to the shape of `self` or the types differ.
    #[track_caller]
    pub fn add_assign(&mut self, other: &Self) {
        self.zip_mut(other, Add {});
    }

    /// `self += k * other`.
    ///
    /// # Panics
    /// When `other` does not broadcast to the shape of `self` or the types differ.
    #[track_caller]
    pub fn add_scaled_assign(&mut self, k: f64, other: &Self) {
        self.zip_mut(other, AddScaled { k });
    }

    /// `k * x + c` for every element.
    ///
    /// # Panics
    /// When the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn affine(&self, k: f64, c: f64) -> Self {
        self.map(Affine { k, c })
    }

    /// `self *= k`, in place where nobody else holds the buffer.
    ///
    /// # Panics
    /// When the elements are no floats.
    #[track_caller]
    pub fn scale_assign(&mut self, k: f64) {
        self.map_mut(Affine { k, c: 0.0 });
    }

    /// 1 where the elements are equal, 0 elsewhere, as bytes; broadcast.
    ///
    /// # Panics
    /// When the shapes do not broadcast or the types differ.
    #[must_use]
    #[track_caller]
    pub fn eq_mask(&self, other: &Self) -> Self {
        match self.dtype() {
            DType::F16 | DType::BF16 => {
                same_dtype("eq_mask", self, other);
                self.to_dtype(DType::F32).eq_mask(&other.to_dtype(DType::F32))
            }
            DType::F32 => self.zip_any::<f32, f32, u8>(other, "eq_mask", |a, b| u8::from(a == b)),
            DType::F64 => self.zip_any::<f64, f64, u8>(other, "eq_mask", |a, b| u8::from(a == b)),
            DType::I64 => self.zip_any::<i64, i64, u8>(other, "eq_mask", |a, b| u8::from(a == b)),
            _ => self.zip_any::<u8, u8, u8>(other, "eq_mask", |a, b| u8::from(a == b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd;

    #[test]
    fn broadcasting_matches_indexing() {
        let a = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        let row = Tensor::from_slice(&[10f32, 20.0, 30.0], &[3]);
        let col = Tensor::from_slice(&[100f32, 200.0], &[2, 1]);
        assert_eq!(a.add(&row).to_vec::<f32>(), [11.0, 22.0, 33.0, 14.0, 25.0, 36.0]);
        assert_eq!(row.sub(&a).to_vec::<f32>(), [9.0, 18.0, 27.0, 6.0, 15.0, 24.0]);
        assert_eq!(a.add(&col).to_vec::<f32>(), [101.0, 102.0, 103.0, 204.0, 205.0, 206.0]);
        assert_eq!(col.add(&row).to_vec::<f32>(), [110.0, 120.0, 130.0, 210.0, 220.0, 230.0]);
        assert_eq!(
            a.transpose(0, 1).mul(&Tensor::scalar(2f32)).to_vec::<f32>(),
            [2.0, 8.0, 4.0, 10.0, 6.0, 12.0]
        );
        assert_eq!(Tensor::zeros(&[0, 3], DType::F32).add(&row).shape(), [0, 3]);
        let mut b = a.clone();
        b.add_assign(&row);
        assert_eq!(b.to_vec::<f32>(), a.add(&row).to_vec::<f32>());
        b.add_assign(&a);
        assert_eq!(b.to_vec::<f32>(), [12.0, 24.0, 36.0, 18.0, 30.0, 42.0]);
    }

    #[test]
    fn every_instruction_set_computes_the_same_bits() {
        let n = 1027;
        let x =
            Tensor::from_slice(&(0..n).map(|i| i as f32 * 0.01 - 5.0).collect::<Vec<_>>(), &[n]);
        elementwise_ops! {
            Mixed() "mixed" 1.0 |self, x| x.exp_() * x.tanh_() + x.erf_() - x.sigmoid_() + (x * x).ln_1p_();
        }
        let widest = simd::detected();
        simd::force(simd::Level::Portable);
        let portable = x.map(Mixed {}).to_vec::<f32>();
        for level in [simd::Level::Avx2, simd::Level::Avx512] {
            simd::force(level);
            assert_eq!(x.map(Mixed {}).to_vec::<f32>(), portable, "{level:?}");
        }
        simd::force(widest);
    }

    #[test]
    #[should_panic(expected = "add: shapes [2] and [3] do not broadcast (called at")]
    fn shapes_that_do_not_fit_panic_with_both() {
        let _ = Tensor::zeros(&[2], DType::F32).add(&Tensor::zeros(&[3], DType::F32));
    }
}
