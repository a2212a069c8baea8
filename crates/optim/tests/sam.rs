//! Laws of sharpness-aware minimization.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gradus_core::{
    GradientTransform, ParamMut, Parameters, PresentGradients, StepError, VecParam, bf16,
};
use gradus_optim::{Adam, AdamConfig, AverageError, Sam, SamConfig, SamError};
use proptest::prelude::*;

fn sam(config: SamConfig) -> Sam {
    Sam::new(config).unwrap()
}

fn param(name: &str, value: &[f32], grad: &[f32]) -> VecParam {
    VecParam::new(name, &[value.len()], value.to_vec()).with_grad(grad.to_vec())
}

fn bits(params: &[VecParam]) -> Vec<u32> {
    params.iter().flat_map(|p| p.value.iter().map(|x| x.to_bits())).collect()
}

/// Puts the gradients of `sum(x^4) / 4` into the parameters.
fn gradients(params: &mut [VecParam]) {
    for p in params {
        p.grad = Some(p.value.iter().map(|x| x * x * x).collect());
    }
}

proptest! {
    #[test]
    fn parameters_come_back_to_the_bit(
        values: [f32; 5], grads in prop::array::uniform5(-9.0f32..9.0), rho in 0.0..5.0, adaptive: bool,
    ) {
        prop_assume!(!adaptive || values.iter().all(|x| x.is_finite()));
        let mut sam = sam(SamConfig::new().with_rho(rho).with_adaptive(adaptive));
        let mut params = vec![param("a", &values[..3], &grads[..3]), param("b", &values[3..], &grads[3..])];
        let before = bits(&params);
        for _ in 0..2 {
            sam.perturb(&mut params).unwrap();
            params[1].value[0] += 1.0;
            sam.restore(&mut params).unwrap();
            prop_assert_eq!(bits(&params), before.clone());
            drop(sam.perturbed(&mut params).unwrap());
            prop_assert_eq!(bits(&params), before.clone());
        }
    }

    #[test]
    fn the_worst_point_is_that_of_the_formula(
        w in prop::array::uniform3(-4.0..4.0f64),
        g in prop::array::uniform3(-4.0..4.0f64),
        rho in 0.0..3.0f64,
        adaptive: bool,
        eta in 0.0..0.1f64,
    ) {
        prop_assume!(g.iter().any(|x| x.abs() > 1e-3) && w.iter().all(|x| x.abs() > 1e-3));
        let mut params = vec![
            VecParam::new("a", &[2], w[..2].to_vec()).with_grad(g[..2].to_vec()),
            VecParam::new("b", &[], w[2..].to_vec()).with_grad(g[2..].to_vec()),
        ];
        let config = SamConfig::new().with_rho(rho).with_adaptive(adaptive).with_eta(eta);
        let norm = sam(config).perturb(&mut params).unwrap();
        let s = w.map(|w| if adaptive { w.abs() + eta } else { 1.0 });
        let want = (0..3).map(|i| (s[i] * g[i]).powi(2)).sum::<f64>().sqrt();
        prop_assert!((norm - want).abs() < 1e-12 * want);
        let moved: Vec<f64> = params.iter().flat_map(|p| p.value.clone()).collect();
        for i in 0..3 {
            let want = w[i] + rho * s[i] * s[i] * g[i] / (want + 1e-12);
            prop_assert!((moved[i] - want).abs() < 1e-11 * (1.0 + want.abs()));
        }
        // The distance, measured in s, is rho.
        let distance = (0..3).map(|i| ((moved[i] - w[i]) / s[i]).powi(2)).sum::<f64>().sqrt();
        prop_assert!((distance - rho).abs() < 1e-9 * (1.0 + rho));
    }

    #[test]
    fn without_rho_it_is_the_plain_optimizer(start in prop::array::uniform4(-2.0f32..2.0), steps in 1..6) {
        let adam = || Adam::new(AdamConfig::adamw()).unwrap();
        let (mut with, mut without) = (adam(), adam());
        let mut sam = sam(SamConfig::new().with_rho(0.0));
        let mut p = vec![param("a", &start[..2], &[0.0; 2]), param("b", &start[2..], &[0.0; 2])];
        let mut q = p.clone();
        for _ in 0..steps {
            gradients(&mut p);
            gradients(&mut sam.perturbed(&mut p).unwrap());
            with.step(0.01, &mut p).unwrap();
            gradients(&mut q);
            without.step(0.01, &mut q).unwrap();
        }
        prop_assert_eq!(bits(&p), bits(&q));
    }

    #[test]
    fn two_calls_are_the_guard(start in prop::array::uniform4(-2.0f32..2.0), steps in 1..6) {
        let adam = || Adam::new(AdamConfig::adamw()).unwrap();
        let (mut guarded, mut called) = (adam(), adam());
        let config = SamConfig::new().with_adaptive(true).with_rho(0.5);
        let (mut one, mut two) = (sam(config), sam(config));
        let mut p = vec![param("a", &start[..2], &[0.0; 2]), param("b", &start[2..], &[0.0; 2])];
        let mut q = p.clone();
        for _ in 0..steps {
            gradients(&mut p);
            gradients(&mut one.perturbed(&mut p).unwrap());
            guarded.step(0.01, &mut p).unwrap();
            gradients(&mut q);
            two.perturb(&mut q).unwrap();
            gradients(&mut q);
            two.step(&mut called, 0.01, &mut q).unwrap();
        }
        prop_assert_eq!(bits(&p), bits(&q));
    }
}

#[test]
fn hyper_parameters_are_checked() {
    for bad in [-0.1, f64::NAN, f64::INFINITY] {
        assert!(Sam::new(SamConfig::new().with_rho(bad)).is_err());
        assert!(Sam::new(SamConfig::new().with_eta(bad)).is_err());
        assert!(Sam::new(SamConfig::new().with_eps(bad)).is_err());
    }
}

#[test]
fn a_wrong_order_is_an_error() {
    let mut sam = sam(SamConfig::new());
    let mut params = vec![param("a", &[1.0], &[1.0])];
    assert_eq!(sam.restore(&mut params), Err(SamError::NotPerturbed));
    sam.perturb(&mut params).unwrap();
    let moved = bits(&params);
    assert_eq!(sam.perturb(&mut params), Err(SamError::NotRestored));
    assert_eq!(sam.perturbed(&mut params).err(), Some(SamError::NotRestored));
    assert_eq!(bits(&params), moved);
    assert!(sam.is_perturbed());
    sam.restore(&mut params).unwrap();
    assert_eq!(sam.restore(&mut params), Err(SamError::NotPerturbed));
    let mut adam = Adam::new(AdamConfig::adam()).unwrap();
    assert_eq!(sam.step(&mut adam, 0.1, &mut params), Err(SamError::NotPerturbed));
    assert_eq!(params[0].value, [1.0]);
    sam.perturb(&mut params).unwrap();
    let refused = SamError::Step(StepError::LearningRate { lr: -1.0 });
    assert_eq!(sam.step(&mut adam, -1.0, &mut params), Err(refused));
    assert_eq!(params[0].value, [1.0]);
}

#[test]
fn a_gradient_of_zero_moves_nothing() {
    for eps in [0.0, 1e-12] {
        let mut sam = sam(SamConfig::new().with_eps(eps));
        let mut params = vec![param("a", &[1.0, -0.0], &[0.0, 0.0])];
        let worst = sam.perturbed(&mut params).unwrap();
        assert_eq!(worst.norm(), 0.0);
        assert_eq!(worst[0].value, [1.0, 0.0]);
    }
}

#[test]
fn the_size_of_the_gradient_does_not_matter() {
    // Squares that f32 has no numbers for.
    for g in [1e-30f32, 1e30] {
        let mut sam = sam(SamConfig::new().with_rho(0.5).with_eps(0.0));
        let mut params = vec![param("a", &[1.0], &[g])];
        sam.perturb(&mut params).unwrap();
        assert_eq!(params[0].value, [1.5]);
    }
}

#[test]
fn gradients_that_are_none_are_refused_and_nothing_moves() {
    let nan = f32::NAN;
    for adaptive in [false, true] {
        let mut sam = sam(SamConfig::new().with_adaptive(adaptive));
        let mut params = vec![
            param("a", &[1.0], &[1.0]),
            param("b", &[2.0, 2.0, 2.0], &[nan, 1.0, f32::INFINITY]),
            param("c", &[3.0], &[nan]),
        ];
        let error = StepError::NonFiniteGradient { name: "b".into(), count: 3 };
        assert_eq!(sam.perturb(&mut params), Err(SamError::Step(error)));
        assert_eq!(params.iter().map(|p| p.value[0]).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
        assert!(!sam.is_perturbed());
    }
    let mut huge = vec![VecParam::new("a", &[1], vec![1.0f64]).with_grad(vec![1e200])];
    let error = StepError::NonFiniteGradient { name: "a".into(), count: 0 };
    assert_eq!(sam(SamConfig::new()).perturb(&mut huge), Err(SamError::Step(error)));
}

#[test]
fn a_missing_gradient_is_an_error_unless_it_is_hidden() {
    let mut sam = sam(SamConfig::new().with_rho(1.0));
    let mut params = vec![param("a", &[1.0], &[2.0]), param("b", &[1.0], &[2.0])];
    params[1].grad = None;
    let missing = StepError::MissingGradient { names: vec!["b".into()] };
    assert_eq!(sam.perturb(&mut params), Err(SamError::Step(missing)));
    sam.perturb(&mut PresentGradients(&mut params)).unwrap();
    assert_eq!([params[0].value[0], params[1].value[0]], [2.0, 1.0]);
    // It was not saved: what is written to it in between is kept.
    params[1].value[0] = 5.0;
    sam.restore(&mut params).unwrap();
    assert_eq!([params[0].value[0], params[1].value[0]], [1.0, 5.0]);
}

#[test]
fn a_walk_that_does_not_fit_can_be_corrected() {
    let mut sam = sam(SamConfig::new());
    let mut params = vec![param("a", &[1.0], &[1.0]), param("b", &[2.0], &[1.0])];
    sam.perturb(&mut params).unwrap();
    let moved = bits(&params);
    let mut b = params.split_off(1);
    let missing = AverageError::MissingParameter { name: "b".into() };
    assert_eq!(sam.restore(&mut params), Err(SamError::Parameters(missing)));
    params.append(&mut b);
    assert_eq!(bits(&params), moved);
    sam.restore(&mut params).unwrap();
    assert_eq!([params[0].value[0], params[1].value[0]], [1.0, 2.0]);
}

#[test]
fn a_panic_restores_too() {
    let mut sam = sam(SamConfig::new());
    let mut params = vec![param("a", &[1.0], &[1.0])];
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _worst = sam.perturbed(&mut params).unwrap();
        panic!("the forward pass failed");
    }));
    assert!(panicked.is_err());
    assert_eq!(params[0].value, [1.0]);
    assert!(!sam.is_perturbed());
}

/// Parameters of two types behind one walk that is known at run time only.
struct Two(Vec<VecParam<f32>>, Vec<VecParam<bf16>>);
impl Parameters for Two {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.0.visit(f);
        self.1.visit(f);
    }
}

#[test]
fn types_may_be_mixed_and_walks_dynamic() {
    let mut sam = sam(SamConfig::new().with_rho(5.0));
    let four = vec![bf16::from_f32(4.0)];
    let mut params = Two(
        vec![param("a", &[0.0], &[3.0])],
        vec![VecParam::new("b", &[1], vec![bf16::from_f32(1.0)]).with_grad(four)],
    );
    {
        let walk: &mut dyn Parameters = &mut params;
        let mut worst = sam.perturbed(walk).unwrap();
        assert_eq!(worst.norm(), 5.0);
        let mut seen = Vec::new();
        worst.visit(&mut |p| seen.push(p.name.to_owned()));
        assert_eq!(seen, ["a", "b"]);
    }
    assert_eq!((params.0[0].value[0], params.1[0].value[0].to_f32()), (0.0, 1.0));
    sam.perturb(&mut params).unwrap();
    assert_eq!((params.0[0].value[0], params.1[0].value[0].to_f32()), (3.0, 5.0));
}
