//! The area `tensor`.

mod elementwise;
mod loss;
mod movement;
mod recurrent;
mod reduction;
mod window;

use gradus_tensor::AttentionOptions;

use super::{Table, differentiate};
use crate::{
    answer::{Answer, Failure},
    case::Case,
};

pub(super) const OPS: &[Table] = &[
    elementwise::OPS,
    movement::OPS,
    reduction::OPS,
    window::OPS,
    loss::OPS,
    recurrent::OPS,
    ATTENTION,
];

const ATTENTION: Table = &[("scaled_dot_product_attention", attention)];

fn attention(case: &Case) -> Result<Answer, Failure> {
    let mut options = AttentionOptions::new().with_causal(case.args.to("is_causal")?);
    if let Some(scale) = case.args.maybe("scale")? {
        options = options.with_scale(scale);
    }
    if let Some(mask) = case.find_tensor("mask")? {
        options = options.with_mask(mask);
    }
    differentiate::y(case, |i| {
        let (q, k, v) = (i.var("q")?, i.var("k")?, i.var("v")?);
        Ok(q.scaled_dot_product_attention(&k, &v, &options))
    })
}
