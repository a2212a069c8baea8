//! Weights whose elements depend on one another.

use alloc::vec;

use gradus_core::{FloatElement, RngStream};

use crate::{
    Kernel,
    haar::Haar,
    lanes::{Groups, Words},
};

/// A matrix with orthonormal rows or columns, whichever are fewer, times `gain`.
pub(crate) fn orthogonal<T: FloatElement>(
    gain: f64,
    [rows, cols]: [usize; 2],
    stream: RngStream,
    out: &mut [T],
) {
    let wide = rows < cols;
    let q = if wide { Haar::new(cols, rows, stream) } else { Haar::new(rows, cols, stream) };
    for (i, row) in out.chunks_exact_mut(cols).enumerate() {
        for (j, out) in row.iter_mut().enumerate() {
            *out = T::from_f64(gain * if wide { q.get(j, i) } else { q.get(i, j) });
        }
    }
}

/// A matrix with orthonormal columns at one tap, 0 elsewhere.
pub(crate) fn delta_orthogonal<T: FloatElement>(
    gain: f64,
    kernel: Kernel,
    centre: usize,
    stream: RngStream,
    out: &mut [T],
) {
    out.fill(T::zero());
    let q = Haar::new(kernel.outs, kernel.ins, stream);
    for o in 0..kernel.outs {
        for i in 0..kernel.ins {
            out[kernel.index(o, i, centre)] = T::from_f64(gain * q.get(o, i));
        }
    }
}

/// In each group, output `k` is input `k`, as far as both go.
pub(crate) fn dirac<T: FloatElement>(
    gain: f64,
    kernel: Kernel,
    groups: usize,
    centre: usize,
    out: &mut [T],
) {
    out.fill(T::zero());
    let outs = kernel.outs / groups;
    for group in 0..groups {
        for k in 0..outs.min(kernel.ins) {
            out[kernel.index(group * outs + k, k, centre)] = T::from_f64(gain);
        }
    }
}

/// Sets exactly `zeros` of the weights of each input to 0. Going through the outputs, each is set with the
/// share that is still to be set among those still to come (Knuth's algorithm S): one pass, and every choice
/// is equally likely (to within `outputs / 2^32`).
pub(crate) fn thin_out<T: FloatElement>(
    zeros: usize,
    kernel: Kernel,
    stream: RngStream,
    out: &mut [T],
) {
    let mut words = vec![0; out.len()];
    Words(stream).fill_range(0, &mut words);
    let mut left = vec![zeros as u64; kernel.ins];
    for o in 0..kernel.outs {
        let to_come = (kernel.outs - o) as u64;
        for (i, left) in left.iter_mut().enumerate() {
            let at = kernel.index(o, i, 0);
            if (u64::from(words[at]) * to_come) >> 32 < *left {
                *left -= 1;
                out[at] = T::zero();
            }
        }
    }
}
