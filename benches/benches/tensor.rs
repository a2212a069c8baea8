//! Times matrix products, an elementwise function and softmax.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group};
use gradus_benches::inputs::sym;
use gradus_tensor::{Real, UnaryOp};

/// Products of square matrices, and of a batch with a layer's weight. Throughput in multiply-adds.
fn matmul(c: &mut Criterion) {
    let mut group = c.benchmark_group("tensor/matmul");
    for [m, k, n] in [[64, 64, 64], [256, 256, 256], [128, 784, 512], [1024, 1024, 1024]] {
        let (a, b) = (sym(1, &[m, k], 1.0), sym(2, &[k, n], 1.0));
        group.throughput(Throughput::Elements((m * k * n) as u64));
        group.bench_function(format!("{m}x{k}x{n}"), |bench| {
            bench.iter(|| black_box(&a).matmul(&b))
        });
    }
}

#[derive(Clone, Copy)]
struct Exp;

impl UnaryOp for Exp {
    const NAME: &'static str = "exp";
    #[inline(always)]
    fn apply<T: Real>(self, x: T) -> T {
        x.exp_()
    }
}

/// The exponential function of a vector that stays in the cache, and of one that does not.
fn exp(c: &mut Criterion) {
    let mut group = c.benchmark_group("tensor/exp");
    for n in [4_096, 4_194_304] {
        let x = sym(1, &[n], 3.0);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(n.to_string(), |bench| bench.iter(|| black_box(&x).map(Exp)));
    }
}

/// Softmax over the last and over the first dimension.
fn softmax(c: &mut Criterion) {
    let mut group = c.benchmark_group("tensor/softmax");
    let x = sym(1, &[1024, 1024], 3.0);
    group.throughput(Throughput::Elements(x.numel() as u64));
    for (name, dim) in [("rows", 1), ("columns", 0)] {
        group.bench_function(name, |bench| bench.iter(|| black_box(&x).softmax(dim)));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = matmul, exp, softmax
}

fn main() {
    // Inside the pool, as a training step is: a fork from outside costs more.
    rayon::scope(|_| benches());
}
