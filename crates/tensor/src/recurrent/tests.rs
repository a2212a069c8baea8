use super::*;

const CELLS: [Cell; 3] = [Cell::RnnTanh, Cell::Lstm, Cell::Gru];

fn random(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    let stream = gradus_core::RngStream::new(seed, 0, 0);
    let n = shape.iter().product::<usize>() as u64;
    let x: Vec<f64> = (0..n).map(|i| stream.uniform(i) * 2.0 - 1.0).collect();
    Tensor::from_slice(&x, shape).to_dtype(dtype)
}

struct Case {
    layer: Recurrence,
    projected: Tensor,
    biases: [Tensor; 2],
}

fn case(cell: Cell, [batch, steps, hidden]: [usize; 3], reverse: bool, dtype: DType) -> Case {
    let rows = cell.gates() * hidden;
    let c0 = (cell == Cell::Lstm).then(|| random(&[batch, hidden], 3, dtype));
    let (w, h0) = (random(&[rows, hidden], 1, dtype), random(&[batch, hidden], 2, dtype));
    Case {
        layer: Recurrence::new(cell, &w, &h0, c0.as_ref(), reverse),
        projected: random(&[batch, steps, rows], 4, dtype),
        biases: [random(&[rows], 5, dtype), random(&[rows], 6, dtype)],
    }
}

fn forward(c: &Case) -> Recurred {
    c.layer.forward(c.projected.clone(), Some(c.biases.each_ref()))
}

/// The formulas, one unit at a time: outputs, last state, last cell state.
fn plain(c: &Case, [batch, steps, hidden]: [usize; 3]) -> [Vec<f64>; 3] {
    let rows = c.layer.width();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let (w, x) = (c.layer.weight_hh.to_vec::<f64>(), c.projected.to_vec::<f64>());
    let (bi, bh) = (c.biases[0].to_vec::<f64>(), c.biases[1].to_vec::<f64>());
    let mut h = c.layer.h0.to_vec::<f64>();
    let mut cells = c.layer.c0.as_ref().map_or(vec![0.0; batch * hidden], Tensor::to_vec::<f64>);
    let mut y = vec![0.0; batch * steps * hidden];
    for (n, s) in (0..batch).flat_map(|n| (0..steps).map(move |s| (n, s))) {
        let t = if c.layer.reverse { steps - 1 - s } else { s };
        let before = h[n * hidden..][..hidden].to_vec();
        for j in 0..hidden {
            let ih = |g: usize| x[(n * steps + t) * rows + g * hidden + j] + bi[g * hidden + j];
            let hh = |g: usize| {
                let row = g * hidden + j;
                bh[row] + (0..hidden).map(|l| w[row * hidden + l] * before[l]).sum::<f64>()
            };
            let at = n * hidden + j;
            h[at] = match c.layer.cell {
                Cell::RnnTanh => (ih(0) + hh(0)).tanh(),
                Cell::Lstm => {
                    let gate = |g| ih(g) + hh(g);
                    cells[at] = sigmoid(gate(1)) * cells[at] + sigmoid(gate(0)) * gate(2).tanh();
                    sigmoid(gate(3)) * cells[at].tanh()
                }
                Cell::Gru => {
                    let (r, z) = (sigmoid(ih(0) + hh(0)), sigmoid(ih(1) + hh(1)));
                    (1.0 - z) * (ih(2) + r * hh(2)).tanh() + z * before[j]
                }
            };
            y[(n * steps + t) * hidden + j] = h[at];
        }
    }
    [y, h, cells]
}

#[test]
fn every_cell_matches_its_formulas() {
    for (cell, reverse) in CELLS.into_iter().flat_map(|c| [(c, false), (c, true)]) {
        for size in [[3, 5, 19], [1, 1, 1], [2, 4, 32]] {
            let want = plain(&case(cell, size, reverse, DType::F64), size);
            for (dtype, limit) in [(DType::F64, 1e-13), (DType::F32, 5e-6)] {
                let got = forward(&case(cell, size, reverse, dtype));
                for (got, want) in
                    [Some(got.y), Some(got.hn), got.cn].into_iter().flatten().zip(&want)
                {
                    let got = got.to_dtype(DType::F64).to_vec::<f64>();
                    let worst =
                        got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(
                        worst < limit,
                        "{cell:?} {size:?} reverse {reverse} {dtype}: off by {worst}"
                    );
                }
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for cell in CELLS {
        let c = case(cell, [37, 6, 33], false, DType::F32);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let r = forward(&c);
                let grads = [Some(r.y.affine(0.5, 1.0)), Some(r.hn.clone()), r.cn.clone()];
                let g = c.layer.backward(r.gates, [&r.inner, &r.y], grads);
                let all = [
                    Some(r.y),
                    Some(r.hn),
                    r.cn,
                    Some(g.input_side),
                    Some(g.state_side),
                    Some(g.h0),
                    g.c0,
                ];
                all.into_iter().flatten().map(|t| t.to_vec::<f32>()).collect::<Vec<_>>()
            })
        };
        let want = run(1);
        assert!(run(2) == want && run(5) == want, "{cell:?}");
    }
}

#[test]
fn no_steps_leave_the_first_state_and_pass_its_gradient() {
    for cell in CELLS {
        let c = case(cell, [2, 0, 3], false, DType::F32);
        let r = forward(&c);
        assert_eq!(
            (r.y.shape(), r.hn.to_vec::<f32>()),
            (&[2, 0, 3][..], c.layer.h0.to_vec::<f32>())
        );
        let g = c.layer.backward(r.gates, [&r.inner, &r.y], [None, Some(r.hn.clone()), None]);
        assert_eq!(g.h0.to_vec::<f32>(), r.hn.to_vec::<f32>());
        assert_eq!(c.layer.previous_states(&r.y).shape(), [2, 0, 3]);
        let none = case(cell, [0, 2, 3], true, DType::F32);
        assert_eq!(forward(&none).y.shape(), [0, 2, 3]);
    }
}

#[test]
fn previous_states_are_the_outputs_one_step_earlier() {
    let y = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3, 1]);
    let (w, h0) = (Tensor::ones(&[1, 1], DType::F32), Tensor::from_slice(&[10f32, 20.0], &[2, 1]));
    let states = |reverse| {
        Recurrence::new(Cell::RnnTanh, &w, &h0, None, reverse).previous_states(&y).to_vec::<f32>()
    };
    assert_eq!(states(false), [10.0, 1.0, 2.0, 20.0, 4.0, 5.0]);
    assert_eq!(states(true), [2.0, 3.0, 10.0, 5.0, 6.0, 20.0]);
}

#[test]
#[should_panic(expected = "lstm: whether there is a first cell state")]
fn an_lstm_without_cell_state_panics() {
    let _ = Recurrence::new(
        Cell::Lstm,
        &Tensor::zeros(&[4, 1], DType::F32),
        &Tensor::zeros(&[1, 1], DType::F32),
        None,
        false,
    );
}

#[test]
#[should_panic(expected = "gru: projected inputs of shape [1, 2, 4], expected [1, T, 3]")]
fn inputs_of_another_width_panic() {
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32);
    let layer = Recurrence::new(Cell::Gru, &zeros(&[3, 1]), &zeros(&[1, 1]), None, false);
    let _ = layer.forward(zeros(&[1, 2, 4]), None);
}
