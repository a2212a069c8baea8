//! A fused optimizer and its chain are the same numbers.

use gradus_core::{
    FloatElement, GradientTransform, ParamKind, ParamMut, Parameters, State, StepError, VecParam,
    bf16,
};
use gradus_optim::*;
use proptest::prelude::*;

type Pair = (Box<dyn GradientTransform>, Chain);

fn pair<T: GradientTransform + 'static>(
    fused: Result<T, OptimError>,
    chain: Result<Chain, OptimError>,
) -> Pair {
    (Box::new(fused.unwrap()), chain.unwrap())
}

macro_rules! pairs {
    ($($name:literal: $optimizer:ident, $config:expr;)*) => {
        &[$(($name, || {
            let config = $config;
            pair($optimizer::new(config), config.chain())
        })),*]
    };
}

const MASK: DecayMask = DecayMask::NoNormOrBias;

type Row = (&'static str, fn() -> Pair);

const PAIRS: &[Row] = pairs! {
    "sgd": Sgd, SgdConfig::new();
    "sgd decay": Sgd, SgdConfig::new().with_weight_decay(0.1).with_decay_mask(MASK).with_maximize(true);
    "momentum": Sgd, SgdConfig::new().with_momentum(0.9).with_dampening(0.3).with_weight_decay(0.1);
    "nesterov": Sgd, SgdConfig::new().with_momentum(0.9).with_nesterov(true).with_maximize(true);
    "adam": Adam, AdamConfig::adam().with_weight_decay(0.1).with_maximize(true);
    "adamw": Adam, AdamConfig::adamw().with_decay_mask(MASK);
    "adamw amsgrad": Adam, AdamConfig::adamw().with_amsgrad(true);
    "rmsprop": RmsProp, RmsPropConfig::new().with_weight_decay(0.1);
    "rmsprop momentum": RmsProp, RmsPropConfig::new().with_momentum(0.9).with_maximize(true);
    "rmsprop centered": RmsProp, RmsPropConfig::new().with_centered(true);
    "rmsprop both": RmsProp, RmsPropConfig::new().with_centered(true).with_momentum(0.5);
    "adagrad": Adagrad, AdagradConfig::new().with_lr_decay(0.1).with_initial_accumulator_value(0.1);
    "adadelta": Adadelta, AdadeltaConfig::new().with_weight_decay(0.1);
    "nadam": NAdam, NAdamConfig::new().with_weight_decay(0.1);
    "nadam decoupled": NAdam, NAdamConfig::new().with_weight_decay(0.1).with_decoupled_weight_decay(true);
    "radam": RAdam, RAdamConfig::new().with_weight_decay(0.1);
    "adamax": Adamax, AdamaxConfig::new().with_weight_decay(0.1).with_decay_mask(MASK);
    "lion": Lion, LionConfig::new().with_weight_decay(0.1);
    "lamb": Lamb, LambConfig::new();
    "lamb decay": Lamb, LambConfig::new().with_weight_decay(0.1).with_decay_mask(MASK);
    "muon": Muon, MuonConfig::new();
};

/// Two matrices, one of them called a bias.
fn params<T: FloatElement>() -> Vec<VecParam<T>> {
    let values = |n: usize| (0..n).map(|i| T::from_f64(0.3 - 0.2 * i as f64)).collect();
    vec![
        VecParam::new("w", &[3, 2], values(6)),
        VecParam::new("bias", &[1, 3], values(3)).with_kind(ParamKind::Bias),
    ]
}

/// The values after some steps with these gradients, of 9 elements each.
fn run<T: FloatElement>(rule: &mut dyn GradientTransform, steps: &[Vec<f64>]) -> Vec<f64>
where
    Vec<VecParam<T>>: Parameters,
{
    let mut params = params::<T>();
    go_on(rule, &mut params, steps);
    params.iter().flat_map(|p| p.value.iter().map(|x| FloatElement::to_f64(*x))).collect()
}

fn go_on<T: FloatElement>(
    rule: &mut dyn GradientTransform,
    params: &mut Vec<VecParam<T>>,
    steps: &[Vec<f64>],
) where
    Vec<VecParam<T>>: Parameters,
{
    for (t, grads) in steps.iter().enumerate() {
        let cast = |g: &[f64]| Some(g.iter().map(|&g| T::from_f64(g)).collect());
        params[0].grad = cast(&grads[..6]);
        params[1].grad = cast(&grads[6..]);
        rule.step(0.1 / (t + 1) as f64, params).unwrap();
    }
}

proptest! {
    #[test]
    fn f32_and_f64_agree_to_the_bit(
        kind in 0..PAIRS.len(),
        steps in prop::collection::vec(prop::collection::vec(-3.0..3.0, 9), 1..9),
    ) {
        let (mut fused, mut chain) = PAIRS[kind].1();
        prop_assert_eq!(run::<f32>(&mut *fused, &steps), run::<f32>(&mut chain, &steps), "{}", PAIRS[kind].0);
        let (mut fused, mut chain) = PAIRS[kind].1();
        prop_assert_eq!(run::<f64>(&mut *fused, &steps), run::<f64>(&mut chain, &steps), "{}", PAIRS[kind].0);
    }
}

#[test]
fn a_restored_chain_goes_on_to_the_bit() {
    let steps: Vec<Vec<f64>> =
        (0..3).map(|t| (0..9).map(|i| ((t * 9 + i) as f64 * 0.7).cos()).collect()).collect();
    for (name, make) in PAIRS {
        let (mut p, mut whole) = (params::<f32>(), make().1);
        go_on(&mut whole, &mut p, &steps);
        go_on(&mut whole, &mut p, &steps);
        let (mut q, mut first, mut second) = (params::<f32>(), make().1, make().1);
        go_on(&mut first, &mut q, &steps);
        second.load_state(&first.save_state()).unwrap();
        go_on(&mut second, &mut q, &steps);
        assert_eq!(p, q, "{name}");
        assert_eq!(whole.save_state(), second.save_state(), "{name}");
    }
}

/// Gradients without their parameters.
struct Alone(Vec<f32>);
impl Parameters for Alone {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        f(ParamMut {
            name: "g",
            shape: &[self.0.len()],
            kind: ParamKind::Weight,
            value: None,
            grad: Some(self.0.as_mut_slice().into()),
        });
    }
}

#[test]
fn stages_that_scale_need_no_values_and_stages_that_move_them_do() {
    let mut grads = Alone(vec![4.0, -0.5]);
    ScaleByAdam::new(AdamConfig::adam()).unwrap().step(0.1, &mut grads).unwrap();
    assert!((grads.0[0] - 1.0).abs() < 1e-6 && (grads.0[1] + 1.0).abs() < 1e-6, "{:?}", grads.0);
    ScaleBySign::new().step(0.1, &mut grads).unwrap();
    Scale::new(0.5).unwrap().step(0.1, &mut grads).unwrap();
    assert_eq!(grads.0, [0.5, -0.5]);
    let missing = Err(StepError::MissingValue { name: "g".into() });
    assert_eq!(ApplyUpdates::new().step(0.1, &mut grads), missing);
    let mut decay = AddDecayedWeights::new(0.1, DecayMask::All).unwrap();
    assert_eq!(decay.step(0.1, &mut grads), missing);
    assert_eq!(grads.0, [0.5, -0.5]);
}

#[test]
fn bad_stages_are_refused() {
    assert!(Scale::new(f64::NAN).is_err());
    assert!(AddDecayedWeights::new(-0.1, DecayMask::All).is_err());
    assert!(ApplyUpdates::decoupled(f64::INFINITY, DecayMask::All).is_err());
    assert!(AddNoise::new(-1.0, 0.5, 0).is_err() && AddNoise::new(1.0, f64::NAN, 0).is_err());
}

/// Each update is rounded to 8 bits between stages: a share of 2^-8 of how far the values went, and the value's own
/// rounding.
#[test]
fn bf16_agrees_up_to_the_rounding_between_stages() {
    let steps: Vec<Vec<f64>> =
        (0..4).map(|t| (0..9).map(|i| ((t * 9 + i) as f64 * 0.7).sin()).collect()).collect();
    for (name, make) in PAIRS {
        // The sign of a rounded sum, and a matrix of nearly rank one, may come out otherwise.
        if ["lion", "muon"].contains(name) {
            continue;
        }
        let (mut fused, mut chain) = make();
        let (a, b) = (run::<bf16>(&mut *fused, &steps), run::<bf16>(&mut chain, &steps));
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 0.02, "{name}: {a} {b}");
        }
    }
}

#[test]
fn bad_configurations_have_no_chain() {
    assert!(AdamConfig::adam().with_eps(-1.0).chain().is_err());
    assert!(AdamConfig::adamw().with_weight_decay(-1.0).chain().is_err());
    assert!(LambConfig::new().with_betas(1.0, 0.5).chain().is_err());
    assert!(SgdConfig::new().with_nesterov(true).chain().is_err());
}
