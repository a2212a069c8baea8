//! The area `init`.

mod lsuv;
mod mup;
mod stats;
mod structured;

use gradus_init::{Fans, Layout, Nonlinearity};

use super::Table;
use crate::{
    answer::{Answer, Failure, Values, number},
    case::Case,
};

pub(super) const OPS: Table = &[
    ("calculate_gain", gain),
    ("fan_in_fan_out", fans),
    ("init_stats", stats::stats),
    ("init_orthogonal", structured::orthogonal),
    ("init_sparse", structured::sparse),
    ("init_eye", structured::eye),
    ("init_dirac", structured::dirac),
    ("lsuv", lsuv::lsuv),
    ("mup_scaling", mup::scaling),
    ("mup_attention_scale", mup::attention_scale),
];

fn gain(case: &Case) -> Result<Answer, Failure> {
    let name: String = case.args.to("nonlinearity")?;
    let nonlinearity = Nonlinearity::parse(&name, case.args.maybe("param")?)?;
    let mut values = Values::new();
    values.json("gain", number(nonlinearity.gain()));
    Ok(values.into())
}

fn fans(case: &Case) -> Result<Answer, Failure> {
    let fans = Fans::of(&case.args.to::<Vec<usize>>("shape")?, Layout::OutIn)?;
    let mut values = Values::new();
    values.json("fan_in", fans.fan_in);
    values.json("fan_out", fans.fan_out);
    Ok(values.into())
}
