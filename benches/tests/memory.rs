//! What a step takes in bf16 beside what it takes in f32.

use gradus_benches::{measure::Request, sweep::Model};
use gradus_core::DType;
use rayon::ThreadPoolBuilder;

/// Alone in its file, so that no other test takes from the pool.
#[test]
fn a_step_in_16_bits_takes_less() {
    let alone = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let [full, short] = [DType::F32, DType::BF16].map(|dtype| {
        let request = Request { dtype, threads: 1, seconds: 0.0, dropout: true };
        alone.install(|| Model::Transformer.measure(0, &request))
    });
    let (params, tokens) = (full.params, full.samples);
    let [full, short] = [full, short].map(|sized| sized.measured.timing.memory());
    assert_eq!(full.held, short.held, "parameters and batches are f32 in both");
    // Tokens of eight batches and those that follow them.
    let held = params * size_of::<f32>() + 8 * 2 * tokens * size_of::<i64>();
    assert!((held..held + held / 4).contains(&full.held), "{held}: {full:?}");
    // In two blocks of 128: into both norms, out of them, q, k, v, attention, and into and out of GELU.
    let saved = 2 * tokens * 128 * (2 + 2 + 3 + 1 + 8);
    assert!(full.added() > saved * 4 && short.added() > saved * 2, "{saved}: {full:?} {short:?}");
    assert!(short.added() < full.added() * 4 / 5, "{full:?} {short:?}");
}
