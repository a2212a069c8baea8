//! Times the steps of optimizers.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group};
use gradus_benches::inputs::parameters;
use gradus_core::GradientTransform;
use gradus_optim::{Adam, AdamConfig, Sgd, SgdConfig};

/// Throughput in parameters.
fn step(c: &mut Criterion, name: &str, mut optimizer: impl GradientTransform) {
    let mut params = parameters(16, &[256, 256]);
    let mut group = c.benchmark_group("optim");
    group.throughput(Throughput::Elements(16 * 256 * 256));
    group.bench_function(name, |bench| {
        bench.iter(|| {
            optimizer.step(black_box(1e-3), &mut params).expect("the walk does not change")
        });
    });
    black_box(params);
}

fn adamw(c: &mut Criterion) {
    step(c, "adamw", Adam::new(AdamConfig::adamw()).expect("the defaults"));
}

fn sgd(c: &mut Criterion) {
    let config = SgdConfig::new().with_momentum(0.9).with_nesterov(true);
    step(c, "sgd_nesterov", Sgd::new(config).expect("constants"));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = adamw, sgd
}

fn main() {
    // Inside the pool, as a training step is: a fork from outside costs more.
    rayon::scope(|_| benches());
}
