//! Laws of averages of parameters, and the numbers of other libraries.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gradus_core::{
    FloatElement, GradientTransform, ParamMut, Parameters, Schedule, SliceMut, State, StateError,
    StateValue, VecParam, bf16, f16,
};
use gradus_optim::{
    Adam, AdamConfig, Average, AverageError, Ema, EmaConfig, EmaDecay, Lawa, Lookahead,
    LookaheadConfig, PowerProfile, Sgd, SgdConfig, Swa, SwaConfig, TimmDecay,
};
use proptest::prelude::*;

/// A model of all four types. The name of one parameter is made to confuse.
#[derive(Clone, Debug, PartialEq)]
struct Mixed {
    single: VecParam<f32>,
    double: VecParam<f64>,
    half: VecParam<f16>,
    brain: VecParam<bf16>,
}

fn param<T: FloatElement>(name: &str, values: &[f64]) -> VecParam<T> {
    VecParam::new(name, &[values.len()], values.iter().map(|&x| T::from_f64(x)).collect())
}

impl Mixed {
    fn new(values: &[f64]) -> Self {
        Self {
            single: param("single", values),
            double: param("average.0.x", values),
            half: param("", values),
            brain: param("brain", values),
        }
    }

    fn set(&mut self, values: &[f64]) {
        *self = Self::new(values);
    }

    fn bits(&self) -> Vec<u64> {
        let mut bits: Vec<u64> = self.single.value.iter().map(|x| x.to_bits().into()).collect();
        bits.extend(self.double.value.iter().map(|x| x.to_bits()));
        bits.extend(self.half.value.iter().map(|x| u64::from(x.to_bits())));
        bits.extend(self.brain.value.iter().map(|x| u64::from(x.to_bits())));
        bits
    }
}

impl Parameters for Mixed {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        std::slice::from_mut(&mut self.single).visit(f);
        std::slice::from_mut(&mut self.double).visit(f);
        std::slice::from_mut(&mut self.half).visit(f);
        std::slice::from_mut(&mut self.brain).visit(f);
    }
}

type Kind = (&'static str, fn() -> EmaDecay);

/// Every kind of decay: a new one is a new line.
const KINDS: &[Kind] = &[
    ("constant", || EmaDecay::constant(0.9).unwrap()),
    ("averaged_model", || EmaDecay::averaged_model(0.3).unwrap()),
    ("bias_corrected", || EmaDecay::bias_corrected(0.8).unwrap()),
    ("timm_v3", || EmaDecay::timm_v3(TimmDecay::new(0.7).with_update_after_step(2)).unwrap()),
    ("tf_warmup", || EmaDecay::tf_warmup(0.6).unwrap()),
    ("power", || EmaDecay::power(6.94).unwrap()),
    ("equal", EmaDecay::equal),
];

fn ema(decays: &[EmaDecay]) -> Ema {
    Ema::new(EmaConfig::new(decays)).unwrap()
}

/// The average of scalars in f64 after each update.
fn history(ema: &mut Ema, values: &[f64]) -> Vec<f64> {
    let mut params = vec![VecParam::new("w", &[], vec![0.0f64])];
    let mut history = Vec::new();
    for &x in values {
        params[0].value[0] = x;
        ema.update(&mut params).unwrap();
        history.push(ema.average(0).save_state().f64s("w").unwrap()[0]);
    }
    history
}

#[track_caller]
fn near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= 1e-12 * (1.0 + w.abs()), "{got:?} is not {want:?}");
    }
}

#[test]
fn the_numbers_are_those_of_torch_and_optax() {
    let values = [1.0, -2.0, 4.0, 0.5];
    let run = |decay: EmaDecay, zero_init| {
        history(&mut Ema::new(EmaConfig::new([decay]).with_zero_init(zero_init)).unwrap(), &values)
    };
    // AveragedModel with get_ema_multi_avg_fn, torch 2.15, in f64.
    near(&run(EmaDecay::averaged_model(0.9).unwrap(), false), &[1.0, 0.7, 1.03, 0.977]);
    near(&run(EmaDecay::averaged_model(0.3).unwrap(), false), &[1.0, -1.1, 2.47, 1.091]);
    // optax.ema with and without debias, optax 0.2.8, in f64.
    near(
        &run(EmaDecay::bias_corrected(0.9).unwrap(), false),
        &[1.0, -0.578_947_368_421_052_7, 1.110_701_107_011_070_2, 0.933_120_093_050_305_3],
    );
    near(&run(EmaDecay::constant(0.9).unwrap(), true), &[0.1, -0.11, 0.301, 0.3209]);
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-4.0..4.0, 1..20)
}

/// Parameters of three elements at each step.
fn rows() -> impl Strategy<Value = Vec<[f64; 3]>> {
    prop::collection::vec(prop::array::uniform3(-4.0..4.0), 1..12)
}

proptest! {
    #[test]
    fn the_average_of_a_constant_is_the_constant(
        kind in 0..KINDS.len(), row in prop::array::uniform3(-6e4..6e4), n in 1..9,
    ) {
        let mut params = Mixed::new(&row);
        let mut ema = ema(&[KINDS[kind].1()]);
        for _ in 0..n {
            ema.update(&mut params).unwrap();
        }
        let mut averaged = Mixed::new(&[0.0; 3]);
        ema.average(0).copy_to(&mut averaged).unwrap();
        prop_assert_eq!(averaged, params);
    }

    #[test]
    fn a_decay_of_zero_copies_and_one_keeps(rows in rows()) {
        let decays = [0.0, 1.0].map(|d| EmaDecay::constant(d).unwrap());
        let mut ema = ema(&decays);
        let mut params = Mixed::new(&rows[0]);
        for row in &rows {
            params.set(row);
            ema.update(&mut params).unwrap();
        }
        let mut averaged = params.clone();
        ema.average(0).copy_to(&mut averaged).unwrap();
        prop_assert_eq!(&averaged, &params);
        ema.average(1).copy_to(&mut averaged).unwrap();
        prop_assert_eq!(averaged, Mixed::new(&rows[0]));
    }

    #[test]
    fn a_corrected_average_is_the_weighted_mean(values in values(), decay in 0.0..1.0f64) {
        let got = history(&mut ema(&[EmaDecay::bias_corrected(decay).unwrap()]), &values);
        let want: Vec<f64> = (1..=values.len())
            .map(|t| {
                let weight = |i| decay.powi((t - 1 - i) as i32);
                let sum: f64 = (0..t).map(|i| weight(i) * values[i]).sum();
                sum / (0..t).map(weight).sum::<f64>()
            })
            .collect();
        near(&got, &want);
    }

    #[test]
    fn an_average_from_zeros_is_the_weighted_sum(values in values(), decay in 0.0..1.0f64) {
        let constant = EmaConfig::new([EmaDecay::constant(decay).unwrap()]);
        let got = history(&mut Ema::new(constant.with_zero_init(true)).unwrap(), &values);
        let want: Vec<f64> = (1..=values.len())
            .map(|t| {
                (0..t).map(|i| (1.0 - decay) * decay.powi((t - 1 - i) as i32) * values[i]).sum()
            })
            .collect();
        near(&got, &want);
    }

    #[test]
    fn a_power_average_weighs_by_the_power_of_the_step(values in values(), gamma in 0.0..9.0f64) {
        let got = history(&mut ema(&[EmaDecay::power(gamma).unwrap()]), &values);
        // The share of step i telescopes: ((i+1)^(gamma+1) - i^(gamma+1)) / t^(gamma+1).
        let mass = |t: usize| (t as f64).powf(gamma + 1.0);
        let want: Vec<f64> = (1..=values.len())
            .map(|t| (0..t).map(|i| (mass(i + 1) - mass(i)) / mass(t) * values[i]).sum())
            .collect();
        for (g, w) in got.iter().zip(&want) {
            prop_assert!((g - w).abs() < 1e-11, "{:?} is not {:?}", got, want);
        }
    }

    #[test]
    fn swa_and_lawa_are_arithmetic_means(
        values in values(), start in 0usize..6, every in 1usize..4, window in 1usize..5,
    ) {
        let config = SwaConfig::new().with_start(start as u64).with_every(every as u64);
        let mut swa = Swa::new(config).unwrap();
        let mut lawa = Lawa::new(window, every as u64).unwrap();
        let mut params = vec![VecParam::new("w", &[], vec![0.0f64])];
        swa.init(&mut params).unwrap();
        for t in 0..values.len() {
            params[0].value[0] = values[t];
            let counted: Vec<f64> = (start..=t).step_by(every).map(|i| values[i]).collect();
            let due = (start..=t).step_by(every).any(|i| i == t);
            prop_assert_eq!(swa.update(&mut params).unwrap(), due);
            prop_assert_eq!(swa.updates(), counted.len() as u64);
            let mean = counted.iter().sum::<f64>() / counted.len().max(1) as f64;
            near(&swa.average().save_state().f64s("w").unwrap(), &[mean]);

            prop_assert_eq!(lawa.update(&mut params).unwrap(), t % every == 0);
            let latest: Vec<f64> =
                (0..t + 1).step_by(every).rev().take(window).map(|i| values[i]).collect();
            let mean = latest.iter().sum::<f64>() / latest.len() as f64;
            near(&lawa.average().save_state().f64s("w").unwrap(), &[mean]);
        }
    }

    #[test]
    fn several_decays_are_several_averages(rows in rows(), len in 0usize..3000, every in 1u64..3) {
        let decays: Vec<EmaDecay> = KINDS.iter().map(|(_, make)| make()).collect();
        let make = |decays: &[EmaDecay]| Ema::new(EmaConfig::new(decays).with_every(every)).unwrap();
        let mut together = make(&decays);
        let mut apart: Vec<Ema> = decays.iter().map(|&d| make(&[d])).collect();
        // Longer than what is taken in at once.
        let spread = |row: &[f64; 3]| -> Vec<f64> {
            (0..len).map(|i| row[i % 3] + i as f64 / 256.0).collect()
        };
        for row in rows.iter().take(3) {
            let mut params = Mixed::new(&spread(row));
            together.update(&mut params).unwrap();
            for ema in &mut apart {
                ema.update(&mut params).unwrap();
            }
        }
        for (i, ema) in apart.iter().enumerate() {
            prop_assert_eq!(together.average(i).save_state(), ema.average(0).save_state());
        }
    }

    #[test]
    fn the_order_of_parameters_does_not_matter(rows in rows(), kind in 0..KINDS.len()) {
        let (mut forward, mut backward) = (ema(&[KINDS[kind].1()]), ema(&[KINDS[kind].1()]));
        for [a, b, _] in rows {
            let mut params = vec![param::<f32>("a", &[a]), param::<f32>("b", &[b, a])];
            forward.update(&mut params).unwrap();
            params.reverse();
            backward.update(&mut params).unwrap();
        }
        prop_assert_eq!(forward.save_state(), backward.save_state());
    }

    #[test]
    fn a_restored_average_goes_on_to_the_bit(
        rows in rows(), cut in 0usize..12, kind in 0..KINDS.len() + 3,
    ) {
        let make = || -> Box<dyn Follow> {
            match kind.checked_sub(KINDS.len()) {
                None => Box::new(Ema::new(
                    EmaConfig::new([KINDS[kind].1(), KINDS[0].1()]).with_every(2).with_start(1),
                ).unwrap()),
                Some(0) => Box::new(Swa::new(SwaConfig::new().with_every(2)).unwrap()),
                Some(1) => Box::new(Lawa::new(3, 2).unwrap()),
                Some(_) => Box::new(
                    Ema::new(EmaConfig::new([KINDS[0].1()]).with_zero_init(true)).unwrap(),
                ),
            }
        };
        let (mut whole, mut first, mut second) = (make(), make(), make());
        let cut = cut.min(rows.len());
        for row in &rows {
            whole.follow(&mut Mixed::new(row));
        }
        for row in &rows[..cut] {
            first.follow(&mut Mixed::new(row));
        }
        second.load_state(&first.save_state()).unwrap();
        prop_assert_eq!(second.save_state(), first.save_state());
        for row in &rows[cut..] {
            second.follow(&mut Mixed::new(row));
        }
        prop_assert_eq!(second.save_state(), whole.save_state());
    }

    #[test]
    fn lookahead_with_alpha_one_is_the_inner_optimizer(
        rows in rows(), k in 1u64..4, start in prop::array::uniform3(-4.0..4.0),
    ) {
        let adam = || Adam::new(AdamConfig::adamw()).unwrap();
        let config = LookaheadConfig::new().with_k(k).with_alpha(1.0);
        let mut wrapped = Lookahead::new(config, adam()).unwrap();
        let mut plain = adam();
        let (mut p, mut q) = (Mixed::new(&start), Mixed::new(&start));
        for row in &rows {
            for params in [&mut p, &mut q] {
                params.single.grad = Some(row.map(|x| x as f32).to_vec());
                params.double.grad = Some(row.to_vec());
                params.half.grad = Some(row.map(f16::from_f64).to_vec());
                params.brain.grad = Some(row.map(bf16::from_f64).to_vec());
            }
            wrapped.step(0.1, &mut p).unwrap();
            plain.step(0.1, &mut q).unwrap();
        }
        prop_assert_eq!(p.bits(), q.bits());
    }

    #[test]
    fn a_restored_lookahead_goes_on_to_the_bit(grads in values(), cut in 0usize..20) {
        let make = || {
            let sgd = Sgd::new(SgdConfig::new().with_momentum(0.9)).unwrap();
            Lookahead::new(LookaheadConfig::new().with_k(3), sgd).unwrap()
        };
        let run = |rule: &mut Lookahead<Sgd>, p: &mut Vec<VecParam<bf16>>, grads: &[f64]| {
            for &g in grads {
                p[0].grad = Some(vec![bf16::from_f64(g)]);
                rule.step(0.1, p).unwrap();
            }
        };
        let cut = cut.min(grads.len());
        let (mut p, mut q) = (vec![param("inner.w", &[1.0])], vec![param("inner.w", &[1.0])]);
        let (mut whole, mut first, mut second) = (make(), make(), make());
        run(&mut whole, &mut p, &grads);
        run(&mut first, &mut q, &grads[..cut]);
        second.load_state(&first.save_state()).unwrap();
        run(&mut second, &mut q, &grads[cut..]);
        prop_assert_eq!(p[0].value[0].to_bits(), q[0].value[0].to_bits());
        prop_assert_eq!(whole.save_state(), second.save_state());
    }
}

/// What all averages have in common.
trait Follow: State {
    fn follow(&mut self, params: &mut Mixed);
}
impl Follow for Ema {
    fn follow(&mut self, params: &mut Mixed) {
        self.update(params).unwrap();
    }
}
impl Follow for Swa {
    fn follow(&mut self, params: &mut Mixed) {
        self.update(params).unwrap();
    }
}
impl Follow for Lawa {
    fn follow(&mut self, params: &mut Mixed) {
        self.update(params).unwrap();
    }
}

#[test]
fn a_start_before_training_is_remembered() {
    let mut tf = ema(&[EmaDecay::tf_warmup(0.9).unwrap()]);
    let mut params = vec![VecParam::new("w", &[1], vec![10.0f64])];
    tf.init(&mut params).unwrap();
    near(&history(&mut tf, &[0.0]), &[1.0]);
    // Without it the first update is the start.
    near(&history(&mut ema(&[EmaDecay::tf_warmup(0.9).unwrap()]), &[3.0]), &[3.0]);
    // It is a new start.
    tf.init(&mut params).unwrap();
    assert_eq!(tf.updates(), 0);
    near(&history(&mut tf, &[0.0]), &[1.0]);
}

#[test]
fn steps_that_are_passed_over_do_not_count_for_the_warm_up() {
    let config = EmaConfig::new([EmaDecay::equal()]).with_start(1).with_every(2);
    let mut ema = Ema::new(config).unwrap();
    let mut params = vec![VecParam::new("w", &[], vec![0.0f64])];
    let mut due = Vec::new();
    for x in [1.0, 2.0, 3.0, 4.0] {
        params[0].value[0] = x;
        due.push(ema.update(&mut params).unwrap());
    }
    assert_eq!(due, [false, true, false, true]);
    assert_eq!(ema.updates(), 2);
    assert_eq!(ema.average(0).save_state().f64s("w"), Ok(vec![3.0]));
}

#[test]
fn small_steps_of_16_bit_parameters_add_up() {
    let mut ema = ema(&[EmaDecay::constant(0.999).unwrap()]);
    ema.init(&mut vec![param::<bf16>("w", &[1.0])]).unwrap();
    for _ in 0..1000 {
        ema.update(&mut vec![param::<bf16>("w", &[2.0])]).unwrap();
    }
    // In bf16 every one of these steps would be lost.
    let got = ema.average(0).save_state().f32s("w").unwrap()[0];
    assert!((f64::from(got) - (2.0 - 0.999f64.powi(1000))).abs() < 1e-4, "{got}");
    let mut params = vec![param::<bf16>("w", &[0.0])];
    ema.average(0).copy_to(&mut params).unwrap();
    assert_eq!(params[0].value, [bf16::from_f32(got)]);
}

#[derive(Debug)]
struct Ramp;
impl Schedule for Ramp {
    fn value(&self, step: u64) -> f64 {
        0.5 * step as f64
    }
}

#[test]
fn a_decay_may_follow_any_schedule_as_long_as_it_is_one() {
    let decays: [Box<dyn Schedule>; 2] = [Box::new(Ramp), Box::new(EmaDecay::equal())];
    let mut ema = Ema::new(EmaConfig::new(decays)).unwrap();
    let mut params = vec![VecParam::new("w", &[1], vec![0.0f32])];
    for x in [2.0, 4.0, 8.0] {
        params[0].value[0] = x;
        ema.update(&mut params).unwrap();
    }
    assert_eq!(ema.average(0).save_state().f32s("w"), Ok(vec![3.0])); // decays 0, 0.5, 1
    let before = ema.save_state();
    assert_eq!(ema.update(&mut params), Err(AverageError::Decay { update: 3, decay: 1.5 }));
    assert_eq!(ema.save_state(), before);
}

#[test]
fn hyper_parameters_are_checked() {
    assert!(Ema::new(EmaConfig::<EmaDecay>::new([])).is_err());
    let error = Ema::new(EmaConfig::new([EmaDecay::equal()]).with_every(0)).unwrap_err();
    assert_eq!(error.to_string(), "every is 0, it has to be in [1, inf)");
    assert!(Swa::new(SwaConfig::new().with_every(0)).is_err());
    assert!(Lawa::new(0, 1).is_err());
    assert!(Lawa::new(1, 0).is_err());
}

/// A walk that shows gradients alone.
struct NoValue;
impl Parameters for NoValue {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        let mut grad = [0.0f32];
        f(ParamMut {
            name: "a",
            shape: &[1],
            kind: gradus_core::ParamKind::Weight,
            value: None,
            grad: Some(SliceMut::F32(&mut grad)),
        });
    }
}

#[test]
fn parameters_that_do_not_fit_are_named_and_change_nothing() {
    let p = |name, values: &[f64]| param::<f32>(name, values);
    let good = vec![p("a", &[1.0]), p("b", &[2.0, 3.0])];
    let name = |name: &str| String::from(name);
    let cases: [(Vec<VecParam>, AverageError); 5] = [
        (vec![p("a", &[1.0])], AverageError::MissingParameter { name: name("b") }),
        (
            [good.clone(), vec![p("c", &[1.0])]].concat(),
            AverageError::UnknownParameter { name: name("c") },
        ),
        (
            [good.clone(), vec![p("a", &[1.0])]].concat(),
            AverageError::UnknownParameter { name: name("a") },
        ),
        (
            vec![p("a", &[1.0]), p("b", &[2.0])],
            AverageError::LengthMismatch { name: name("b"), expected: 2, found: 1 },
        ),
        (vec![], AverageError::MissingParameter { name: name("a") }),
    ];
    let mut ema = ema(&[EmaDecay::averaged_model(0.5).unwrap()]);
    let mut swa = Swa::new(SwaConfig::new()).unwrap();
    let mut lawa = Lawa::new(2, 1).unwrap();
    ema.update(&mut good.clone()).unwrap();
    swa.update(&mut good.clone()).unwrap();
    lawa.update(&mut good.clone()).unwrap();
    let states = (ema.save_state(), swa.save_state(), lawa.save_state());
    for (mut bad, want) in cases {
        bad.iter_mut().for_each(|p| p.value.fill(9.0));
        let before = bad.clone();
        assert_eq!(ema.update(&mut bad), Err(want.clone()));
        assert_eq!(swa.update(&mut bad), Err(want.clone()));
        assert_eq!(lawa.update(&mut bad), Err(want.clone()));
        assert_eq!(ema.average(0).copy_to(&mut bad), Err(want.clone()));
        assert_eq!(ema.average(0).swap_into(&mut bad).err(), Some(want));
        assert_eq!(bad, before);
    }
    assert_eq!(ema.update(&mut NoValue), Err(AverageError::MissingValue { name: name("a") }));
    assert_eq!((ema.save_state(), swa.save_state(), lawa.save_state()), states);

    let twice = vec![p("a", &[1.0]), p("a", &[1.0])];
    let refused = AverageError::UnknownParameter { name: name("a") };
    assert_eq!(Average::of(&mut twice.clone()).err(), Some(refused));
    assert_eq!(
        Average::of(&mut NoValue).err(),
        Some(AverageError::MissingValue { name: name("a") })
    );
    // Before the start there is nothing to copy.
    assert_eq!(
        Swa::new(SwaConfig::new()).unwrap().average().copy_to(&mut good.clone()),
        Err(AverageError::UnknownParameter { name: name("a") })
    );
}

#[test]
fn sums_of_averages_are_checked() {
    let average = |ps: &[VecParam]| Average::of(&mut ps.to_vec()).unwrap();
    let (a, b) = (param::<f32>("a", &[1.0]), param::<f32>("b", &[1.0]));
    let both = average(&[a.clone(), b.clone()]);
    let sum =
        |other: &Average| Average::weighted_sum(&[(0.5, &both), (0.5, other)]).map(|s| s.len());
    assert_eq!(sum(&both), Ok(2));
    assert_eq!(
        sum(&average(std::slice::from_ref(&a))),
        Err(AverageError::MissingParameter { name: "b".into() })
    );
    assert_eq!(
        sum(&average(std::slice::from_ref(&b))),
        Err(AverageError::MissingParameter { name: "a".into() })
    );
    let more = average(&[a.clone(), b.clone(), param("c", &[1.0])]);
    assert_eq!(sum(&more), Err(AverageError::UnknownParameter { name: "c".into() }));
    let longer = average(&[a, param("b", &[1.0, 2.0])]);
    assert_eq!(
        sum(&longer),
        Err(AverageError::LengthMismatch { name: "b".into(), expected: 1, found: 2 })
    );
    assert_eq!(
        Average::weighted_sum(&[(f64::INFINITY, &both)]).err(),
        Some(AverageError::Weight { weight: f64::INFINITY })
    );
    assert!(Average::weighted_sum(&[]).unwrap().is_empty());
}

#[test]
fn values_from_before_come_back_also_after_a_panic() {
    let mut params = Mixed::new(&[1.0, -0.0, 7.0]);
    params.single.value[0] = f32::from_bits(0x7fc0_1234);
    params.half.value[0] = f16::from_bits(0x7e01);
    params.single.grad = Some(vec![0.0; 3]);
    let before = params.bits();
    let average = Average::of(&mut Mixed::new(&[2.0, 3.0, 4.0])).unwrap();
    {
        let mut swapped = average.swap_into(&mut params).unwrap();
        assert_eq!(swapped.bits(), Mixed::new(&[2.0, 3.0, 4.0]).bits());
        swapped.brain.value[1] = bf16::ONE;
        swapped.single.grad = Some(vec![1.0; 3]);
        let mut count = 0;
        swapped.visit(&mut |_| count += 1);
        assert_eq!(count, 4);
    }
    assert_eq!(params.bits(), before);
    assert_eq!(params.single.grad, Some(vec![1.0; 3]));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _swapped = average.swap_into(&mut params).unwrap();
        panic!("the evaluation failed");
    }));
    assert!(panicked.is_err());
    assert_eq!(params.bits(), before);
}

#[test]
fn a_state_that_does_not_fit_changes_nothing() {
    let two = || ema(&[EmaDecay::equal(), EmaDecay::constant(0.5).unwrap()]);
    let mut target = two();
    target.update(&mut Mixed::new(&[1.0, 2.0])).unwrap();
    let good = target.save_state();
    let mut check = |entry: &str, value: StateValue, want: StateError| {
        let mut bad = good.clone();
        bad.insert("step", StateValue::U64(99));
        bad.insert(entry, value);
        assert_eq!(target.load_state(&bad), Err(want));
        assert_eq!(target.save_state(), good);
    };
    let f32s = |n: usize| StateValue::F32s(vec![0.0; n]);
    let name = String::from;
    check(
        "updates",
        StateValue::Bool(true),
        StateError::WrongKind { name: name("updates"), expected: "a counter" },
    );
    check(
        "average.1.brain",
        f32s(3),
        StateError::WrongLength { name: name("average.1.brain"), expected: 2, found: 3 },
    );
    check(
        "average.1.brain",
        StateValue::U64(3),
        StateError::WrongKind { name: name("brain"), expected: "an array" },
    );
    check("average.0.z", f32s(1), StateError::Missing { name: name("average.1.z") });
    check("average.1.z", f32s(1), StateError::Missing { name: name("average.0.z") });
    let unknown = "no such entry in the state of this average";
    for entry in ["average.2.brain", "other", "average"] {
        check(entry, f32s(2), StateError::Invalid { name: name(entry), expected: unknown });
    }
    let mut one = ema(&[EmaDecay::equal()]);
    one.update(&mut Mixed::new(&[1.0])).unwrap();
    assert_eq!(
        two().load_state(&one.save_state()),
        Err(StateError::WrongLength { name: name("average"), expected: 2, found: 1 })
    );
    assert!(one.load_state(&good).is_err());
    // Nothing seen yet is a state too.
    target.load_state(&two().save_state()).unwrap();
    assert!(target.average(1).is_empty());
    let mut lawa = Lawa::new(1, 1).unwrap();
    assert_eq!(
        lawa.load_state(&good),
        Err(StateError::Invalid { name: name("average.0."), expected: unknown })
    );
}

#[test]
#[should_panic(expected = "there is no average 1 of 1")]
fn an_average_that_is_not_there_panics() {
    let _ = ema(&[EmaDecay::equal()]).average(1);
}

/// Parameters that wander: the synthesized average is the one that would have been kept.
#[test]
fn averages_of_other_widths_can_be_made_afterwards() {
    let stored_gammas = [6.94, 16.97];
    let wanted = PowerProfile::from_sigma_rel(0.08, 4096.0).unwrap();
    let decays = [stored_gammas[0], stored_gammas[1], wanted.gamma()];
    let mut ema = ema(&decays.map(|gamma| EmaDecay::power(gamma).unwrap()));
    let mut stored = Vec::new();
    let mut params = vec![VecParam::new("w", &[2], vec![0.0f64; 2])];
    for t in 1..=4096u32 {
        let x = f64::from(t) / 4096.0;
        params[0].value = vec![(6.0 * x).sin(), 1.0 / (0.1 + x)];
        ema.update(&mut params).unwrap();
        if t % 128 == 0 {
            for (i, gamma) in stored_gammas.into_iter().enumerate() {
                let profile = PowerProfile::new(gamma, t.into()).unwrap();
                stored.push((profile, ema.average(i).clone()));
            }
        }
    }
    let stored: Vec<_> = stored.iter().map(|(p, a)| (*p, a)).collect();
    let made = wanted.synthesize(&stored).unwrap().save_state().f64s("w").unwrap();
    let kept = ema.average(2).save_state().f64s("w").unwrap();
    let last = params[0].value.clone();
    for i in 0..2 {
        assert!((made[i] - kept[i]).abs() < 1e-5, "{made:?} is not {kept:?}");
        assert!((last[i] - kept[i]).abs() > 1e-2, "the average has to differ from {last:?}");
    }
    assert_eq!(wanted.synthesize(&[]).err(), Some(AverageError::Profiles { count: 0 }));
}
