//! Times the steps of optimizers.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group};
use gradus_benches::inputs::parameters;
use gradus_core::{GradientTransform, VecParam};
use gradus_optim::{
    Adafactor, AdafactorConfig, Adam, AdamConfig, Lamb, LambConfig, Muon, MuonConfig, RmsProp,
    RmsPropConfig, Sgd, SgdConfig,
};

/// Throughput in parameters, of which the walk shows `count` of this shape.
fn step(
    c: &mut Criterion,
    name: &str,
    (count, shape): (u64, &[usize]),
    mut optimizer: impl GradientTransform,
) {
    let mut params: Vec<VecParam> = parameters(count, shape);
    let mut group = c.benchmark_group("optim");
    group.throughput(Throughput::Elements(params.iter().map(|p| p.value.len() as u64).sum()));
    group.bench_function(name, |bench| {
        bench.iter(|| {
            optimizer.step(black_box(1e-3), &mut params).expect("the walk does not change")
        });
    });
    black_box(params);
}

/// Sixteen matrices of a small network, which fit the cache.
const SMALL: (u64, &[usize]) = (16, &[256, 256]);
/// As many parameters as a small transformer, which do not, in pieces for several threads.
const LARGE: (u64, &[usize]) = (12, &[1792, 448]);

fn elementwise(c: &mut Criterion) {
    let adamw = || Adam::new(AdamConfig::adamw()).expect("the defaults");
    step(c, "adamw", SMALL, adamw());
    step(c, "adamw_large", LARGE, adamw());
    step(c, "adamw_chain_large", LARGE, AdamConfig::adamw().chain().expect("the defaults"));
    let config = SgdConfig::new().with_momentum(0.9).with_nesterov(true);
    step(c, "sgd_nesterov", SMALL, Sgd::new(config).expect("constants"));
    step(c, "rmsprop", SMALL, RmsProp::new(RmsPropConfig::new()).expect("the defaults"));
}

fn reductions(c: &mut Criterion) {
    step(c, "lamb", SMALL, Lamb::new(LambConfig::new()).expect("the defaults"));
    step(c, "adafactor", SMALL, Adafactor::new(AdafactorConfig::new()).expect("the defaults"));
    step(c, "muon", (1, &[256, 512]), Muon::new(MuonConfig::new()).expect("the defaults"));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = elementwise, reductions
}

fn main() {
    // Inside the pool, as a training step is: a fork from outside costs more.
    rayon::scope(|_| benches());
}
