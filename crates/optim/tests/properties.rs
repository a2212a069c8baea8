//! Laws of the update rules.

use gradus_core::{GradientTransform, PresentGradients, Schedule, StepError, VecParam, bf16};
use gradus_optim::{
    Adadelta, AdadeltaConfig, Adafactor, AdafactorConfig, Adagrad, AdagradConfig, Adam, AdamConfig,
    Adamax, AdamaxConfig, AddDecayedWeights, AddNoise, ApplyUpdates, Cautious, Centralize, Chain,
    DecayMask, Group, Groups, Lamb, LambConfig, Lion, LionConfig, Muon, MuonConfig, NAdam,
    NAdamConfig, RAdam, RAdamConfig, RmsProp, RmsPropConfig, ScaleByRms, ScheduleFree,
    ScheduleFreeConfig, Scheduled, Sgd, SgdConfig, Trace,
};
use proptest::prelude::*;

type Rule = Box<dyn GradientTransform>;

fn boxed<T: GradientTransform + 'static, E: std::fmt::Debug>(rule: Result<T, E>) -> Rule {
    Box::new(rule.unwrap())
}

fn sgd(config: SgdConfig) -> Rule {
    boxed(Sgd::new(config))
}

fn adam(config: AdamConfig) -> Rule {
    boxed(Adam::new(config))
}

/// One rule for `a`, another for the rest.
fn grouped() -> Rule {
    let heads = Adam::new(AdamConfig::adamw()).unwrap();
    let rest = Sgd::new(SgdConfig::new().with_momentum(0.9)).unwrap();
    Box::new(
        Groups::new()
            .then(Group::new(|name, _, _| name == "a", heads).with_lr_scale(3.0))
            .otherwise(rest),
    )
}

struct Halving;
impl Schedule for Halving {
    fn value(&self, step: u64) -> f64 {
        0.5f64.powi(step.min(3) as i32)
    }
}

/// A layer's rate with a schedule of its own.
fn scheduled() -> Rule {
    let layer = |name: &str, _: &[usize], _| usize::from(name == "a");
    let make = || Ok(Scheduled::new(Halving, Adam::new(AdamConfig::adamw())?));
    boxed(Groups::by_layer(0.75, 2, layer, make))
}

/// Every stage that no optimizer is made of.
fn stages() -> Rule {
    let momentum = Trace::new(SgdConfig::new().with_momentum(0.9)).unwrap();
    Box::new(
        Chain::new()
            .then(AddNoise::new(1e-3, 0.55, 3).unwrap())
            .then(Cautious::new(momentum))
            .then(AddDecayedWeights::new(0.01, DecayMask::NoNormOrBias).unwrap().cautious())
            .then(ApplyUpdates::new()),
    )
}

/// A stage for some parameters only, and one with momentum of its own.
fn centralized() -> Rule {
    let rms = RmsPropConfig::new().with_momentum(0.9).with_eps(0.1);
    Box::new(
        Chain::new()
            .then(Group::new(|_, shape, _| shape.len() == 4, Centralize::new()))
            .then(ScaleByRms::new(rms).unwrap())
            .then(ApplyUpdates::new()),
    )
}

/// Muon for the matrix, plain descent for the rest.
fn muon() -> Rule {
    let muon = Muon::new(MuonConfig::new()).unwrap();
    let rest = Sgd::new(SgdConfig::new()).unwrap();
    Box::new(Groups::new().then(Group::new(|_, shape, _| shape.len() == 2, muon)).otherwise(rest))
}

type Row = (&'static str, fn() -> Rule);

/// Every optimizer, most with decay: a new one is a new line.
const RULES: &[Row] = &[
    ("sgd", || sgd(SgdConfig::new().with_weight_decay(0.01))),
    ("momentum", || sgd(SgdConfig::new().with_momentum(0.9).with_dampening(0.3))),
    ("nesterov", || sgd(SgdConfig::new().with_momentum(0.9).with_nesterov(true))),
    ("adam", || adam(AdamConfig::adam().with_weight_decay(0.01))),
    ("adamw amsgrad", || adam(AdamConfig::adamw().with_amsgrad(true))),
    ("groups", grouped),
    ("layers", scheduled),
    ("stages", stages),
    ("centralized", centralized),
    ("adam chain", || boxed(AdamConfig::adam().with_weight_decay(0.01).chain())),
    ("momentum chain", || boxed(SgdConfig::new().with_momentum(0.9).with_maximize(false).chain())),
    ("lamb chain", || boxed(LambConfig::new().with_weight_decay(0.01).chain())),
    ("rmsprop", || boxed(RmsProp::new(RmsPropConfig::new().with_weight_decay(0.01)))),
    ("rmsprop momentum", || {
        // An eps that keeps the centered variance of the first step, which is near 0, from being all there is.
        let config = RmsPropConfig::new().with_centered(true).with_momentum(0.9).with_eps(0.1);
        boxed(RmsProp::new(config))
    }),
    ("adagrad", || boxed(Adagrad::new(AdagradConfig::new().with_lr_decay(0.1)))),
    ("adadelta", || boxed(Adadelta::new(AdadeltaConfig::new().with_weight_decay(0.01)))),
    ("nadam", || {
        let config = NAdamConfig::new().with_weight_decay(0.01).with_decoupled_weight_decay(true);
        boxed(NAdam::new(config))
    }),
    ("radam", || boxed(RAdam::new(RAdamConfig::new().with_weight_decay(0.01)))),
    ("adamax", || boxed(Adamax::new(AdamaxConfig::new().with_weight_decay(0.01)))),
    ("lamb", || boxed(Lamb::new(LambConfig::new().with_weight_decay(0.01)))),
    ("lion", || boxed(Lion::new(LionConfig::new()))),
    ("muon", muon),
    ("adafactor", || boxed(Adafactor::new(AdafactorConfig::new().with_weight_decay(0.01)))),
    ("schedule-free sgd", || {
        let config = ScheduleFreeConfig::sgd().with_warmup_steps(3).with_weight_decay(0.01);
        boxed(ScheduleFree::new(config))
    }),
    ("schedule-free adamw", || boxed(ScheduleFree::new(ScheduleFreeConfig::adamw()))),
];

fn rule(kind: usize) -> Rule {
    RULES[kind].1()
}

type Steps = Vec<([f32; 2], Option<f32>)>;

/// Gradients for `a` (2 elements) and, at some steps only, for `b.step` (a name made to confuse).
fn steps() -> impl Strategy<Value = Steps> {
    let g = || -3.0f32..3.0;
    prop::collection::vec(((g(), g()).prop_map(|(x, y)| [x, y]), prop::option::of(g())), 1..12)
}

fn params() -> Vec<VecParam> {
    vec![VecParam::new("a", &[1, 2], vec![0.5, -0.25]), VecParam::new("b.step", &[], vec![2.0])]
}

fn run(
    rule: &mut dyn GradientTransform,
    mut params: &mut [VecParam],
    steps: &[([f32; 2], Option<f32>)],
) {
    for (a, b) in steps {
        params[0].grad = Some(a.to_vec());
        params[1].grad = b.map(|b| vec![b]);
        rule.step(0.01, &mut PresentGradients(&mut params)).unwrap();
    }
}

fn values(params: &[VecParam]) -> Vec<u32> {
    params.iter().flat_map(|p| p.value.iter().map(|x| x.to_bits())).collect()
}

proptest! {
    #[test]
    fn a_restored_rule_goes_on_to_the_bit(kind in 0..RULES.len(), steps in steps(), cut in 0usize..12) {
        let cut = cut.min(steps.len());
        let (mut whole, mut p) = (rule(kind), params());
        run(&mut whole, &mut p, &steps);

        let (mut first, mut q) = (rule(kind), params());
        run(&mut first, &mut q, &steps[..cut]);
        let mut second = rule(kind);
        second.load_state(&first.save_state()).unwrap();
        prop_assert_eq!(second.save_state(), first.save_state());
        run(&mut second, &mut q, &steps[cut..]);
        prop_assert_eq!(values(&p), values(&q));
        prop_assert_eq!(whole.save_state(), second.save_state());
    }

    #[test]
    fn the_order_of_parameters_does_not_matter(kind in 0..RULES.len(), steps in steps()) {
        let (mut forward, mut p) = (rule(kind), params());
        run(&mut forward, &mut p, &steps);
        let (mut backward, mut q) = (rule(kind), params());
        for (a, b) in &steps {
            q[0].grad = Some(a.to_vec());
            q[1].grad = b.map(|b| vec![b]);
            q.reverse();
            backward.step(0.01, &mut PresentGradients(&mut q)).unwrap();
            q.reverse();
        }
        prop_assert_eq!(values(&p), values(&q));
    }

    #[test]
    fn maximize_is_the_negated_gradient(kind in 0usize..3, steps in steps()) {
        let negated: Steps = steps.iter().map(|(a, b)| (a.map(|x| -x), b.map(|x| -x))).collect();
        let make = |maximize| match kind {
            0 => sgd(SgdConfig::new().with_momentum(0.5).with_maximize(maximize)),
            1 => adam(AdamConfig::adam().with_weight_decay(0.1).with_maximize(maximize)),
            _ => adam(AdamConfig::adamw().with_amsgrad(true).with_maximize(maximize)),
        };
        let (mut p, mut q) = (params(), params());
        run(&mut make(true), &mut p, &steps);
        run(&mut make(false), &mut q, &negated);
        prop_assert_eq!(values(&p), values(&q));
    }

    #[test]
    fn adamw_without_decay_is_adam(steps in steps(), amsgrad: bool) {
        let (mut p, mut q) = (params(), params());
        run(&mut adam(AdamConfig::adam().with_amsgrad(amsgrad)), &mut p, &steps);
        let adamw = AdamConfig::adamw().with_weight_decay(0.0).with_amsgrad(amsgrad);
        run(&mut adam(adamw), &mut q, &steps);
        prop_assert_eq!(values(&p), values(&q));
    }

    #[test]
    fn masked_decay_acts_on_matrices_alone(steps in steps()) {
        let (mut masked, mut decayed, mut free) = (params(), params(), params());
        let config = AdamConfig::adamw().with_weight_decay(0.1);
        run(&mut adam(config.with_decay_mask(DecayMask::NoDecay1d)), &mut masked, &steps);
        run(&mut adam(config), &mut decayed, &steps);
        run(&mut adam(config.with_weight_decay(0.0)), &mut free, &steps);
        prop_assert_eq!(values(&masked[..1]), values(&decayed[..1]));
        prop_assert_eq!(values(&masked[1..]), values(&free[1..]));
    }

    /// Adam's step does not depend on the scale of the gradients (but for eps).
    #[test]
    fn adam_is_scale_free(steps in steps(), exponent in -3i32..4) {
        let scale = 2f32.powi(exponent);
        let scaled: Steps = steps.iter().map(|(a, b)| (a.map(|x| x * scale), b.map(|x| x * scale))).collect();
        let config = AdamConfig::adam().with_eps(0.0);
        let nonzero = |s: &Steps| s.iter().all(|(a, b)| a.iter().chain(b).all(|x| x.abs() > 1e-6));
        prop_assume!(nonzero(&steps));
        let (mut p, mut q) = (params(), params());
        run(&mut adam(config), &mut p, &steps);
        run(&mut adam(config), &mut q, &scaled);
        prop_assert_eq!(values(&p), values(&q));
    }

    #[test]
    fn f64_and_f32_agree(kind in 0..RULES.len(), steps in steps()) {
        let (mut narrow, mut p) = (rule(kind), params());
        // A sign that rounding decides, or an orthogonalized matrix of rank one, need not agree.
        if ["lion", "muon", "stages"].contains(&RULES[kind].0) {
            return Ok(());
        }
        run(&mut narrow, &mut p, &steps);
        let mut wide: Vec<VecParam<f64>> = params()
            .iter()
            .map(|p| VecParam::new(p.name.clone(), &p.shape, p.value.iter().map(|&x| x.into()).collect()))
            .collect();
        let mut rule = rule(kind);
        for (a, b) in &steps {
            wide[0].grad = Some(a.iter().map(|&x| x.into()).collect());
            wide[1].grad = b.map(|x| vec![x.into()]);
            rule.step(0.01, &mut PresentGradients(&mut wide)).unwrap();
        }
        for (p, w) in p.iter().zip(&wide) {
            for (&x, &y) in p.value.iter().zip(&w.value) {
                prop_assert!((f64::from(x) - y).abs() < 2e-5, "{x} {y}");
            }
        }
    }
}

#[test]
fn every_rule_descends_a_parabola_and_refuses_bad_rates() {
    for (name, make) in RULES {
        let mut rule = make();
        let mut p = params();
        let loss = |p: &[VecParam]| p.iter().flat_map(|p| &p.value).map(|x| x * x).sum::<f32>();
        let before = loss(&p);
        let rate = if *name == "adadelta" { 1.0 } else { 0.01 };
        for _ in 0..100 {
            for p in &mut p {
                p.grad = Some(p.value.iter().map(|x| 2.0 * x).collect());
            }
            rule.step(rate, &mut p).unwrap();
        }
        assert!(loss(&p) < 0.99 * before, "{name}: {before} to {}", loss(&p));
        let now = values(&p);
        for lr in [f64::NAN, f64::INFINITY, -1e-3] {
            let error = rule.step(lr, &mut p).unwrap_err();
            assert!(matches!(error, StepError::LearningRate { .. }), "{name}: {error}");
        }
        assert_eq!(values(&p), now, "{name}");
    }
}

#[test]
fn empty_parameters_zero_gradients_and_bf16_are_no_trouble() {
    let one = bf16::from_f32(1.0);
    for (name, make) in RULES {
        let mut rule = make();
        let param = |name: &str, shape: &[usize], g: f32| {
            let n = shape.iter().product();
            VecParam::new(name, shape, vec![one; n]).with_grad(vec![bf16::from_f32(g); n])
        };
        let mut p = vec![
            param("empty", &[0], 1.0),
            param("no rows", &[0, 2], 1.0),
            param("no columns", &[2, 0], 1.0),
            param("still", &[2, 3], 0.0),
            param("a", &[2, 3], 0.5),
            param("scalar", &[], 0.5),
        ];
        for _ in 0..3 {
            rule.step(0.1, &mut p).unwrap();
        }
        assert!(p.iter().flat_map(|p| &p.value).all(|x| x.is_finite()), "{name}: {p:?}");
        assert!(p[4].value[0] < one || *name == "adadelta", "{name}: {:?}", p[4].value);
    }
}

#[test]
fn missing_gradients_are_named_and_nothing_has_changed() {
    for (name, make) in RULES {
        let (mut rule, mut p) = (make(), params());
        run(rule.as_mut(), &mut p, &[([1.0, -2.0], Some(0.5)), ([0.5, 1.0], Some(0.25))]);
        let state = rule.save_state();
        for missing in [&[0][..], &[1], &[0, 1]] {
            let mut q = p.clone();
            missing.iter().for_each(|&i| q[i].grad = None);
            let before = q.clone();
            let names = missing.iter().map(|&i| q[i].name.clone()).collect();
            assert_eq!(
                rule.step(0.01, &mut q),
                Err(StepError::MissingGradient { names }),
                "{name}"
            );
            assert_eq!(q, before, "{name}");
            assert_eq!(rule.save_state(), state, "{name}");
        }
        // A parameter that has grown is found before any other has moved.
        let mut q = p.clone();
        q[1] = VecParam::new("b.step", &[2], vec![1.0; 2]).with_grad(vec![1.0; 2]);
        let before = q.clone();
        if ["sgd", "muon"].contains(name) {
            continue; // they keep nothing for it
        }
        let error = rule.step(0.01, &mut q).unwrap_err();
        assert!(matches!(error, StepError::LengthMismatch { .. }), "{name}: {error}");
        // Groups and chains find it when its turn comes.
        if !["groups", "layers", "stages", "centralized"].contains(name) && !name.ends_with("chain")
        {
            assert_eq!(q, before, "{name}");
            assert_eq!(rule.save_state(), state, "{name}");
        }
    }
}
