//! Times what an operation costs beyond its arithmetic.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group};
use gradus_autograd::Tape;
use gradus_benches::inputs::sym;

const OPS: usize = 100;

/// A chain of multiplications of a few elements: forward alone, recorded, and with its backward. Throughput in
/// operations.
fn small_ops(c: &mut Criterion) {
    let mut group = c.benchmark_group("autograd/small_ops");
    group.throughput(Throughput::Elements(OPS as u64));
    let (x, k) = (sym(1, &[8], 1.0), sym(2, &[8], 1.0));
    let chain = |tape: &Tape| {
        let (x, k) = (tape.leaf(x.clone()), tape.constant(k.clone()));
        (0..OPS).fold(x, |x, _| x.mul(&k))
    };
    group.bench_function("evaluation", |bench| bench.iter(|| chain(&Tape::evaluation())));
    group
        .bench_function("recorded", |bench| bench.iter(|| chain(black_box(&Tape::training(0, 0)))));
    group.bench_function("backward", |bench| {
        bench.iter(|| {
            let y = chain(&Tape::training(0, 0)).sum(&[], false);
            black_box(y.backward())
        });
    });
}

/// A small layer and its gradients.
fn linear(c: &mut Criterion) {
    let shapes: [&[usize]; 3] = [&[32, 32], &[32, 32], &[32]];
    let [x, w, b] = shapes.map(|shape| sym(1, shape, 1.0));
    c.bench_function("autograd/linear_32x32x32", |bench| {
        bench.iter(|| {
            let tape = Tape::training(0, 0);
            let [x, w, b] = [&x, &w, &b].map(|t| tape.leaf(t.clone()));
            black_box(x.linear(&w, Some(&b)).sum(&[], false).backward())
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = small_ops, linear
}

fn main() {
    // Inside the pool, as a training step is: a fork from outside costs more.
    rayon::scope(|_| benches());
}
