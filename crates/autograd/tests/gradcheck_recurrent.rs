//! LSTM, GRU and the tanh RNN against central differences.

use gradus_autograd::{
    CellWeights, Tensor, Var,
    check::{gradcheck, random},
};
use gradus_tensor::Cell;

/// Everything that comes out, as one value, so that each output's gradient counts.
fn all(cell: Cell, v: &[Var], layers: usize, directions: usize, bias: bool, reuse: bool) -> Var {
    let (x, rest) = v.split_first().unwrap();
    let (h0, rest) = rest.split_first().unwrap();
    let (c0, rest) = match cell {
        Cell::Lstm => (Some(&rest[0]), &rest[1..]),
        _ => (None, rest),
    };
    let per = if bias { 4 } else { 2 };
    let weights: Vec<CellWeights<'_>> = rest
        .chunks(per)
        .take(layers * directions)
        .map(|w| CellWeights {
            weight_ih: &w[0],
            weight_hh: &w[1],
            biases: bias.then(|| [&w[2], &w[if reuse { 2 } else { 3 }]]),
        })
        .collect();
    let out = x.recurrent(cell, &weights, directions == 2, h0, c0);
    let flat = |v: &Var| v.reshape(&[-1]);
    let mut parts = vec![flat(&out.y), flat(&out.hn)];
    parts.extend(out.cn.as_ref().map(flat));
    Var::concat(&parts.iter().collect::<Vec<_>>(), 0)
}

fn check(
    cell: Cell,
    [n, t, input, hidden]: [usize; 4],
    layers: usize,
    directions: usize,
    bias: bool,
) {
    let cells = layers * directions;
    let rows = cell.gates() * hidden;
    let mut seed = 0;
    let mut next = |shape: &[usize]| {
        seed += 1;
        random(shape, seed)
    };
    // A view as input: the sequences lie time first.
    let mut inputs: Vec<Tensor> =
        vec![next(&[t, n, input]).transpose(0, 1), next(&[cells, n, hidden])];
    if cell == Cell::Lstm {
        inputs.push(next(&[cells, n, hidden]));
    }
    for layer in 0..layers {
        for _ in 0..directions {
            let width = if layer == 0 { input } else { hidden * directions };
            inputs.extend([next(&[rows, width]), next(&[rows, hidden])]);
            if bias {
                inputs.extend([next(&[rows]), next(&[rows])]);
            }
        }
    }
    gradcheck(&inputs, |v| all(cell, v, layers, directions, bias, false));
    if bias {
        gradcheck(&inputs, |v| all(cell, v, layers, directions, bias, true));
    }
}

#[test]
fn every_cell_in_every_arrangement() {
    for cell in [Cell::Lstm, Cell::Gru, Cell::RnnTanh] {
        check(cell, [2, 3, 2, 3], 1, 1, true);
        check(cell, [2, 3, 2, 2], 2, 2, true);
        check(cell, [1, 1, 1, 1], 1, 1, false);
        check(cell, [3, 2, 1, 2], 2, 1, false);
        check(cell, [0, 2, 2, 2], 1, 1, true);
    }
}
