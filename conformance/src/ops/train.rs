//! The area `train`.

mod accumulation;
mod models;
mod run;
mod stop;

use super::Table;

pub(super) const OPS: &[Table] = &[run::OPS, accumulation::OPS, stop::OPS];
