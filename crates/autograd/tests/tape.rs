//! What the tape, the gradients and the modules promise.

use gradus_autograd::{
    Buffer, DType, Gradients, MissingGradients, Module, NameMismatch, Param, ParamKind, Snapshot,
    Tape, Tensor, Values, Var, module,
};
use gradus_core::Parameters;

fn row(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, &[values.len()])
}

fn param(values: &[f32]) -> Param {
    Param::new(row(values), ParamKind::Weight)
}

struct Pair {
    a: Param,
    b: Param,
    seen: Buffer,
}
module!(Pair { a, b, seen });

fn pair() -> Pair {
    Pair { a: param(&[2.0, 3.0]), b: param(&[5.0, 7.0]), seen: Buffer::new(row(&[0.0])) }
}

/// `sum(x y)`
fn dot(x: &Var, y: &Var) -> Var {
    (x * y).sum(&[], false)
}

#[test]
fn a_parameter_watched_twice_is_one_leaf() {
    let p = param(&[2.0, 3.0]);
    let tape = Tape::training(0, 0);
    let grads = dot(&tape.watch(&p), &tape.watch(&p)).backward();
    assert_eq!(grads.len(), 1);
    assert_eq!(grads.get(p.id()).unwrap().to_vec::<f32>(), [4.0, 6.0]);
}

#[test]
fn a_gradient_belongs_to_its_own_tape() {
    let (one, other) = (Tape::training(0, 0), Tape::training(0, 0));
    let (x, y) = (one.leaf(row(&[1.0])), other.leaf(row(&[10.0])));
    let mut grads = dot(&x, &x).backward();
    assert_eq!(grads.wrt(&x).unwrap().to_vec::<f32>(), [2.0]);
    assert!(grads.wrt(&y).is_none(), "the same place on another tape");
    assert!(grads.wrt(&x.detach()).is_none());
    grads.accumulate(dot(&y, &y).backward(), 1.0);
    assert_eq!((grads.len(), grads.wrt(&x).unwrap().to_vec::<f32>()), (2, vec![2.0]));
}

#[test]
fn micro_batches_add_up_by_parameter() {
    let model = pair();
    let pass = |x: &[f32], with_b: bool| {
        let tape = Tape::training(0, 0);
        let x = tape.constant(row(x));
        let y = dot(&tape.watch(&model.a), &x);
        let y = if with_b { y + dot(&tape.watch(&model.b), &x) } else { y };
        y.backward()
    };
    let mut total = Gradients::default();
    total.accumulate(pass(&[1.0, 2.0], false), 0.5);
    total.accumulate(pass(&[3.0, 4.0], true), 2.0);
    assert_eq!(total.get(model.a.id()).unwrap().to_vec::<f32>(), [6.5, 9.0]);
    assert_eq!(total.get(model.b.id()).unwrap().to_vec::<f32>(), [6.0, 8.0]);
}

#[test]
fn what_backward_did_not_reach_is_named_or_left_alone() {
    let mut model = pair();
    let tape = Tape::training(0, 0);
    let a = tape.watch(&model.a);
    let mut grads = dot(&a, &a).backward();
    let missing = grads.bind(&mut model).map(drop).unwrap_err();
    assert_eq!(missing, MissingGradients { names: vec!["b".into()] });
    let mut shown = Vec::new();
    grads
        .bind_reached(&mut model)
        .visit(&mut |p| shown.push((p.name.to_owned(), p.grad.is_some())));
    assert_eq!(shown, [("a".to_owned(), true)]);
    // A frozen parameter needs no gradient and is not shown.
    model.b.set_trainable(false);
    let mut shown = 0;
    grads.bind(&mut model).unwrap().visit(&mut |_| shown += 1);
    assert_eq!(shown, 1);
    // Its value is not shown either.
    let mut shown = 0;
    Values(&mut model).visit(&mut |p| shown += p.value.unwrap().len());
    assert_eq!(shown, 2);
    assert!(!Tape::training(0, 0).watch(&model.b).is_tracked());
}

#[test]
#[should_panic(expected = "b is a clone of a parameter before it")]
fn a_model_with_a_parameter_and_its_clone_is_refused() {
    let mut model = pair();
    model.b = model.a.clone();
    let tape = Tape::training(0, 0);
    let mut grads = dot(&tape.watch(&model.a), &tape.watch(&model.b)).backward();
    let _ = grads.bind(&mut model);
}

#[test]
#[should_panic(expected = "watch: a parameter of shape [2] and a clone of it that has changed")]
fn a_changed_clone_is_not_taken_for_the_parameter() {
    let student = param(&[1.0, 2.0]);
    let mut teacher = student.clone();
    teacher.value_mut().scale_assign(0.5);
    let tape = Tape::training(0, 0);
    let _ = dot(&tape.watch(&student), &tape.watch(&teacher));
}

#[test]
fn a_frozen_clone_is_a_constant_beside_the_parameter() {
    let student = param(&[1.0, 2.0]);
    let mut teacher = student.clone();
    teacher.value_mut().scale_assign(0.5);
    teacher.set_trainable(false);
    let tape = Tape::training(0, 0);
    let grads = dot(&tape.watch(&student), &tape.watch(&teacher)).backward();
    assert_eq!(grads.get(student.id()).unwrap().to_vec::<f32>(), [0.5, 1.0]);
}

#[test]
fn a_tape_that_does_not_record_gives_no_gradient() {
    let p = param(&[1.0]);
    let tape = Tape::evaluation();
    let y = dot(&tape.watch(&p), &tape.leaf(row(&[1.0])));
    assert!(!tape.is_training() && !y.is_tracked() && y.backward().is_empty());
    let tape = Tape::frozen();
    assert!(!tape.is_training() && tape.watch(&p).is_tracked());
}

#[test]
fn several_outputs_have_upstream_gradients_of_their_own() {
    let tape = Tape::training(0, 0);
    let x = tape.leaf(row(&[1.0, 2.0]));
    let (double, square) = (&x * 2.0, &x * &x);
    let grads = tape.backward(&[(&double, row(&[1.0, 10.0])), (&square, row(&[0.5, 0.0]))]);
    assert_eq!(grads.wrt(&x).unwrap().to_vec::<f32>(), [3.0, 20.0]);
}

#[test]
fn a_long_chain_overflows_no_stack() {
    let tape = Tape::training(0, 0);
    let leaf = tape.leaf(Tensor::scalar(1f32));
    let chain = |n| (0..n).fold(leaf.clone(), |x, _| x.add_scalar(1.0));
    let y = chain(200_000);
    assert_eq!(y.item(), 200_001.0);
    assert_eq!(y.backward().wrt(&leaf).unwrap().item(), 1.0);
    // And one that is dropped without ever going backward.
    let tape = Tape::training(0, 0);
    let leaf = tape.leaf(Tensor::scalar(1f32));
    drop((0..200_000).fold(leaf, |x, _| x.add_scalar(1.0)));
}

#[test]
fn random_numbers_differ_by_seed_step_and_place() {
    let draw = |seed, step, skip: usize| {
        let tape = Tape::training(seed, step);
        for _ in 0..skip {
            let _ = tape.rng_stream();
        }
        tape.rng_stream().uniform(0)
    };
    assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
    let all = [draw(0, 0, 0), draw(1, 0, 0), draw(0, 1, 0), draw(0, 0, 1)];
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| a != b), "{all:?}");
    }
}

#[test]
#[should_panic(expected = "backward: this tape has already gone backward")]
fn a_tape_goes_backward_once() {
    let tape = Tape::training(0, 0);
    let y = tape.leaf(row(&[1.0])).sum(&[], false);
    drop(y.backward());
    drop(y.backward());
}

#[test]
#[should_panic(expected = "leaf: this tape has already gone backward")]
fn a_spent_tape_takes_no_leaf() {
    let tape = Tape::training(0, 0);
    drop(tape.leaf(row(&[1.0])).backward());
    let _ = tape.leaf(row(&[1.0]));
}

#[test]
#[should_panic(expected = "add: operands lie on different tapes")]
fn tapes_do_not_mix() {
    let (one, other) = (Tape::training(0, 0), Tape::training(0, 0));
    let _ = one.leaf(row(&[1.0])) + other.leaf(row(&[1.0]));
}

#[test]
#[should_panic(expected = "bad: shape of input 0 and of its gradient")]
fn a_backward_of_the_wrong_shape_names_its_operation() {
    let x = Tape::training(0, 0).leaf(row(&[1.0, 2.0]));
    let y = Var::op("bad", &[&x], row(&[3.0]), |g, sink| sink.add(0, g));
    drop(y.backward());
}

#[test]
#[should_panic(expected = "a value of shape [2] is no scalar")]
fn backward_starts_from_a_scalar() {
    drop(Tape::training(0, 0).leaf(row(&[1.0, 2.0])).backward());
}

#[test]
fn a_snapshot_comes_back_whole_or_not_at_all() {
    let mut model = pair();
    let before = model.snapshot();
    model.a.value_mut().scale_assign(2.0);
    model.seen.set(row(&[1.0]));
    let changed = model.snapshot();
    let names: Vec<&str> = changed.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "seen"]);
    let with = |name: &str, value: Option<Tensor>| -> Snapshot {
        let others = before.iter().filter(|(n, _)| *n != name);
        let kept = others.map(|(n, t)| (n.to_owned(), t.clone()));
        kept.chain(value.map(|v| (name.to_owned(), v))).collect()
    };
    for (bad, error) in [
        (with("seen", None), "seen is missing in the snapshot"),
        (with("c", Some(row(&[1.0]))), "c is in the snapshot but not in the model"),
        (with("b", Some(row(&[1.0]))), "b is f32 [2] in the model and f32 [1] in the snapshot"),
        (
            with("b", Some(Tensor::zeros(&[2], DType::F64))),
            "b is f32 [2] in the model and f64 [2] in the snapshot",
        ),
    ] {
        let found: NameMismatch = model.restore(&bad).unwrap_err();
        assert_eq!(found.to_string(), error);
        for (name, value) in model.snapshot().iter() {
            let kept = changed.get(name).unwrap();
            assert_eq!(value.to_vec::<f32>(), kept.to_vec::<f32>(), "{error}: {name} has changed");
        }
    }
    model.restore(&before).unwrap();
    assert_eq!(model.a.value().to_vec::<f32>(), [2.0, 3.0]);
    assert_eq!(model.seen.get().to_vec::<f32>(), [0.0]);
}

#[test]
fn handles_cross_threads() {
    fn check<T: Send + Sync>() {}
    check::<Var>();
    check::<Tape>();
    check::<Gradients>();
    check::<Pair>();
}

#[test]
fn a_chain_of_a_hundred_thousand_operations_needs_no_stack() {
    // A frame a link would overflow this stack after some hundred links, in backward or in a drop.
    let chain = || {
        for backward in [true, false] {
            let tape = Tape::training(0, 0);
            let x = tape.leaf(Tensor::from_slice(&[1f64], &[1]));
            let mut y = x.clone();
            for _ in 0..100_000 {
                y = y.affine(0.5, 1.0);
            }
            if backward {
                let sum = (&y + &x).sum(&[], false);
                assert_eq!(sum.backward().wrt(&x).unwrap().to_vec::<f64>(), [1.0]);
            }
        }
    };
    std::thread::Builder::new().stack_size(128 << 10).spawn(chain).unwrap().join().unwrap();
}

#[test]
fn a_monte_carlo_tape_draws_and_is_evaluation_otherwise() {
    let tape = Tape::monte_carlo(1, 7, 2);
    assert!(tape.is_stochastic() && !tape.is_training());
    assert_eq!(tape.step(), 7);
    assert!(!tape.leaf(row(&[1.0])).is_tracked());
    let draws = |tape: Tape| tape.rng_stream();
    assert_eq!(draws(tape), draws(Tape::monte_carlo(1, 7, 2)));
    for other in [
        Tape::monte_carlo(1, 7, 3),
        Tape::monte_carlo(2, 7, 2),
        Tape::training(1, 7),
        Tape::training(2, 7),
    ] {
        assert_ne!(draws(Tape::monte_carlo(1, 7, 2)), draws(other));
    }
    for plain in [Tape::evaluation(), Tape::frozen()] {
        assert!(!plain.is_stochastic());
    }
    assert!(Tape::training(0, 0).is_stochastic());
}

#[test]
fn a_tape_says_what_it_is_for() {
    let of = |tape: Tape| {
        let leaf = tape.leaf(Tensor::scalar(1f32));
        (tape.is_training(), tape.is_calibrating(), leaf.is_tracked())
    };
    assert_eq!(of(Tape::training(0, 0)), (true, false, true));
    assert_eq!(of(Tape::frozen()), (false, false, true));
    assert_eq!(of(Tape::evaluation()), (false, false, false));
    assert_eq!(of(Tape::calibration()), (false, true, false));
}
