//! Threads and instruction sets change nothing.

#![cfg(feature = "rayon")]

use gradus_core::{FloatElement, bf16};
use gradus_init::Init;
use gradus_kernel::simd::{self, Level};

fn check<T: FloatElement>(init: Init) {
    let shape = [301, 333];
    let draw = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut out = vec![T::zero(); 301 * 333];
            init.fill(9, "w", &shape, &mut out).unwrap();
            out
        })
    };
    let one = draw(1);
    assert!(one == draw(2) && one == draw(5), "{init:?}");
    for level in [Level::Portable, Level::Avx2] {
        simd::force(level);
        assert!(one == draw(1), "{init:?} at {level:?}");
    }
    simd::force(simd::detected());
    if let Some(sampler) = init.sampler(9, "w", &shape).unwrap() {
        let mut out = vec![T::zero(); 301 * 333];
        sampler.fill_range(0, &mut out);
        assert!(one == out, "{init:?}");
    }
}

#[test]
fn every_number_of_threads_and_instruction_set_draws_the_same() {
    for init in [
        Init::normal(0.0, 1.0),
        Init::torch_linear(),
        Init::lecun_normal(),
        Init::trunc_normal(0.0, 1.0, 2.0, 3.0),
        Init::orthogonal(1.0),
        Init::sparse(0.3, 1.0),
    ] {
        check::<f32>(init);
        check::<bf16>(init);
    }
}
