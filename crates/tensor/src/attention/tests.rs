use super::*;
use crate::simd;

fn random(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    let stream = gradus_core::RngStream::new(seed, 0, 0);
    let n = shape.iter().product::<usize>() as u64;
    let x: Vec<f64> = (0..n).map(|i| stream.uniform(i) * 4.0 - 2.0).collect();
    Tensor::from_slice(&x, shape).to_dtype(dtype)
}

fn operands(dtype: DType) -> [Tensor; 3] {
    // More than two blocks of queries, widths that no vector divides.
    [
        random(&[2, 3, 150, 9], 1, dtype),
        random(&[2, 3, 131, 9], 2, dtype),
        random(&[2, 3, 131, 7], 3, dtype),
    ]
}

fn options() -> Vec<AttentionOptions> {
    let bytes: Vec<u8> = (0..150 * 131).map(|i| u8::from(i % 7 != 0 && i / 131 != 5)).collect();
    let bytes = Tensor::from_slice(&bytes, &[1, 150, 131]);
    let plain = AttentionOptions::new();
    vec![
        plain.clone(),
        plain.clone().with_causal(true).with_scale(0.2),
        plain.clone().with_mask(bytes.clone()),
        plain.clone().with_mask(bytes).with_causal(true),
        plain.with_mask(random(&[2, 1, 150, 1], 4, DType::F64)),
    ]
}

/// The definition, one row at a time.
fn plain(q: &Tensor, k: &Tensor, v: &Tensor, o: &AttentionOptions) -> Vec<f64> {
    let (&[b, h, lq, d], &[_, _, lk, dv]) = (q.shape(), v.shape()) else { unreachable!() };
    let mask = o
        .mask
        .as_ref()
        .map(|m| (m.dtype(), m.to_dtype(DType::F64).broadcast_to(&[b, h, lq, lk]).to_vec::<f64>()));
    let (q, k, v) = (q.to_vec::<f64>(), k.to_vec::<f64>(), v.to_vec::<f64>());
    let mut y = Vec::new();
    for (head, i) in (0..b * h).flat_map(|head| (0..lq).map(move |i| (head, i))) {
        let score = |j: usize| {
            let s: f64 =
                (0..d).map(|c| q[(head * lq + i) * d + c] * k[(head * lk + j) * d + c]).sum();
            let s = s * o.scale.unwrap_or(1.0 / (d as f64).sqrt());
            let m = mask.as_ref().map_or(0.0, |(kind, m)| {
                let m = m[(head * lq + i) * lk + j];
                if *kind != DType::U8 {
                    m
                } else if m == 0.0 {
                    f64::NEG_INFINITY
                } else {
                    0.0
                }
            });
            if o.is_causal && j > i { 0.0 } else { (s + m).exp() }
        };
        let p: Vec<f64> = (0..lk).map(score).collect();
        let sum: f64 = p.iter().sum();
        for c in 0..dv {
            let dot: f64 = (0..lk).map(|j| p[j] * v[(head * lk + j) * dv + c]).sum();
            y.push(if sum == 0.0 { 0.0 } else { dot / sum });
        }
    }
    y
}

#[test]
fn blocks_match_the_definition() {
    let [q, k, v] = operands(DType::F64);
    for o in options() {
        let want = plain(&q, &k, &v, &o);
        let got = q.scaled_dot_product_attention(&k, &v, &o).0.to_vec::<f64>();
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-12), "{o:?}");
        let [q, k, v] = [&q, &k, &v].map(|t| t.to_dtype(DType::F32));
        let mut o = o;
        o.mask = o.mask.map(|m| if m.dtype() == DType::F64 { m.to_dtype(DType::F32) } else { m });
        let got = q.scaled_dot_product_attention(&k, &v, &o).0.to_vec::<f32>();
        assert!(
            got.iter().zip(&want).all(|(a, b)| (f64::from(*a) - b).abs() < 2e-6),
            "{o:?} in f32"
        );
    }
}

/// Output, normaliser and gradients.
fn everything([q, k, v]: [&Tensor; 3], o: &AttentionOptions) -> Vec<Vec<f32>> {
    let (y, lse) = q.scaled_dot_product_attention(k, v, o);
    let grad = random(y.shape(), 5, DType::F32);
    let grads = q.scaled_dot_product_attention_grad([k, v], o, [&y, &lse], &grad, [true; 3]);
    [y, lse].iter().chain(grads.iter().flatten()).map(Tensor::to_vec).collect()
}

#[test]
fn threads_layouts_and_instruction_sets_do_not_change_a_bit() {
    let [q, k, v] = operands(DType::F32);
    // The same numbers, tokens before heads in memory.
    let views = [&q, &k, &v].map(|t| t.transpose(1, 2).to_contiguous().transpose(1, 2));
    let o = AttentionOptions::new().with_causal(true);
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let want = everything([&q, &k, &v], &o);
    for threads in [1, 2, 5] {
        pool(threads).install(|| {
            assert_eq!(everything([&q, &k, &v], &o), want, "{threads} threads");
            assert_eq!(everything(views.each_ref(), &o), want, "{threads} threads, tokens first");
        });
    }
    let widest = simd::detected();
    for level in [simd::Level::Portable, simd::Level::Avx2] {
        simd::force(level);
        assert_eq!(everything([&q, &k, &v], &o), want, "{level:?}");
    }
    simd::force(widest);
    let [q, k, v] = views;
    let y = pool(1).install(|| q.scaled_dot_product_attention(&k, &v, &o).0);
    assert!(y.transpose(1, 2).is_contiguous(), "joining the heads should copy nothing");
}

#[test]
fn only_the_gradients_asked_for_are_computed() {
    let [q, k, v] = operands(DType::F32);
    let o = AttentionOptions::new();
    let (y, lse) = q.scaled_dot_product_attention(&k, &v, &o);
    let grad = |needs| q.scaled_dot_product_attention_grad([&k, &v], &o, [&y, &lse], &y, needs);
    let all = grad([true; 3]);
    for i in 0..3 {
        let one = grad([0, 1, 2].map(|j| j == i));
        assert_eq!([0, 1, 2].map(|j| one[j].is_some()), [0, 1, 2].map(|j| j == i));
        assert_eq!(
            one[i].as_ref().unwrap().to_vec::<f32>(),
            all[i].as_ref().unwrap().to_vec::<f32>()
        );
    }
}

#[test]
fn rows_without_keys_are_zero_and_nan_stays_in_its_row() {
    let o = AttentionOptions::new();
    let (q, v) =
        (Tensor::ones(&[1, 1, 2, 3], DType::F32), Tensor::full(&[1, 1, 2, 2], 5.0, DType::F32));
    let no_keys = Tensor::zeros(&[1, 1, 0, 3], DType::F32);
    let (y, lse) =
        q.scaled_dot_product_attention(&no_keys, &Tensor::zeros(&[1, 1, 0, 2], DType::F32), &o);
    assert_eq!(y.to_vec::<f32>(), [0.0; 4]);
    assert_eq!(lse.to_vec::<f32>(), [f32::NEG_INFINITY; 2]);
    // Even a NaN among the values does not reach a row that sees none of them.
    let mask = Tensor::from_slice(&[0f32, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY], &[2, 2]);
    let bad = Tensor::from_slice(&[1f32, 2.0, f32::NAN, 4.0], &[1, 1, 2, 2]);
    let y = q.scaled_dot_product_attention(&q, &bad, &o.clone().with_mask(mask)).0.to_vec::<f32>();
    assert!(y[0].is_nan() && y[2..] == [0.0, 0.0], "{y:?}");
    let mut bad = q.clone();
    bad.make_mut::<f32>()[0] = f32::NAN;
    let y = bad.scaled_dot_product_attention(&q, &v, &o).0.to_vec::<f32>();
    assert!(y[0].is_nan() && y[1].is_nan() && y[2..] == [5.0, 5.0], "{y:?}");
    // Without a dimension all scores are equal.
    let none = Tensor::zeros(&[1, 1, 2, 0], DType::F32);
    assert_eq!(none.scaled_dot_product_attention(&none, &v, &o).0.to_vec::<f32>(), [5.0; 4]);
}

#[test]
#[should_panic(expected = "shapes [1, 1, 2, 3], [1, 1, 2, 4] and [1, 1, 2, 3] do not fit")]
fn operands_that_do_not_fit_panic() {
    let (q, k) =
        (Tensor::zeros(&[1, 1, 2, 3], DType::F32), Tensor::zeros(&[1, 1, 2, 4], DType::F32));
    let _ = q.scaled_dot_product_attention(&k, &q, &AttentionOptions::new());
}

#[test]
#[should_panic(expected = "a mask of shape [3, 2] does not broadcast to [1, 1, 2, 2]")]
fn a_mask_that_does_not_fit_panics() {
    let q = Tensor::zeros(&[1, 1, 2, 3], DType::F32);
    let o = AttentionOptions::new().with_mask(Tensor::zeros(&[3, 2], DType::U8));
    let _ = q.scaled_dot_product_attention(&q, &q, &o);
}
