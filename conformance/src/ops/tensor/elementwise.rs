//! Elementwise ops.

use gradus_autograd::Var;

use crate::{
    answer::{Answer, Failure},
    case::Case,
    ops::{Table, differentiate},
};

pub(super) const OPS: Table = &[
    ("add", |c| binary(c, |a, b| a + b)),
    ("sub", |c| binary(c, |a, b| a - b)),
    ("mul", |c| binary(c, |a, b| a * b)),
    ("div", |c| binary(c, |a, b| a / b)),
    ("pow", |c| binary(c, Var::pow)),
    ("pow_scalar", |c| with(c, "exponent", Var::pow_scalar)),
    ("exp", |c| unary(c, Var::exp)),
    ("log", |c| unary(c, Var::log)),
    ("sqrt", |c| unary(c, Var::sqrt)),
    ("tanh", |c| unary(c, Var::tanh)),
    ("sigmoid", |c| unary(c, Var::sigmoid)),
    ("relu", |c| unary(c, Var::relu)),
    ("silu", |c| unary(c, Var::silu)),
    ("abs", |c| unary(c, Var::abs)),
    ("leaky_relu", |c| with(c, "negative_slope", Var::leaky_relu)),
    ("elu", |c| with(c, "alpha", Var::elu)),
    ("gelu", gelu),
    ("softplus", softplus),
    ("clamp", clamp),
    ("where", choose),
];

fn unary(case: &Case, f: impl FnOnce(&Var) -> Var) -> Result<Answer, Failure> {
    differentiate::y(case, |i| Ok(f(&i.var("x")?)))
}

fn binary(case: &Case, f: impl FnOnce(&Var, &Var) -> Var) -> Result<Answer, Failure> {
    differentiate::y(case, |i| Ok(f(&i.var("a")?, &i.var("b")?)))
}

/// An op with one number as its argument.
fn with(case: &Case, argument: &str, f: impl FnOnce(&Var, f64) -> Var) -> Result<Answer, Failure> {
    let number = case.args.to(argument)?;
    unary(case, |x| f(x, number))
}

fn gelu(case: &Case) -> Result<Answer, Failure> {
    match case.args.to::<String>("approximate")?.as_str() {
        "none" => unary(case, Var::gelu),
        "tanh" => unary(case, Var::gelu_tanh),
        other => Err(Failure::unsupported(format!("approximate {other}"))),
    }
}

fn softplus(case: &Case) -> Result<Answer, Failure> {
    let (beta, threshold) = (case.args.to("beta")?, case.args.to("threshold")?);
    unary(case, |x| x.softplus(beta, threshold))
}

fn clamp(case: &Case) -> Result<Answer, Failure> {
    let (min, max) = (case.args.maybe("min")?, case.args.maybe("max")?);
    unary(case, |x| x.clamp(min, max))
}

fn choose(case: &Case) -> Result<Answer, Failure> {
    let condition = case.tensor("cond")?;
    binary(case, |a, b| Var::where_cond(&condition, a, b))
}
