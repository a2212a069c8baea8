//! Moving running statistics.

use gradus_autograd::{Buffer, Tape, Tensor};
use gradus_tensor::DType;

use super::Momentum;

/// Counts a batch and returns the weight that it gets. On a calibrating tape, batches are averaged.
pub(crate) fn next_weight(count: &Buffer, momentum: Momentum, tape: &Tape) -> f64 {
    let momentum = if tape.is_calibrating() { Momentum::Cumulative } else { momentum };
    let mut weight = 0.0;
    count.update(|n| {
        let n = &mut n.make_mut::<i64>()[0];
        *n += 1;
        weight = momentum.weight(*n);
    });
    weight
}

/// `running += weight (value - running)`, in the type of `running`, for each channel that has a value.
pub(crate) fn blend(running: &Buffer, weight: f64, value: impl Fn(usize) -> Option<f64>) {
    running.update(|running| {
        let dtype = running.dtype();
        let mut values = running.to_dtype(DType::F64).to_vec::<f64>();
        for (c, r) in values.iter_mut().enumerate() {
            if let Some(new) = value(c) {
                // With all of the weight on the new, nothing of the old is left, whatever it was.
                *r = if weight == 1.0 { new } else { *r + weight * (new - *r) };
            }
        }
        *running = Tensor::from_slice(&values, running.shape()).to_dtype(dtype);
    });
}

/// Sets a statistic to its first value.
pub(super) fn reset(running: &Buffer, value: f64) {
    running.update(|r| *r = Tensor::full(r.shape(), value, r.dtype()));
}
