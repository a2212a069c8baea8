//! The area `amp`.

use gradus_tensor::{DType, bf16, f16};

use super::Table;
use crate::{
    answer::{Answer, Failure, Values},
    array::{Array, Data},
    case::Case,
};

pub(super) const OPS: Table =
    &[("round_bf16", |c| round(c, DType::BF16)), ("round_f16", |c| round(c, DType::F16))];

fn round(case: &Case, dtype: DType) -> Result<Answer, Failure> {
    let rounded = case.tensor("x")?.to_dtype(dtype);
    let bits = match dtype {
        DType::BF16 => rounded.to_vec::<bf16>().iter().map(|x| x.to_bits()).collect(),
        _ => rounded.to_vec::<f16>().iter().map(|x| x.to_bits()).collect(),
    };
    let mut values = Values::new();
    values.out("bits", Array::new(rounded.shape(), Data::U16(bits)));
    values.out("value", rounded.to_dtype(DType::F32));
    Ok(values.into())
}
