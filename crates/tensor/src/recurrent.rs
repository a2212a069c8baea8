//! Recurrent layers over whole sequences: LSTM, GRU and the tanh RNN, forward and backward in time.
//!
//! The caller projects the inputs of all steps in one matrix product; here each step adds the product with the
//! state before it and applies all gates in one pass. Sequences are independent, so threads share the batch.

use cells::{Rows, Step};

use crate::{
    DType, MatMut, MatRef, Real, Start, Tensor,
    buffer::Buffer,
    gemm::{Packed, gemm_packed},
    map::same_dtype,
    par, with_real,
};

mod cells;

/// Fewer sequences than this are not worth a thread of their own: each reads the whole weight at every step.
const MIN_SEQUENCES: usize = 8;

/// How a recurrent layer computes its next state. Gate blocks are stacked in the rows of the weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Cell {
    /// `h' = tanh(W_ih x + b_ih + W_hh h + b_hh)` (Elman 1990).
    RnnTanh,
    /// Gates i, f, g, o; `c' = f c + i g`, `h' = o tanh(c')` (Hochreiter, Schmidhuber 1997).
    Lstm,
    /// Gates r, z, n; `n = tanh(W_in x + b_in + r (W_hn h + b_hn))`, `h' = (1 - z) n + z h` (Cho et al. 2014).
    Gru,
}

impl Cell {
    /// PyTorch's name of the layer.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RnnTanh => "rnn_tanh",
            Self::Lstm => "lstm",
            Self::Gru => "gru",
        }
    }

    /// Gate blocks of the weights: they have `gates * H` rows.
    #[must_use]
    pub fn gates(self) -> usize {
        match self {
            Self::RnnTanh => 1,
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }

    /// Whether backward needs one more number for each hidden unit and step: the cell state of an LSTM,
    /// `W_hn h + b_hn` of a GRU.
    fn keeps_inner(self) -> bool {
        self != Self::RnnTanh
    }
}

/// One layer in one direction, without its input projection.
#[derive(Clone, Debug)]
pub struct Recurrence {
    cell: Cell,
    reverse: bool,
    weight_hh: Tensor,
    h0: Tensor,
    c0: Option<Tensor>,
}

/// What a pass over the sequences leaves.
#[derive(Clone, Debug)]
pub struct Recurred {
    /// The state after every step, `[N, T, H]`.
    pub y: Tensor,
    /// The last state, `[N, H]`.
    pub hn: Tensor,
    /// The last cell state of an LSTM, `[N, H]`.
    pub cn: Option<Tensor>,
    /// The gates, `[N, T, gates * H]`, for backward.
    pub gates: Tensor,
    /// More for backward (empty for the RNN).
    pub inner: Tensor,
}

/// Gradients of a pass over the sequences.
#[derive(Clone, Debug)]
pub struct RecurredGrad {
    /// Of `W_ih x + b_ih`, `[N, T, gates * H]`.
    pub input_side: Tensor,
    /// Of `W_hh h + b_hh`, `[N, T, gates * H]`: for a GRU not the same.
    pub state_side: Tensor,
    /// Of the first state, `[N, H]`.
    pub h0: Tensor,
    /// Of the first cell state of an LSTM, `[N, H]`.
    pub c0: Option<Tensor>,
}

impl Recurrence {
    /// A layer with `weight_hh` `[gates * H, H]` that starts from the states `h0` and (LSTM) `c0`, `[N, H]`, and walks
    /// from the last step to the first if `reverse`.
    ///
    /// # Panics
    /// When shapes or types do not fit, `H` is 0, or `c0` is given to a cell other than the LSTM or missing there.
    #[must_use]
    #[track_caller]
    pub fn new(
        cell: Cell,
        weight_hh: &Tensor,
        h0: &Tensor,
        c0: Option<&Tensor>,
        reverse: bool,
    ) -> Self {
        let op = cell.name();
        same_dtype(op, weight_hh, h0);
        let &[_, hidden] = h0.shape() else {
            panic!("{op}: a first state of shape {:?}, not [N, H]", h0.shape())
        };
        assert!(hidden > 0, "{op}: a hidden size of 0");
        assert_eq!(
            weight_hh.shape(),
            [cell.gates() * hidden, hidden],
            "{op}: the shape of weight_hh for a state of {hidden}"
        );
        assert_eq!(c0.is_some(), cell == Cell::Lstm, "{op}: whether there is a first cell state");
        if let Some(c0) = c0 {
            same_dtype(op, h0, c0);
            assert_eq!(c0.shape(), h0.shape(), "{op}: the shape of the first cell state");
        }
        Self {
            cell,
            reverse,
            weight_hh: weight_hh.contiguous(),
            h0: h0.contiguous(),
            c0: c0.map(Tensor::contiguous),
        }
    }

    fn hidden(&self) -> usize {
        self.h0.shape()[1]
    }

    fn weight<T: Real>(&self) -> MatRef<'_, T> {
        MatRef::new(self.weight_hh.as_slice(), self.width(), self.hidden())
    }

    fn width(&self) -> usize {
        self.cell.gates() * self.hidden()
    }

    #[track_caller]
    fn check_sequence(&self, t: &Tensor, width: usize, what: &str) -> usize {
        let op = self.cell.name();
        same_dtype(op, &self.h0, t);
        let batch = self.h0.shape()[0];
        match *t.shape() {
            [n, steps, w] if n == batch && w == width => steps,
            _ => panic!("{op}: {what} of shape {:?}, expected [{batch}, T, {width}]", t.shape()),
        }
    }

    /// Calls `f(first sequence, parts)` for parts of the batch. A sequence's numbers do not depend on the cut.
    fn share<T: Real, const N: usize>(
        &self,
        outs: [&mut [T]; N],
        steps: usize,
        f: impl Fn(usize, [&mut [T]; N]) + Sync + Send,
    ) {
        let batch = self.h0.shape()[0];
        let ns = (steps * self.width()) as f64 * (2.0 + 0.02 * self.hidden() as f64);
        let items = batch.div_ceil(rayon::current_num_threads()).max(MIN_SEQUENCES);
        par::for_each_part(outs, batch, items, ns, f);
    }

    /// The step that is the `s`-th to be computed.
    fn step(&self, s: usize, steps: usize) -> usize {
        if self.reverse { steps - 1 - s } else { s }
    }

    /// Walks over the sequences. `projected` is `W_ih x` of every step, `[N, T, gates * H]`; `biases` are `b_ih` and
    /// `b_hh`, `[gates * H]`.
    ///
    /// # Panics
    /// When shapes or types do not fit.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, projected: Tensor, biases: Option<[&Tensor; 2]>) -> Recurred {
        let steps = self.check_sequence(&projected, self.width(), "projected inputs");
        for b in biases.iter().flatten() {
            same_dtype(self.cell.name(), &self.h0, b);
            assert_eq!(b.shape(), [self.width()], "{}: the shape of a bias", self.cell.name());
        }
        let (batch, hidden, dtype) = (self.h0.shape()[0], self.hidden(), self.h0.dtype());
        let mut gates = projected;
        let inner_shape =
            if self.cell.keeps_inner() { vec![batch, steps, hidden] } else { vec![0] };
        let (mut inner, mut y) =
            (uninit(dtype, &inner_shape), uninit(dtype, &[batch, steps, hidden]));
        let mut h = self.h0.to_contiguous();
        let mut c = self.c0.as_ref().map_or_else(|| uninit(dtype, &[0]), Tensor::to_contiguous);
        with_real!(self.cell.name(), dtype, T => {
            let bias = self.folded_bias::<T>(biases);
            let outs = [gates.make_mut::<T>(), inner.make_mut(), y.make_mut(), h.make_mut(), c.make_mut()];
            let weight = Packed::new(self.weight::<T>().t());
            self.share(outs, steps, |_, outs| self.forward_part(steps, &weight, &bias, outs));
        });
        Recurred { y, hn: h, cn: self.c0.is_some().then_some(c), gates, inner }
    }

    /// One bias a gate: the sum of both, but the two of the GRU's n apart (the second one last).
    fn folded_bias<T: Real>(&self, biases: Option<[&Tensor; 2]>) -> Vec<T> {
        let (width, hidden) = (self.width(), self.hidden());
        let [ih, hh] = match biases {
            Some(biases) => biases.map(Tensor::to_vec::<T>),
            None => [vec![T::ZERO; width], vec![T::ZERO; width]],
        };
        if self.cell == Cell::Gru {
            let both = 2 * hidden;
            let sums = ih[..both].iter().zip(&hh[..both]).map(|(&a, &b)| a + b);
            return sums
                .chain(ih[both..].iter().copied())
                .chain(hh[both..].iter().copied())
                .collect();
        }
        ih.iter().zip(&hh).map(|(&a, &b)| a + b).collect()
    }

    fn forward_part<T: Real>(
        &self,
        steps: usize,
        weight: &Packed<'_, T>,
        bias: &[T],
        [gates, inner, y, h, c]: [&mut [T]; 5],
    ) {
        let (hidden, width) = (self.hidden(), self.width());
        let rows = h.len() / hidden;
        let mut buf = Buffer::uninit(T::DTYPE, rows * width);
        let state = buf.as_mut_slice::<T>().expect("the buffer was made for this type");
        for s in 0..steps {
            let h_before = MatRef::new(h, rows, hidden);
            gemm_packed(h_before, weight, MatMut::new(state, rows, width), Start::Zero);
            let at = Step { rows, steps, t: self.step(s, steps), hidden };
            match self.cell {
                Cell::RnnTanh => cells::rnn_step(at, bias, state, gates, y, h),
                Cell::Lstm => cells::lstm_step(at, bias, state, gates, inner, y, h, c),
                Cell::Gru => cells::gru_step(at, bias, state, gates, inner, y, h),
            }
        }
    }

    /// Walks back. `gates`, `inner` and `y` are what [`forward`](Self::forward) left (the buffer of `gates` is used
    /// again if nobody else holds it); `grads` are those of `y`, `hn` and `cn` where there are any.
    ///
    /// # Panics
    /// When shapes or types do not fit.
    #[must_use]
    #[track_caller]
    pub fn backward(
        &self,
        gates: Tensor,
        [inner, y]: [&Tensor; 2],
        grads: [Option<Tensor>; 3],
    ) -> RecurredGrad {
        let steps = self.check_sequence(y, self.hidden(), "outputs");
        let (shape, dtype) = (self.h0.shape(), self.h0.dtype());
        let [dy, dh, dc] = grads;
        if let Some(dy) = &dy {
            self.check_sequence(dy, self.hidden(), "a gradient of the outputs");
        }
        let dy = dy.map(|t| t.contiguous());
        let mut gates = gates;
        let mut dh = dh.unwrap_or_else(|| Tensor::zeros(shape, dtype));
        let mut dc = match self.c0 {
            Some(_) => dc.unwrap_or_else(|| Tensor::zeros(shape, dtype)),
            None => uninit(dtype, &[0]),
        };
        let mut state_side =
            uninit(dtype, if self.cell == Cell::Gru { gates.shape() } else { &[0] });
        with_real!(self.cell.name(), dtype, T => {
            let (inner, y, dy) = (inner.as_slice::<T>(), y.as_slice::<T>(), dy.as_ref().map(|t| t.as_slice::<T>()));
            let outs = [gates.make_mut::<T>(), state_side.make_mut(), dh.make_mut(), dc.make_mut()];
            let weight = Packed::new(self.weight::<T>());
            self.share(outs, steps, |first, outs| self.backward_part(steps, first, &weight, [inner, y], dy, outs));
        });
        let state_side = if self.cell == Cell::Gru { state_side } else { gates.clone() };
        RecurredGrad { input_side: gates, state_side, h0: dh, c0: self.c0.is_some().then_some(dc) }
    }

    fn backward_part<T: Real>(
        &self,
        steps: usize,
        first: usize,
        weight: &Packed<'_, T>,
        [inner, y]: [&[T]; 2],
        dy: Option<&[T]>,
        [gates, state_side, dh, dc]: [&mut [T]; 4],
    ) {
        let (hidden, width) = (self.hidden(), self.width());
        let rows = dh.len() / hidden;
        let zeros = vec![T::ZERO; hidden];
        // Step t of all sequences, in something of [N, T, H].
        let at_step =
            |data, t| Rows { data, start: (first * steps + t) * hidden, stride: steps * hidden };
        for s in (0..steps).rev() {
            let at = Step { rows, steps, t: self.step(s, steps), hidden };
            let dy = dy.map_or(Rows { data: &zeros, start: 0, stride: 0 }, |dy| at_step(dy, at.t));
            // The state before step s: of the sequence, or the start.
            let (start, states) = match &self.c0 {
                Some(c0) => (c0, inner),
                None => (&self.h0, y),
            };
            let before = match s {
                0 => Rows {
                    data: &start.as_slice::<T>()[first * hidden..],
                    start: 0,
                    stride: hidden,
                },
                _ => at_step(states, self.step(s - 1, steps)),
            };
            match self.cell {
                Cell::Lstm => cells::lstm_grad(at, dy, at_step(inner, at.t), before, gates, dh, dc),
                Cell::Gru => {
                    cells::gru_grad(at, dy, at_step(inner, at.t), before, gates, state_side, dh)
                }
                _ => cells::rnn_grad(at, dy, gates, dh),
            }
            let gru = self.cell == Cell::Gru;
            let d = if gru { &*state_side } else { &*gates };
            let d = MatRef::strided(&d[at.t * width..], rows, width, steps * width, 1);
            // The GRU's state also goes on directly, by z h.
            let start = if gru { Start::Current } else { Start::Zero };
            gemm_packed(d, weight, MatMut::new(dh, rows, hidden), start);
        }
    }

    /// The state before every step, `[N, T, H]`, given the states after them: what `weight_hh` was multiplied with.
    ///
    /// # Panics
    /// When `y` has another shape or type than forward gave it.
    #[must_use]
    #[track_caller]
    pub fn previous_states(&self, y: &Tensor) -> Tensor {
        let steps = self.check_sequence(y, self.hidden(), "outputs");
        let (y, row) = (y.contiguous(), self.hidden());
        with_real!(self.cell.name(), y.dtype(), T => {
            let (y, h0) = (y.as_slice::<T>(), self.h0.as_slice::<T>());
            Tensor::build(&[self.h0.shape()[0], steps, row], |out| {
                if steps == 0 {
                    return;
                }
                let len = steps * row;
                for ((out, y), h0) in out.chunks_exact_mut(len).zip(y.chunks_exact(len)).zip(h0.chunks_exact(row)) {
                    if self.reverse {
                        out[..len - row].copy_from_slice(&y[row..]);
                        out[len - row..].copy_from_slice(h0);
                    } else {
                        out[row..].copy_from_slice(&y[..len - row]);
                        out[..row].copy_from_slice(h0);
                    }
                }
            })
        })
    }
}

fn uninit(dtype: DType, shape: &[usize]) -> Tensor {
    Tensor::from_buffer(Buffer::uninit(dtype, shape.iter().product()), shape)
}

#[cfg(test)]
mod tests;
