//! Numbers that show that two implementations did the same work.

use gradus_core::DType;
use gradus_tensor::Tensor;

use crate::inputs::hash64;

/// Check values, and the sizes against which their differences are judged.
#[derive(Clone, PartialEq, Debug)]
pub struct Checks {
    /// The values, in the order of the row's outputs.
    pub values: Vec<f64>,
    /// A scale for each of them.
    pub scale: Vec<f64>,
    /// The value that stands for all.
    pub headline: f64,
}

impl Checks {
    /// Of a kernel row: each output, as f32, projected on a pseudo-random vector of its own, scaled by its root
    /// mean square.
    #[must_use]
    pub fn of_outputs(outputs: &[&Tensor]) -> Self {
        let (values, scale): (Vec<_>, Vec<_>) =
            (0..).zip(outputs).map(|(j, t)| project(&t.to_dtype(DType::F32).to_vec(), j)).unzip();
        Self { headline: values[0], values, scale }
    }

    /// As [`of_outputs`](Self::of_outputs), for one output that lies in pieces.
    #[must_use]
    pub fn of_flat(output: impl Iterator<Item = f32>) -> Self {
        let (value, scale) = project(&output.collect::<Vec<_>>(), 0);
        Self { headline: value, values: vec![value], scale: vec![scale] }
    }

    /// Of a training row: the losses of its first steps.
    #[must_use]
    pub fn of_losses(losses: Vec<f64>) -> Self {
        Self { headline: losses[losses.len() - 1], scale: losses.clone(), values: losses }
    }
}

/// `sum_k t_k r_k / sqrt(n)` with `r` uniform in `[-1, 1)` by output number `j`, and the root mean square of `t`.
fn project(t: &[f32], j: u64) -> (f64, f64) {
    let (mut sum, mut squares) = (0.0, 0.0);
    for (k, &x) in (0..).zip(t) {
        let r = 2.0 * ((hash64(900 + j, k) >> 40) as f64 / 16_777_216.0) - 1.0;
        sum += f64::from(x) * r;
        squares += f64::from(x) * f64::from(x);
    }
    let n = t.len() as f64;
    (sum / n.sqrt(), (squares / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_projected_and_scaled() {
        let t = Tensor::from_slice(&[3f32, -3.0, 3.0, -3.0], &[2, 2]);
        let checks = Checks::of_outputs(&[&t, &t]);
        assert_eq!(checks.scale, [3.0, 3.0]);
        assert_eq!(checks.headline, checks.values[0]);
        assert_ne!(checks.values[0], checks.values[1]);
        let r = |k| 2.0 * ((hash64(900, k) >> 40) as f64 / 16_777_216.0) - 1.0;
        let want = 3.0 * (r(0) - r(1) + r(2) - r(3)) / 2.0;
        assert!((checks.values[0] - want).abs() < 1e-12);
    }
}
