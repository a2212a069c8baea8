//! One pass over a parameter: the arithmetic of an optimizer is written once, as the direction that it takes, and
//! serves both the whole optimizer and a stage of a chain.

use crate::{
    param::Value,
    pieces::{Task, in_pieces},
    slots::Work,
};

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

/// The type of a buffer of state.
macro_rules! slice {
    ($state:ident, $a:lifetime, $t:ty) => {
        &$a mut [$t]
    };
}

/// The pass of a stage.
#[derive(Clone, Copy)]
struct Rewrite<F> {
    direction: F,
}

/// The pass of a whole optimizer.
#[derive(Clone, Copy)]
struct Apply<W, F> {
    around: Around<W>,
    direction: F,
}

/// For each number of state buffers a method of [`Out`] that walks gradient and state side by side.
macro_rules! passes {
    ($($pass:ident($($state:ident),*);)*) => {$(
        impl<T: Value> Out<'_, T> {
            /// Sends `direction(g, state..)` of each element, which may change the state, on its way.
            #[inline]
            pub(crate) fn $pass(
                self,
                $($state: &mut [T::Work],)*
                direction: impl Fn(T::Work, $(element!($state, T::Work)),*) -> T::Work + Copy + Send + Sync,
            ) {
                match self {
                    Self::Gradient(grad) => in_pieces((grad, $($state,)*), Rewrite { direction }),
                    Self::Value { value, grad, around } => {
                        in_pieces((value, grad, $($state,)*), Apply { around, direction });
                    }
                }
            }
        }

        impl<'a, T: Value, F> Task<(&'a mut [T], $(slice!($state, 'a, T::Work),)*)> for Rewrite<F>
        where
            F: Fn(T::Work, $(element!($state, T::Work)),*) -> T::Work + Copy + Send + Sync,
        {
            #[inline(always)]
            fn run(self, (grad, $($state,)*): (&'a mut [T], $(slice!($state, 'a, T::Work),)*)) {
                let n = grad.len();
                $(let $state = &mut $state[..n];)*
                for i in 0..n {
                    grad[i] = T::store((self.direction)(grad[i].load(), $(&mut $state[i]),*));
                }
            }
        }

        impl<'a, T: Value, F> Task<(&'a mut [T], &'a [T], $(slice!($state, 'a, T::Work),)*)>
            for Apply<T::Work, F>
        where
            F: Fn(T::Work, $(element!($state, T::Work)),*) -> T::Work + Copy + Send + Sync,
        {
            #[inline(always)]
            fn run(self, all: (&'a mut [T], &'a [T], $(slice!($state, 'a, T::Work),)*)) {
                let (value, grad, $($state,)*) = all;
                let n = value.len();
                let grad = &grad[..n];
                $(let $state = &mut $state[..n];)*
                for i in 0..n {
                    let p = value[i].load();
                    let g = self.around.gradient(grad[i].load(), p);
                    value[i] = T::store(self.around.moved(p, (self.direction)(g, $(&mut $state[i]),*)));
                }
            }
        }
    )*};
}
passes! {
    pass0();
    pass1(a);
    pass2(a, b);
    pass3(a, b, c);
}
