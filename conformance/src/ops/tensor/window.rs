//! Convolution and pooling.

use gradus_tensor::{AvgPoolOptions, ConvOptions, MaxPoolOptions};

use crate::{
    answer::{Answer, Failure},
    case::{Args, Case},
    ops::{Table, differentiate},
};

pub(super) const OPS: Table = &[
    ("conv1d", conv1d),
    ("conv2d", conv2d),
    ("max_pool2d", max_pool2d),
    ("avg_pool2d", avg_pool2d),
    ("adaptive_avg_pool2d", adaptive_avg_pool2d),
];

fn options<const N: usize>(args: &Args) -> Result<ConvOptions<N>, Failure> {
    Ok(ConvOptions::default()
        .with_stride(args.to("stride")?)
        .with_padding(args.to("padding")?)
        .with_dilation(args.to("dilation")?)
        .with_groups(args.to("groups")?))
}

fn conv1d(case: &Case) -> Result<Answer, Failure> {
    let options = options::<1>(&case.args)?;
    differentiate::y(case, |i| {
        let (x, weight, bias) = (i.var("x")?, i.var("weight")?, i.find("bias")?);
        Ok(x.conv1d(&weight, bias.as_ref(), options))
    })
}

fn conv2d(case: &Case) -> Result<Answer, Failure> {
    let options = options::<2>(&case.args)?;
    differentiate::y(case, |i| {
        let (x, weight, bias) = (i.var("x")?, i.var("weight")?, i.find("bias")?);
        Ok(x.conv2d(&weight, bias.as_ref(), options))
    })
}

fn max_pool2d(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let options = MaxPoolOptions::new(args.to("kernel")?)
        .with_stride(args.to("stride")?)
        .with_padding(args.to("padding")?)
        .with_dilation(args.to("dilation")?)
        .with_ceil_mode(args.to("ceil_mode")?);
    differentiate::y(case, |i| Ok(i.var("x")?.max_pool2d(options)))
}

fn avg_pool2d(case: &Case) -> Result<Answer, Failure> {
    let args = &case.args;
    let mut options = AvgPoolOptions::new(args.to("kernel")?)
        .with_stride(args.to("stride")?)
        .with_padding(args.to("padding")?)
        .with_ceil_mode(args.to("ceil_mode")?)
        .with_count_include_pad(args.to("count_include_pad")?);
    if let Some(divisor) = args.maybe("divisor_override")? {
        options = options.with_divisor_override(divisor);
    }
    differentiate::y(case, |i| Ok(i.var("x")?.avg_pool2d(options)))
}

fn adaptive_avg_pool2d(case: &Case) -> Result<Answer, Failure> {
    let size: [usize; 2] = case.args.to("output_size")?;
    differentiate::y(case, |i| Ok(i.var("x")?.adaptive_avg_pool2d(size)))
}
