//! The 16-bit floats are storage: arithmetic on them happens in f32.
//!
//! Slices are widened, which is exact, and rounded back once. Operations of one pass do so block by block in the cache
//! ([`Stored`]); those of several passes widen a whole tensor.

use gradus_core::{Element, bf16, f16};
use gradus_kernel::convert::{self, Bf16, F16, Overflow};
use half::slice::HalfFloatSliceExt;

use crate::{
    Real, Tensor,
    buffer::{floats, scratch},
};

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

/// A floating-point type that elements are stored in: slices of it are read and written in the type that arithmetic
/// happens in. For f32 and f64 that is the type itself, and nothing is copied; 16-bit floats are widened to f32 and
/// rounded back.
///
/// ```
/// use gradus_tensor::{Real, Stored, bf16};
///
/// fn double<S: Stored>(x: &mut [S]) {
///     let [mut room] = S::rooms(x.len().min(S::BLOCK));
///     for x in x.chunks_mut(S::BLOCK) {
///         S::update(x, &mut room, |x| x.iter_mut().for_each(|x| *x += *x));
///     }
/// }
/// let mut x = [bf16::from_f32(1.5); 600];
/// double(&mut x);
/// assert_eq!(x, [bf16::from_f32(3.0); 600]);
/// ```
pub trait Stored: Element {
    /// What arithmetic on elements happens in.
    type Compute: Real;

    /// Elements that are worked on at a time: all, or as many as are widened in the first cache.
    const BLOCK: usize;

    /// `N` rooms for `len` elements, of which each call below takes one; empty where nothing is copied.
    fn rooms<const N: usize>(len: usize) -> [Vec<Self::Compute>; N];

    /// Elements to read, for which there is room.
    fn read<'a>(x: &'a [Self], room: &'a mut [Self::Compute]) -> &'a [Self::Compute];

    /// Writes all elements of a slice for which there is room; `f` gets one with arbitrary values.
    fn write(out: &mut [Self], room: &mut [Self::Compute], f: impl FnOnce(&mut [Self::Compute]));

    /// Changes the elements of a slice for which there is room.
    fn update(x: &mut [Self], room: &mut [Self::Compute], f: impl FnOnce(&mut [Self::Compute]));

    /// Lends several slices at once to read. Widened ones lie in memory of the pool.
    fn read_all<R>(pieces: &[&[Self]], f: impl FnOnce(&[&[Self::Compute]]) -> R) -> R;

    /// Lends several slices at once to write all of; they begin with arbitrary values.
    fn write_all(pieces: &mut [&mut [Self]], f: impl FnOnce(&mut [&mut [Self::Compute]]));
}

/// Cuts a slice into pieces as long as these.
fn cut<'a, T: 'a>(
    mut rest: &'a mut [T],
    lengths: impl Iterator<Item = usize>,
) -> impl Iterator<Item = &'a mut [T]> {
    lengths.map(move |n| {
        let (piece, later) = std::mem::take(&mut rest).split_at_mut(n);
        rest = later;
        piece
    })
}

macro_rules! stored_as_computed {
    ($($t:ty),*) => {$(
        impl Stored for $t {
            type Compute = Self;
            const BLOCK: usize = usize::MAX;

            fn rooms<const N: usize>(_: usize) -> [Vec<Self>; N] {
                [const { Vec::new() }; N]
            }
            fn read<'a>(x: &'a [Self], _: &'a mut [Self]) -> &'a [Self] {
                x
            }
            fn write(out: &mut [Self], _: &mut [Self], f: impl FnOnce(&mut [Self])) {
                f(out);
            }
            fn update(x: &mut [Self], _: &mut [Self], f: impl FnOnce(&mut [Self])) {
                f(x);
            }
            fn read_all<R>(pieces: &[&[Self]], f: impl FnOnce(&[&[Self]]) -> R) -> R {
                f(pieces)
            }
            fn write_all(pieces: &mut [&mut [Self]], f: impl FnOnce(&mut [&mut [Self]])) {
                f(pieces);
            }
        }
    )*};
}
stored_as_computed!(f32, f64);

macro_rules! stored_in_16_bits {
    ($($t:ty),*) => {$(
        impl Stored for $t {
            type Compute = f32;
            const BLOCK: usize = 1024;

            fn rooms<const N: usize>(len: usize) -> [Vec<f32>; N] {
                std::array::from_fn(|_| vec![0.0; len])
            }
            fn read<'a>(x: &'a [Self], room: &'a mut [f32]) -> &'a [f32] {
                let room = &mut room[..x.len()];
                Self::widen(x, room);
                room
            }
            fn write(out: &mut [Self], room: &mut [f32], f: impl FnOnce(&mut [f32])) {
                let room = &mut room[..out.len()];
                f(room);
                Self::narrow(room, out);
            }
            fn update(x: &mut [Self], room: &mut [f32], f: impl FnOnce(&mut [f32])) {
                let room = &mut room[..x.len()];
                Self::widen(x, room);
                f(room);
                Self::narrow(room, x);
            }
            fn read_all<R>(pieces: &[&[Self]], f: impl FnOnce(&[&[f32]]) -> R) -> R {
                let mut buf = scratch(pieces.iter().map(|p| p.len()).sum());
                let rooms = cut(floats(&mut buf), pieces.iter().map(|p| p.len()));
                let wide: Vec<&[f32]> =
                    pieces.iter().zip(rooms).map(|(piece, room)| Self::read(piece, room)).collect();
                f(&wide)
            }
            fn write_all(pieces: &mut [&mut [Self]], f: impl FnOnce(&mut [&mut [f32]])) {
                let mut buf = scratch(pieces.iter().map(|p| p.len()).sum());
                let mut rooms: Vec<&mut [f32]> =
                    cut(floats(&mut buf), pieces.iter().map(|p| p.len())).collect();
                f(&mut rooms);
                for (piece, room) in pieces.iter_mut().zip(rooms) {
                    Self::narrow(room, piece);
                }
            }
        }
    )*};
}
stored_in_16_bits!(f16, bf16);

impl Tensor {
    /// What `f`, which computes in f32 or f64, gives for this tensor: 16-bit floats are widened to f32 before, and the
    /// result is rounded to their type after. Other types go in and come out as they are.
    ///
    /// ```
    /// use gradus_tensor::{DType, Tensor};
    ///
    /// let x = Tensor::full(&[300], 1.0, DType::BF16);
    /// let sum = x.in_compute_type(|x| x.sum(&[], false));
    /// assert_eq!((sum.dtype(), sum.item()), (DType::BF16, 300.0));
    /// ```
    #[must_use]
    pub fn in_compute_type(&self, f: impl FnOnce(&Self) -> Self) -> Self {
        f(&self.to_dtype(self.dtype().compute())).to_dtype(self.dtype())
    }

    /// Whether the elements are of 16 bits, and arithmetic happens in f32.
    pub(crate) fn is_short(&self) -> bool {
        self.dtype().compute() != self.dtype()
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use gradus_core::{DType, RngStream};

    use super::*;
    use crate::{AttentionOptions, ConvOptions, MaxPoolOptions, elementwise_ops};

    fn random(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
        let stream = RngStream::new(seed, 0, 0);
        let n: usize = shape.iter().product();
        let x: Vec<f32> = (0..n as u64).map(|i| stream.uniform(i) as f32 * 4.0 - 2.0).collect();
        Tensor::from_slice(&x, shape).to_dtype(dtype)
    }

    /// `f` of 16-bit operands is `f` of the widened ones, rounded once, bit for bit.
    #[track_caller]
    fn check(operands: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor) {
        let wide: Vec<Tensor> = operands.iter().map(|t| t.to_dtype(DType::F32)).collect();
        // Views of the same kind: the layout decides which loop runs.
        let wide: Vec<Tensor> = (operands.iter().zip(wide))
            .map(|(t, w)| {
                if t.is_contiguous() || t.ndim() < 2 {
                    w
                } else {
                    w.transpose(0, 1).contiguous().transpose(0, 1)
                }
            })
            .collect();
        let (got, want) = (f(operands), f(&wide));
        assert_eq!(got.shape(), want.shape());
        let want = want.to_dtype(got.dtype());
        assert_eq!(
            got.to_dtype(DType::F64).to_vec::<f64>(),
            want.to_dtype(DType::F64).to_vec::<f64>()
        );
    }

    elementwise_ops! {
        Count() "count" 1.0 |self, x| if x > T::ZERO { T::ONE } else { -T::ONE };
        Curve(k) "curve" 1.0 |self, x| x.exp_() + T::lit(self.k);
        Mix() "mix" 1.0 |self, a, b| a * a - b;
        Mix3() "mix3" 1.0 |self, a, b, c| a * b - c * c;
    }

    #[test]
    fn elementwise_operations_round_once_in_every_layout() {
        for dtype in [DType::BF16, DType::F16] {
            for n in [0, 1, 7, 1023, 1024, 1025, 3000] {
                let [a, b, c] = [1, 2, 3].map(|seed| random(&[3, n], seed, dtype));
                let (row, column) = (random(&[n], 4, dtype), random(&[3, 1], 5, dtype));
                let turned = random(&[n, 3], 6, dtype).transpose(0, 1);
                check(from_ref(&a), |t| t[0].map(Curve { k: 0.3 }));
                check(from_ref(&a), |t| {
                    let mut x = t[0].to_contiguous();
                    x.map_mut(Curve { k: 0.3 });
                    x
                });
                for other in [&b, &row, &column, &turned] {
                    check(&[a.clone(), other.clone()], |t| t[0].zip(&t[1], Mix {}));
                    check(&[a.clone(), other.clone()], |t| t[1].zip(&t[0], Mix {}));
                    check(&[a.clone(), other.clone()], |t| {
                        let mut x = t[0].to_contiguous();
                        x.zip_mut(&t[1], Mix {});
                        x
                    });
                }
                check(&[a, b, c], |t| t[0].zip3(&t[1], &t[2], Mix3 {}));
            }
        }
    }

    #[test]
    fn operations_of_several_passes_round_once() {
        for dtype in [DType::BF16, DType::F16] {
            let x = random(&[4, 6, 10], 1, dtype);
            let g = random(&[4, 6, 10], 2, dtype);
            check(from_ref(&x), |t| t[0].sum(&[1], false));
            check(from_ref(&x), |t| t[0].mean(&[], false));
            check(from_ref(&x), |t| t[0].var(&[0, 2], 1, true));
            check(from_ref(&x), |t| t[0].amax(&[-1], false));
            check(from_ref(&x), |t| t[0].sum_to(&[6, 1]));
            check(from_ref(&x), |t| t[0].sum_to_wide(&[6, 1]));
            // So many rows that they are summed in parts: exact in f32, since the numbers are small integers.
            let long = x.map(Count {}).broadcast_to(&[1500, 4, 6, 10]).to_contiguous();
            check(from_ref(&long), |t| t[0].sum_to_wide(&[6, 10]));
            check(from_ref(&long), |t| t[0].amax(&[0, 3], false));
            check(from_ref(&long), |t| t[0].sum(&[0], true));
            check(from_ref(&x), |t| t[0].max_dim(1, false).0);
            check(from_ref(&x), |t| t[0].argmax(Some(1), false));
            check(from_ref(&x), |t| t[0].cumsum(1));
            check(from_ref(&x), |t| t[0].cumsum_reversed(0));
            check(from_ref(&x), |t| t[0].softmax(1));
            check(from_ref(&x), |t| t[0].log_softmax(-1));
            check(from_ref(&x), |t| t[0].logsumexp(&[0], false));
            check(&[x.clone(), g.clone()], |t| t[0].softmax_grad(&t[1], 1));
            check(&[x.clone(), g.clone()], |t| t[0].log_softmax_grad(&t[1], 0));
            check(&[x.clone(), g], |t| t[0].eq_mask(&t[1]));
            let index = Tensor::from_slice(&[0i64, 2, 2, 5], &[4]);
            check(from_ref(&x), |t| t[0].index_select(1, &index));
            check(from_ref(&x), |t| t[0].index_sum(0, 7, &index, Some(5)));
        }
    }

    #[test]
    fn images_and_heads_round_once() {
        for dtype in [DType::BF16, DType::F16] {
            let (x, w, bias) = (
                random(&[2, 8, 9, 9], 1, dtype),
                random(&[5, 8, 3, 3], 2, dtype),
                random(&[5], 3, dtype),
            );
            for stride in [1, 2] {
                let options = ConvOptions::default().with_stride([stride; 2]).with_padding([1, 1]);
                check(&[x.clone(), w.clone(), bias.clone()], |t| {
                    t[0].conv2d(&t[1], Some(&t[2]), options)
                });
                let dy = x.conv2d(&w, None, options);
                check(&[dy.clone(), w.clone()], |t| {
                    t[0].conv2d_grad_input(&t[1], x.shape(), options)
                });
                check(&[dy, x.clone()], |t| t[0].conv2d_grad_weight(&t[1], w.shape(), options));
            }
            for options in [[2, 2], [3, 3]].map(MaxPoolOptions::new) {
                // Windows side by side, and windows that overlap.
                for options in [options, options.with_stride([1, 2]).with_padding([1, 1])] {
                    check(from_ref(&x), |t| t[0].max_pool2d(options));
                    let (y, places) = x.max_pool2d_with_places(options);
                    check(from_ref(&y), |t| t[0].max_pool2d_grad(&places, x.shape(), options));
                }
            }

            let heads = |seed| random(&[2, 10, 3, 8], seed, dtype);
            let mask = random(&[10, 10], 9, dtype);
            let lie = |t: &Tensor, tokens| {
                if tokens { t.transpose(1, 2) } else { t.view(&[2, 3, 10, 8]) }
            };
            let none = Tensor::zeros(&[0, 3, 10, 8], dtype);
            let options = AttentionOptions::new();
            let (y, lse) = none.scaled_dot_product_attention(&none, &none, &options);
            assert_eq!((y.shape(), y.dtype()), (none.shape(), dtype));
            assert_eq!((lse.shape(), lse.dtype()), (&[0, 3, 10][..], DType::F32));
            let of = [&y, &lse];
            let all = none.scaled_dot_product_attention_grad(
                [&none, &none],
                &options,
                of,
                &none,
                [true; 3],
            );
            for grad in all.into_iter().flatten() {
                assert_eq!((grad.shape(), grad.dtype()), (none.shape(), dtype));
            }
            for tokens in [false, true] {
                let operands = [heads(1), heads(2), heads(3), mask.clone(), heads(4)];
                let grads = |t: &[Tensor], which: usize| {
                    let options = AttentionOptions::new().with_causal(true).with_mask(t[3].clone());
                    let [q, k, v, g] = [0, 1, 2, 4].map(|i| lie(&t[i], tokens));
                    let (y, lse) = q.scaled_dot_product_attention(&k, &v, &options);
                    if which == 3 {
                        return y;
                    }
                    // The output that backward reads is rounded in 16 bits: not so here, for equal operands.
                    let y = y.to_dtype(dtype).to_dtype(t[0].dtype());
                    let all = q.scaled_dot_product_attention_grad(
                        [&k, &v],
                        &options,
                        [&y, &lse],
                        &g,
                        [true; 3],
                    );
                    all[which].clone().expect("all are wanted")
                };
                for which in 0..4 {
                    check(&operands, |t| grads(t, which));
                }
            }
        }
    }
}
