//! The area `regularize`.

mod depth;
mod dropout;
mod mixing;
mod penalty;

use super::Table;

pub(super) const OPS: &[Table] = &[dropout::OPS, depth::OPS, mixing::OPS, penalty::OPS];
