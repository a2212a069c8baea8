//! Norms of groups of channels: `x` `[N, C, ...]` is `N * groups` rows, each of whole planes with a scale and a shift
//! of their own.
//!
//! Each row is read from memory once in forward and once in backward.

use gradus_autograd::{Tensor, Var};
use gradus_tensor::{Real, kernel, par, with_real};

use crate::{affine::Affine, lanes};

/// How the channels of one input are grouped.
#[derive(Clone, Copy, Debug)]
struct Grouped {
    groups: usize,
    /// Channels of a group.
    channels: usize,
    /// Elements of a channel of one sample.
    spatial: usize,
}

impl Grouped {
    /// Elements of a row.
    fn width(self) -> usize {
        self.channels * self.spatial
    }
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` for each sample and group, and the mean and biased variance of
/// each, `[N, groups, 2]` in the type of the computation. `groups` divides the channels.
#[track_caller]
pub(crate) fn normalize(
    op: &'static str,
    x: &Var,
    groups: usize,
    weight: Option<&Var>,
    bias: Option<&Var>,
    eps: f64,
) -> (Var, Tensor) {
    let [x] = Var::autocast(op, [x]);
    let compute = x.dtype().compute();
    let affine = Affine::new(op, weight, bias, &x.shape()[1..2], compute);
    let inputs = Affine::inputs(&x, weight, bias);
    with_real!(op, compute, T => run::<T>(op, &inputs, groups, affine, eps))
}

fn run<T: Real>(
    op: &'static str,
    inputs: &[&Var],
    groups: usize,
    affine: Affine,
    eps: f64,
) -> (Var, Tensor) {
    let input = inputs[0].value().contiguous();
    let shape = input.shape();
    let spatial: usize = shape[2..].iter().product();
    let layout = Grouped { groups, channels: shape[1] / groups.max(1), spatial };
    let (samples, width) = (shape[0], layout.width());
    let rows = input.numel().checked_div(width).unwrap_or(0);
    let ns = width as f64 * 0.3;
    let x = input.to_dtype(T::DTYPE);
    let mut stats = Tensor::zeros(&[samples, groups, 2], T::DTYPE);
    let y = Tensor::build::<T>(shape, |y| {
        let (x, w, b) = (x.as_slice::<T>(), affine.weight.as_slice(), affine.bias.as_slice());
        let outs = [y, stats.make_mut::<T>()];
        par::for_each_part(outs, rows, par::piece(ns), ns, |row, [y, s]| {
            forward(&x[row * width..], row, layout, w, b, T::lit(eps), s, y);
        });
    });
    let moments = stats.clone();
    let dtype = input.dtype();
    let y = Var::op(op, inputs, y.to_dtype(dtype), move |dy, sink| {
        let (dy, x) = (dy.contiguous().to_dtype(T::DTYPE), input.to_dtype(T::DTYPE));
        let (dy, x, s) = (dy.as_slice::<T>(), x.as_slice::<T>(), stats.as_slice::<T>());
        let w = affine.weight.as_slice::<T>();
        // Of each plane the sums of dy and of dy xhat.
        let mut sums = Tensor::zeros(&[samples, w.len(), 2], T::DTYPE);
        let mut go = |dx: &mut [T]| {
            let outs = [dx, sums.make_mut::<T>()];
            par::for_each_part(outs, rows, par::piece(2.0 * ns), 2.0 * ns, |row, [dx, sums]| {
                let (at, s) = (row * width, &s[2 * row..]);
                backward(&dy[at..], &x[at..], s, row, layout, w, T::lit(eps), sums, dx);
            });
        };
        let dx = if sink.needs(0) {
            Some(Tensor::build::<T>(input.shape(), go))
        } else {
            go(&mut []);
            None
        };
        let (mut dw, mut db) = (vec![0.0; w.len()], vec![0.0; w.len()]);
        for of_sample in sums.as_slice::<T>().chunks_exact(2 * w.len().max(1)) {
            for ((dw, db), s) in dw.iter_mut().zip(&mut db).zip(of_sample.chunks_exact(2)) {
                *db += s[0].to_f64();
                *dw += s[1].to_f64();
            }
        }
        affine.add(sink, &dw, &db);
        if let Some(dx) = dx {
            sink.add(0, dx.to_dtype(dtype));
        }
    });
    (y, moments)
}

kernel! {
    /// As many rows as `stats` has, from row number `row` on; `x` starts there.
    fn forward['a, T: Real]['a, T](
        x: &'a [T], row: usize, layout: Grouped, w: &'a [T], b: &'a [T], eps: T, stats: &'a mut [T], y: &'a mut [T],
    ) -> () {
        let width = layout.width();
        for (i, s) in stats.chunks_exact_mut(2).enumerate() {
            let (x, y) = (&x[i * width..(i + 1) * width], &mut y[i * width..(i + 1) * width]);
            let (mean, var) = lanes::moments(x);
            let rstd = T::ONE / (var + eps).sqrt();
            (s[0], s[1]) = (mean, var);
            let first = (row + i) % layout.groups * layout.channels;
            let (w, b) = (&w[first..first + layout.channels], &b[first..first + layout.channels]);
            if layout.spatial == 1 {
                for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(w).zip(b) {
                    *y = (x - mean) * rstd * w + b;
                }
                continue;
            }
            let planes = x.chunks_exact(layout.spatial).zip(y.chunks_exact_mut(layout.spatial));
            for ((&w, &b), (x, y)) in w.iter().zip(b).zip(planes) {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = (x - mean) * rstd * w + b;
                }
            }
        }
    }
}

kernel! {
    /// `dx = rstd (g - mean(g) - xhat mean(g xhat))` with `g = dy w`, left out where `dx` is empty; as many rows as
    /// `sums` has, from row number `row` on, where `dy`, `x`, `stats` and `dx` start.
    fn backward['a, T: Real]['a, T](
        dy: &'a [T], x: &'a [T], stats: &'a [T], row: usize, layout: Grouped, w: &'a [T], eps: T, sums: &'a mut [T],
        dx: &'a mut [T],
    ) -> () {
        let (width, n) = (layout.width(), layout.width() as f64);
        for (i, sums) in sums.chunks_exact_mut(2 * layout.channels).enumerate() {
            let (dy, x) = (&dy[i * width..(i + 1) * width], &x[i * width..(i + 1) * width]);
            let (mean, rstd) = (stats[2 * i], T::ONE / (stats[2 * i + 1] + eps).sqrt());
            let first = (row + i) % layout.groups * layout.channels;
            let w = &w[first..first + layout.channels];
            let (mut shift, mut slope) = (0.0, 0.0);
            let planes = dy.chunks_exact(layout.spatial).zip(x.chunks_exact(layout.spatial));
            for ((dy, x), (s, &w)) in planes.zip(sums.chunks_exact_mut(2).zip(w)) {
                (s[0], s[1]) = lanes::sum2(dy, x, |g, x| (g, g * ((x - mean) * rstd)));
                shift += w.to_f64() * s[0].to_f64();
                slope += w.to_f64() * s[1].to_f64();
            }
            if dx.is_empty() {
                continue;
            }
            let (shift, slope) = (T::lit(shift / n), rstd * T::lit(slope / n));
            let dx = &mut dx[i * width..(i + 1) * width];
            if layout.spatial == 1 {
                for (((d, &g), &x), &w) in dx.iter_mut().zip(dy).zip(x).zip(w) {
                    *d = rstd * (g * w - shift - (x - mean) * slope);
                }
                continue;
            }
            let planes = dy.chunks_exact(layout.spatial).zip(x.chunks_exact(layout.spatial));
            for ((dx, (dy, x)), &w) in dx.chunks_exact_mut(layout.spatial).zip(planes).zip(w) {
                for ((d, &g), &x) in dx.iter_mut().zip(dy).zip(x) {
                    *d = rstd * (g * w - shift - (x - mean) * slope);
                }
            }
        }
    }
}
