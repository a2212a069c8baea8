//! One step of each cell, all gates in one pass over memory.

use crate::{Real, kernel};

/// Step `t` of `rows` sequences of `steps` steps.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) rows: usize,
    pub(super) steps: usize,
    pub(super) t: usize,
    pub(super) hidden: usize,
}

impl Step {
    /// Where row `r` of this step lies in something of `[rows, steps, width]`.
    #[inline(always)]
    fn range(self, r: usize, width: usize) -> std::ops::Range<usize> {
        let start = (r * self.steps + self.t) * width;
        start..start + width
    }
}

/// Rows inside a slice.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub(super) data: &'a [T],
    pub(super) start: usize,
    pub(super) stride: usize,
}

impl<'a, T> Rows<'a, T> {
    #[inline(always)]
    fn row(self, r: usize, width: usize) -> &'a [T] {
        &self.data[self.start + r * self.stride..][..width]
    }
}

/// Cuts a row into its gate blocks.
#[inline(always)]
fn blocks<T, const G: usize>(row: &mut [T], hidden: usize) -> [&mut [T]; G] {
    let mut rest = row;
    std::array::from_fn(|_| {
        let (block, later) = std::mem::take(&mut rest).split_at_mut(hidden);
        rest = later;
        block
    })
}

/// `gate = f(gate + state + bias)`
#[inline(always)]
fn activate<T: Real>(gate: &mut [T], state: &[T], bias: &[T], f: impl Fn(T) -> T) {
    for ((g, &s), &b) in gate.iter_mut().zip(state).zip(bias) {
        *g = f(*g + s + b);
    }
}

/// `a += b`
#[inline(always)]
fn add<T: Real>(a: &mut [T], b: &[T]) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

// One row of one step each, in passes over few slices that are arguments of their own: so the compiler sees that they do
// not overlap, without which it does not vectorise.

#[inline(always)]
fn lstm_row<T: Real>(i: &[T], f: &[T], g: &[T], o: &[T], h: &mut [T], c: &mut [T]) {
    let n = h.len();
    let (i, f, g, o, c) = (&i[..n], &f[..n], &g[..n], &o[..n], &mut c[..n]);
    for j in 0..n {
        c[j] = f[j] * c[j] + i[j] * g[j];
        h[j] = o[j] * c[j].tanh_();
    }
}

kernel! {
    pub(super) fn lstm_step['a, T: Real]['a, T](
        at: Step, bias: &'a [T], state: &'a [T], gates: &'a mut [T], cells: &'a mut [T], y: &'a mut [T], h: &'a mut [T], c: &'a mut [T],
    ) -> () {
        let n = at.hidden;
        for r in 0..at.rows {
            let gates = &mut gates[at.range(r, 4 * n)];
            let state = &state[4 * n * r..][..4 * n];
            activate(&mut gates[..2 * n], &state[..2 * n], &bias[..2 * n], T::sigmoid_);
            activate(&mut gates[2 * n..3 * n], &state[2 * n..3 * n], &bias[2 * n..3 * n], T::tanh_);
            activate(&mut gates[3 * n..], &state[3 * n..], &bias[3 * n..], T::sigmoid_);
            let [i, f, g, o] = blocks(gates, n);
            let (h, c) = (&mut h[r * n..(r + 1) * n], &mut c[r * n..(r + 1) * n]);
            lstm_row(i, f, g, o, h, c);
            cells[at.range(r, n)].copy_from_slice(c);
            y[at.range(r, n)].copy_from_slice(h);
        }
    }
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn lstm_grad_row<T: Real>(
    cell: &[T],
    before: &[T],
    i: &mut [T],
    f: &mut [T],
    g: &mut [T],
    o: &mut [T],
    dh: &[T],
    dc: &mut [T],
) {
    let n = dh.len();
    let (cell, before) = (&cell[..n], &before[..n]);
    let (i, f, g, o, dc) = (&mut i[..n], &mut f[..n], &mut g[..n], &mut o[..n], &mut dc[..n]);
    for j in 0..n {
        let (vi, vf, vg, vo) = (i[j], f[j], g[j], o[j]);
        let tanh = cell[j].tanh_();
        let d = dc[j] + dh[j] * vo * (T::ONE - tanh * tanh);
        i[j] = d * vg * vi * (T::ONE - vi);
        f[j] = d * before[j] * vf * (T::ONE - vf);
        g[j] = d * vi * (T::ONE - vg * vg);
        o[j] = dh[j] * tanh * vo * (T::ONE - vo);
        dc[j] = d * vf;
    }
}

kernel! {
    pub(super) fn lstm_grad['a, T: Real]['a, T](
        at: Step, dy: Rows<'a, T>, cells: Rows<'a, T>, before: Rows<'a, T>, gates: &'a mut [T], dh: &'a mut [T], dc: &'a mut [T],
    ) -> () {
        let n = at.hidden;
        for r in 0..at.rows {
            let [i, f, g, o] = blocks(&mut gates[at.range(r, 4 * n)], n);
            let (dh, dc) = (&mut dh[r * n..(r + 1) * n], &mut dc[r * n..(r + 1) * n]);
            add(dh, dy.row(r, n));
            lstm_grad_row(cells.row(r, n), before.row(r, n), i, f, g, o, dh, dc);
        }
    }
}

#[inline(always)]
fn gru_row<T: Real>(r: &[T], z: &[T], n: &mut [T], bias: &[T], inner: &[T], h: &mut [T]) {
    let len = h.len();
    let (r, z, n, bias, inner) = (&r[..len], &z[..len], &mut n[..len], &bias[..len], &inner[..len]);
    for j in 0..len {
        n[j] = (n[j] + bias[j] + r[j] * inner[j]).tanh_();
        h[j] = (T::ONE - z[j]) * n[j] + z[j] * h[j];
    }
}

kernel! {
    pub(super) fn gru_step['a, T: Real]['a, T](
        at: Step, bias: &'a [T], state: &'a [T], gates: &'a mut [T], inner: &'a mut [T], y: &'a mut [T], h: &'a mut [T],
    ) -> () {
        let n = at.hidden;
        for row in 0..at.rows {
            let gates = &mut gates[at.range(row, 3 * n)];
            let state = &state[3 * n * row..][..3 * n];
            activate(&mut gates[..2 * n], &state[..2 * n], &bias[..2 * n], T::sigmoid_);
            let inner = &mut inner[at.range(row, n)];
            inner.copy_from_slice(&state[2 * n..]);
            add(inner, &bias[3 * n..]);
            let [r, z, new] = blocks(gates, n);
            let h = &mut h[row * n..(row + 1) * n];
            gru_row(r, z, new, &bias[2 * n..3 * n], inner, h);
            y[at.range(row, n)].copy_from_slice(h);
        }
    }
}

/// `through_state` comes as the gate r and leaves as the gradient of what r was multiplied with.
#[inline(always)]
fn gru_grad_row<T: Real>(
    inner: &[T],
    before: &[T],
    r: &mut [T],
    z: &mut [T],
    n: &mut [T],
    through_state: &mut [T],
    dh: &mut [T],
) {
    let len = dh.len();
    let (inner, before, through_state) = (&inner[..len], &before[..len], &mut through_state[..len]);
    let (r, z, n) = (&mut r[..len], &mut z[..len], &mut n[..len]);
    for j in 0..len {
        let (vr, vz, vn, d) = (r[j], z[j], n[j], dh[j]);
        let dn = d * (T::ONE - vz) * (T::ONE - vn * vn);
        r[j] = dn * inner[j] * vr * (T::ONE - vr);
        z[j] = d * (before[j] - vn) * vz * (T::ONE - vz);
        n[j] = dn;
        through_state[j] *= dn;
        dh[j] = d * vz;
    }
}

kernel! {
    pub(super) fn gru_grad['a, T: Real]['a, T](
        at: Step, dy: Rows<'a, T>, inner: Rows<'a, T>, before: Rows<'a, T>, gates: &'a mut [T], state_side: &'a mut [T], dh: &'a mut [T],
    ) -> () {
        let n = at.hidden;
        for row in 0..at.rows {
            let gates = &mut gates[at.range(row, 3 * n)];
            let (same, through_state) = state_side[at.range(row, 3 * n)].split_at_mut(2 * n);
            through_state.copy_from_slice(&gates[..n]);
            let dh = &mut dh[row * n..(row + 1) * n];
            add(dh, dy.row(row, n));
            let [r, z, new] = blocks(gates, n);
            gru_grad_row(inner.row(row, n), before.row(row, n), r, z, new, through_state, dh);
            same.copy_from_slice(&gates[..2 * n]);
        }
    }
}

kernel! {
    pub(super) fn rnn_step['a, T: Real]['a, T](
        at: Step, bias: &'a [T], state: &'a [T], gates: &'a mut [T], y: &'a mut [T], h: &'a mut [T],
    ) -> () {
        let n = at.hidden;
        for r in 0..at.rows {
            let gates = &mut gates[at.range(r, n)];
            activate(gates, &state[r * n..], bias, T::tanh_);
            y[at.range(r, n)].copy_from_slice(gates);
            h[r * n..(r + 1) * n].copy_from_slice(gates);
        }
    }
}

kernel! {
    pub(super) fn rnn_grad['a, T: Real]['a, T](at: Step, dy: Rows<'a, T>, gates: &'a mut [T], dh: &'a [T]) -> () {
        let n = at.hidden;
        for r in 0..at.rows {
            for ((g, &dh), &dy) in gates[at.range(r, n)].iter_mut().zip(&dh[r * n..]).zip(dy.row(r, n)) {
                *g = (dh + dy) * (T::ONE - *g * *g);
            }
        }
    }
}
