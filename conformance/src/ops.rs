//! One runner per op, listed by area.

mod amp;
mod autograd;
mod averaging;
mod clip;
mod differentiate;
mod init;
mod norm;
mod optim;
mod regularize;
mod schedule;
mod tensor;
mod train;

use crate::{
    answer::{Answer, Failure},
    case::Case,
};

/// Runs a case through the public API.
pub(crate) type Runner = fn(&Case) -> Result<Answer, Failure>;

type Table = &'static [(&'static str, Runner)];

const AREAS: &[&[Table]] = &[
    tensor::OPS,
    &[autograd::OPS],
    &[norm::OPS],
    &[regularize::OPS, averaging::OPS],
    &[amp::OPS],
    schedule::OPS,
    &[clip::OPS],
    &[optim::OPS],
    &[init::OPS],
    train::OPS,
];

fn all() -> impl Iterator<Item = &'static (&'static str, Runner)> {
    AREAS.iter().flat_map(|area| area.iter()).flat_map(|table| table.iter())
}

/// The runner of an op.
pub(crate) fn runner(op: &str) -> Option<Runner> {
    all().find(|(name, _)| *name == op).map(|&(_, runner)| runner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_op_has_two_runners() {
        let mut names: Vec<_> = all().map(|(name, _)| name).collect();
        let n = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), n);
    }
}
