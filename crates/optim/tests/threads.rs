//! Threads and instruction sets do not change a bit.
#![cfg(feature = "rayon")]

use gradus_core::{GradientTransform, VecParam};
use gradus_kernel::simd::{self, Level};
use gradus_optim::*;

type Make = fn() -> Result<Box<dyn GradientTransform + Send>, OptimError>;

const RULES: &[(&str, Make)] = &[
    ("sgd", || Ok(Box::new(Sgd::new(SgdConfig::new().with_momentum(0.9))?))),
    ("adamw", || Ok(Box::new(Adam::new(AdamConfig::adamw())?))),
    ("amsgrad", || Ok(Box::new(Adam::new(AdamConfig::adamw().with_amsgrad(true))?))),
    ("lamb", || Ok(Box::new(Lamb::new(LambConfig::new().with_weight_decay(0.1))?))),
    ("muon", || Ok(Box::new(Muon::new(MuonConfig::new().with_ns_steps(2))?))),
    ("adafactor", || Ok(Box::new(Adafactor::new(AdafactorConfig::new())?))),
    ("schedule-free", || Ok(Box::new(ScheduleFree::new(ScheduleFreeConfig::adamw())?))),
    ("noise and centralization", || {
        let noise = AddNoise::new(0.1, 0.5, 1)?;
        Ok(Box::new(Chain::new().then(noise).then(Centralize::new()).then(ApplyUpdates::new())))
    }),
    ("lamb chain", || Ok(Box::new(LambConfig::new().with_weight_decay(0.1).chain()?))),
];

#[test]
fn threads_and_instruction_sets_do_not_change_a_bit() {
    let (rows, cols) = (71, 2801); // 3 pieces and a bit
    let run = |make: Make, threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let number = |i: usize| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5;
            let value = (0..rows * cols).map(number).collect();
            let mut params = vec![VecParam::new("w", &[rows, cols], value)];
            let mut rule = make().unwrap();
            for t in 0..2 {
                params[0].grad = Some((0..rows * cols).map(|i| number(i + t)).collect());
                rule.step(0.1, &mut params).unwrap();
            }
            (params[0].value.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), rule.save_state())
        })
    };
    for &(name, make) in RULES {
        let one = run(make, 1);
        for threads in [2, 3] {
            assert!(run(make, threads) == one, "{name} with {threads} threads");
        }
        for level in [Level::Portable, Level::Avx2] {
            simd::force(level);
            assert!(run(make, 1) == one, "{name} at {level:?}");
        }
        simd::force(simd::detected());
    }
}
