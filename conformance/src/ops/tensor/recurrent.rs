//! Recurrent layers.

use gradus_autograd::{CellWeights, Tensor, Var};
use gradus_tensor::Cell;

use crate::{
    answer::{Answer, Failure},
    case::Case,
    ops::{
        Table,
        differentiate::{self, Inputs},
    },
};

pub(super) const OPS: Table = &[
    ("lstm", |c| run(c, Cell::Lstm)),
    ("gru", |c| run(c, Cell::Gru)),
    ("rnn_tanh", |c| run(c, Cell::RnnTanh)),
];

/// The parameters of one layer in one direction.
struct Weights {
    ih: Var,
    hh: Var,
    biases: Option<[Var; 2]>,
}

impl Weights {
    /// By torch's names, which end in `_l0`, `_l0_reverse`, `_l1`, ...
    fn new(inputs: &Inputs<'_>, suffix: &str) -> Result<Self, Failure> {
        let of = |name: &str| format!("{name}_{suffix}");
        let bias = (inputs.find(&of("bias_ih"))?, inputs.find(&of("bias_hh"))?);
        Ok(Self {
            ih: inputs.var(&of("weight_ih"))?,
            hh: inputs.var(&of("weight_hh"))?,
            biases: bias.0.zip(bias.1).map(|(ih, hh)| [ih, hh]),
        })
    }

    fn borrow(&self) -> CellWeights<'_> {
        CellWeights {
            weight_ih: &self.ih,
            weight_hh: &self.hh,
            biases: self.biases.as_ref().map(|[ih, hh]| [ih, hh]),
        }
    }
}

fn run(case: &Case, cell: Cell) -> Result<Answer, Failure> {
    let args = &case.args;
    let layers: usize = args.to("num_layers")?;
    let hidden: usize = args.to("hidden_size")?;
    let (bidirectional, batch_first) = (args.to("bidirectional")?, args.to("batch_first")?);
    args.ignore(&["input_size", "bias"]);
    let directions: &[&str] = if bidirectional { &["", "_reverse"] } else { &[""] };
    differentiate::outputs(case, |i| {
        let suffixes = (0..layers).flat_map(|l| directions.iter().map(move |d| format!("l{l}{d}")));
        let weights = suffixes.map(|s| Weights::new(i, &s)).collect::<Result<Vec<_>, _>>()?;
        let weights: Vec<CellWeights<'_>> = weights.iter().map(Weights::borrow).collect();
        let swapped = |v: &Var| if batch_first { v.clone() } else { v.transpose(0, 1) };
        let x = swapped(&i.var("x")?);
        let zeros =
            || i.tape.constant(Tensor::zeros(&[weights.len(), x.shape()[0], hidden], x.dtype()));
        let h0 = i.find("h0")?.unwrap_or_else(zeros);
        let c0 = match cell {
            Cell::Lstm => Some(i.find("c0")?.unwrap_or_else(zeros)),
            _ => None,
        };
        let states = x.recurrent(cell, &weights, bidirectional, &h0, c0.as_ref());
        let mut outputs = vec![("y", swapped(&states.y)), ("hn", states.hn)];
        outputs.extend(states.cn.map(|cn| ("cn", cn)));
        Ok(outputs)
    })
}
