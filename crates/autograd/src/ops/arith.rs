//! Arithmetic with broadcasting. Operands of different types are promoted to the wider one.

use gradus_tensor::{Tensor, elementwise_ops};

use crate::Var;

elementwise_ops! {
    Scale(k) "mul_scalar" 0.3 |self, x| T::lit(self.k) * x;
    Mul() "mul" 0.3 |self, a, b| a * b;
    Div() "div" 0.5 |self, a, b| a / b;
    /// Gradient of the divisor, from the quotient `y`.
    DivisorGrad() "div" 1.0 |self, g, y, b| -g * (y / b);
    Pow() "pow" 20.0 |self, a, b| a.powf(b);
    BaseGrad() "pow" 20.0 |self, g, a, b| if b == T::ZERO { T::ZERO } else { g * b * a.powf(b - T::ONE) };
    /// Gradient of the exponent.
    ExponentGrad() "pow" 30.0 |self, g, a, b| {
        if a == T::ZERO && b >= T::ZERO { T::ZERO } else { g * a.powf(b) * a.ln() }
    };
}

impl Var {
    /// `a + b`, broadcast.
    ///
    /// # Panics
    /// When the shapes do not broadcast or the operands lie on different tapes.
    #[must_use]
    #[track_caller]
    pub fn add(&self, other: &Self) -> Self {
        let [a, b] = Self::promoted("add", [self, other]);
        Self::op("add", &[&a, &b], a.value().add(b.value()), |g, sink| {
            sink.add_broadcast(0, g.clone());
            sink.add_broadcast(1, g);
        })
    }

    /// `a - b`, broadcast.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    #[must_use]
    #[track_caller]
    pub fn sub(&self, other: &Self) -> Self {
        let [a, b] = Self::promoted("sub", [self, other]);
        Self::op("sub", &[&a, &b], a.value().sub(b.value()), |mut g, sink| {
            sink.add_broadcast(0, g.clone());
            if sink.needs(1) {
                g.map_mut(Scale { k: -1.0 });
                sink.add_broadcast(1, g);
            }
        })
    }

    /// `a * b`, broadcast.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    #[must_use]
    #[track_caller]
    pub fn mul(&self, other: &Self) -> Self {
        let [left, right] = Self::promoted("mul", [self, other]);
        // An operand is kept only for the gradient of the other.
        let a = right.is_tracked().then(|| left.value().clone());
        let b = left.is_tracked().then(|| right.value().clone());
        let y = left.value().mul(right.value());
        Self::op("mul", &[&left, &right], y, move |mut g, sink| match (a, b) {
            (Some(a), Some(b)) => {
                sink.add_broadcast(0, g.mul(&b));
                g.zip_mut(&a, Mul {});
                sink.add_broadcast(1, g);
            }
            (Some(factor), None) => {
                g.zip_mut(&factor, Mul {});
                sink.add_broadcast(1, g);
            }
            (None, Some(factor)) => {
                g.zip_mut(&factor, Mul {});
                sink.add_broadcast(0, g);
            }
            (None, None) => {}
        })
    }

    /// `a / b`, broadcast; by IEEE rules where `b` is 0.
    ///
    /// # Panics
    /// As [`add`](Self::add).
    #[must_use]
    #[track_caller]
    pub fn div(&self, other: &Self) -> Self {
        let [left, right] = Self::promoted("div", [self, other]);
        let y = left.value().div(right.value());
        let quotient = right.is_tracked().then(|| y.clone());
        let b = right.value().clone();
        Self::op("div", &[&left, &right], y, move |mut g, sink| {
            if let Some(y) = quotient {
                sink.add_broadcast(1, g.zip3(&y, &b.broadcast_to(y.shape()), DivisorGrad {}));
            }
            if sink.needs(0) {
                g.zip_mut(&b, Div {});
                sink.add_broadcast(0, g);
            }
        })
    }

    /// `a^b`, broadcast; `0^0` is 1.
    ///
    /// Gradients: `b a^(b-1)`, which is 0 where `b` is 0; `a^b ln a`, which is 0 where `a` is 0 and `b` is not negative
    /// (and NaN for a negative base).
    ///
    /// # Panics
    /// As [`add`](Self::add).
    #[must_use]
    #[track_caller]
    pub fn pow(&self, exponent: &Self) -> Self {
        let [base, exponent] = Self::promoted("pow", [self, exponent]);
        let (a, b) = (base.value().clone(), exponent.value().clone());
        Self::op("pow", &[&base, &exponent], a.zip(&b, Pow {}), move |g, sink| {
            let (a, b) = (a.broadcast_to(g.shape()), b.broadcast_to(g.shape()));
            if sink.needs(0) {
                sink.add_broadcast(0, g.zip3(&a, &b, BaseGrad {}));
            }
            if sink.needs(1) {
                sink.add_broadcast(1, g.zip3(&a, &b, ExponentGrad {}));
            }
        })
    }

    /// `k x + c`.
    #[must_use]
    #[track_caller]
    pub fn affine(&self, k: f64, c: f64) -> Self {
        let [x] = Self::autocast("add", [self]);
        Self::op("affine", &[&x], x.value().affine(k, c), move |mut g, sink| {
            if k != 1.0 {
                g.map_mut(Scale { k });
            }
            sink.add(0, g);
        })
    }

    /// `x + c`.
    #[must_use]
    #[track_caller]
    pub fn add_scalar(&self, c: f64) -> Self {
        self.affine(1.0, c)
    }

    /// `k x`.
    #[must_use]
    #[track_caller]
    pub fn mul_scalar(&self, k: f64) -> Self {
        let [x] = Self::autocast("mul", [self]);
        Self::op("mul_scalar", &[&x], x.value().map(Scale { k }), move |mut g, sink| {
            g.map_mut(Scale { k });
            sink.add(0, g);
        })
    }

    /// `-x`.
    #[must_use]
    #[track_caller]
    pub fn neg(&self) -> Self {
        self.mul_scalar(-1.0)
    }

    /// A 0-dimensional constant of this value's type on its tape.
    fn scalar(&self, x: f64) -> Self {
        self.constant(Tensor::full(&[], x, self.dtype()))
    }
}

/// `a op b` for values, borrowed or owned, and for numbers on either side.
macro_rules! operators {
    ($($trait:ident $method:ident |$x:ident, $k:ident| $right:expr, $left:expr;)*) => {$(
        operators!(@pair $trait $method &Var, &Var);
        operators!(@pair $trait $method &Var, Var);
        operators!(@pair $trait $method Var, &Var);
        operators!(@pair $trait $method Var, Var);
        operators!(@scalar $trait $method &Var |$x, $k| $right, $left);
        operators!(@scalar $trait $method Var |$x, $k| $right, $left);
    )*};
    (@pair $trait:ident $method:ident $a:ty, $b:ty) => {
        impl std::ops::$trait<$b> for $a {
            type Output = Var;
            #[track_caller]
            fn $method(self, other: $b) -> Var {
                Var::$method(&self, &other)
            }
        }
    };
    (@scalar $trait:ident $method:ident $a:ty |$x:ident, $k:ident| $right:expr, $left:expr) => {
        impl std::ops::$trait<f64> for $a {
            type Output = Var;
            #[track_caller]
            fn $method(self, $k: f64) -> Var {
                let $x = &self;
                $right
            }
        }
        impl std::ops::$trait<$a> for f64 {
            type Output = Var;
            #[track_caller]
            fn $method(self, other: $a) -> Var {
                let ($x, $k) = (&other, self);
                $left
            }
        }
    };
}

operators! {
    Add add |x, k| x.add_scalar(k), x.add_scalar(k);
    Sub sub |x, k| x.add_scalar(-k), x.affine(-1.0, k);
    Mul mul |x, k| x.mul_scalar(k), x.mul_scalar(k);
    Div div |x, k| Var::div(x, &x.scalar(k)), Var::div(&x.scalar(k), x);
}

impl std::ops::Neg for &Var {
    type Output = Var;
    #[track_caller]
    fn neg(self) -> Var {
        Var::neg(self)
    }
}

impl std::ops::Neg for Var {
    type Output = Var;
    #[track_caller]
    fn neg(self) -> Var {
        Var::neg(&self)
    }
}
