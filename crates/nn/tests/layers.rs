//! Every layer: gradients of all its parameters and its input in f64, names, starting weights.

use gradus_autograd::{
    DType, Layer, Module, Tape, Tensor, Var,
    check::{gradcheck, random},
};
use gradus_init::Init;
use gradus_nn::{
    Activation, AvgPool2d, BatchNorm, Conv1d, Conv2d, Dropout, Embedding, Flatten, GlobalAvgPool2d,
    Gru, LayerNorm, Linear, Lstm, MaxPool2d, MultiHeadAttention, Probability, Seeds, Sequential,
    TransformerBlock,
};

/// The model in f64, so that differences can be taken.
fn widen<M: Module>(mut model: M) -> M {
    model.for_each_param_mut(&mut |_, p| *p.value_mut() = p.value().to_dtype(DType::F64));
    model
}

/// Compares the gradients of all parameters and of the input with central differences.
fn check<M: Module>(model: M, x: &Tensor, forward: impl Fn(&M, &Var) -> Var) {
    let mut model = widen(model);
    gradcheck(std::slice::from_ref(x), |v| forward(&model, &v[0]));
    let loss = |model: &M| {
        let tape = Tape::training(17, 0);
        let y = forward(model, &tape.constant(x.clone()));
        let weights = y.constant(random(y.shape(), 5));
        (&y * &weights).sum(&[], false)
    };
    let mut grads = loss(&model).backward();
    assert!(grads.bind(&mut model).is_ok(), "every parameter is reached");
    let mut all = Vec::new();
    model.for_each_param(&mut |name, p| {
        all.push((name.to_owned(), grads.get(p.id()).unwrap().to_vec::<f64>()))
    });
    for (at, (name, grad)) in all.iter().enumerate() {
        for i in (0..grad.len()).step_by(1 + grad.len() / 12) {
            let mut shifted = |by: f64| {
                let mut k = 0;
                model.for_each_param_mut(&mut |_, p| {
                    if k == at {
                        p.value_mut().make_mut::<f64>()[i] += by;
                    }
                    k += 1;
                });
                loss(&model).item()
            };
            let step = 1e-5;
            let up = shifted(step);
            let down = shifted(-2.0 * step);
            shifted(step);
            let want = (up - down) / (2.0 * step);
            assert!(
                (grad[i] - want).abs() < 1e-5 * (1.0 + want.abs()),
                "{name}[{i}]: {} and {want}",
                grad[i]
            );
        }
    }
}

#[test]
fn gradients_of_layers() {
    let s = &mut Seeds::new(1);
    let layer = |m: &dyn Layer, x: &Var| m.forward(x);
    check(Linear::new(3, 4, s), &random(&[2, 5, 3], 1), |m, x| layer(m, x));
    check(Linear::new(3, 4, s).without_bias(), &random(&[3], 1), |m, x| layer(m, x));
    check(Conv1d::new(2, 3, [2], s), &random(&[2, 2, 5], 1), |m, x| layer(m, x));
    check(Conv2d::new(2, 3, [3, 2], s), &random(&[2, 2, 4, 4], 1), |m, x| layer(m, x));
    check(
        MultiHeadAttention::new(6, 2, true, &Init::torch_linear(), s),
        &random(&[2, 4, 6], 1),
        |m, x| layer(m, x),
    );
    let p = Probability::new(0.3).unwrap();
    check(TransformerBlock::new(4, 2, false, p, s), &random(&[2, 3, 4], 1), |m, x| layer(m, x));
    check(Lstm::new(3, 2, 2, s), &random(&[2, 3, 3], 1), |m, x| m.forward(x).y);
    check(Gru::new(3, 2, 1, s), &random(&[2, 3, 3], 1), |m, x| {
        let out = m.forward(x);
        Var::concat(&[&out.y, &out.hn.transpose(0, 1)], 1)
    });
    let net = Sequential::new()
        .then(Conv2d::new(1, 4, [3, 3], s).without_bias())
        .then(BatchNorm::new(4))
        .then(Activation::Silu)
        .then(MaxPool2d::new([2, 2]))
        .then(Flatten)
        .then(LayerNorm::new(&[16]))
        .then(Dropout::new(p))
        .then(Linear::new(16, 2, s));
    check(net, &random(&[3, 1, 6, 6], 1), |m, x| layer(m, x));
    let net = Sequential::new()
        .then(AvgPool2d::new([2, 2]))
        .then(Conv2d::new(2, 3, [1, 1], s))
        .then(GlobalAvgPool2d);
    check(net, &random(&[2, 2, 4, 4], 1), |m, x| layer(m, x));
}

#[test]
fn gradients_of_an_embedding_add_up_over_repeated_rows() {
    let table = Embedding::new(3, 2, &mut Seeds::new(1));
    let tape = Tape::training(0, 0);
    let y = table.forward(&Tensor::from_slice(&[1i64, 1, 0], &[3]), &tape);
    assert_eq!(y.shape(), [3, 2]);
    let grads = y.sum(&[], false).backward();
    assert_eq!(
        grads.get(table.weight().id()).unwrap().to_vec::<f32>(),
        [1.0, 1.0, 2.0, 2.0, 0.0, 0.0]
    );
}

#[test]
fn activations_are_the_functions_they_are_named_after() {
    let tape = Tape::evaluation();
    let x = tape.constant(Tensor::from_slice(&[-1.0f64, 2.0], &[2]));
    let check = |a: Activation, want: [f64; 2]| {
        let got = a.forward(&x).value().to_vec::<f64>();
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-9), "{a:?}: {got:?}");
    };
    check(Activation::Relu, [0.0, 2.0]);
    check(Activation::LeakyRelu { negative_slope: 0.1 }, [-0.1, 2.0]);
    check(Activation::Gelu, [-0.158_655_253_931, 1.954_499_736_104]);
    check(Activation::Silu, [-0.268_941_421_370, 1.761_594_155_956]);
    check(Activation::Tanh, [-0.761_594_155_956, 0.964_027_580_076]);
    check(Activation::Sigmoid, [0.268_941_421_370, 0.880_797_077_978]);
}

#[test]
fn names_are_those_of_pytorch() {
    let s = &mut Seeds::new(0);
    let net =
        Sequential::new().then(Linear::new(2, 3, s)).then(Activation::Relu).then(BatchNorm::new(3));
    let names: Vec<String> = net.snapshot().iter().map(|(n, _)| n.to_owned()).collect();
    assert_eq!(
        names,
        [
            "0.bias",
            "0.weight",
            "2.bias",
            "2.num_batches_tracked",
            "2.running_mean",
            "2.running_var",
            "2.weight"
        ]
    );
}

#[test]
fn starting_weights_are_pytorchs_and_a_function_of_the_seed() {
    let make = |seed| Linear::new(400, 300, &mut Seeds::new(seed)).weight().value().to_vec::<f32>();
    let w = make(3);
    assert_eq!(w, make(3));
    assert_ne!(w, make(4));
    let bound = 1.0 / 400f32.sqrt();
    assert!(w.iter().all(|x| x.abs() <= bound));
    let var = w.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / w.len() as f64;
    assert!((var.sqrt() / (f64::from(bound) / 3f64.sqrt()) - 1.0).abs() < 0.01);
    let mut s = Seeds::new(3);
    let (a, b) = (Linear::new(5, 5, &mut s), Linear::new(5, 5, &mut s));
    assert_ne!(a.weight().value().to_vec::<f32>(), b.weight().value().to_vec::<f32>());
}

#[test]
fn a_frozen_layer_gets_no_gradient_and_a_forgotten_one_is_named() {
    let s = &mut Seeds::new(0);
    let mut net = Sequential::new().then(Linear::new(2, 2, s)).then(Linear::new(2, 1, s));
    net.for_each_param_mut(&mut |name, p| p.set_trainable(!name.starts_with("0.")));
    let x = Tape::training(0, 0).constant(Tensor::ones(&[1, 2], DType::F32));
    let mut grads = net.forward(&x).sum(&[], false).backward();
    assert_eq!(grads.len(), 2);
    assert!(grads.bind(&mut net).is_ok());
    net.for_each_param_mut(&mut |_, p| p.set_trainable(true));
    let missing = grads.bind(&mut net).unwrap_err();
    assert_eq!(missing.names, ["0.weight", "0.bias"]);
}

#[test]
#[should_panic(expected = "linear: an input of shape [1, 3] and a weight of shape [2, 2]")]
fn a_wrong_width_panics() {
    let x = Tape::evaluation().constant(Tensor::ones(&[1, 3], DType::F32));
    let _ = Linear::new(2, 2, &mut Seeds::new(0)).forward(&x);
}
