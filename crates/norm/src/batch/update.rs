//! Estimating running statistics again, for weights that no batch has been normalized with.

use gradus_autograd::{Buffer, Entry, Module, Path, Tape};
use gradus_tensor::Tensor;

use crate::NormError;

/// Estimates the running statistics of every batch norm in `model` again, as the plain average over `batches`: after
/// weights were averaged (SWA, EMA), pruned or quantized, those from training belong to other weights.
///
/// `run` runs the model on the given tape. There, layers are in evaluation mode (no dropout), except that batch norms
/// normalize by the batch and average its statistics; nothing is recorded for backward. Their momentum is not touched.
/// Batch norms with frozen statistics stay as they are, and so do layers that no batch reaches. A layer is known by its
/// buffer `num_batches_tracked`, which counts from 0 again, at any depth of the model.
///
/// # Errors
/// What `run` returns, and [`NormError::NoBatches`] when there are no batches. All buffers are then as they were before,
/// after a panic too.
///
/// ```
/// use gradus_autograd::{Layer, Module, Tape, Tensor};
/// use gradus_norm::{BatchNorm, NormError, update_bn};
///
/// let model = BatchNorm::new(1);
/// let batches = [[1f32, 3.0], [5.0, 7.0]];
/// update_bn(&model, batches, |tape, batch| -> Result<(), NormError> {
///     model.try_forward(&tape.constant(Tensor::from_slice(&batch, &[2, 1])))?;
///     Ok(())
/// })?;
/// assert_eq!(model.snapshot().get("running_mean").unwrap().to_vec::<f32>(), [4.0]);
/// # Ok::<(), NormError>(())
/// ```
///
/// # References
/// PyTorch's `torch.optim.swa_utils.update_bn`; Izmailov et al.: Averaging weights leads to wider optima (2018),
/// arXiv:1803.05407. Unlike PyTorch's, dropout is off: with it, the variance is not that of inference (Li et al. 2018,
/// arXiv:1801.05134).
pub fn update_bn<M: Module + ?Sized, B, E: From<NormError>>(
    model: &M,
    batches: impl IntoIterator<Item = B>,
    mut run: impl FnMut(&Tape, B) -> Result<(), E>,
) -> Result<(), E> {
    let guard = Guard { model, before: buffers(model), done: false };
    each_count(model, &mut |count, _| count.set(Tensor::scalar(0i64)));
    let mut any = false;
    for batch in batches {
        run(&Tape::calibration(), batch)?;
        any = true;
    }
    if !any {
        return Err(NormError::NoBatches.into());
    }
    guard.finish();
    Ok(())
}

/// Puts all buffers back unless it is finished.
struct Guard<'a, M: Module + ?Sized> {
    model: &'a M,
    before: Vec<Tensor>,
    done: bool,
}

impl<M: Module + ?Sized> Guard<'_, M> {
    fn finish(mut self) {
        self.done = true;
        // What no batch has reached keeps its count with its statistics.
        each_count(self.model, &mut |count, i| {
            if count.get().item() == 0.0 {
                count.set(self.before[i].clone());
            }
        });
    }
}

impl<M: Module + ?Sized> Drop for Guard<'_, M> {
    fn drop(&mut self) {
        if !self.done {
            each_buffer(self.model, &mut |buffer, _, i| buffer.set(self.before[i].clone()));
        }
    }
}

fn each_buffer<M: Module + ?Sized>(model: &M, f: &mut dyn FnMut(&Buffer, &str, usize)) {
    let mut i = 0;
    model.walk(&mut Path::default(), &mut |name, entry| {
        if let Entry::Buffer(buffer) = entry {
            f(buffer, name, i);
            i += 1;
        }
    });
}

fn each_count<M: Module + ?Sized>(model: &M, f: &mut dyn FnMut(&Buffer, usize)) {
    each_buffer(model, &mut |buffer, name, i| {
        if name.rsplit('.').next() == Some("num_batches_tracked") {
            f(buffer, i);
        }
    });
}

fn buffers<M: Module + ?Sized>(model: &M) -> Vec<Tensor> {
    let mut values = Vec::new();
    each_buffer(model, &mut |buffer, _, _| values.push(buffer.get()));
    values
}
