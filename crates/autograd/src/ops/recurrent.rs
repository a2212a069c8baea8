//! Recurrent layers.

use gradus_tensor::{Cell, Recurrence};

use crate::{Tensor, Var};

/// Weights of one recurrent layer in one direction, as in PyTorch: gate blocks stacked in the rows.
#[derive(Clone, Copy, Debug)]
pub struct CellWeights<'a> {
    /// `[gates * H, input]`.
    pub weight_ih: &'a Var,
    /// `[gates * H, H]`.
    pub weight_hh: &'a Var,
    /// `bias_ih` and `bias_hh`, `[gates * H]` each.
    pub biases: Option<[&'a Var; 2]>,
}

/// What a recurrent operation returns.
#[derive(Clone, Debug)]
pub struct States {
    /// The state after every step: `[N, T, H]` for one direction.
    pub y: Var,
    /// The last state.
    pub hn: Var,
    /// The last cell state of an LSTM.
    pub cn: Option<Var>,
}

impl Var {
    /// One recurrent layer in one direction over whole sequences, as one operation.
    ///
    /// The inputs of all steps are projected by one matrix product; backward gets the gradients of both weights by one
    /// product each.
    ///
    /// # Shapes
    /// `x` (this value) `[N, T, input]`, `h0` and (LSTM only) `c0` `[N, H]`; `y` `[N, T, H]`, `hn` and `cn` `[N, H]`.
    ///
    /// 16-bit floats are widened to f32, and the results are rounded once, after all steps.
    ///
    /// # Panics
    /// When shapes or types do not fit, or `c0` is missing for an LSTM or given to another cell.
    #[must_use]
    #[track_caller]
    pub fn recur(
        &self,
        cell: Cell,
        weights: CellWeights<'_>,
        h0: &Self,
        c0: Option<&Self>,
        reverse: bool,
    ) -> States {
        let biases = weights.biases.into_iter().flatten();
        let operands: Vec<&Self> = [self, weights.weight_ih, weights.weight_hh, h0]
            .into_iter()
            .chain(c0)
            .chain(biases)
            .collect();
        let dtype = Self::wanted(cell.name(), &operands, &[]).unwrap_or(self.dtype());
        let operands = Self::autocast_all(cell.name(), &operands);
        let wide: Vec<Self> = operands.iter().map(|v| v.to_dtype(dtype.compute())).collect();
        let (c0, biases) = wide[4..].split_at(usize::from(c0.is_some()));
        let biases = if let [ih, hh] = biases { Some([ih, hh]) } else { None };
        let weights = CellWeights { weight_ih: &wide[1], weight_hh: &wide[2], biases };
        let States { y, hn, cn } = wide[0].recur_real(cell, weights, &wide[3], c0.first(), reverse);
        let round = |v: Self| v.to_dtype(dtype);
        States { y: round(y), hn: round(hn), cn: cn.map(round) }
    }

    #[track_caller]
    fn recur_real(
        &self,
        cell: Cell,
        weights: CellWeights<'_>,
        h0: &Self,
        c0: Option<&Self>,
        reverse: bool,
    ) -> States {
        let CellWeights { weight_ih, weight_hh, biases } = weights;
        let &[n, t, width] = self.shape() else {
            panic!("{}: expected [N, T, input], got shape {:?}", cell.name(), self.shape())
        };
        assert_eq!(
            weight_ih.shape()[1],
            width,
            "{}: columns of weight_ih and width of the input",
            cell.name()
        );
        let x = self.value().contiguous();
        let w_ih = weight_ih.value().clone();
        let projected =
            x.view(&[n * t, width]).matmul(&w_ih.transpose(0, 1)).view(&[n, t, w_ih.shape()[0]]);
        let layer =
            Recurrence::new(cell, weight_hh.value(), h0.value(), c0.map(Self::value), reverse);
        let out = layer.forward(projected, biases.map(|b| b.map(Self::value)));

        let mut inputs = vec![self, weight_ih, weight_hh, h0];
        let c0_at = c0.map(|c0| {
            inputs.push(c0);
            inputs.len() - 1
        });
        let bias_at = biases.map(|b| {
            inputs.extend(b);
            inputs.len() - 2
        });
        let (y, gates, inner) = (out.y.clone(), out.gates, out.inner);
        let mut outputs = vec![out.y, out.hn];
        outputs.extend(out.cn);
        let mut vars = Self::op_multi(cell.name(), &inputs, outputs, move |grads, sink| {
            let mut grads = grads.into_iter();
            let grads = [grads.next().flatten(), grads.next().flatten(), grads.next().flatten()];
            let back = layer.backward(gates, [&inner, &y], grads);
            let flat = |t: &Tensor| t.view(&[n * t.shape()[1], t.shape()[2]]);
            let (input_side, state_side) = (flat(&back.input_side), flat(&back.state_side));
            // All but the GRU add both biases to the same sum.
            let shared = input_side.shares_buffer_with(&state_side);
            if sink.needs(0) {
                sink.add(0, input_side.matmul(&w_ih).view(&[n, t, width]));
            }
            if sink.needs(1) {
                sink.add(1, input_side.transpose(0, 1).matmul(&x.view(&[n * t, width])));
            }
            if sink.needs(2) {
                sink.add(2, state_side.transpose(0, 1).matmul(&flat(&layer.previous_states(&y))));
            }
            sink.add(3, back.h0);
            if let (Some(at), Some(c0)) = (c0_at, back.c0) {
                sink.add(at, c0);
            }
            if let Some(at) = bias_at {
                let sum = |side: &Tensor| side.sum(&[0], false);
                let of_input = (sink.needs(at) || shared).then(|| sum(&input_side));
                if sink.needs(at + 1) {
                    let same = of_input.clone().filter(|_| shared);
                    sink.add(at + 1, same.unwrap_or_else(|| sum(&state_side)));
                }
                if let Some(of_input) = of_input {
                    sink.add(at, of_input);
                }
            }
        });
        let cn = (vars.len() == 3).then(|| vars.pop().expect("there are three"));
        let hn = vars.pop().expect("there are two");
        let y = vars.pop().expect("there is one");
        States { y, hn, cn }
    }

    /// Recurrent layers one above the other, in one or both directions.
    ///
    /// `weights` holds one entry a layer and direction: layer by layer, forward before reverse. The layer above sees the
    /// states of both directions side by side.
    ///
    /// # Shapes
    /// `x` (this value) `[N, T, input]`; `h0` and (LSTM only) `c0` `[layers * directions, N, H]`, in the order of the
    /// weights; `y` `[N, T, directions * H]`, `hn` and `cn` as `h0`.
    ///
    /// # Panics
    /// When shapes or types do not fit, or the number of weights is no multiple of the directions.
    #[must_use]
    #[track_caller]
    pub fn recurrent(
        &self,
        cell: Cell,
        weights: &[CellWeights<'_>],
        bidirectional: bool,
        h0: &Self,
        c0: Option<&Self>,
    ) -> States {
        let directions = if bidirectional { 2 } else { 1 };
        assert!(
            !weights.is_empty() && weights.len().is_multiple_of(directions),
            "{}: {} weights for {directions} directions",
            cell.name(),
            weights.len()
        );
        assert_eq!(h0.shape()[0], weights.len(), "{}: first states and weights", cell.name());
        let (mut x, mut hn, mut cn) = (self.clone(), Vec::new(), Vec::new());
        for (layer, weights) in weights.chunks(directions).enumerate() {
            let mut ys = Vec::new();
            for (d, &weights) in weights.iter().enumerate() {
                let at = layer * directions + d;
                let first = |t: &Self| t.narrow(0, at, 1).squeeze(0);
                let out = x.recur(cell, weights, &first(h0), c0.map(first).as_ref(), d == 1);
                ys.push(out.y);
                hn.push(out.hn);
                cn.extend(out.cn);
            }
            x = if ys.len() == 1 {
                ys.remove(0)
            } else {
                Self::concat(&ys.iter().collect::<Vec<_>>(), 2)
            };
        }
        let stack = |v: &[Self]| Self::stack(&v.iter().collect::<Vec<_>>(), 0);
        let cn = (!cn.is_empty()).then(|| stack(&cn));
        States { y: x, hn: stack(&hn), cn }
    }
}
