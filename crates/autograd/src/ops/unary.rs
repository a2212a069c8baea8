//! Functions of one element.
//!
//! Each is one pass over memory forward and one backward, which writes over the upstream gradient; backward keeps
//! the result where the slope is a function of it, and the input elsewhere.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use gradus_tensor::{BinaryOp, Tensor, elementwise_ops};

use crate::Var;

/// `sqrt(2 / pi)`.
const TANH_SCALE: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
/// The cubic term of the tanh formula of GELU.
const TANH_CUBIC: f64 = 0.044_715;

elementwise_ops! {
    Exp() "exp" 1.0 |self, x| x.exp_();
    ExpGrad() "exp" 0.3 |self, g, y| g * y;
    Log() "log" 1.0 |self, x| x.ln_();
    LogGrad() "log" 0.5 |self, g, x| g / x;
    Sqrt() "sqrt" 0.5 |self, x| x.sqrt();
    SqrtGrad() "sqrt" 0.5 |self, g, y| g / (y + y);
    Square() "pow_scalar" 0.3 |self, x| x * x;
    SquareGrad() "pow_scalar" 0.3 |self, g, x| g * (x + x);
    PowScalar(p) "pow_scalar" 20.0 |self, x| x.powf(T::lit(self.p));
    PowScalarGrad(p) "pow_scalar" 20.0 |self, g, x| {
        if self.p == 0.0 { T::ZERO } else { g * T::lit(self.p) * x.powf(T::lit(self.p - 1.0)) }
    };
    Abs() "abs" 0.3 |self, x| x.abs();
    AbsGrad() "abs" 0.3 |self, g, x| {
        if x > T::ZERO {
            g
        } else if x < T::ZERO {
            -g
        } else {
            T::ZERO
        }
    };
    Clamp(lo, hi) "clamp" 0.3 |self, x| x.max_nan(T::lit(self.lo)).min_nan(T::lit(self.hi));
    ClampGrad(lo, hi) "clamp" 0.3 |self, g, x| {
        let above = x > T::lit(self.lo) || self.lo == f64::NEG_INFINITY;
        let below = x < T::lit(self.hi) || self.hi == f64::INFINITY;
        if above && below { g } else { T::ZERO }
    };
    Tanh() "tanh" 1.5 |self, x| x.tanh_();
    TanhGrad() "tanh" 0.3 |self, g, y| g * (T::ONE - y * y);
    Sigmoid() "sigmoid" 1.0 |self, x| x.sigmoid_();
    SigmoidGrad() "sigmoid" 0.3 |self, g, y| g * (y * (T::ONE - y));
    Relu() "relu" 0.3 |self, x| x.max_nan(T::ZERO);
    ReluGrad() "relu" 0.3 |self, g, y| if y <= T::ZERO { T::ZERO } else { g };
    LeakyRelu(slope) "leaky_relu" 0.3 |self, x| if x > T::ZERO { x } else { T::lit(self.slope) * x };
    LeakyReluGrad(slope) "leaky_relu" 0.3 |self, g, x| if x > T::ZERO { g } else { T::lit(self.slope) * g };
    // e^x - 1 = tanh(x / 2) (e^x + 1) loses no digits near 0.
    Elu(alpha) "elu" 2.0 |self, x| {
        let below = T::lit(self.alpha) * ((T::lit(0.5) * x).tanh_() * (x.exp_() + T::ONE));
        if x > T::ZERO { x } else { below }
    };
    EluGrad(alpha) "elu" 1.0 |self, g, x| {
        let below = g * (T::lit(self.alpha) * x.exp_());
        if x <= T::ZERO { below } else { g }
    };
    Silu() "silu" 1.0 |self, x| x / (T::ONE + (-x).exp_());
    SiluGrad() "silu" 1.5 |self, g, x| {
        let s = x.sigmoid_();
        g * (s * (T::ONE + x * (T::ONE - s)))
    };
    Gelu() "gelu" 1.0 |self, x| x * x.normal_().0;
    GeluGrad() "gelu" 1.5 |self, g, x| {
        let (below, density) = x.normal_();
        g * (below + x * density)
    };
    GeluTanh() "gelu_tanh" 1.5 |self, x| {
        let inner = T::lit(TANH_SCALE) * (x + T::lit(TANH_CUBIC) * x * x * x);
        T::lit(0.5) * x * (T::ONE + inner.tanh_())
    };
    GeluTanhGrad() "gelu_tanh" 2.0 |self, g, x| {
        let inner = T::lit(TANH_SCALE) * (x + T::lit(TANH_CUBIC) * x * x * x);
        let slope = T::lit(TANH_SCALE) * (T::ONE + T::lit(3.0 * TANH_CUBIC) * x * x);
        let t = inner.tanh_();
        g * (T::lit(0.5) * (T::ONE + t) + T::lit(0.5) * x * (T::ONE - t * t) * slope)
    };
    // max(z, 0) + ln(1 + e^-|z|) never overflows.
    Softplus(beta, threshold) "softplus" 2.0 |self, x| {
        let z = T::lit(self.beta) * x;
        let soft = (z.max_nan(T::ZERO) + (-z.abs()).exp_().ln_1p_()) / T::lit(self.beta);
        if z > T::lit(self.threshold) { x } else { soft }
    };
    SoftplusGrad(beta, threshold) "softplus" 1.0 |self, g, x| {
        let z = T::lit(self.beta) * x;
        let soft = g * z.sigmoid_();
        if z > T::lit(self.threshold) { g } else { soft }
    };
}

/// An operation whose gradient is `grad(upstream, kept)`, element by element.
#[track_caller]
fn pointwise<G: BinaryOp + 'static>(x: &Var, y: Tensor, kept: Tensor, grad: G) -> Var {
    Var::op(G::NAME, &[x], y, move |mut g, sink| {
        g.zip_mut(&kept, grad);
        sink.add(0, g);
    })
}

/// Methods that keep their result or their input for backward.
macro_rules! pointwise_methods {
    ($($(#[$m:meta])* $name:ident, $keeps:ident, $forward:ident, $backward:ident;)*) => {
        impl Var {$(
            $(#[$m])*
            ///
            /// # Panics
            /// When the elements are no floats.
            #[must_use]
            #[track_caller]
            pub fn $name(&self) -> Self {
                let [x] = Self::autocast(stringify!($name), [self]);
                let y = x.value().map($forward {});
                let kept = pointwise_methods!(@$keeps x, y);
                pointwise(&x, y, kept, $backward {})
            }
        )*}
    };
    (@result $x:ident, $y:ident) => { $y.clone() };
    (@input $x:ident, $y:ident) => { $x.value().clone() };
}

pointwise_methods! {
    /// `e^x`.
    exp, result, Exp, ExpGrad;
    /// The natural logarithm: negative infinity at 0, NaN below.
    log, input, Log, LogGrad;
    /// The square root; its gradient at 0 is infinite.
    sqrt, result, Sqrt, SqrtGrad;
    /// The absolute value; its gradient at 0 is 0.
    abs, input, Abs, AbsGrad;
    /// The hyperbolic tangent.
    tanh, result, Tanh, TanhGrad;
    /// `1 / (1 + e^-x)`.
    sigmoid, result, Sigmoid, SigmoidGrad;
    /// `max(x, 0)`; its gradient at 0 is 0, and NaN stays NaN.
    relu, result, Relu, ReluGrad;
    /// `x / (1 + e^-x)`, also called swish (Elfwing, Uchibe, Doya 2018).
    silu, input, Silu, SiluGrad;
    /// `x Phi(x)` with the normal distribution function, by erf: GELU (Hendrycks, Gimpel 2016).
    gelu, input, Gelu, GeluGrad;
    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`: the tanh approximation of [`gelu`](Self::gelu).
    gelu_tanh, input, GeluTanh, GeluTanhGrad;
}

impl Var {
    /// `x^exponent`. `0^0` is 1, and the gradient for the exponent 0 is 0 everywhere.
    ///
    /// # Panics
    /// When the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn pow_scalar(&self, exponent: f64) -> Self {
        let [var] = Self::autocast("pow_scalar", [self]);
        let (x, p) = (var.value(), exponent);
        if p == 2.0 {
            return pointwise(&var, x.map(Square {}), x.clone(), SquareGrad {});
        }
        pointwise(&var, x.map(PowScalar { p }), x.clone(), PowScalarGrad { p })
    }

    /// `x` within bounds, of which either may be absent; where `min > max` the result is `max` everywhere.
    /// The gradient is 1 strictly inside of the bounds and 0 on them and outside; NaN stays NaN.
    ///
    /// # Panics
    /// When a bound is NaN, or the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn clamp(&self, min: Option<f64>, max: Option<f64>) -> Self {
        let (lo, hi) = (min.unwrap_or(f64::NEG_INFINITY), max.unwrap_or(f64::INFINITY));
        assert!(!lo.is_nan() && !hi.is_nan(), "clamp: bounds {lo} and {hi}");
        let [var] = Self::autocast("clamp", [self]);
        let x = var.value();
        pointwise(&var, x.map(Clamp { lo, hi }), x.clone(), ClampGrad { lo, hi })
    }

    /// `x` where it is positive, `negative_slope x` elsewhere; the slope at 0 is `negative_slope`
    /// (Maas, Hannun, Ng 2013; 0.01 is usual).
    ///
    /// # Panics
    /// When the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn leaky_relu(&self, negative_slope: f64) -> Self {
        let slope = negative_slope;
        let [x] = Self::autocast("leaky_relu", [self]);
        let y = x.value().map(LeakyRelu { slope });
        // Unless the slope is negative, the result is positive exactly where the input is.
        let kept = if slope >= 0.0 { y.clone() } else { x.value().clone() };
        pointwise(&x, y, kept, LeakyReluGrad { slope })
    }

    /// `x` where it is positive, `alpha (e^x - 1)` elsewhere; the slope at 0 is `alpha`
    /// (Clevert, Unterthiner, Hochreiter 2016; 1 is usual).
    ///
    /// # Panics
    /// When the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn elu(&self, alpha: f64) -> Self {
        let [var] = Self::autocast("elu", [self]);
        let x = var.value();
        pointwise(&var, x.map(Elu { alpha }), x.clone(), EluGrad { alpha })
    }

    /// `ln(1 + e^(beta x)) / beta`, and `x` itself where `beta x > threshold` (1 and 20 are usual).
    ///
    /// # Panics
    /// When the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn softplus(&self, beta: f64, threshold: f64) -> Self {
        let [var] = Self::autocast("softplus", [self]);
        let x = var.value();
        pointwise(
            &var,
            x.map(Softplus { beta, threshold }),
            x.clone(),
            SoftplusGrad { beta, threshold },
        )
    }
}
