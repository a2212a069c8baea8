//! Matrices and kernels whose elements depend on one another.

use gradus_init::{Distribution, Init};

use crate::{
    answer::{Answer, Failure, Values},
    array::Array,
    case::{Args, Case},
};

/// What the case expects, read like arguments.
fn expected(case: &Case) -> Result<Args, Failure> {
    Args::new(&case.expect.clone().into()).map_err(Failure::Unsupported)
}

fn draw(init: &Init, seed: u64, shape: &[usize]) -> Result<Vec<f32>, Failure> {
    let mut weight = vec![f32::NAN; shape.iter().product()];
    init.fill(seed, "weight", shape, &mut weight)?;
    Ok(weight)
}

/// False for NaN.
fn near(got: f64, want: f64, limit: f64) -> bool {
    (got - want).abs() <= limit
}

pub(super) fn orthogonal(case: &Case) -> Result<Answer, Failure> {
    let gain: f64 = case.args.to("gain")?;
    let init = Init::orthogonal(gain);
    let shape: Vec<usize> = case.args.to("shape")?;
    let distribution = init.distribution(&shape)?;
    if case.expects_error {
        return Ok(Values::new().into());
    }
    let want = expected(case)?;
    let [rows, cols]: [usize; 2] = [want.to("rows")?, want.to("cols")?];
    let by_rows = want.to::<String>("orthonormal")? == "rows";
    let (diagonal, limit): (f64, f64) = (want.to("gram_diagonal")?, want.to("max_error")?);
    let mut problems = Vec::new();
    if distribution != (Distribution::Orthogonal { gain, rows, cols }) {
        problems.push(format!("stated: {distribution:?}"));
    }
    let draws = (0..4).map(|seed| draw(&init, seed, &shape)).collect::<Result<Vec<_>, _>>()?;
    for weight in &draws {
        let at = |k: usize, l: usize| {
            f64::from(weight[if by_rows { k * cols + l } else { l * cols + k }])
        };
        let (short, long) = if by_rows { (rows, cols) } else { (cols, rows) };
        for a in 0..short {
            for b in 0..short {
                let got: f64 = (0..long).map(|l| at(a, l) * at(b, l)).sum();
                let want = if a == b { diagonal } else { 0.0 };
                if !near(got, want, limit) {
                    problems.push(format!("gram[{a}][{b}]: got {got}, want {want}"));
                }
            }
        }
    }
    if gain != 0.0 && rows * cols > 1 && draws.iter().all(|draw| *draw == draws[0]) {
        problems.push("other seeds give the same matrix".into());
    }
    Ok(Answer::Judged(problems))
}

pub(super) fn sparse(case: &Case) -> Result<Answer, Failure> {
    let init = Init::sparse(case.args.to("sparsity")?, case.args.to("std")?);
    let shape: Vec<usize> = case.args.to("shape")?;
    init.distribution(&shape)?;
    if case.expects_error {
        return Ok(Values::new().into());
    }
    let want = expected(case)?;
    let zeros: usize = want.to("zeros_per_column")?;
    let std: f64 = want.maybe("std_of_the_rest")?.unwrap_or(0.0);
    let mean: f64 = want.maybe("mean_of_the_rest")?.unwrap_or(0.0);
    let mut problems = Vec::new();
    let (mut rest, cols) = (Vec::new(), shape[1]);
    let per_draw = shape[0].saturating_sub(zeros) * cols;
    let draws = if per_draw == 0 { 1 } else { 65_536_usize.div_ceil(per_draw) };
    for seed in 0..draws as u64 {
        let weight = draw(&init, seed, &shape)?;
        for column in 0..cols {
            let found = weight.iter().skip(column).step_by(cols).filter(|&&x| x == 0.0).count();
            if found != zeros {
                problems.push(format!("seed {seed}, column {column}: {found} zeros, want {zeros}"));
            }
        }
        rest.extend(weight.iter().map(|&x| f64::from(x)).filter(|&x| x != 0.0));
    }
    if !rest.is_empty() {
        let n = rest.len() as f64;
        let m = rest.iter().sum::<f64>() / n;
        let s = (rest.iter().map(|x| (x - m) * (x - m)).sum::<f64>() / n).sqrt();
        if !near(m, mean, 5.0 * std / n.sqrt()) {
            problems.push(format!("mean of the rest: got {m}, want {mean}"));
        }
        if !near(s, std, 0.03 * std) {
            problems.push(format!("std of the rest: got {s}, want {std}"));
        }
    }
    Ok(Answer::Judged(problems))
}

/// A weight that nothing random goes into.
fn fixed(case: &Case, init: &Init) -> Result<Answer, Failure> {
    let shape: Vec<usize> = case.args.to("shape")?;
    init.distribution(&shape)?;
    let mut values = Values::new();
    values.out("w", Array::f32(&shape, draw(init, 0, &shape)?));
    Ok(values.into())
}

pub(super) fn eye(case: &Case) -> Result<Answer, Failure> {
    fixed(case, &Init::identity())
}

pub(super) fn dirac(case: &Case) -> Result<Answer, Failure> {
    fixed(case, &Init::dirac(case.args.maybe("groups")?.unwrap_or(1)))
}
