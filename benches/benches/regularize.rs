//! Times dropout and what acts on whole activations as it does.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group};
use gradus_autograd::{Layer, Tape, Var};
use gradus_benches::inputs::sym;
use gradus_regularize::{
    Constraint, DropBlock, DropBlockConfig, Probability, StochasticDepth, channel_dropout, dropout,
    elastic_net, gaussian_dropout,
};

fn tenth() -> Probability {
    Probability::new(0.1).expect("a constant within [0, 1]")
}

/// Dropout of activations of a small model and of ones that do not fit into the cache, forward and backward.
fn dropout_both_ways(c: &mut Criterion) {
    let mut group = c.benchmark_group("regularize/dropout");
    for n in [65_536, 4_194_304, 16_777_216] {
        let (x, dy) = (sym(1, &[n], 1.0), sym(2, &[n], 1.0));
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(n.to_string(), |bench| {
            bench.iter(|| {
                let tape = Tape::training(0, 0);
                let y = dropout(&tape.leaf(x.clone()), tenth());
                black_box(tape.backward(&[(&y, dy.clone())]))
            });
        });
    }
}

/// Others of the family on the feature maps of a small network, forward.
fn family(c: &mut Criterion) {
    let shape = [16, 64, 32, 32];
    let x = sym(1, &shape, 1.0);
    let blocks = DropBlock::new(tenth(), DropBlockConfig::default()).expect("blocks of side 7");
    let depth = StochasticDepth::new(tenth());
    let mut group = c.benchmark_group("regularize/family");
    group.throughput(Throughput::Elements(shape.iter().product::<usize>() as u64));
    let mut time = |name: &str, f: &dyn Fn(&Var) -> Var| {
        group.bench_function(name, |bench| {
            bench.iter(|| black_box(f(&Tape::training(0, 0).constant(x.clone()))));
        });
    };
    time("channel", &|x| channel_dropout(x, tenth()));
    time("gaussian", &|x| gaussian_dropout(x, tenth()));
    time("drop_block", &|x| blocks.forward(x));
    time("stochastic_depth", &|x| depth.add(x, x));
    time("elastic_net", &|x| elastic_net(&[x], 0.1, 0.1).expect("weights in range"));
}

/// The rows of a weight matrix brought to norm 1.
fn constraint(c: &mut Criterion) {
    let mut params = vec![gradus_core::VecParam::new("w", &[1024, 1024], vec![0.5f32; 1 << 20])];
    c.bench_function("regularize/unit_norm", |bench| {
        bench.iter(|| Constraint::unit_norm().apply(&mut params, |_, _, _| true));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = dropout_both_ways, family, constraint
}

fn main() {
    // Inside the pool, as a training step is: a fork from outside costs more.
    rayon::scope(|_| benches());
}
