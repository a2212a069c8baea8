//! Times the global norm, and clipping by it.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group};
use gradus_benches::inputs::parameters;
use gradus_clip::{ClipNorm, NormType, clip_grad_norm, global_norm};

fn global(c: &mut Criterion) {
    let mut params = parameters(16, &[256, 256]);
    let mut group = c.benchmark_group("clip");
    group.throughput(Throughput::Elements(16 * 256 * 256));
    group.bench_function("global_norm", |bench| {
        bench.iter(|| global_norm(black_box(&mut params), NormType::L2).expect("a known order"));
    });
    // A bound that shrinks from call to call, so that every call clips.
    let mut bound = global_norm(&mut params, NormType::L2).expect("a known order").norm;
    group.bench_function("clip_grad_norm", |bench| {
        bench.iter(|| {
            bound *= 0.9999;
            clip_grad_norm(&mut params, &ClipNorm::new(bound)).expect("a bound above 0")
        });
    });
}

/// Gradients that lie outside the caches and are long enough for the pool.
fn long(c: &mut Criterion) {
    let mut params = parameters(12, &[1024, 819]);
    let mut group = c.benchmark_group("clip");
    group.throughput(Throughput::Elements(12 * 1024 * 819));
    let mut bound = global_norm(&mut params, NormType::L2).expect("a known order").norm;
    group.bench_function("clip_grad_norm_10M", |bench| {
        bench.iter(|| {
            bound *= 0.9999;
            clip_grad_norm(&mut params, &ClipNorm::new(bound)).expect("a bound above 0")
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = global, long
}

fn main() {
    // Inside the pool, as a training step is: a fork from outside costs more.
    rayon::scope(|_| benches());
}
