//! What every random operation has to pass.

use gradus_autograd::{
    DType, Tape, Tensor, Var,
    check::{gradcheck, random},
};
use gradus_tensor::simd;

use crate::Probability;

pub(crate) fn p(p: f64) -> Probability {
    Probability::new(p).unwrap()
}

pub(crate) fn ones(tape: &Tape, shape: &[usize]) -> Var {
    tape.constant(Tensor::ones(shape, DType::F32))
}

/// Gradients of `[N, C, ..]`: of sizes 0 and 1, of more than one group of random bits, of a view and of an operand that
/// is used again.
#[track_caller]
pub(crate) fn gradients(f: impl Fn(&Var) -> Var) {
    for shape in [&[3, 4, 5][..], &[1, 1, 1], &[0, 3, 2], &[2, 1, 70]] {
        gradcheck(&[random(shape, 1)], |v| f(&v[0]));
    }
    gradcheck(&[random(&[5, 3, 4], 2).transpose(0, -1)], |v| &f(&v[0]) * &v[0]);
}

/// `p` = 0 is the identity and `p` = 1 is 0, with the gradients of that, for NaN too; evaluation is the identity.
#[track_caller]
pub(crate) fn ends(f: impl Fn(&Var, Probability) -> Var) {
    let input: Vec<f32> = (0..120).map(|i| if i % 7 == 0 { f32::NAN } else { i as f32 }).collect();
    let input = Tensor::from_slice(&input, &[4, 5, 6]);
    let bits = |t: &Tensor| t.to_vec::<f32>().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let run = |tape: Tape, prob: f64| {
        let x = tape.leaf(input.clone());
        let y = f(&x, p(prob));
        let upstream = Tensor::full(&[4, 5, 6], 3.0, DType::F32);
        let grads = tape.backward(&[(&y, upstream)]);
        (bits(y.value()), grads.wrt(&x).unwrap().to_vec::<f32>())
    };
    assert_eq!(run(Tape::training(1, 2), 0.0), (bits(&input), vec![3.0; 120]), "p = 0");
    assert_eq!(run(Tape::training(1, 2), 1.0), (vec![0; 120], vec![0.0; 120]), "p = 1");
    assert_eq!(run(Tape::frozen(), 0.5), (bits(&input), vec![3.0; 120]), "evaluation");
}

/// The same seed repeats itself; another seed, step, operation or Monte-Carlo sample does not.
#[track_caller]
pub(crate) fn draws(f: impl Fn(&Var) -> Var) {
    let on = |tape: &Tape| f(&ones(tape, &[20, 10, 3])).into_value().to_vec::<f32>();
    let base = on(&Tape::training(1, 0));
    assert_eq!(base, on(&Tape::training(1, 0)));
    assert_ne!(base, on(&Tape::training(2, 0)), "seed");
    assert_ne!(base, on(&Tape::training(1, 1)), "step");
    let tape = Tape::training(1, 0);
    assert_ne!(on(&tape), on(&tape), "operation");
    let sample = on(&Tape::monte_carlo(1, 0, 0));
    assert_ne!(sample, base, "Monte-Carlo and training");
    assert_eq!(sample, on(&Tape::monte_carlo(1, 0, 0)));
    assert_ne!(sample, on(&Tape::monte_carlo(1, 0, 1)), "sample");
    assert_ne!(sample, on(&Tape::monte_carlo(2, 0, 0)), "seed of a sample");
}

/// The same bits on one thread and on two, and for every instruction set.
#[track_caller]
pub(crate) fn same_everywhere(f: impl Fn() -> Vec<f32> + Send + Sync) {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| f().iter().map(|v| v.to_bits()).collect::<Vec<_>>())
    };
    let one = with(1);
    assert!(one == with(2), "two threads");
    for level in [simd::Level::Portable, simd::Level::Avx2] {
        simd::force(level);
        assert!(one == with(1), "{level:?}");
    }
    simd::force(simd::detected());
}
