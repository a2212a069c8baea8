//! Which elements are dropped: a function of the stream and of the element's index, computed whenever it is needed.

use gradus_autograd::{DType, RngStream, Tensor, Var};
use gradus_tensor::{BinaryOp, Real, UnaryOp, elementwise_ops, with_real};

use crate::{
    Probability,
    groups::{self, Groups, in_real},
};

/// Elements that sixteen 128-bit blocks decide, with 16 bits each.
const GROUP: usize = 128;

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
        in_real(x, |x| {
            with_real!(O::NAME, x.dtype(), T => {
                groups::map::<T, GROUP, _>(x, Masked { mask: self, kept, dropped: T::lit(dropped) })
            })
        })
    }

    /// Ones for what stays, zeros for what is dropped.
    pub(crate) fn tensor(self, shape: &[usize], dtype: DType) -> Tensor {
        self.map(Tensor::zeros(shape, dtype), One {}, 0.0)
    }
}

#[derive(Clone, Copy)]
struct Masked<T, O> {
    mask: Mask,
    kept: O,
    dropped: T,
}

impl<T: Real, O: UnaryOp> Groups<T, GROUP> for Masked<T, O> {
    const COST: f64 = 0.3;

    #[inline(always)]
    fn group(self, at: u64, x: &[T; GROUP], y: &mut [T; GROUP]) {
        let words = self.mask.stream.blocks16(at * 16);
        let mut bits = [0; GROUP];
        for w in 0..4 {
            for l in 0..16 {
                bits[32 * w + l] = words[w][l] << 16;
                bits[32 * w + 16 + l] = words[w][l];
            }
        }
        for i in 0..GROUP {
            // Computed for all and then chosen: no branch, and a dropped NaN leaves no trace.
            let kept = self.kept.apply(x[i]);
            y[i] = if bits[i] < self.mask.threshold { self.dropped } else { kept };
        }
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
            let [x] = Var::autocast(O::NAME, [x]);
            let mask = Mask::new(p, stream);
            let y = mask.map(x.value().clone(), kept, dropped);
            Var::op(O::NAME, &[&x], y, move |g, sink| {
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
    let [x] = Var::autocast(Choose::NAME, [x]);
    let y = forward(x.value().clone());
    Var::op(Choose::NAME, &[&x], y, move |g, sink| {
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
