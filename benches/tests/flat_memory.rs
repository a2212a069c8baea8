//! Ten thousand training steps take no more memory than the first few.

use std::fs;

use gradus_autograd::{CrossEntropy, Tape};
use gradus_benches::inputs::{labels, sym};
use gradus_clip::{ClipNorm, clip_grad_norm};
use gradus_core::{GradientTransform, Schedule};
use gradus_nn::{Activation, BatchNorm, Dropout, Layer, Linear, Probability, Seeds, Sequential};
use gradus_optim::{Adam, AdamConfig};
use gradus_schedule::CosineAnnealing;
use gradus_tensor::buffer;

const STEPS: u64 = 10_000;
/// After so many steps all memory has been taken.
const SETTLED: u64 = 10;

/// Alone in its file, so that no other test takes from the pool.
#[test]
fn memory_stays_flat() {
    let seeds = &mut Seeds::new(1);
    let p = Probability::new(0.2).unwrap();
    let mut model = Sequential::new()
        .then(Linear::new(8, 16, seeds))
        .then(BatchNorm::new(16))
        .then(Activation::Relu)
        .then(Dropout::new(p))
        .then(Linear::new(16, 3, seeds));
    let mut adamw = Adam::new(AdamConfig::adamw()).unwrap();
    let rates = CosineAnnealing::new(0.01, 0.0, STEPS).unwrap();
    let (x, y) = (sym(1, &[32, 8], 1.0), labels(2, 32, 3));
    let mut step = |t| {
        let tape = Tape::training(7, t);
        let logits = model.forward(&tape.constant(x.clone()));
        let loss = logits.cross_entropy(&y, &CrossEntropy::default());
        let mut grads = loss.backward();
        let mut bound = grads.bind(&mut model).unwrap();
        clip_grad_norm(&mut bound, &ClipNorm::new(1.0)).unwrap();
        adamw.step(rates.value(t), &mut bound).unwrap();
        loss.item()
    };

    let first = (0..SETTLED).map(&mut step).last().unwrap();
    buffer::reset_peak();
    let (settled, resident) = (buffer::stats(), resident_kib());
    let last = (SETTLED..STEPS).map(&mut step).last().unwrap();
    let end = buffer::stats();

    assert!(last < 0.7 * first, "the model does not learn: {first} to {last}");
    assert_eq!(end.fresh, settled.fresh, "blocks asked from the system");
    assert_eq!((end.in_use, end.held), (settled.in_use, settled.held), "bytes in use and kept");
    assert!(end.peak <= settled.in_use + settled.held, "{end:?} after {settled:?}");
    // What does not lie in the pool, as the tape and the state of the optimizer.
    if let (Some(before), Some(after)) = (resident, resident_kib()) {
        assert!(after <= before + 512, "resident: {before} KiB, then {after} KiB");
    }
}

/// Resident memory, where the system tells.
fn resident_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
