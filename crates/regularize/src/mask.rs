//! Which elements are dropped: a function of the stream and of the element's index, computed whenever it is needed.

use gradus_autograd::{DType, RngStream, Tensor, Var};
use gradus_tensor::{BinaryOp, Real, UnaryOp, elementwise_ops, kernel, par, with_real};

use crate::Probability;

/// Elements that sixteen 128-bit blocks decide, with 16 bits each.
const GROUP: usize = 128;
/// Nanoseconds an element takes, roughly.
const COST: f64 = 0.3;

elementwise_ops! {
    /// `k x`
    pub(crate) Scale(k) "dropout" 0.3 |self, x| x * T::lit(self.k);
    /// `k x + c`
    pub(crate) Affine(k, c) "alpha_dropout" 0.3 |self, x| x * T::lit(self.k) + T::lit(self.c);
    One() "dropout" 0.1 |self, _x| T::ONE;
    /// `k x + c` where the mask is 1, `dropped` where it is 0, whatever `x` is there.
    pub(crate) Choose(k, c, dropped) "dropout" 0.3 |self, x, mask| {
        let kept = x * T::lit(self.k) + T::lit(self.c);
        if mask == T::ZERO { T::lit(self.dropped) } else { kept }
    };
}

impl Scale {
    /// What keeps the mean: `1 / (1 - p)`.
    pub(crate) fn by_keep(p: Probability) -> Self {
        Self { k: 1.0 / (1.0 - p.get()) }
    }
}

/// The bits that an operation drops by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask {
    stream: RngStream,
    /// Dropped are the 32-bit numbers below; only their upper 16 bits are random.
    threshold: u32,
}

impl Mask {
    /// Drops with probability `p`, which is neither 0 nor 1 (those need no bits), to within 2^-16.
    pub(crate) fn new(p: Probability, stream: RngStream) -> Self {
        debug_assert!(p != Probability::ZERO && p != Probability::ONE);
        let threshold = (p.get() * 65_536.0).round().min(65_535.0) as u32;
        Self { stream, threshold: threshold << 16 }
    }

    /// `kept` of the elements that stay and `dropped` for the others; in place where nobody else holds `x`.
    #[track_caller]
    pub(crate) fn map<O: UnaryOp>(self, x: Tensor, kept: O, dropped: f64) -> Tensor {
        in_real(x, |mut x| {
            with_real!(O::NAME, x.dtype(), T => {
                let dropped = T::lit(dropped);
                if x.is_unique() && x.is_contiguous() {
                    par::for_each_mut(x.make_mut::<T>(), GROUP, GROUP as f64 * COST, |group, x| {
                        masked_in_place::<T, O>(self, kept, dropped, group as u64, x);
                    });
                    return x;
                }
                let x = x.contiguous();
                Tensor::build::<T>(x.shape(), |y| {
                    let x = x.as_slice::<T>();
                    par::for_each_mut(y, GROUP, GROUP as f64 * COST, |group, y| {
                        let at = group * GROUP;
                        masked::<T, O>(self, kept, dropped, group as u64, &x[at..at + y.len()], y);
                    });
                })
            })
        })
    }

    /// Ones for what stays, zeros for what is dropped.
    pub(crate) fn tensor(self, shape: &[usize], dtype: DType) -> Tensor {
        self.map(Tensor::zeros(shape, dtype), One {}, 0.0)
    }

    /// Elements `128 group` to `128 group + 127`.
    #[inline(always)]
    fn group<T: Real, O: UnaryOp>(
        self,
        group: u64,
        kept: O,
        dropped: T,
        x: &[T; GROUP],
        y: &mut [T; GROUP],
    ) {
        let words = self.stream.blocks16(group * 16);
        let mut bits = [0u32; GROUP];
        for (word, bits) in words.iter().zip(bits.as_chunks_mut::<32>().0) {
            for l in 0..16 {
                bits[l] = word[l] << 16;
                bits[16 + l] = word[l];
            }
        }
        for ((y, &x), bits) in y.iter_mut().zip(x).zip(bits) {
            // Computed for all and then chosen: a loop without branches, in which a dropped NaN leaves no trace.
            let kept = kept.apply(x);
            *y = if bits < self.threshold { dropped } else { kept };
        }
    }
}

kernel! {
    fn masked['a, T: Real, O: UnaryOp]['a, T, O](
        mask: Mask, kept: O, dropped: T, first: u64, x: &'a [T], y: &'a mut [T],
    ) -> () {
        let (xs, x_rest) = x.as_chunks();
        let (ys, y_rest) = y.as_chunks_mut();
        for ((group, x), y) in (first..).zip(xs).zip(ys) {
            mask.group(group, kept, dropped, x, y);
        }
        if !x_rest.is_empty() {
            let (mut x, mut y) = ([T::ZERO; GROUP], [T::ZERO; GROUP]);
            x[..x_rest.len()].copy_from_slice(x_rest);
            mask.group(first + xs.len() as u64, kept, dropped, &x, &mut y);
            y_rest.copy_from_slice(&y[..x_rest.len()]);
        }
    }
}

kernel! {
    fn masked_in_place['a, T: Real, O: UnaryOp]['a, T, O](
        mask: Mask, kept: O, dropped: T, first: u64, x: &'a mut [T],
    ) -> () {
        for (group, x) in (first..).zip(x.chunks_mut(GROUP)) {
            let mut old = [T::ZERO; GROUP];
            old[..x.len()].copy_from_slice(x);
            match x.as_mut_array() {
                Some(x) => mask.group(group, kept, dropped, &old, x),
                None => {
                    let mut y = [T::ZERO; GROUP];
                    mask.group(group, kept, dropped, &old, &mut y);
                    x.copy_from_slice(&y[..x.len()]);
                }
            }
        }
    }
}

/// Runs `f` in f32 for the 16-bit types, which are storage only, and in the type of `x` otherwise.
pub(crate) fn in_real(x: Tensor, f: impl FnOnce(Tensor) -> Tensor) -> Tensor {
    match x.dtype() {
        DType::F16 | DType::BF16 => f(x.to_dtype(DType::F32)).to_dtype(x.dtype()),
        _ => f(x),
    }
}

/// The operation that drops each element by itself: `kept` of what stays (whose slope is `slope`), `dropped` for the
/// rest. `p` = 0 is the identity; `p` = 1 is 0 everywhere.
#[track_caller]
pub(crate) fn drop_elements<O: UnaryOp + 'static>(
    x: &Var,
    p: Probability,
    stream: RngStream,
    (kept, slope): (O, f64),
    dropped: f64,
) -> Var {
    match p {
        Probability::ZERO => x.clone(),
        Probability::ONE => zero(O::NAME, x),
        _ => {
            let mask = Mask::new(p, stream);
            let y = mask.map(x.value().clone(), kept, dropped);
            Var::op(O::NAME, &[x], y, move |g, sink| {
                sink.add(0, mask.map(g, Scale { k: slope }, 0.0));
            })
        }
    }
}

/// The operation that applies a mask of zeros and ones, which broadcasts to `x`. `mask` makes it, in the type that it
/// is given, with the factor of what stays: in forward, and again in backward.
#[track_caller]
pub(crate) fn drop_by(x: &Var, mask: impl Fn(DType) -> (Tensor, Choose) + Send + 'static) -> Var {
    let forward = |x: Tensor| {
        in_real(x, |x| {
            let (mask, choose) = mask(x.dtype());
            x.zip(&mask, choose)
        })
    };
    let y = forward(x.value().clone());
    Var::op(Choose::NAME, &[x], y, move |g, sink| {
        let dx = in_real(g, |mut g| {
            let (mask, choose) = mask(g.dtype());
            g.zip_mut(&mask, Choose { c: 0.0, dropped: 0.0, ..choose });
            g
        });
        sink.add(0, dx);
    })
}

/// Zeros in the shape of `x`, with zeros for a gradient.
pub(crate) fn zero(name: &'static str, x: &Var) -> Var {
    let zeros = Tensor::zeros(x.shape(), x.dtype());
    Var::op(name, &[x], zeros.clone(), |_, sink| sink.add(0, zeros))
}
