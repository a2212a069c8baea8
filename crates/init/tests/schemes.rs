//! Every scheme: its numbers, its pinned values, and what it refuses.

use gradus_core::{FloatElement, bf16, f16};
use gradus_init::{Distribution, FanMode, Init, InitError, Layout, Nonlinearity, Spread};

fn drawn(init: Init, shape: &[usize]) -> Vec<f64> {
    let mut out = vec![0.0; shape.iter().product()];
    init.fill(42, "fc.weight", shape, &mut out).unwrap();
    out
}

/// The first values for seed 42 and `fc.weight`. They may change in a major version only: a run that
/// is repeated starts from the same weights.
#[test]
fn values_are_pinned() {
    let of = |init: Init, shape: &[usize], want: [f64; 3]| {
        assert_eq!(drawn(init, shape)[..3], want, "{init:?}");
    };
    let check = |init: Init, want: [f64; 3]| of(init, &[3, 1], want);
    check(Init::uniform(-1.0, 1.0), [-0.7075611867476255, -0.5329227426555008, 0.0740789498668164]);
    check(Init::normal(0.0, 1.0), [-0.929688572883606, 0.3920355439186096, -0.5892895460128784]);
    check(Init::normal(1.0, 2.0), [-0.8593771457672119, 1.7840710878372192, -0.17857909202575684]);
    check(
        Init::trunc_normal(0.0, 1.0, -0.5, 9.0),
        [0.5374549627304077, 0.3920355439186096, 0.3821016848087311],
    );
    check(
        Init::trunc_normal(0.0, 1.0, 3.0, 4.0),
        [3.3146076102985758, 3.4004286513372888, 3.0114276183969535],
    );
    check(
        Init::trunc_normal(0.0, 1.0, 0.5, 0.75),
        [0.6615548516574843, 0.6833846571874433, 0.5092598687312065],
    );
    check(
        Init::xavier_uniform(1.0),
        [-0.8665819346649006, -0.6526943959152641, 0.09072781392745802],
    );
    check(
        Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn),
        [-1.314778166053813, 0.5544219736534828, -0.8333812538733838],
    );
    check(Init::lecun_normal(), [-1.0569138828788869, 0.44568452386628304, -0.6699321906093644]);
    check(Init::torch_linear(), [-0.7075611867476255, -0.5329227426555008, 0.0740789498668164]);
    let column = [-0.7956598493951574, 0.33551766788348153, -0.5043345106162225];
    of(
        Init::orthogonal(1.0),
        &[3, 2],
        [-0.7956598493951574, 0.5975678613325832, 0.33551766788348153],
    );
    of(Init::orthogonal(1.0), &[2, 3], column);
    of(Init::delta_orthogonal(1.0), &[3, 1, 1], column);
    of(Init::sparse(0.5, 1.0), &[6, 1], [-0.929688572883606, 0.3920355439186096, 0.0]);
}

#[test]
fn schemes_divide_by_their_fan() {
    let shape = [16, 8, 3, 3];
    let of = |init: Init| init.distribution(&shape).unwrap();
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
    let bound = |init| match of(init) {
        Distribution::Uniform { low, high } if low == -high => high,
        other => panic!("{other:?}"),
    };
    let std = |init| match of(init) {
        Distribution::Normal { mean: 0.0, std } => std,
        other => panic!("{other:?}"),
    };
    let leaky = |negative_slope| Nonlinearity::LeakyRelu { negative_slope };
    close(bound(Init::xavier_uniform(1.0)), 1.0 / 6.0);
    close(std(Init::xavier_normal(2.0)), 0.192_450_089_729_875_25);
    close(bound(Init::kaiming_uniform(leaky(0.2), FanMode::FanIn)), 0.283_069_258_536_148_95);
    close(std(Init::kaiming_normal(leaky(0.2), FanMode::FanIn)), 0.163_430_112_615_153_36);
    close(
        bound(Init::torch_linear()),
        bound(Init::kaiming_uniform(leaky(5f64.sqrt()), FanMode::FanIn)),
    );
    close(bound(Init::torch_bias(72)), bound(Init::torch_linear()));
    close(
        std(Init::variance_scaling(0.5, FanMode::FanOut, Spread::Normal)),
        0.058_925_565_098_878_96,
    );
    close(bound(Init::torch_linear().with_layout(Layout::InOut)), 1.0 / 12.0);
    let Distribution::TruncNormal { std, low, high, .. } = of(Init::lecun_normal()) else {
        panic!("lecun_normal is truncated")
    };
    close(high, 0.267_957_462_857_988_44);
    assert_eq!((low, high), (-2.0 * std, 2.0 * std));
}

#[test]
fn what_cannot_be_scaled_is_an_error() {
    let init = Init::torch_linear();
    assert_eq!(init.distribution(&[5]), Err(InitError::TooFewDims { shape: vec![5] }));
    assert_eq!(init.distribution(&[5, 0]), Err(InitError::ZeroFan { shape: vec![5, 0] }));
    let spectral = Init::variance_scaling(1.0, FanMode::Spectral, Spread::Normal);
    assert_eq!(spectral.distribution(&[0, 5]), Err(InitError::ZeroFan { shape: vec![0, 5] }));
    let mut kept = [7.0f32; 5];
    assert!(init.fill(0, "w", &[5], &mut kept).is_err());
    assert_eq!(kept, [7.0; 5]);
}

#[test]
fn numbers_out_of_range_are_named() {
    let name_of = |init: Init, shape: &[usize]| match init.distribution(shape) {
        Err(InitError::OutOfRange { name, .. }) => name,
        other => panic!("{init:?}: {other:?}"),
    };
    for x in [-1.0, f64::NAN, f64::INFINITY] {
        let scaling = Init::variance_scaling(x, FanMode::FanIn, Spread::Normal);
        for (init, name) in [
            (scaling, "scale"),
            (Init::xavier_normal(x), "gain"),
            (Init::kaiming_uniform(x, FanMode::FanOut), "gain"),
            (Init::orthogonal(x), "gain"),
            (Init::trunc_normal_corrected(0.0, x), "std"),
            (Init::sparse(0.5, x), "std"),
            (Init::sparse(x, 1.0), "sparsity"),
            (Init::ones().times(x), "factor"),
        ] {
            assert_eq!(name_of(init, &[2, 2]), name, "{init:?}");
        }
        assert_eq!(name_of(Init::delta_orthogonal(x), &[2, 2, 1]), "gain");
    }
}

#[test]
fn structured_schemes_refuse_other_shapes() {
    let wrong = |init: Init, shape: &[usize]| {
        matches!(init.distribution(shape), Err(InitError::WrongDims { .. }))
    };
    assert!(wrong(Init::identity(), &[2]) && wrong(Init::identity(), &[2, 2, 2]));
    assert!(wrong(Init::dirac(1), &[2, 2]) && wrong(Init::dirac(1), &[1; 6]));
    assert!(wrong(Init::sparse(0.1, 1.0), &[2, 2, 2]));
    assert!(wrong(Init::delta_orthogonal(1.0), &[2, 2]));
    let of = |init: Init, shape: &[usize]| init.distribution(shape).unwrap_err();
    assert_eq!(of(Init::orthogonal(1.0), &[2]), InitError::TooFewDims { shape: vec![2] });
    let narrowing = InitError::Narrowing { ins: 3, outs: 2 };
    assert_eq!(of(Init::delta_orthogonal(1.0), &[2, 3, 1]), narrowing);
    for groups in [0, 3] {
        let error = InitError::WrongGroups { groups, outs: 4 };
        assert_eq!(of(Init::dirac(groups), &[4, 2, 3]), error);
    }
}

#[test]
fn identities_and_diracs_have_their_ones() {
    assert_eq!(drawn(Init::identity(), &[2, 3]), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    assert_eq!(drawn(Init::identity().times(0.5), &[2, 1]), [0.5, 0.0]);
    // Two groups of two outputs on one input; the centre of an even kernel is its second tap.
    let dirac = drawn(Init::dirac(2), &[4, 1, 2]);
    assert_eq!(dirac, [0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    let last = drawn(Init::dirac(1).with_layout(Layout::KernelInOut), &[3, 2, 2]);
    assert_eq!(last, [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    let d = Init::dirac(1).distribution(&[2, 2, 3]).unwrap();
    assert!((d.mean() - 1.0 / 6.0).abs() < 1e-15 && (d.mean_square() - 1.0 / 6.0).abs() < 1e-15);
}

#[test]
fn a_delta_kernel_is_a_matrix_at_the_centre() {
    let w = drawn(Init::delta_orthogonal(2.0), &[3, 2, 3, 2]);
    let at = |o: usize, i: usize, tap: usize| w[(o * 2 + i) * 6 + tap];
    for (a, b) in [(0, 0), (0, 1), (1, 1)] {
        let dot: f64 = (0..3).map(|o| at(o, a, 2) * at(o, b, 2)).sum();
        assert!((dot - if a == b { 4.0 } else { 0.0 }).abs() < 1e-12);
    }
    assert_eq!(w.iter().filter(|&&x| x != 0.0).count(), 6);
}

#[test]
fn orthogonal_matrices_follow_the_layout() {
    let rows_cols = |layout| match Init::orthogonal(1.0)
        .with_layout(layout)
        .distribution(&[2, 3, 4])
        .unwrap()
    {
        Distribution::Orthogonal { rows, cols, .. } => (rows, cols),
        other => panic!("{other:?}"),
    };
    assert_eq!(rows_cols(Layout::OutIn), (2, 12));
    assert_eq!(rows_cols(Layout::KernelInOut), (6, 4));
}

#[test]
fn factors_multiply_every_scheme() {
    let half = |init: Init, shape: &[usize]| {
        let want: Vec<f64> = drawn(init, shape).iter().map(|x| x / 2.0).collect();
        assert_eq!(drawn(init.times(0.5), shape), want, "{init:?}");
    };
    for init in [
        Init::uniform(1.0, 3.0),
        Init::normal(1.0, 3.0),
        Init::trunc_normal(1.0, 1.0, 0.0, 9.0),
        Init::xavier_normal(1.0),
        Init::sparse(0.5, 1.0),
        Init::identity(),
    ] {
        half(init, &[4, 3]);
    }
    assert_eq!(drawn(Init::normal(0.0, 1.0).times(0.0), &[2]), [0.0; 2]);
}

#[test]
fn spectral_scaling_bounds_the_largest_singular_value() {
    // A normal n x n matrix with deviation s has spectral norm 2 s sqrt(n).
    let spectral = Init::variance_scaling(1.0, FanMode::Spectral, Spread::Normal);
    let std = |shape: &[usize]| spectral.distribution(shape).unwrap().std();
    assert_eq!(std(&[64, 16]), 0.25);
    assert_eq!(std(&[16, 64]), 0.0625);
}

#[test]
fn both_truncated_normals_are_told_apart() {
    let torch = Init::trunc_normal(0.0, 0.02, -2.0, 2.0).distribution(&[1]).unwrap();
    let keras = Init::trunc_normal_corrected(0.0, 0.02).distribution(&[1]).unwrap();
    assert!((torch.std() - 0.02).abs() < 1e-15 && (keras.std() - 0.02).abs() < 1e-15);
    let Distribution::TruncNormal { high, .. } = keras else { panic!("{keras:?}") };
    assert!((high - 0.045_473_889_373_542_256).abs() < 1e-12, "{high}");
    assert_eq!(drawn(Init::trunc_normal_corrected(3.0, 0.0), &[2]), [3.0; 2]);
}

#[test]
fn nothing_is_filled_where_there_is_nothing() {
    assert_eq!(Init::torch_linear().fill::<f32>(0, "w", &[5, 0], &mut []), Ok(()));
    assert_eq!(drawn(Init::xavier_normal(0.0), &[2, 1]), [0.0; 2]);
    assert_eq!(drawn(Init::torch_bias(0), &[2]), [0.0; 2]);
}

#[test]
#[should_panic(expected = "Init::fill: w of shape [2, 3] does not hold 5 elements")]
fn a_wrong_length_panics() {
    let _ = Init::zeros().fill(0, "w", &[2, 3], &mut [0.0f32; 5]);
}

#[test]
fn element_types_hold_the_same_values_rounded() {
    fn check<T: FloatElement>(init: Init) {
        let shape = [90, 3];
        let mut narrow = vec![T::zero(); 270];
        init.fill(42, "fc.weight", &shape, &mut narrow).unwrap();
        let wide = drawn(init, &shape);
        assert!(wide.iter().zip(&narrow).all(|(&x, &y)| T::from_f64(x) == y), "{init:?}");
    }
    for init in [
        Init::normal(0.0, 0.3),
        Init::normal(0.1, 0.3),
        Init::torch_linear(),
        Init::lecun_normal(),
        Init::orthogonal(0.7),
    ] {
        check::<f32>(init);
        check::<f16>(init);
        check::<bf16>(init);
    }
}
