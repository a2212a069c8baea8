//! Times norms, forward and backward.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group};
use gradus_autograd::{Layer, Tape};
use gradus_benches::inputs::{SQRT_3, sym};
use gradus_norm::{BatchNorm, DyT, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm, RmsNorm};

/// One training step's worth of a layer: its output, and all gradients for a given one of the output.
fn forward_backward(c: &mut Criterion, name: &str, layer: &dyn Layer, shape: &[usize]) {
    let (x, dy) = (sym(1, shape, SQRT_3), sym(2, shape, 1.0));
    let mut group = c.benchmark_group("norm");
    group.throughput(Throughput::Elements(x.numel() as u64));
    group.bench_function(name, |bench| {
        bench.iter(|| {
            let tape = Tape::training(0, 0);
            let y = layer.forward(&tape.leaf(x.clone()));
            black_box(tape.backward(&[(&y, dy.clone())]))
        });
    });
}

fn rows(c: &mut Criterion) {
    forward_backward(c, "layer_norm_2048x256", &LayerNorm::new(&[256]), &[2048, 256]);
    forward_backward(c, "layer_norm_1024x768", &LayerNorm::new(&[768]), &[1024, 768]);
    forward_backward(c, "layer_norm_4096x768", &LayerNorm::new(&[768]), &[4096, 768]);
    forward_backward(c, "rms_norm_4096x768", &RmsNorm::new(&[768]), &[4096, 768]);
    forward_backward(c, "dyt_4096x768", &DyT::new(&[768]), &[4096, 768]);
}

fn planes(c: &mut Criterion) {
    let group = GroupNorm::new(32, 64).expect("64 channels divide into 32 groups");
    let response = LocalResponseNorm::new(5).expect("5 neighbours are some");
    forward_backward(c, "group_norm_32x64x28x28", &group, &[32, 64, 28, 28]);
    forward_backward(c, "instance_norm_32x64x28x28", &InstanceNorm::new(64), &[32, 64, 28, 28]);
    forward_backward(c, "local_response_norm_32x64x28x28", &response, &[32, 64, 28, 28]);
}

fn batch_norm(c: &mut Criterion) {
    forward_backward(c, "batch_norm_128x512", &BatchNorm::new(512), &[128, 512]);
    forward_backward(c, "batch_norm_64x32x28x28", &BatchNorm::new(32), &[64, 32, 28, 28]);
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = rows, planes, batch_norm
}

fn main() {
    // Inside the pool, as a training step is: a fork from outside costs more.
    rayon::scope(|_| benches());
}
