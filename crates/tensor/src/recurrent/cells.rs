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
fn blocks<T, const G: usize>(row: &[T], hidden: usize) -> [&[T]; G] {
    std::array::from_fn(|g| &row[g * hidden..(g + 1) * hidden])
}

/// Cuts a row into its gate blocks for writing.
#[inline(always)]
fn blocks_mut<T, const G: usize>(row: &mut [T], hidden: usize) -> [&mut [T]; G] {
    let mut rest = row;
    std::array::from_fn(|_| {
        let (block, later) = std::mem::take(&mut rest).split_at_mut(hidden);
        rest = later;
        block
    })
}

// One row of one step each. That the blocks are arguments of their own tells the compiler that they do not overlap,
// without which it does not vectorise.

#[inline(always)]
fn lstm_row<T: Real>(
    bias: [&[T]; 4],
    state: [&[T]; 4],
    i: &mut [T],
    f: &mut [T],
    g: &mut [T],
    o: &mut [T],
    cells: &mut [T],
    y: &mut [T],
    h: &mut [T],
    c: &mut [T],
) {
    let n = h.len();
    let ([bi, bf, bg, bo], [si, sf, sg, so]) = (bias.map(|b| &b[..n]), state.map(|s| &s[..n]));
    let (i, f, g, o) = (&mut i[..n], &mut f[..n], &mut g[..n], &mut o[..n]);
    let (cells, y, c) = (&mut cells[..n], &mut y[..n], &mut c[..n]);
    for j in 0..n {
        i[j] = (i[j] + si[j] + bi[j]).sigmoid_();
        f[j] = (f[j] + sf[j] + bf[j]).sigmoid_();
        g[j] = (g[j] + sg[j] + bg[j]).tanh_();
        o[j] = (o[j] + so[j] + bo[j]).sigmoid_();
        c[j] = f[j] * c[j] + i[j] * g[j];
        cells[j] = c[j];
        h[j] = o[j] * c[j].tanh_();
        y[j] = h[j];
    }
}

kernel! {
    pub(super) fn lstm_step['a, T: Real]['a, T](
        at: Step, bias: &'a [T], state: &'a [T], gates: &'a mut [T], cells: &'a mut [T], y: &'a mut [T], h: &'a mut [T], c: &'a mut [T],
    ) -> () {
        let n = at.hidden;
        for r in 0..at.rows {
            let [i, f, g, o] = blocks_mut(&mut gates[at.range(r, 4 * n)], n);
            let (own, seq) = (r * n..(r + 1) * n, at.range(r, n));
            let (cells, y) = (&mut cells[seq.clone()], &mut y[seq]);
            lstm_row(blocks(bias, n), blocks(&state[4 * n * r..], n), i, f, g, o, cells, y, &mut h[own.clone()], &mut c[own]);
        }
    }
}

#[inline(always)]
fn lstm_grad_row<T: Real>(
    dy: &[T],
    cell: &[T],
    before: &[T],
    i: &mut [T],
    f: &mut [T],
    g: &mut [T],
    o: &mut [T],
    dh: &mut [T],
    dc: &mut [T],
) {
    let n = dh.len();
    let (dy, cell, before) = (&dy[..n], &cell[..n], &before[..n]);
    let (i, f, g, o, dc) = (&mut i[..n], &mut f[..n], &mut g[..n], &mut o[..n], &mut dc[..n]);
    for j in 0..n {
        let (vi, vf, vg, vo) = (i[j], f[j], g[j], o[j]);
        let dh = dh[j] + dy[j];
        let tanh = cell[j].tanh_();
        let d = dc[j] + dh * vo * (T::ONE - tanh * tanh);
        i[j] = d * vg * vi * (T::ONE - vi);
        f[j] = d * before[j] * vf * (T::ONE - vf);
        g[j] = d * vi * (T::ONE - vg * vg);
        o[j] = dh * tanh * vo * (T::ONE - vo);
        dc[j] = d * vf;
    }
}

kernel! {
    pub(super) fn lstm_grad['a, T: Real]['a, T](
        at: Step, dy: Rows<'a, T>, cells: Rows<'a, T>, before: Rows<'a, T>, gates: &'a mut [T], dh: &'a mut [T], dc: &'a mut [T],
    ) -> () {
        let n = at.hidden;
        for r in 0..at.rows {
            let [i, f, g, o] = blocks_mut(&mut gates[at.range(r, 4 * n)], n);
            let own = r * n..(r + 1) * n;
            let (dh, dc) = (&mut dh[own.clone()], &mut dc[own]);
            lstm_grad_row(dy.row(r, n), cells.row(r, n), before.row(r, n), i, f, g, o, dh, dc);
        }
    }
}

#[inline(always)]
fn gru_row<T: Real>(
    bias: [&[T]; 4],
    state: [&[T]; 3],
    r: &mut [T],
    z: &mut [T],
    n: &mut [T],
    inner: &mut [T],
    y: &mut [T],
    h: &mut [T],
) {
    let len = h.len();
    let ([br, bz, bn, bh], [sr, sz, sn]) = (bias.map(|b| &b[..len]), state.map(|s| &s[..len]));
    let (r, z, n, inner, y) = (&mut r[..len], &mut z[..len], &mut n[..len], &mut inner[..len], &mut y[..len]);
    for j in 0..len {
        r[j] = (r[j] + sr[j] + br[j]).sigmoid_();
        z[j] = (z[j] + sz[j] + bz[j]).sigmoid_();
        inner[j] = sn[j] + bh[j];
        n[j] = (n[j] + bn[j] + r[j] * inner[j]).tanh_();
        h[j] = (T::ONE - z[j]) * n[j] + z[j] * h[j];
        y[j] = h[j];
    }
}

kernel! {
    pub(super) fn gru_step['a, T: Real]['a, T](
        at: Step, bias: &'a [T], state: &'a [T], gates: &'a mut [T], inner: &'a mut [T], y: &'a mut [T], h: &'a mut [T],
    ) -> () {
        let n = at.hidden;
        for row in 0..at.rows {
            let [r, z, new] = blocks_mut(&mut gates[at.range(row, 3 * n)], n);
            let seq = at.range(row, n);
            let (inner, y) = (&mut inner[seq.clone()], &mut y[seq]);
            gru_row(blocks(bias, n), blocks(&state[3 * n * row..], n), r, z, new, inner, y, &mut h[row * n..(row + 1) * n]);
        }
    }
}

#[inline(always)]
fn gru_grad_row<T: Real>(
    dy: &[T],
    inner: &[T],
    before: &[T],
    r: &mut [T],
    z: &mut [T],
    n: &mut [T],
    state_side: [&mut [T]; 3],
    dh: &mut [T],
) {
    let len = dh.len();
    let (dy, inner, before) = (&dy[..len], &inner[..len], &before[..len]);
    let (r, z, n) = (&mut r[..len], &mut z[..len], &mut n[..len]);
    let [sr, sz, sn] = state_side.map(|s| &mut s[..len]);
    for j in 0..len {
        let (vr, vz, vn) = (r[j], z[j], n[j]);
        let d = dh[j] + dy[j];
        let dn = d * (T::ONE - vz) * (T::ONE - vn * vn);
        r[j] = dn * inner[j] * vr * (T::ONE - vr);
        z[j] = d * (before[j] - vn) * vz * (T::ONE - vz);
        n[j] = dn;
        sr[j] = r[j];
        sz[j] = z[j];
        sn[j] = dn * vr;
        dh[j] = d * vz;
    }
}

kernel! {
    pub(super) fn gru_grad['a, T: Real]['a, T](
        at: Step, dy: Rows<'a, T>, inner: Rows<'a, T>, before: Rows<'a, T>, gates: &'a mut [T], state_side: &'a mut [T], dh: &'a mut [T],
    ) -> () {
        let n = at.hidden;
        for row in 0..at.rows {
            let [r, z, new] = blocks_mut(&mut gates[at.range(row, 3 * n)], n);
            let state_side = blocks_mut(&mut state_side[at.range(row, 3 * n)], n);
            let dh = &mut dh[row * n..(row + 1) * n];
            gru_grad_row(dy.row(row, n), inner.row(row, n), before.row(row, n), r, z, new, state_side, dh);
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
            for ((g, &s), &b) in gates.iter_mut().zip(&state[r * n..]).zip(bias) {
                *g = (*g + s + b).tanh_();
            }
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
