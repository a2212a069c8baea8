//! Elementwise functions of one, two and three tensors, with broadcasting.
//!
//! An operation is a small `Copy` type whose `apply` is marked `#[inline(always)]`; it says once what happens
//! to one element, and the loops here vectorise it, share it among threads and broadcast it. Upper crates
//! define their own, so that a backward formula is one pass over memory too. 16-bit floats are widened to f32 block by
//! block, and each result is rounded once.

use std::panic::Location;

use gradus_core::{DType, Element, bf16, f16};

use crate::{Real, Tensor, broadcast_shapes, kernel, par, short::Short};

/// A function of one element. Mark `apply` `#[inline(always)]`.
pub trait UnaryOp: Copy + Send + Sync {
    /// The name that panics show.
    const NAME: &'static str;
    /// Nanoseconds an element takes, roughly; decides whether threads share the work.
    const COST: f64 = 0.5;
    /// The function.
    fn apply<T: Real>(self, x: T) -> T;
}

/// A function of two elements. Mark `apply` `#[inline(always)]`.
pub trait BinaryOp: Copy + Send + Sync {
    /// The name that panics show.
    const NAME: &'static str;
    /// Nanoseconds an element takes, roughly.
    const COST: f64 = 0.5;
    /// The function.
    fn apply<T: Real>(self, a: T, b: T) -> T;
}

/// A function of three elements. Mark `apply` `#[inline(always)]`.
pub trait TernaryOp: Copy + Send + Sync {
    /// The name that panics show.
    const NAME: &'static str;
    /// Nanoseconds an element takes, roughly.
    const COST: f64 = 1.0;
    /// The function.
    fn apply<T: Real>(self, a: T, b: T, c: T) -> T;
}

kernel! {
    fn map_slice['a, T: Real, O: UnaryOp]['a, T, O](op: O, x: &'a [T], out: &'a mut [T]) -> () {
        for (o, &x) in out.iter_mut().zip(x) {
            *o = op.apply(x);
        }
    }
}

kernel! {
    fn map_in_place['a, T: Real, O: UnaryOp]['a, T, O](op: O, x: &'a mut [T]) -> () {
        for x in x {
            *x = op.apply(*x);
        }
    }
}

kernel! {
    fn zip_slice['a, T: Real, O: BinaryOp]['a, T, O](op: O, a: &'a [T], b: &'a [T], out: &'a mut [T]) -> () {
        for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *o = op.apply(a, b);
        }
    }
}

kernel! {
    fn zip_in_place['a, T: Real, O: BinaryOp]['a, T, O](op: O, a: &'a mut [T], b: &'a [T]) -> () {
        for (a, &b) in a.iter_mut().zip(b) {
            *a = op.apply(*a, b);
        }
    }
}

kernel! {
    fn zip_scalar_right['a, T: Real, O: BinaryOp]['a, T, O](op: O, a: &'a [T], b: T, out: &'a mut [T]) -> () {
        for (o, &a) in out.iter_mut().zip(a) {
            *o = op.apply(a, b);
        }
    }
}

kernel! {
    fn zip_scalar_left['a, T: Real, O: BinaryOp]['a, T, O](op: O, a: T, b: &'a [T], out: &'a mut [T]) -> () {
        for (o, &b) in out.iter_mut().zip(b) {
            *o = op.apply(a, b);
        }
    }
}

kernel! {
    fn zip3_slice['a, T: Real, O: TernaryOp]['a, T, O](op: O, a: &'a [T], b: &'a [T], c: &'a [T], out: &'a mut [T]) -> () {
        for (((o, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
            *o = op.apply(a, b, c);
        }
    }
}

/// Elements of a block that is widened, worked on and rounded in the first cache.
const BLOCK: usize = 512;

/// Loops over slices of one element type.
trait Loops: Element {
    fn map<O: UnaryOp>(op: O, x: &[Self], out: &mut [Self]);
    fn map_mut<O: UnaryOp>(op: O, x: &mut [Self]);
    fn zip<O: BinaryOp>(op: O, a: &[Self], b: &[Self], out: &mut [Self]);
    fn zip_mut<O: BinaryOp>(op: O, a: &mut [Self], b: &[Self]);
    fn zip_right<O: BinaryOp>(op: O, a: &[Self], b: Self, out: &mut [Self]);
    fn zip_left<O: BinaryOp>(op: O, a: Self, b: &[Self], out: &mut [Self]);
    fn zip_one<O: BinaryOp>(op: O, a: Self, b: Self) -> Self;
    fn zip3<O: TernaryOp>(op: O, a: &[Self], b: &[Self], c: &[Self], out: &mut [Self]);
}

macro_rules! real_loops {
    ($($t:ty),*) => {$(
        impl Loops for $t {
            fn map<O: UnaryOp>(op: O, x: &[Self], out: &mut [Self]) {
                map_slice::<Self, O>(op, x, out);
            }
            fn map_mut<O: UnaryOp>(op: O, x: &mut [Self]) {
                map_in_place::<Self, O>(op, x);
            }
            fn zip<O: BinaryOp>(op: O, a: &[Self], b: &[Self], out: &mut [Self]) {
                zip_slice::<Self, O>(op, a, b, out);
            }
            fn zip_mut<O: BinaryOp>(op: O, a: &mut [Self], b: &[Self]) {
                zip_in_place::<Self, O>(op, a, b);
            }
            fn zip_right<O: BinaryOp>(op: O, a: &[Self], b: Self, out: &mut [Self]) {
                zip_scalar_right::<Self, O>(op, a, b, out);
            }
            fn zip_left<O: BinaryOp>(op: O, a: Self, b: &[Self], out: &mut [Self]) {
                zip_scalar_left::<Self, O>(op, a, b, out);
            }
            fn zip_one<O: BinaryOp>(op: O, a: Self, b: Self) -> Self {
                op.apply(a, b)
            }
            fn zip3<O: TernaryOp>(op: O, a: &[Self], b: &[Self], c: &[Self], out: &mut [Self]) {
                zip3_slice::<Self, O>(op, a, b, c, out);
            }
        }
    )*};
}
real_loops!(f32, f64);

/// Loops over 16-bit floats: those over f32, on widened blocks.
macro_rules! short_loops {
    ($($t:ty),*) => {$(
        impl Loops for $t {
            fn map<O: UnaryOp>(op: O, x: &[Self], out: &mut [Self]) {
                let mut block = [0.0; BLOCK];
                for (x, out) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                    let block = widened(x, &mut block);
                    map_in_place::<f32, O>(op, block);
                    Self::narrow(block, out);
                }
            }
            fn map_mut<O: UnaryOp>(op: O, x: &mut [Self]) {
                let mut block = [0.0; BLOCK];
                for x in x.chunks_mut(BLOCK) {
                    let block = widened(x, &mut block);
                    map_in_place::<f32, O>(op, block);
                    Self::narrow(block, x);
                }
            }
            fn zip<O: BinaryOp>(op: O, a: &[Self], b: &[Self], out: &mut [Self]) {
                let (mut left, mut right) = ([0.0; BLOCK], [0.0; BLOCK]);
                for ((a, b), out) in a.chunks(BLOCK).zip(b.chunks(BLOCK)).zip(out.chunks_mut(BLOCK)) {
                    let left = widened(a, &mut left);
                    zip_in_place::<f32, O>(op, left, widened(b, &mut right));
                    Self::narrow(left, out);
                }
            }
            fn zip_mut<O: BinaryOp>(op: O, a: &mut [Self], b: &[Self]) {
                let (mut left, mut right) = ([0.0; BLOCK], [0.0; BLOCK]);
                for (a, b) in a.chunks_mut(BLOCK).zip(b.chunks(BLOCK)) {
                    let left = widened(a, &mut left);
                    zip_in_place::<f32, O>(op, left, widened(b, &mut right));
                    Self::narrow(left, a);
                }
            }
            fn zip_right<O: BinaryOp>(op: O, a: &[Self], b: Self, out: &mut [Self]) {
                let right = [b; BLOCK];
                for (a, out) in a.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                    Self::zip(op, a, &right[..a.len()], out);
                }
            }
            fn zip_left<O: BinaryOp>(op: O, a: Self, b: &[Self], out: &mut [Self]) {
                let left = [a; BLOCK];
                for (b, out) in b.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                    Self::zip(op, &left[..b.len()], b, out);
                }
            }
            fn zip_one<O: BinaryOp>(op: O, a: Self, b: Self) -> Self {
                Self::from_f32(op.apply(a.to_f32(), b.to_f32()))
            }
            fn zip3<O: TernaryOp>(op: O, a: &[Self], b: &[Self], c: &[Self], out: &mut [Self]) {
                let mut wide = [[0.0; BLOCK]; 4];
                let parts = a.chunks(BLOCK).zip(b.chunks(BLOCK)).zip(c.chunks(BLOCK));
                for (((a, b), c), out) in parts.zip(out.chunks_mut(BLOCK)) {
                    let [wa, wb, wc, y] = &mut wide;
                    let y = &mut y[..out.len()];
                    zip3_slice::<f32, O>(op, widened(a, wa), widened(b, wb), widened(c, wc), y);
                    Self::narrow(y, out);
                }
            }
        }
    )*};
}
short_loops!(f16, bf16);

/// At most a block in f32.
fn widened<'a, S: Short>(x: &[S], block: &'a mut [f32; BLOCK]) -> &'a mut [f32] {
    let block = &mut block[..x.len()];
    S::widen(x, block);
    block
}

/// Runs `$body` with `$T` standing for f32 or f64, or panics for a type that is storage only.
#[macro_export]
macro_rules! with_real {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            other => panic!("{}: computes in f32 and f64, not in {other}; cast with to_dtype", $op),
        }
    };
}

/// Runs `$body` with `$T` standing for the type, which is a float of any width; panics for others.
macro_rules! with_float {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::DType::BF16 => {
                type $T = gradus_core::bf16;
                $body
            }
            $crate::DType::F16 => {
                type $T = gradus_core::f16;
                $body
            }
            other => panic!("{}: computes with floats, not with {other}", $op),
        }
    };
}
pub(crate) use with_float;

#[track_caller]
pub(crate) fn same_dtype(op: &str, a: &Tensor, b: &Tensor) -> DType {
    assert_eq!(
        a.dtype(),
        b.dtype(),
        "{op}: operands of shapes {:?} and {:?} are of different types",
        a.shape(),
        b.shape()
    );
    a.dtype()
}

#[cold]
#[inline(never)]
fn mismatch(op: &str, a: &Tensor, b: &Tensor, at: &Location<'_>) -> ! {
    panic!("{op}: shapes {:?} and {:?} do not broadcast (called at {at})", a.shape(), b.shape())
}

impl Tensor {
    /// `op` of every element.
    ///
    /// # Panics
    /// When the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn map<O: UnaryOp>(&self, op: O) -> Self {
        with_float!(O::NAME, self.dtype(), T => {
            let x = self.contiguous();
            let x = x.as_slice::<T>();
            Self::build(self.shape(), |out| {
                par::for_each_mut(out, 1, O::COST, |i, o| T::map(op, &x[i..i + o.len()], o));
            })
        })
    }

    /// `op` of every element, in place where nobody else holds the buffer.
    ///
    /// # Panics
    /// When the elements are no floats.
    #[track_caller]
    pub fn map_mut<O: UnaryOp>(&mut self, op: O) {
        if !self.is_unique() || !self.is_contiguous() {
            *self = self.map(op);
            return;
        }
        with_float!(O::NAME, self.dtype(), T => {
            par::for_each_mut(self.make_mut::<T>(), 1, O::COST, |_, x| T::map_mut(op, x));
        });
    }

    /// `op` of the elements of two tensors, broadcast to each other.
    ///
    /// # Panics
    /// When the shapes do not broadcast or the types differ.
    #[must_use]
    #[track_caller]
    pub fn zip<O: BinaryOp>(&self, other: &Self, op: O) -> Self {
        let dtype = same_dtype(O::NAME, self, other);
        with_float!(O::NAME, dtype, T => zip_typed::<T, O>(self, other, op))
    }

    /// `self = op(self, other)`, in place where nobody else holds the buffer; `other` is broadcast to `self`.
    ///
    /// # Panics
    /// When `other` does not broadcast to the shape of `self` or the types differ.
    #[track_caller]
    pub fn zip_mut<O: BinaryOp>(&mut self, other: &Self, op: O) {
        let dtype = same_dtype(O::NAME, self, other);
        let Some(strides) = other.broadcast_strides(&self.shape) else {
            mismatch(O::NAME, self, other, Location::caller());
        };
        let same_order = other.numel() == self.numel() && other.is_contiguous();
        if !(same_order && self.is_unique() && self.is_contiguous()) {
            let wide = Self {
                buf: other.buf.clone(),
                shape: self.shape.clone(),
                strides,
                offset: other.offset,
            };
            *self = self.zip(&wide, op);
            return;
        }
        with_float!(O::NAME, dtype, T => {
            let b = other.as_slice::<T>();
            par::for_each_mut(self.make_mut::<T>(), 1, O::COST, |i, a| T::zip_mut(op, a, &b[i..i + a.len()]));
        });
    }

    /// `op` of the elements of three tensors of one shape.
    ///
    /// # Panics
    /// When shapes or types differ: fused backward formulas see operands of one shape.
    #[must_use]
    #[track_caller]
    pub fn zip3<O: TernaryOp>(&self, b: &Self, c: &Self, op: O) -> Self {
        let dtype = same_dtype(O::NAME, self, b);
        same_dtype(O::NAME, self, c);
        for other in [b, c] {
            assert_eq!(self.shape(), other.shape(), "{}: shapes of the operands", O::NAME);
        }
        with_float!(O::NAME, dtype, T => {
            let (a, b, c) = (self.contiguous(), b.contiguous(), c.contiguous());
            let (a, b, c) = (a.as_slice::<T>(), b.as_slice::<T>(), c.as_slice::<T>());
            Self::build(self.shape(), |out| {
                par::for_each_mut(out, 1, O::COST, |i, o| {
                    let r = i..i + o.len();
                    T::zip3(op, &a[r.clone()], &b[r.clone()], &c[r], o);
                });
            })
        })
    }
}

#[track_caller]
fn zip_typed<T: Loops, O: BinaryOp>(a: &Tensor, b: &Tensor, op: O) -> Tensor {
    if a.shape() == b.shape() && a.is_contiguous() && b.is_contiguous() {
        let (x, y) = (a.as_slice::<T>(), b.as_slice::<T>());
        return Tensor::build(a.shape(), |out| {
            par::for_each_mut(out, 1, O::COST, |i, o| {
                let r = i..i + o.len();
                T::zip(op, &x[r.clone()], &y[r], o);
            });
        });
    }
    let Some(shape) = broadcast_shapes(a.shape(), b.shape()) else {
        mismatch(O::NAME, a, b, Location::caller());
    };
    let (a, b) = (a.broadcast_to(&shape), b.broadcast_to(&shape));
    Tensor::build(&shape, |out| zip_strided::<T, O>(&a, &b, op, out))
}

/// The general case: both operands are strided views of one shape.
fn zip_strided<T: Loops, O: BinaryOp>(a: &Tensor, b: &Tensor, op: O, out: &mut [T]) {
    if out.is_empty() {
        return;
    }
    // Dimensions that lie behind each other in both operands merge; the last one is the inner loop.
    let mut dims: Vec<(usize, isize, isize)> = Vec::with_capacity(a.ndim());
    for ((&d, &sa), &sb) in a.shape.iter().zip(&a.strides).zip(&b.strides) {
        if d == 1 {
            continue;
        }
        match dims.last_mut() {
            Some((pd, pa, pb)) if *pa == sa * d as isize && *pb == sb * d as isize => {
                (*pd, *pa, *pb) = (*pd * d, sa, sb)
            }
            _ => dims.push((d, sa, sb)),
        }
    }
    let (n, sa, sb) = dims.pop().unwrap_or((1, 1, 1));
    let (xa, xb) = (a.storage::<T>(), b.storage::<T>());
    let (oa, ob) = (a.offset as isize, b.offset as isize);
    par::for_each_mut(out, n, O::COST * n as f64, |row, out| {
        for (r, out) in out.chunks_mut(n).enumerate() {
            let (mut pa, mut pb, mut rest) = (oa, ob, row + r);
            for &(d, ta, tb) in dims.iter().rev() {
                let i = (rest % d) as isize;
                rest /= d;
                pa += i * ta;
                pb += i * tb;
            }
            let (ia, ib) = (pa as usize, pb as usize);
            match (sa, sb) {
                (1, 1) => T::zip(op, &xa[ia..ia + n], &xb[ib..ib + n], out),
                (1, 0) => T::zip_right(op, &xa[ia..ia + n], xb[ib], out),
                (0, 1) => T::zip_left(op, xa[ia], &xb[ib..ib + n], out),
                _ => {
                    for o in out {
                        *o = T::zip_one(op, xa[pa as usize], xb[pb as usize]);
                        pa += sa;
                        pb += sb;
                    }
                }
            }
        }
    });
}

impl Tensor {
    /// Applies `f` to pairs of elements of any two types, broadcast to each other: comparisons and masks.
    ///
    /// # Panics
    /// When the shapes do not broadcast or a tensor is not of its type.
    #[must_use]
    #[track_caller]
    pub fn zip_any<A: Element, B: Element, R: Element>(
        &self,
        other: &Self,
        op: &str,
        f: impl Fn(A, B) -> R,
    ) -> Self {
        let Some(shape) = broadcast_shapes(self.shape(), other.shape()) else {
            mismatch(op, self, other, Location::caller());
        };
        let (a, b) =
            (self.broadcast_to(&shape).contiguous(), other.broadcast_to(&shape).contiguous());
        let (a, b) = (a.as_slice::<A>(), b.as_slice::<B>());
        Self::build(&shape, |out| {
            for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *o = f(a, b);
            }
        })
    }
}
