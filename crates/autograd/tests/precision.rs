//! Mixed precision: what a policy casts, what that costs, and what gradients come back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use gradus_autograd::{
    DType::{self, BF16, F16, F32, F64},
    Module, Param, ParamKind, Precision, Tape, Tensor, Var, module,
};
use gradus_core::{RngStream, bf16};

/// Products in one type, losses in f32; modules below `head` are left out.
#[derive(Debug)]
struct Products {
    to: DType,
    by_module: bool,
    asked: AtomicUsize,
}

impl Products {
    fn new(to: DType) -> Arc<Self> {
        Arc::new(Self { to, by_module: false, asked: AtomicUsize::new(0) })
    }
}

impl Precision for Products {
    fn cast(&self, module: &str, op: &str, inputs: &[DType]) -> Option<DType> {
        self.asked.fetch_add(1, Relaxed);
        if inputs.contains(&F64) {
            return None;
        }
        match op {
            "matmul" | "linear" | "conv2d" | "conv1d" | "lstm" | "scaled_dot_product_attention" => {
                Some(if self.by_module && module.starts_with("head") { F32 } else { self.to })
            }
            "cross_entropy" | "mse_loss" => Some(F32),
            _ => None,
        }
    }

    fn differs_by_module(&self) -> bool {
        self.by_module
    }
}

fn random(shape: &[usize], seed: u64) -> Tensor {
    let stream = RngStream::new(seed, 0, 0);
    let n: usize = shape.iter().product();
    let x: Vec<f32> = (0..n as u64).map(|i| stream.uniform(i) as f32 * 2.0 - 1.0).collect();
    Tensor::from_slice(&x, shape)
}

fn rounded(t: &Tensor) -> Tensor {
    t.to_dtype(BF16).to_dtype(F32)
}

fn param(shape: &[usize], seed: u64) -> Param {
    Param::new(random(shape, seed), ParamKind::Weight)
}

#[test]
fn the_gradient_of_a_cast_parameter_is_not_rounded() {
    let tape = Tape::training(0, 0).with_precision(Products::new(BF16));
    let (x, w) = (random(&[64, 5], 1), param(&[3, 5], 2));
    let y = tape.constant(x.clone()).linear(&tape.watch(&w), None);
    assert_eq!(y.dtype(), BF16);
    let g = random(&[64, 3], 3);
    let grads = tape.backward(&[(&y, g.clone())]);
    let got = grads.get(w.id()).unwrap();
    assert_eq!(got.dtype(), F32);
    // Operands are rounded, their products and sums are not.
    let want = rounded(&g).transpose(0, 1).matmul(&rounded(&x));
    for (got, want) in got.to_vec::<f32>().into_iter().zip(want.to_vec::<f32>()) {
        assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{got}, not {want}");
    }
}

#[test]
fn a_parameter_is_cast_once_a_tape_and_gradients_of_its_uses_add_up() {
    for tape in [Tape::training(0, 0), Tape::evaluation()] {
        let tape = tape.with_precision(Products::new(BF16));
        let w = param(&[4, 4], 1);
        let x = tape.constant(random(&[2, 4], 2));
        let [first, second] = [(); 2].map(|()| {
            let watched = tape.watch(&w);
            let [cast] = Var::autocast("linear", [&watched]);
            cast.into_owned()
        });
        assert!(first.value().shares_buffer_with(second.value()));
        assert_eq!(first.dtype(), BF16);
        let y = x.linear(&tape.watch(&w), None).linear(&tape.watch(&w), None);
        if !tape.is_training() {
            continue;
        }
        let grads = y.sum(&[], false).backward();
        assert_eq!(grads.len(), 1);
        assert_eq!(grads.get(w.id()).unwrap().dtype(), F32);
    }
}

#[test]
fn a_clone_that_has_changed_is_cast_by_itself() {
    let tape = Tape::evaluation().with_precision(Products::new(BF16));
    let w = param(&[2, 2], 1);
    let mut average = w.clone();
    average.set(Tensor::zeros(&[2, 2], F32));
    let x = tape.constant(Tensor::ones(&[1, 2], F32));
    let y = |w: &Param| x.linear(&tape.watch(w), None).sum(&[], false).item();
    assert_ne!(y(&w), 0.0);
    assert_eq!(y(&average), 0.0);
    assert_ne!(y(&w), 0.0);
}

#[test]
fn a_tape_with_casts_is_freed() {
    let policy = Products::new(BF16);
    for tape in [Tape::training(0, 0), Tape::evaluation()] {
        let tape = tape.with_precision(policy.clone());
        let w = param(&[2, 2], 1);
        let _ = tape.constant(Tensor::ones(&[1, 2], F32)).linear(&tape.watch(&w), None);
    }
    assert_eq!(Arc::strong_count(&policy), 1);
}

#[test]
fn without_a_policy_nothing_is_cast_and_with_one_f64_is_not() {
    let tape = Tape::training(0, 0);
    let x = tape.leaf(random(&[2, 2], 1));
    assert_eq!(x.matmul(&x).dtype(), F32);
    let tape = Tape::training(0, 0).with_precision(Products::new(BF16));
    let x = tape.leaf(random(&[2, 2], 1).to_dtype(F64));
    assert_eq!(x.matmul(&x).dtype(), F64);
}

#[test]
fn different_types_are_promoted_and_gradients_come_back_in_their_own() {
    let tape = Tape::training(0, 0);
    let of = |dtype, shape: &[usize]| tape.leaf(Tensor::full(shape, 1.5, dtype));
    for (a, b, want) in
        [(F32, BF16, F32), (BF16, F32, F32), (F16, BF16, F32), (F32, F64, F64), (F16, F16, F16)]
    {
        let (x, y) = (of(a, &[2]), of(b, &[2]));
        for z in [&x + &y, &x - &y, &x * &y, &x / &y, x.pow(&y)] {
            assert_eq!(z.dtype(), want, "{a} and {b}");
        }
    }
    // A value without dimensions does not widen one that has some.
    assert_eq!((of(BF16, &[2]) * of(F32, &[])).dtype(), BF16);
    assert_eq!((of(F64, &[]) + of(F32, &[3])).dtype(), F32);
    let (x, y) = (of(F32, &[2, 3]), of(BF16, &[3]));
    let grads = (&x * &y).sum(&[], false).backward();
    assert_eq!(grads.wrt(&x).unwrap().to_vec::<f32>(), [1.5; 6]);
    assert_eq!(grads.wrt(&y).unwrap().to_vec::<bf16>(), [bf16::from_f32(3.0); 3]);
}

struct Net {
    body: Vec<Linear>,
    head: Linear,
}
struct Linear {
    weight: Param,
}
module!(Net { body, head });
module!(Linear { weight });

#[test]
fn modules_that_differ_are_known_by_their_parameters() {
    let linear = |seed| Linear { weight: param(&[4, 4], seed) };
    let net = Net { body: vec![linear(1), linear(2)], head: linear(3) };
    let policy = Arc::new(Products { to: BF16, by_module: true, asked: AtomicUsize::new(0) });
    let tape = Tape::training(0, 0).with_precision(policy).with_modules(&net);
    let x = tape.constant(random(&[2, 4], 4));
    let h = x.linear(&tape.watch(&net.body[0].weight), None);
    let h = h.linear(&tape.watch(&net.body[1].weight), None).relu();
    assert_eq!(h.dtype(), BF16);
    let y = h.linear(&tape.watch(&net.head.weight), None);
    assert_eq!(y.dtype(), F32);
    // Without parameters an operation belongs to where its operand was made, through others and through constants.
    assert_eq!(y.relu().matmul(&y.transpose(0, 1)).dtype(), F32);
    assert_eq!(y.detach().matmul(&y.constant(random(&[4, 2], 5))).dtype(), F32);
    assert_eq!(h.matmul(&h.transpose(0, 1)).dtype(), BF16);
    let grads = y.sum(&[], false).backward();
    net.for_each_param(&mut |name, p| {
        assert_eq!(grads.get(p.id()).unwrap().dtype(), F32, "{name}")
    });
}

#[test]
#[should_panic(expected = "the policy differs by module")]
fn modules_that_differ_and_are_not_known_panic() {
    let policy = Arc::new(Products { to: BF16, by_module: true, asked: AtomicUsize::new(0) });
    let tape = Tape::training(0, 0).with_precision(policy);
    let _ = tape.watch(&param(&[1, 1], 1));
}

#[test]
#[should_panic(expected = "with_precision: the tape is in use already")]
fn a_policy_for_a_tape_in_use_panics() {
    let tape = Tape::training(0, 0);
    let _x = tape.leaf(Tensor::zeros(&[1], F32));
    let _ = tape.with_precision(Products::new(BF16));
}

/// `f` of f32 leaves under the policy is near `f` without it, in value and gradients.
#[track_caller]
fn near(inputs: &[Tensor], lower: bool, f: impl Fn(&[Var]) -> Var) {
    let run = |policy: Option<DType>| {
        let tape = Tape::training(0, 0);
        let tape = match policy {
            Some(to) => tape.with_precision(Products::new(to)),
            None => tape,
        };
        let vars: Vec<Var> = inputs.iter().map(|t| tape.leaf(t.clone())).collect();
        let y = f(&vars);
        let dtype = y.dtype();
        let g = random(y.shape(), 77);
        let grads = tape.backward(&[(&y, g)]);
        let mut all = vec![y.into_value().to_dtype(F32)];
        all.extend(vars.iter().map(|v| grads.wrt(v).expect("every input is used").clone()));
        (all, dtype)
    };
    let (want, _) = run(None);
    for (to, eps) in [(BF16, 1.0 / 256.0), (F16, 1.0 / 2048.0)] {
        let (got, dtype) = run(Some(to));
        assert_eq!(dtype == to, lower, "the result is {dtype}");
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got.dtype(), F32);
            let (got, want) = (got.to_vec::<f32>(), want.to_vec::<f32>());
            let size = want.iter().fold(0f32, |m, x| m.max(x.abs()));
            for (g, w) in got.iter().zip(&want) {
                assert!(
                    (g - w).abs() <= 6.0 * eps * size,
                    "{to}, result {i}: {g}, not {w} (of {size})"
                );
            }
        }
    }
}

#[test]
fn every_operation_that_is_cast_is_near_itself_in_f32() {
    use gradus_tensor::{AttentionOptions, Cell, ConvOptions};
    near(&[random(&[6, 5], 1), random(&[5, 7], 2)], true, |v| v[0].matmul(&v[1]));
    near(&[random(&[3, 6, 5], 1), random(&[3, 5, 7], 2)], true, |v| v[0].matmul(&v[1]));
    near(&[random(&[3, 6, 5], 1), random(&[5, 7], 2)], true, |v| v[0].matmul(&v[1]));
    near(&[random(&[5], 1), random(&[5, 7], 2)], true, |v| v[0].matmul(&v[1]));
    let linear = [random(&[2, 6, 5], 1), random(&[7, 5], 2), random(&[7], 3)];
    near(&linear, true, |v| v[0].linear(&v[1], Some(&v[2])));
    let images = [random(&[2, 8, 6, 6], 1), random(&[9, 8, 3, 3], 2), random(&[9], 3)];
    for stride in [1, 2] {
        let options = ConvOptions::default().with_padding([1, 1]).with_stride([stride; 2]);
        near(&images, true, |v| v[0].conv2d(&v[1], Some(&v[2]), options));
    }
    let series = [random(&[2, 3, 9], 1), random(&[4, 3, 3], 2), random(&[4], 3)];
    near(&series, true, |v| v[0].conv1d(&v[1], Some(&v[2]), ConvOptions::default()));
    let heads = [1, 2, 3].map(|seed| random(&[2, 3, 10, 8], seed));
    let options = AttentionOptions::new().with_causal(true).with_mask(random(&[10, 10], 4));
    near(&heads, true, |v| v[0].scaled_dot_product_attention(&v[1], &v[2], &options));
    let cell = [
        random(&[2, 5, 3], 1),
        random(&[16, 3], 2),
        random(&[16, 4], 3),
        random(&[16], 4),
        random(&[16], 5),
        random(&[2, 4], 6),
        random(&[2, 4], 7),
    ];
    near(&cell, true, |v| {
        let weights = gradus_autograd::CellWeights {
            weight_ih: &v[1],
            weight_hh: &v[2],
            biases: Some([&v[3], &v[4]]),
        };
        v[0].recur(Cell::Lstm, weights, &v[5], Some(&v[6]), false).y
    });
    // A loss is f32 whatever it is of, and what follows a product keeps its type.
    let two = [random(&[6, 5], 1), random(&[5, 4], 2)];
    let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 0, 1], &[6]);
    near(&two, false, |v| v[0].matmul(&v[1]).cross_entropy(&labels, &Default::default()));
    near(&two, true, |v| v[0].matmul(&v[1]).gelu().softmax(-1));
    near(&two, false, |v| v[0].matmul(&v[1]).concat_with(&v[0]));
}

/// `[x w, x]`, of two types.
trait ConcatWith {
    fn concat_with(&self, x: &Var) -> Var;
}

impl ConcatWith for Var {
    fn concat_with(&self, x: &Var) -> Var {
        Var::concat(&[&self.to_dtype(F32), x], 1)
    }
}

#[test]
fn saved_values_of_16_bits_are_kept_in_16_bits() {
    // The result of exp is what backward keeps: rounded, its gradient is that of the rounded value.
    let tape = Tape::training(0, 0);
    let x = tape.leaf(Tensor::full(&[4], 0.3, BF16));
    let y = x.exp();
    let kept = y.value().to_vec::<bf16>();
    assert_eq!(y.dtype(), BF16);
    let grads = y.sum(&[], false).backward();
    assert_eq!(grads.wrt(&x).unwrap().to_vec::<bf16>(), kept);
}

#[test]
fn nan_and_infinity_go_through_casts() {
    let tape = Tape::training(0, 0).with_precision(Products::new(F16));
    let x = tape.leaf(Tensor::from_slice(&[f32::NAN, f32::INFINITY, 1e6, -1e-9], &[4, 1]));
    let one = tape.constant(Tensor::ones(&[1, 1], F32));
    let y = x.matmul(&one).into_value().to_dtype(F32).to_vec::<f32>();
    // What f16 cannot hold is infinite or 0.
    assert!(y[0].is_nan());
    assert_eq!(y[1..], [f32::INFINITY, f32::INFINITY, 0.0]);
}
