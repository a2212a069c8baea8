//! Times drawing the starting weights.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group};
use gradus_init::{FanMode, Init, Nonlinearity};

/// A layer of 1024 by 1024.
fn fill(c: &mut Criterion) {
    let shape = [1024, 1024];
    let mut weight = vec![0f32; 1024 * 1024];
    let mut group = c.benchmark_group("init");
    group.throughput(Throughput::Elements(1024 * 1024));
    let inits = [
        ("kaiming_normal", Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn)),
        ("kaiming_uniform", Init::kaiming_uniform(Nonlinearity::Relu, FanMode::FanIn)),
        ("lecun_normal", Init::lecun_normal()),
        ("orthogonal", Init::orthogonal(1.0)),
    ];
    for (name, init) in inits {
        let mut seed = 0;
        group.bench_function(name, |bench| {
            bench.iter(|| {
                seed += 1;
                init.fill(seed, "weight", &shape, &mut weight).expect("a matrix has fans");
                black_box(weight[0])
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = fill
}

fn main() {
    // Inside the pool, as a training step is: a fork from outside costs more.
    rayon::scope(|_| benches());
}
