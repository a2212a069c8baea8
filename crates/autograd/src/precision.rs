//! Types of operands: what a policy of mixed precision asks for, and what operands of different types become.

use std::borrow::Cow;

use gradus_core::DType;

use crate::Var;

impl Var {
    /// The same numbers in another type, rounded to nearest even.
    ///
    /// The gradient comes back in the type of this value, and is not rounded on the way: that of a cast from f32 to bf16
    /// is f32, so that casting a parameter for a product costs its gradient no digits. A cast to integers is a constant.
    ///
    /// ```
    /// use gradus_autograd::{DType, Tape, Tensor};
    ///
    /// let tape = Tape::training(0, 0);
    /// let w = tape.leaf(Tensor::from_slice(&[1f32 / 3.0], &[1]));
    /// let y = w.to_dtype(DType::BF16);
    /// assert_eq!((y.dtype(), y.item()), (DType::BF16, 0.333984375));
    /// assert_eq!(y.backward().wrt(&w).unwrap().dtype(), DType::F32);
    /// ```
    #[must_use]
    #[track_caller]
    pub fn to_dtype(&self, dtype: DType) -> Self {
        let from = self.dtype();
        if dtype == from {
            return self.clone();
        }
        let y = self.value().to_dtype(dtype);
        if !dtype.is_float() {
            return self.constant(y);
        }
        let y = Self::op("to_dtype", &[self], y, |g, sink| sink.add(0, g));
        if let Some(node) = y.node() {
            self.tape().keep_gradient_in(node, from.promote(dtype));
        }
        y
    }

    /// The operands of an operation in the types that the tape's policy wants; as they are on a tape without one (see
    /// [`Tape::with_precision`](crate::Tape::with_precision)). Operations that a policy may name begin with this; one of
    /// your own that should obey a policy does so too, under its name.
    ///
    /// A parameter is cast once a tape, however often it is used.
    ///
    /// # Panics
    /// When there is no operand.
    #[must_use]
    #[track_caller]
    pub fn autocast<'a, const N: usize>(op: &str, operands: [&'a Self; N]) -> [Cow<'a, Self>; N] {
        match Self::wanted(op, &operands, &[]) {
            Some(dtype) => operands.map(|v| v.cast_once(dtype)),
            None => operands.map(Cow::Borrowed),
        }
    }

    /// As [`autocast`](Self::autocast), for any number of operands.
    #[track_caller]
    pub(crate) fn autocast_all<'a>(op: &str, operands: &[&'a Self]) -> Vec<Cow<'a, Self>> {
        let to = Self::wanted(op, operands, &[]);
        let cast = |&v: &&'a Self| match to {
            Some(dtype) => v.cast_once(dtype),
            None => Cow::Borrowed(v),
        };
        operands.iter().map(cast).collect()
    }

    /// What the policy casts these operands to; `constants` are types of operands that are plain tensors.
    #[track_caller]
    pub(crate) fn wanted(op: &str, operands: &[&Self], constants: &[DType]) -> Option<DType> {
        let tape = operands.first().unwrap_or_else(|| panic!("{op}: no operand")).tape();
        let precision = tape.precision()?;
        let dtypes: Vec<DType> =
            operands.iter().map(|v| v.dtype()).chain(constants.iter().copied()).collect();
        precision.cast(tape.module_name(Self::module_of(operands)), op, &dtypes)
    }

    /// As [`autocast`](Self::autocast); operands that still differ in type are promoted to the wider one, as in PyTorch:
    /// values without dimensions do not widen those that have some.
    #[must_use]
    #[track_caller]
    pub fn promoted<'a>(op: &str, operands: [&'a Self; 2]) -> [Cow<'a, Self>; 2] {
        let [a, b] = Self::autocast(op, operands);
        if a.dtype() == b.dtype() {
            return [a, b];
        }
        let to = match (a.shape().is_empty(), b.shape().is_empty()) {
            (true, false) if b.dtype().is_float() => b.dtype(),
            (false, true) if a.dtype().is_float() => a.dtype(),
            _ => a.dtype().promote(b.dtype()),
        };
        [a, b].map(|v| if v.dtype() == to { v } else { Cow::Owned(v.to_dtype(to)) })
    }

    /// What `f` gives for operands of one type: 16-bit floats are widened to f32 for it, and the result is rounded.
    pub(crate) fn in_compute_type<const N: usize>(
        operands: [&Self; N],
        f: impl FnOnce([&Self; N]) -> Self,
    ) -> Self {
        let dtype = operands[0].dtype();
        if dtype == dtype.compute() {
            return f(operands);
        }
        let wide = operands.map(|v| v.to_dtype(dtype.compute()));
        f(wide.each_ref()).to_dtype(dtype)
    }

    /// This value in another type; a parameter is cast once a tape.
    fn cast_once(&self, dtype: DType) -> Cow<'_, Self> {
        if self.dtype() == dtype || !self.dtype().is_float() {
            return Cow::Borrowed(self);
        }
        let Some(param) = self.param() else { return Cow::Owned(self.to_dtype(dtype)) };
        Cow::Owned(self.tape().cast_param(param, self, dtype))
    }
}
