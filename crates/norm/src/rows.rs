//! Norms of rows: layer norm, and RMS norm, which is the same with the mean taken as 0.
//!
//! Each row is read from memory once in forward and once in backward. Backward adds up the gradients of scale and
//! shift while the row is in the cache, block by block; blocks are cut by size and combined in order.

use std::ops::Range;

use gradus_autograd::{Tensor, Var};
use gradus_tensor::{Real, Stored, kernel, par, with_float};

use crate::{affine::Affine, error::check_eps, lanes};

/// What is taken away from a row before it is divided by its size.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Center {
    /// Its mean.
    Mean,
    /// Nothing.
    Zero,
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` for each row, that is over the last dimensions, `shape`.
#[track_caller]
pub(crate) fn normalize(
    op: &'static str,
    x: &Var,
    shape: &[usize],
    weight: Option<&Var>,
    bias: Option<&Var>,
    eps: f64,
    center: Center,
) -> Var {
    assert!(!shape.is_empty(), "{op}: the normalized shape has no dimension");
    assert!(
        x.shape().ends_with(shape),
        "{op}: input of shape {:?}, normalized shape {shape:?}",
        x.shape()
    );
    if let Err(e) = check_eps(eps) {
        panic!("{op}: {e}");
    }
    let [x] = Var::autocast(op, [x]);
    let affine = Affine::new(op, weight, bias, shape, x.dtype().compute());
    let inputs = Affine::inputs(&x, weight, bias);
    with_float!(op, x.dtype(), S => run::<S>(op, &inputs, affine, eps, center))
}

fn run<S: Stored>(
    op: &'static str,
    inputs: &[&Var],
    affine: Affine,
    eps: f64,
    center: Center,
) -> Var {
    let input = inputs[0].value().contiguous();
    let width = affine.weight.numel();
    let rows = input.numel().checked_div(width).unwrap_or(0);
    let ns = width as f64 * 0.3;
    // Rows at a time: all of a piece, or what is widened in a cache.
    let step = S::BLOCK.checked_div(width).unwrap_or(1).max(1);
    let (x, w, b) = (input.as_slice::<S>(), affine.weight.as_slice(), affine.bias.as_slice());
    // Mean and reciprocal deviation of each row, side by side.
    let mut stats = Vec::new();
    let y = Tensor::build::<S>(input.shape(), |y| {
        let piece = par::piece(ns).min(rows.max(1));
        let parts = par::map_chunks(y, piece * width, piece as f64 * ns, |i, y| {
            let mut stats = vec![S::Compute::ZERO; 2 * (y.len() / width)];
            let [mut wide, mut out] = S::rooms(step.min(piece) * width);
            let x = x[i * piece * width..][..y.len()].chunks(step.saturating_mul(width));
            let ys = y.chunks_mut(step.saturating_mul(width));
            for ((x, y), s) in x.zip(ys).zip(stats.chunks_mut(step.saturating_mul(2))) {
                let x = S::read(x, &mut wide);
                S::write(y, &mut out, |y| forward(x, w, b, S::Compute::lit(eps), center, s, y));
            }
            stats
        });
        stats = parts.concat();
    });
    Var::op(op, inputs, y, move |dy, sink| {
        let dy = dy.contiguous();
        let (dy, x, w) = (dy.as_slice::<S>(), input.as_slice::<S>(), affine.weight.as_slice());
        let [of_weight, of_bias] = affine.wanted(sink).map(|wanted| if wanted { width } else { 0 });
        let sums = of_weight + of_bias;
        let dx_shape = sink.needs(0).then(|| input.shape());
        let (dx, sums) = by_blocks::<S>(dx_shape, rows, width, sums, 2.0 * ns, |rows, dx, sums| {
            let (dw, db) = sums.split_at_mut(of_weight);
            let [mut wide, mut of_y, mut of_x] = S::rooms(step.min(rows.len()) * width);
            let mut rest = dx;
            for first in rows.clone().step_by(step) {
                let rows = first..rows.end.min(first + step);
                let (at, s) =
                    (rows.start * width..rows.end * width, &stats[2 * rows.start..2 * rows.end]);
                let (dy, x) =
                    (S::read(&dy[at.clone()], &mut of_y), S::read(&x[at.clone()], &mut wide));
                let dx;
                (dx, rest) = rest.split_at_mut(at.len().min(rest.len()));
                S::write(dx, &mut of_x, |dx| backward(dy, x, s, w, center, dx, dw, db));
            }
        });
        let (dw, db) = sums.split_at(of_weight);
        affine.add(sink, dw, db);
        if let Some(dx) = dx {
            sink.add(0, dx);
        }
    })
}

/// Rows whose sums one piece of work adds up: fixed, so that threads do not change the order.
const BLOCK: usize = 64;

/// Calls `f(rows, dx, sums)` for each block of rows: `f` writes their part of `dx` (which is empty where no shape of
/// it is given) and adds to `sums` numbers that start at 0. Returns `dx` and the totals of the sums.
pub(crate) fn by_blocks<S: Stored>(
    dx: Option<&[usize]>,
    rows: usize,
    width: usize,
    sums: usize,
    ns: f64,
    f: impl Fn(Range<usize>, &mut [S], &mut [S::Compute]) + Sync + Send,
) -> (Option<Tensor>, Vec<f64>) {
    let ns = ns * BLOCK as f64;
    let block = |i: usize, dx: &mut [S]| {
        let mut part = vec![S::Compute::ZERO; sums];
        f(i * BLOCK..((i + 1) * BLOCK).min(rows), dx, &mut part);
        part
    };
    let mut parts = Vec::new();
    let dx = dx.map(|shape| {
        Tensor::build(shape, |dx| parts = par::map_chunks(dx, BLOCK * width, ns, block))
    });
    if dx.is_none() && sums > 0 {
        parts = par::map(rows.div_ceil(BLOCK), ns, |i| block(i, &mut []));
    }
    let mut totals = vec![0.0; sums];
    for part in &parts {
        add_wide(&mut totals, part);
    }
    (dx, totals)
}

kernel! {
    fn add_wide['a, T: Real]['a, T](totals: &'a mut [f64], part: &'a [T]) -> () {
        for (t, &p) in totals.iter_mut().zip(part) {
            *t += p.to_f64();
        }
    }
}

kernel! {
    /// As many rows as `y` has; writes their mean and reciprocal standard deviation too.
    fn forward['a, T: Real]['a, T](
        x: &'a [T], w: &'a [T], b: &'a [T], eps: T, center: Center, stats: &'a mut [T], y: &'a mut [T],
    ) -> () {
        let width = w.len();
        let n = T::lit(width as f64);
        for ((x, s), y) in x.chunks_exact(width).zip(stats.chunks_exact_mut(2)).zip(y.chunks_exact_mut(width)) {
            let (mean, var) = match center {
                Center::Mean => lanes::moments(x),
                Center::Zero => (T::ZERO, lanes::sum(x, |x| x * x) / n),
            };
            let rstd = T::ONE / (var + eps).sqrt();
            (s[0], s[1]) = (mean, rstd);
            for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(w).zip(b) {
                *y = (x - mean) * rstd * w + b;
            }
        }
    }
}

/// Values worked on side by side.
const LANES: usize = 32;
/// Values that are summed in their own type; from block to block the sums go on in f64.
const SPAN: usize = 64 * LANES;

/// One walk over a row: `dx = dy w`, the sums of this and of its product with `xhat`, and `dw += dy xhat` if `OF_WEIGHT`.
#[inline(always)]
fn products<T: Real, const OF_WEIGHT: bool>(
    dy: &[T],
    x: &[T],
    w: &[T],
    (mean, rstd): (T, T),
    dx: &mut [T],
    dw: &mut [T],
) -> (T, T) {
    let load = |from: &[T], at: usize| -> [T; LANES] {
        let mut lanes = [T::ZERO; LANES];
        lanes.copy_from_slice(&from[at..at + LANES]);
        lanes
    };
    let mut total = (0.0, 0.0);
    for start in (0..dy.len()).step_by(SPAN) {
        let end = dy.len().min(start + SPAN);
        let whole = end - (end - start) % LANES;
        let (mut sums, mut dots) = ([T::ZERO; LANES], [T::ZERO; LANES]);
        for at in (start..whole).step_by(LANES) {
            let (g, x, w) = (load(dy, at), load(x, at), load(w, at));
            let mut of_weight = if OF_WEIGHT { load(dw, at) } else { [T::ZERO; LANES] };
            let mut d = [T::ZERO; LANES];
            for l in 0..LANES {
                let xhat = (x[l] - mean) * rstd;
                d[l] = g[l] * w[l];
                sums[l] += d[l];
                dots[l] += d[l] * xhat;
                of_weight[l] += g[l] * xhat;
            }
            dx[at..at + LANES].copy_from_slice(&d);
            if OF_WEIGHT {
                dw[at..at + LANES].copy_from_slice(&of_weight);
            }
        }
        let (mut sum, mut dot) =
            if whole > start { (lanes::tree(sums), lanes::tree(dots)) } else { (T::ZERO, T::ZERO) };
        for i in whole..end {
            let xhat = (x[i] - mean) * rstd;
            dx[i] = dy[i] * w[i];
            sum += dx[i];
            dot += dx[i] * xhat;
            if OF_WEIGHT {
                dw[i] += dy[i] * xhat;
            }
        }
        total = (total.0 + sum.to_f64(), total.1 + dot.to_f64());
    }
    (T::from_f64(total.0), T::from_f64(total.1))
}

kernel! {
    /// `dx = rstd (g - mean(g) - xhat mean(g xhat))` with `g = dy w`, without `mean(g)` where the centre is 0;
    /// `dw += dy xhat` and `db += dy`. What is empty is left out.
    fn backward['a, T: Real]['a, T](
        dy: &'a [T], x: &'a [T], stats: &'a [T], w: &'a [T], center: Center, dx: &'a mut [T], dw: &'a mut [T],
        db: &'a mut [T],
    ) -> () {
        let width = w.len();
        let n = T::lit(width as f64);
        let rows = dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(stats.chunks_exact(2));
        let mut dx = dx.chunks_exact_mut(width);
        for ((dy, x), s) in rows {
            let (mean, rstd) = (s[0], s[1]);
            for (db, &g) in db.iter_mut().zip(dy) {
                *db += g;
            }
            let Some(dx) = dx.next() else {
                for ((dw, &g), &x) in dw.iter_mut().zip(dy).zip(x) {
                    *dw += g * ((x - mean) * rstd);
                }
                continue;
            };
            let (sum, dot) = if dw.is_empty() {
                products::<T, false>(dy, x, w, (mean, rstd), dx, dw)
            } else {
                products::<T, true>(dy, x, w, (mean, rstd), dx, dw)
            };
            let shift = if center == Center::Mean { sum / n } else { T::ZERO };
            let slope = rstd * (dot / n);
            for (d, &x) in dx.iter_mut().zip(x) {
                *d = rstd * (*d - shift - (x - mean) * slope);
            }
        }
    }
}
