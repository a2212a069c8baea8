//! Times looking up a learning rate.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group};
use gradus_schedule::{CosineAnnealing, Schedule, warmup_cosine};

fn cosine(c: &mut Criterion) {
    let plain = CosineAnnealing::new(0.1, 0.0, 1_000_000).expect("constants");
    let warm = warmup_cosine(0.1, 1_000, 1_000_000).expect("constants");
    let schedules: [(&str, &dyn Schedule); 2] = [("cosine", &plain), ("warmup_cosine", &warm)];
    for (name, schedule) in schedules {
        let mut step = 0;
        c.bench_function(&format!("schedule/{name}"), |bench| {
            bench.iter(|| {
                step += 1;
                black_box(schedule).value(step)
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = cosine
}

fn main() {
    // Inside the pool, as a training step is: a fork from outside costs more.
    rayon::scope(|_| benches());
}
