//! Losses against central differences, and against their plain composition.

use gradus_autograd::{
    CrossEntropy, DType, Reduction, Tape, Tensor, Var,
    check::{gradcheck, random},
};

const REDUCTIONS: [Reduction; 4] =
    [Reduction::Mean, Reduction::Sum, Reduction::BatchMean, Reduction::None];

/// A loss of two tensors at dense, transposed, small and empty operands. `a - b` stays away from kinks by chance.
fn check_pairs(f: impl Fn(&Var, &Var, Reduction) -> Var) {
    for reduction in REDUCTIONS {
        for (a, b) in [
            (random(&[3, 4], 1), random(&[3, 4], 2)),
            (random(&[4, 3], 3).transpose(0, 1), random(&[3, 8], 4).slice(1, 0, None, 2)),
            (random(&[1, 1], 5), random(&[1, 1], 6)),
        ] {
            gradcheck(&[a, b], |v| f(&v[0], &v[1], reduction));
        }
    }
    for reduction in [Reduction::Sum, Reduction::None] {
        gradcheck(&[random(&[0, 3], 7), random(&[0, 3], 8)], |v| f(&v[0], &v[1], reduction));
    }
}

#[test]
fn distances() {
    check_pairs(|a, b, r| a.mse_loss(b, r));
    check_pairs(|a, b, r| a.l1_loss(b, r));
    for k in [0.3, 1.0, 5.0] {
        check_pairs(|a, b, r| a.smooth_l1_loss(b, k, r));
        check_pairs(|a, b, r| a.huber_loss(b, k, r));
    }
    check_pairs(|a, b, r| a.smooth_l1_loss(b, 0.0, r));
    gradcheck(&[random(&[3], 1)], |v| v[0].mse_loss(&v[0].cumsum(0), Reduction::Sum));
    gradcheck(&[random(&[3], 1)], |v| v[0].mse_loss(&v[0], Reduction::Sum));
}

#[test]
fn divergences() {
    check_pairs(|a, b, r| a.kl_div(b, true, r));
    check_pairs(|a, b, r| a.kl_div(&b.softmax(-1), false, r));
}

#[test]
fn binary_cross_entropy() {
    let x = random(&[4, 3], 1).transpose(0, 1);
    let y = random(&[3, 4], 2).softmax(1);
    let (w, p) = (random(&[3, 1], 3).softmax(0), random(&[4], 4).softmax(0));
    for reduction in REDUCTIONS {
        for weight in [None, Some(&w)] {
            for pos_weight in [None, Some(&p)] {
                gradcheck(std::slice::from_ref(&x), |v| {
                    v[0].bce_with_logits(&y, weight, pos_weight, reduction)
                });
            }
        }
    }
    let ones = Tensor::ones(&[4], DType::F64);
    let tape = Tape::evaluation();
    let x = tape.constant(x);
    let plain = x.bce_with_logits(&y, None, None, Reduction::None).value().to_vec::<f64>();
    let weighted =
        x.bce_with_logits(&y, Some(&ones), Some(&ones), Reduction::None).value().to_vec::<f64>();
    assert_eq!(plain, weighted);
}

/// Logits and labels of some layouts, among them ignored labels (-100).
fn classified() -> Vec<(Tensor, Tensor)> {
    vec![
        (random(&[4, 5], 1), Tensor::from_slice(&[0i64, 4, -100, 2], &[4])),
        (random(&[5, 4], 2).transpose(0, 1), Tensor::from_slice(&[3i64, 0, 1, -100], &[4])),
        (random(&[2, 3, 2, 2], 3), Tensor::from_slice(&[0i64, 1, 2, 0, -100, 1, 2, 2], &[2, 2, 2])),
        (random(&[3], 4), Tensor::scalar(1i64)),
        (random(&[2, 1], 5), Tensor::from_slice(&[0i64, 0], &[2])),
    ]
}

fn options() -> Vec<CrossEntropy> {
    let mut all = Vec::new();
    for reduction in REDUCTIONS {
        for smoothing in [0.0, 0.2, 1.0] {
            all.push(
                CrossEntropy::default().with_label_smoothing(smoothing).with_reduction(reduction),
            );
        }
    }
    all
}

fn class_weight(x: &Tensor) -> Tensor {
    let classes = x.shape()[usize::from(x.ndim() > 1)];
    random(&[classes], 9).affine(0.4, 1.0)
}

#[test]
fn cross_entropy_of_labels() {
    for (x, labels) in classified() {
        for options in options() {
            gradcheck(std::slice::from_ref(&x), |v| v[0].cross_entropy(&labels, &options));
            let options = options.with_weight(class_weight(&x)).with_ignore_index(0);
            let labels = labels.to_vec::<i64>().iter().map(|l| (*l).max(0)).collect::<Vec<_>>();
            let labels = Tensor::from_slice(&labels, &classified_shape(&x));
            if options.reduction != Reduction::Mean
                || labels.to_vec::<i64>().iter().any(|&l| l != 0)
            {
                gradcheck(std::slice::from_ref(&x), |v| v[0].cross_entropy(&labels, &options));
            }
        }
    }
}

fn classified_shape(x: &Tensor) -> Vec<usize> {
    let mut shape = x.shape().to_vec();
    shape.remove(usize::from(x.ndim() > 1));
    shape
}

#[test]
fn cross_entropy_of_probabilities() {
    for (x, _) in classified() {
        let dim = isize::from(x.ndim() > 1);
        let target = random(x.shape(), 11).softmax(dim);
        for options in options() {
            gradcheck(std::slice::from_ref(&x), |v| v[0].cross_entropy(&target, &options));
            let options = options.with_weight(class_weight(&x));
            gradcheck(std::slice::from_ref(&x), |v| v[0].cross_entropy(&target, &options));
        }
    }
}

#[test]
fn nll() {
    for (x, labels) in classified() {
        for reduction in REDUCTIONS {
            gradcheck(std::slice::from_ref(&x), |v| v[0].nll_loss(&labels, None, -100, reduction));
            let w = class_weight(&x);
            gradcheck(std::slice::from_ref(&x), |v| {
                v[0].nll_loss(&labels, Some(&w), -100, reduction)
            });
        }
    }
}

/// The loss and the gradient of the input.
fn both(x: &Tensor, f: impl Fn(&Var) -> Var) -> (Vec<f64>, Vec<f64>) {
    let tape = Tape::training(0, 0);
    let v = tape.leaf(x.clone());
    let y = f(&v);
    let grads = tape.backward(&[(&y, Tensor::ones(y.shape(), y.dtype()))]);
    let wide = |t: &Tensor| t.to_dtype(DType::F64).to_vec::<f64>();
    (wide(y.value()), wide(grads.wrt(&v).unwrap()))
}

fn assert_near((a, da): (Vec<f64>, Vec<f64>), (b, db): (Vec<f64>, Vec<f64>), tolerance: f64) {
    for (a, b) in a.iter().chain(&da).zip(b.iter().chain(&db)) {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{a} and {b}");
    }
    assert_eq!((a.len(), da.len()), (b.len(), db.len()));
}

#[test]
fn the_fused_loss_is_log_softmax_and_nll() {
    for dtype in [DType::F32, DType::F64] {
        let tolerance = if dtype == DType::F32 { 1e-6 } else { 1e-12 };
        for (n, classes) in [(3, 7), (2, 2500), (300, 40)] {
            let x = random(&[n, classes], 12).affine(8.0, 0.0).to_dtype(dtype);
            let labels: Vec<i64> =
                (0..n).map(|i| if i == 1 { -100 } else { (i * 31 % classes) as i64 }).collect();
            let labels = Tensor::from_slice(&labels, &[n]);
            let w = class_weight(&x).to_dtype(dtype);
            for reduction in REDUCTIONS {
                let options =
                    CrossEntropy::default().with_weight(w.clone()).with_reduction(reduction);
                let fused = both(&x, |v| v.cross_entropy(&labels, &options));
                let plain =
                    both(&x, |v| v.log_softmax(1).nll_loss(&labels, Some(&w), -100, reduction));
                assert_near(fused, plain, tolerance);
            }
        }
    }
}

#[test]
fn labels_are_probabilities_of_one_class() {
    let x = random(&[3, 4], 13);
    let labels = Tensor::from_slice(&[2i64, 0, 3], &[3]);
    let mut hot = Tensor::zeros(&[3, 4], DType::F64);
    for (i, &l) in [2, 0, 3].iter().enumerate() {
        hot.make_mut::<f64>()[i * 4 + l] = 1.0;
    }
    for options in options() {
        let of_labels = both(&x, |v| v.cross_entropy(&labels, &options));
        assert_near(of_labels, both(&x, |v| v.cross_entropy(&hot, &options)), 1e-14);
    }
}

#[test]
fn edges_of_cross_entropy() {
    let none = Tensor::from_slice(&[-100i64, -100], &[2]);
    let (loss, grad) =
        both(&random(&[2, 3], 14), |v| v.cross_entropy(&none, &CrossEntropy::default()));
    assert!(loss[0].is_nan());
    assert_eq!(grad, [0.0; 6]);
    // No rows at all.
    let no_rows = Tensor::from_slice::<i64>(&[], &[0]);
    let sum = CrossEntropy::default().with_reduction(Reduction::Sum);
    assert_eq!(
        both(&random(&[0, 3], 15), |v| v.cross_entropy(&no_rows, &sum)),
        (vec![0.0], vec![])
    );
    // An ignored row may hold anything, and an impossible class that nobody asks for costs nothing.
    let x = Tensor::from_slice(&[f32::NAN, 1.0, f32::NEG_INFINITY, 2.0], &[2, 2]);
    let labels = Tensor::from_slice(&[-100i64, 1], &[2]);
    assert_eq!(
        both(&x, |v| v.cross_entropy(&labels, &CrossEntropy::default())),
        (vec![0.0], vec![0.0; 4])
    );
    let x = Tensor::from_slice(&[f64::NEG_INFINITY, 2.0], &[1, 2]);
    let certain = Tensor::from_slice(&[0.0f64, 1.0], &[1, 2]);
    assert_eq!(
        both(&x, |v| v.cross_entropy(&certain, &CrossEntropy::default())),
        (vec![0.0], vec![0.0; 2])
    );
    // Large logits, in f32: only their differences matter.
    let x = Tensor::from_slice(&[1e4f32, 1e4 + 1.0], &[1, 2]);
    let label = Tensor::from_slice(&[0i64], &[1]);
    let (loss, grad) = both(&x, |v| v.cross_entropy(&label, &CrossEntropy::default()));
    assert!((loss[0] - 1.313_261_687_5).abs() < 1e-6 && (grad[1] - 0.731_058_578_6).abs() < 1e-6);
}

#[test]
fn kinks_and_zeros() {
    let x = Tensor::from_slice(&[1.0f64, 3.0], &[2]);
    let flat = |f: &dyn Fn(&Var, &Var) -> Var| both(&x, |v| f(v, &v.constant(x.clone()))).1;
    assert_eq!(flat(&|a, b| a.l1_loss(b, Reduction::Sum)), [0.0; 2]);
    assert_eq!(flat(&|a, b| a.smooth_l1_loss(b, 0.0, Reduction::Sum)), [0.0; 2]);
    // PyTorch's slopes at NaN: none where the slope is a sign, NaN where it is a difference.
    let nan = Tensor::from_slice(&[f64::NAN; 2], &[2]);
    let slope = |f: &dyn Fn(&Var, &Var) -> Var| both(&nan, |v| f(v, &v.constant(x.clone()))).1;
    assert_eq!(slope(&|a, b| a.l1_loss(b, Reduction::Sum)), [0.0; 2]);
    assert_eq!(slope(&|a, b| a.smooth_l1_loss(b, 0.0, Reduction::Sum)), [0.0; 2]);
    assert!(slope(&|a, b| a.smooth_l1_loss(b, 1.0, Reduction::Sum))[0].is_nan());
    assert!(slope(&|a, b| a.huber_loss(b, 1.0, Reduction::Sum))[0].is_nan());
    let p = Tensor::from_slice(&[0.0f64, 1.0], &[2]);
    let q = Tensor::from_slice(&[f64::NEG_INFINITY, -2.0], &[2]);
    let (loss, _) = both(&q, |v| v.kl_div(&v.constant(p.clone()), false, Reduction::None));
    assert_eq!(loss, [0.0, 2.0]);
    let far = Tensor::from_slice(&[1000f32, -1000.0], &[2]);
    let y = Tensor::from_slice(&[0f32, 1.0], &[2]);
    assert_eq!(
        both(&far, |v| v.bce_with_logits(&y, None, None, Reduction::None)),
        (vec![1000.0; 2], vec![1.0, -1.0])
    );
}

#[test]
#[should_panic(
    expected = "cross_entropy: label 5 of row 1 is none of 3 classes, nor -100, which is ignored"
)]
fn a_label_out_of_range_panics_with_its_row() {
    let x = Tape::evaluation().constant(random(&[2, 3], 1));
    let _ = x.cross_entropy(&Tensor::from_slice(&[0i64, 5], &[2]), &CrossEntropy::default());
}

#[test]
#[should_panic(expected = "mse_loss: shapes of the input and its target (they do not broadcast)")]
fn a_target_of_another_shape_panics() {
    let x = Tape::evaluation().constant(random(&[2, 1], 1));
    let _ = x.mse_loss(&x.constant(random(&[2], 1)), Reduction::Mean);
}
