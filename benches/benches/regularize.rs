//! Times dropout.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group};
use gradus_autograd::Tape;
use gradus_benches::inputs::sym;
use gradus_regularize::{Probability, dropout};

/// Dropout of activations of a small model and of ones that do not fit into the cache, forward and backward.
fn dropout_both_ways(c: &mut Criterion) {
    let p = Probability::new(0.1).expect("a constant within [0, 1]");
    let mut group = c.benchmark_group("regularize/dropout");
    for n in [65_536, 4_194_304] {
        let (x, dy) = (sym(1, &[n], 1.0), sym(2, &[n], 1.0));
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(n.to_string(), |bench| {
            bench.iter(|| {
                let tape = Tape::training(0, 0);
                let y = dropout(&tape.leaf(x.clone()), p);
                black_box(tape.backward(&[(&y, dy.clone())]))
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = dropout_both_ways
}

fn main() {
    // Inside the pool, as a training step is: a fork from outside costs more.
    rayon::scope(|_| benches());
}
