//! Elementwise functions of one, two and three tensors, with broadcasting.
//!
//! An operation is a small `Copy` type whose `apply` is marked `#[inline(always)]`; it says once what happens
//! to one element, and the loops here vectorise it, share it among threads and broadcast it. Upper crates
//! define their own, so that a backward formula is one pass over memory too. 16-bit floats are widened to f32 block by
//! block, and each result is rounded once.

use std::panic::Location;

use gradus_core::{DType, Element};

use crate::{Real, Stored, Tensor, broadcast_shapes, kernel, par};

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

/// Rooms for blocks of slices of this length.
fn rooms<S: Stored, const N: usize>(len: usize) -> [Vec<S::Compute>; N] {
    S::rooms(len.min(S::BLOCK))
}

fn map_stored<S: Stored, O: UnaryOp>(op: O, x: &[S], out: &mut [S]) {
    let [mut wide, mut y] = rooms::<S, 2>(x.len());
    for (x, out) in x.chunks(S::BLOCK).zip(out.chunks_mut(S::BLOCK)) {
        S::write(out, &mut y, |y| map_slice::<S::Compute, O>(op, S::read(x, &mut wide), y));
    }
}

fn map_stored_in_place<S: Stored, O: UnaryOp>(op: O, x: &mut [S]) {
    let [mut wide] = rooms::<S, 1>(x.len());
    for x in x.chunks_mut(S::BLOCK) {
        S::update(x, &mut wide, |x| map_in_place::<S::Compute, O>(op, x));
    }
}

fn zip_stored<S: Stored, O: BinaryOp>(
    op: O,
    a: &[S],
    b: &[S],
    out: &mut [S],
    [wa, wb, y]: &mut [Vec<S::Compute>; 3],
) {
    for ((a, b), out) in a.chunks(S::BLOCK).zip(b.chunks(S::BLOCK)).zip(out.chunks_mut(S::BLOCK)) {
        S::write(out, y, |y| zip_slice::<S::Compute, O>(op, S::read(a, wa), S::read(b, wb), y));
    }
}

fn zip_stored_in_place<S: Stored, O: BinaryOp>(op: O, a: &mut [S], b: &[S]) {
    let [mut wa, mut wb] = rooms::<S, 2>(a.len());
    for (a, b) in a.chunks_mut(S::BLOCK).zip(b.chunks(S::BLOCK)) {
        S::update(a, &mut wa, |a| zip_in_place::<S::Compute, O>(op, a, S::read(b, &mut wb)));
    }
}

fn zip3_stored<S: Stored, O: TernaryOp>(op: O, [a, b, c]: [&[S]; 3], out: &mut [S]) {
    let [mut wa, mut wb, mut wc, mut y] = rooms::<S, 4>(a.len());
    let operands = a.chunks(S::BLOCK).zip(b.chunks(S::BLOCK)).zip(c.chunks(S::BLOCK));
    for (((a, b), c), out) in operands.zip(out.chunks_mut(S::BLOCK)) {
        let (a, b, c) = (S::read(a, &mut wa), S::read(b, &mut wb), S::read(c, &mut wc));
        S::write(out, &mut y, |y| zip3_slice::<S::Compute, O>(op, a, b, c, y));
    }
}

/// One element, widened.
fn wide<S: Stored>(x: S) -> S::Compute {
    S::read(&[x], &mut [S::Compute::ZERO])[0]
}

fn zip_scalars<S: Stored, O: BinaryOp>(op: O, a: S, b: S, out: &mut S) {
    let y = op.apply(wide(a), wide(b));
    S::write(std::slice::from_mut(out), &mut [S::Compute::ZERO], |out| out[0] = y);
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

/// Runs `$body` with `$T` standing for the type, which is a float of any width ([`Stored`](crate::Stored)); panics for
/// others.
#[macro_export]
macro_rules! with_float {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::BF16 => {
                type $T = $crate::bf16;
                $body
            }
            $crate::DType::F16 => {
                type $T = $crate::f16;
                $body
            }
            wider => $crate::with_real!($op, wider, $T => $body),
        }
    };
}

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
                par::for_each_mut(out, 1, O::COST, |i, o| map_stored::<T, O>(op, &x[i..i + o.len()], o));
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
            par::for_each_mut(self.make_mut::<T>(), 1, O::COST, |_, x| map_stored_in_place::<T, O>(op, x));
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
            par::for_each_mut(self.make_mut::<T>(), 1, O::COST, |i, a| zip_stored_in_place::<T, O>(op, a, &b[i..i + a.len()]));
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
                    zip3_stored::<T, O>(op, [&a[r.clone()], &b[r.clone()], &c[r]], o);
                });
            })
        })
    }
}

#[track_caller]
fn zip_typed<T: Stored, O: BinaryOp>(a: &Tensor, b: &Tensor, op: O) -> Tensor {
    if a.shape() == b.shape() && a.is_contiguous() && b.is_contiguous() {
        let (x, y) = (a.as_slice::<T>(), b.as_slice::<T>());
        return Tensor::build(a.shape(), |out| {
            par::for_each_mut(out, 1, O::COST, |i, o| {
                let r = i..i + o.len();
                let rooms = &mut rooms::<T, 3>(o.len());
                zip_stored::<T, O>(op, &x[r.clone()], &y[r], o, rooms);
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
fn zip_strided<T: Stored, O: BinaryOp>(a: &Tensor, b: &Tensor, op: O, out: &mut [T]) {
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
        let rooms = &mut rooms::<T, 3>(n);
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
                (1, 1) => zip_stored::<T, O>(op, &xa[ia..ia + n], &xb[ib..ib + n], out, rooms),
                (1, 0) => {
                    let (b, [wa, _, y]) = (wide(xb[ib]), &mut *rooms);
                    for (a, out) in xa[ia..ia + n].chunks(T::BLOCK).zip(out.chunks_mut(T::BLOCK)) {
                        let a = T::read(a, wa);
                        T::write(out, y, |y| zip_scalar_right::<T::Compute, O>(op, a, b, y));
                    }
                }
                (0, 1) => {
                    let (a, [wb, _, y]) = (wide(xa[ia]), &mut *rooms);
                    for (b, out) in xb[ib..ib + n].chunks(T::BLOCK).zip(out.chunks_mut(T::BLOCK)) {
                        let b = T::read(b, wb);
                        T::write(out, y, |y| zip_scalar_left::<T::Compute, O>(op, a, b, y));
                    }
                }
                _ => {
                    for o in out {
                        zip_scalars(op, xa[pa as usize], xb[pb as usize], o);
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
