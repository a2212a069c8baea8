//! Soft labels and mixed batches.

use gradus_autograd::{DType, Tensor};
use gradus_regularize::{CutBox, Mixing, Probability, smooth_labels, smooth_targets};

use crate::{
    answer::{Answer, Failure, Values},
    case::Case,
    ops::Table,
};

pub(super) const OPS: Table = &[
    ("label_smoothing", label_smoothing),
    ("mixup", mixup),
    ("cutmix", cutmix),
    ("cutmix_box", cutmix_box),
];

/// Smoothed targets in a type.
fn targets(case: &Case, dtype: DType) -> Result<Tensor, Failure> {
    let smoothing = Probability::new(case.args.to("smoothing")?)?;
    let (labels, classes) = (case.tensor("target")?, case.args.to("num_classes")?);
    if dtype == DType::F32 {
        return Ok(smooth_labels(&labels, classes, smoothing)?);
    }
    let hard = smooth_labels(&labels, classes, Probability::ZERO)?;
    Ok(smooth_targets(&hard.to_dtype(dtype), smoothing))
}

fn label_smoothing(case: &Case) -> Result<Answer, Failure> {
    let mut values = Values::new();
    values.out("target", targets(case, DType::F32)?);
    Ok(values.into())
}

/// Images and targets, mixed.
fn mixed(case: &Case, mixing: &Mixing) -> Result<Values, Failure> {
    let x = case.tensor("x")?;
    let mut values = Values::new();
    values.out("target", mixing.targets(&targets(case, x.dtype())?));
    values.out("x", mixing.samples(&x));
    Ok(values)
}

fn mixup(case: &Case) -> Result<Answer, Failure> {
    let mixing = Mixing::mixup(&case.tensor("perm")?, case.args.to("lam")?)?;
    Ok(mixed(case, &mixing)?.into())
}

fn cutmix(case: &Case) -> Result<Answer, Failure> {
    let [y1, y2, x1, x2]: [usize; 4] = case.args.to("box")?;
    let x = case.tensor("x")?;
    let &[_, _, height, width] = x.shape() else {
        return Err(Failure::unsupported("x is not [N, C, H, W]"));
    };
    let cut = CutBox { rows: y1..y2, columns: x1..x2 };
    let lam = cut.lam([height, width]);
    let mixing = Mixing::cutmix(&case.tensor("perm")?, cut, [height, width])?;
    let mut values = mixed(case, &mixing)?;
    values.out("lam", Tensor::full(&[], lam, x.dtype()));
    Ok(values.into())
}

fn cutmix_box(case: &Case) -> Result<Answer, Failure> {
    let size = [case.args.to("height")?, case.args.to("width")?];
    let center = [case.args.to("cy")?, case.args.to("cx")?];
    let cut = CutBox::around(size, case.args.to("lam")?, center)?;
    let mut values = Values::new();
    values.json("lam", cut.lam(size));
    let CutBox { rows, columns } = cut;
    values.json("box", vec![rows.start, rows.end, columns.start, columns.end]);
    Ok(values.into())
}
