use gradus_autograd::{CellWeights, Param, ParamKind, States, Tensor, Var, module};
use gradus_init::Init;
use gradus_tensor::Cell;

use crate::Seeds;

/// Weights of one layer.
#[derive(Clone, Debug)]
struct LayerWeights {
    weight_ih: Param,
    weight_hh: Param,
    bias_ih: Param,
    bias_hh: Param,
}
module!(LayerWeights { weight_ih, weight_hh, bias_ih, bias_hh });

macro_rules! recurrent {
    ($(#[$doc:meta])* $name:ident, $cell:expr) => {
        $(#[$doc])*
        ///
        /// # Shapes
        /// `x` `[N, T, input]`; `y` `[N, T, hidden]`, last states `[layers, N, hidden]`. Layer `l` has `layers.l.weight_ih`,
        /// `weight_hh`, `bias_ih` and `bias_hh` (PyTorch's `weight_ih_l0`, ...).
        #[derive(Clone, Debug)]
        pub struct $name {
            layers: Vec<LayerWeights>,
            hidden: usize,
        }
        module!($name { layers });

        impl $name {
            /// `layers` layers of `hidden` units, one above the other, with PyTorch's start: everything uniform within
            /// `1 / sqrt(hidden)`.
            ///
            /// # Panics
            /// When `hidden` or `layers` is 0.
            #[must_use]
            #[track_caller]
            pub fn new(input: usize, hidden: usize, layers: usize, seeds: &mut Seeds) -> Self {
                assert!(hidden > 0 && layers > 0, "{}: {layers} layers of {hidden} units", stringify!($name));
                let (init, rows) = (Init::torch_rnn(hidden), $cell.gates() * hidden);
                let layers = (0..layers)
                    .map(|l| LayerWeights {
                        weight_ih: seeds.param(ParamKind::Weight, &[rows, if l == 0 { input } else { hidden }], &init),
                        weight_hh: seeds.param(ParamKind::Weight, &[rows, hidden], &init),
                        bias_ih: seeds.param(ParamKind::Bias, &[rows], &init),
                        bias_hh: seeds.param(ParamKind::Bias, &[rows], &init),
                    })
                    .collect();
                Self { layers, hidden }
            }

            /// Runs over whole sequences from states of zero.
            ///
            /// # Panics
            /// When `x` is not `[N, T, input]`.
            #[must_use]
            #[track_caller]
            pub fn forward(&self, x: &Var) -> States {
                run($cell, &self.layers, self.hidden, x)
            }
        }
    };
}

recurrent! {
    /// Long short-term memory (Hochreiter, Schmidhuber 1997).
    Lstm, Cell::Lstm
}
recurrent! {
    /// Gated recurrent units (Cho et al. 2014), with the reset gate after the product as in PyTorch.
    Gru, Cell::Gru
}

#[track_caller]
fn run(cell: Cell, layers: &[LayerWeights], hidden: usize, x: &Var) -> States {
    let &[n, _, _] = x.shape() else {
        panic!("{}: expected [N, T, input], got shape {:?}", cell.name(), x.shape())
    };
    let watch = |p: &Param| x.tape().watch(p);
    let watched: Vec<[Var; 4]> = layers
        .iter()
        .map(|l| [watch(&l.weight_ih), watch(&l.weight_hh), watch(&l.bias_ih), watch(&l.bias_hh)])
        .collect();
    let weights: Vec<CellWeights<'_>> = watched
        .iter()
        .map(|[weight_ih, weight_hh, bias_ih, bias_hh]| CellWeights {
            weight_ih,
            weight_hh,
            biases: Some([bias_ih, bias_hh]),
        })
        .collect();
    let zeros = || x.constant(Tensor::zeros(&[layers.len(), n, hidden], x.dtype()));
    let c0 = (cell == Cell::Lstm).then(zeros);
    x.recurrent(cell, &weights, false, &zeros(), c0.as_ref())
}
