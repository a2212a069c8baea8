//! Threads do not change a bit of an average, of lookahead or of the worst point of SAM.
#![cfg(feature = "rayon")]

use gradus_core::{GradientTransform, State, StateDict, VecParam, bf16};
use gradus_optim::{
    Ema, EmaConfig, EmaDecay, Lookahead, LookaheadConfig, Sam, SamConfig, Sgd, SgdConfig,
};

fn run(threads: usize) -> (Vec<u16>, StateDict, StateDict) {
    let len = 200_003; // 4 pieces and a bit
    let numbers = |t: usize| -> Vec<bf16> {
        let number = |i: usize| ((i * 7919 + t) % 1009) as f32 / 1009.0 - 0.5;
        (0..len).map(|i| bf16::from_f32(number(i))).collect()
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let decays = [EmaDecay::averaged_model(0.9).unwrap(), EmaDecay::equal()];
        let mut ema = Ema::new(EmaConfig::new(decays)).unwrap();
        let mut sam = Sam::new(SamConfig::new().with_rho(5.0).with_adaptive(true)).unwrap();
        let sgd = Sgd::new(SgdConfig::new()).unwrap();
        let mut rule = Lookahead::new(LookaheadConfig::new().with_k(2), sgd).unwrap();
        let mut params = vec![VecParam::new("w", &[len], numbers(0))];
        for t in 0..3 {
            params[0].grad = Some(numbers(t));
            rule.step(0.1, &mut params).unwrap();
            ema.update(&mut params).unwrap();
        }
        sam.perturb(&mut params).unwrap();
        let worst = params[0].value.iter().map(|x| x.to_bits()).collect();
        (worst, ema.save_state(), rule.save_state())
    })
}

#[test]
fn threads_do_not_change_a_bit() {
    let one = run(1);
    for threads in [2, 3] {
        assert!(run(threads) == one, "{threads} threads");
    }
}
