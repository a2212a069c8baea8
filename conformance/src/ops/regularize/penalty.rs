//! Penalties.

use gradus_autograd::Var;
use gradus_regularize::{RangeError, elastic_net, l1_penalty, l2_penalty};

use crate::{
    answer::{Answer, Failure},
    case::Case,
    ops::{Table, differentiate},
};

pub(super) const OPS: Table = &[
    ("l1_penalty", |case| penalty(case, &["lambda"], |p, k| l1_penalty(p, k[0]))),
    ("l2_penalty", |case| penalty(case, &["lambda"], |p, k| l2_penalty(p, k[0]))),
    ("elastic_net", |case| penalty(case, &["l1", "l2"], |p, k| elastic_net(p, k[0], k[1]))),
];

fn penalty(
    case: &Case,
    weights: &[&str],
    f: impl FnOnce(&[&Var], &[f64]) -> Result<Var, RangeError>,
) -> Result<Answer, Failure> {
    let weights = weights.iter().map(|w| case.args.to(w)).collect::<Result<Vec<f64>, _>>()?;
    differentiate::outputs(case, |i| {
        let params = i.numbered("p")?;
        Ok(vec![("loss", f(&params.iter().collect::<Vec<_>>(), &weights)?)])
    })
}
