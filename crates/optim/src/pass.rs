//! One pass over a parameter: the arithmetic of an optimizer is written once, as the direction that it takes, and
//! serves both the whole optimizer and a stage of a chain.

use crate::{param::Value, pieces::in_pieces, slots::Work};

/// What stands around a direction in an optimizer: the sign and the L2 penalty before it, decoupled decay and the
/// rate after it.
#[derive(Clone, Copy)]
pub(crate) struct Around<W> {
    sign: W,
    l2: W,
    shrink: W,
    lr: W,
}

impl<W: Work> Around<W> {
    /// `weight_decay` is that of this parameter.
    pub(crate) fn new(lr: f64, maximize: bool, weight_decay: f64, decoupled: bool) -> Self {
        let (l2, shrink) =
            if decoupled { (0.0, 1.0 - lr * weight_decay) } else { (weight_decay, 1.0) };
        Self {
            sign: W::from_f64(if maximize { -1.0 } else { 1.0 }),
            l2: W::from_f64(l2),
            shrink: W::from_f64(shrink),
            lr: W::from_f64(lr),
        }
    }

    /// The gradient that the direction is made of.
    #[inline(always)]
    fn gradient(&self, g: W, p: W) -> W {
        decayed(self.sign * g, self.l2, p)
    }

    /// The parameter after a move.
    #[inline(always)]
    pub(crate) fn moved(&self, p: W, direction: W) -> W {
        self.shrink * p - self.lr * direction
    }
}

/// `u + weight_decay p`. Without a decay, a parameter that is infinite keeps out of it.
#[inline(always)]
pub(crate) fn decayed<W: Work>(u: W, weight_decay: W, p: W) -> W {
    if weight_decay == W::zero() { u } else { u + weight_decay * p }
}

/// Where the directions of one parameter go.
pub(crate) enum Out<'a, T: Value> {
    /// Back into the gradient, for the next stage of a chain.
    Gradient(&'a mut [T]),
    /// On to the value, in the same pass.
    Value { value: &'a mut [T], grad: &'a [T], around: Around<T::Work> },
}

impl<T: Value> Out<'_, T> {
    /// The gradient as it came.
    pub(crate) fn gradient(&self) -> &[T] {
        match self {
            Self::Gradient(grad) => grad,
            Self::Value { grad, .. } => grad,
        }
    }
}

/// The type of one element of state.
macro_rules! element {
    ($state:ident, $t:ty) => {
        &mut $t
    };
}

/// For each number of state buffers a method of [`Out`] that walks gradient and state side by side.
macro_rules! passes {
    ($($pass:ident($($state:ident),*);)*) => {
        impl<T: Value> Out<'_, T> {$(
            /// Sends `direction(g, state..)` of each element, which may change the state, on its way.
            #[inline]
            pub(crate) fn $pass(
                self,
                $($state: &mut [T::Work],)*
                direction: impl Fn(T::Work, $(element!($state, T::Work)),*) -> T::Work + Copy + Send + Sync,
            ) {
                match self {
                    Self::Gradient(grad) => {
                        in_pieces((grad, $($state,)*), move |(grad, $($state,)*)| {
                            rewrite::$pass(grad, $($state,)* &direction)
                        });
                    }
                    Self::Value { value, grad, around } => {
                        in_pieces((value, grad, $($state,)*), move |(value, grad, $($state,)*)| {
                            apply::$pass(around, value, grad, $($state,)* &direction)
                        });
                    }
                }
            }
        )*}

        // Functions of their own: slices that come as arguments are known not to overlap.
        mod rewrite {
            use super::*;
            $(
                #[inline(always)]
                pub(super) fn $pass<T: Value>(
                    grad: &mut [T],
                    $($state: &mut [T::Work],)*
                    direction: &impl Fn(T::Work, $(element!($state, T::Work)),*) -> T::Work,
                ) {
                    let n = grad.len();
                    $(let $state = &mut $state[..n];)*
                    for i in 0..n {
                        grad[i] = T::store(direction(grad[i].load(), $(&mut $state[i]),*));
                    }
                }
            )*
        }

        mod apply {
            use super::*;
            $(
                #[inline(always)]
                pub(super) fn $pass<T: Value>(
                    around: Around<T::Work>,
                    value: &mut [T],
                    grad: &[T],
                    $($state: &mut [T::Work],)*
                    direction: &impl Fn(T::Work, $(element!($state, T::Work)),*) -> T::Work,
                ) {
                    let n = value.len();
                    let grad = &grad[..n];
                    $(let $state = &mut $state[..n];)*
                    for i in 0..n {
                        let p = value[i].load();
                        let g = around.gradient(grad[i].load(), p);
                        value[i] = T::store(around.moved(p, direction(g, $(&mut $state[i]),*)));
                    }
                }
            )*
        }
    };
}
passes! {
    pass0();
    pass1(a);
    pass2(a, b);
    pass3(a, b, c);
}
