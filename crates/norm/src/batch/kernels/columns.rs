use gradus_tensor::{Real, kernel};

use super::{Line, Slope};
use crate::batch::moments::{Moments, not_negative};

/// Columns that are worked on side by side, in registers.
const LANES: usize = 32;
/// Samples whose columns are summed in the element type before the sums move on to f64.
const ROWS: usize = 32;

/// Columns `at..at + LANES` of a sample; where these are not all there (`!FULL`), zeros after its end.
///
/// Full or not is known when compiling, so that the common case stays in registers.
#[inline(always)]
fn load<T: Real, const FULL: bool>(x: &[T], at: usize) -> [T; LANES] {
    let mut columns = [T::ZERO; LANES];
    if FULL {
        columns.copy_from_slice(&x[at..at + LANES]);
    } else {
        columns.iter_mut().zip(&x[at..]).for_each(|(c, &x)| *c = x);
    }
    columns
}

/// Writes columns `at..at + LANES`, as far as there are any.
#[inline(always)]
fn store<T: Real, const FULL: bool>(y: &mut [T], at: usize, columns: &[T; LANES]) {
    if FULL {
        y[at..at + LANES].copy_from_slice(columns);
    } else {
        y[at..].iter_mut().zip(columns).for_each(|(y, &c)| *y = c);
    }
}

/// Where a block of columns starts, and how many of its first columns were in the block before.
#[derive(Clone, Copy)]
struct Block {
    at: usize,
    again: usize,
}

/// Calls `$f` for each block of columns. The last one reaches back to be full; only where there are fewer columns than
/// that, it is not.
macro_rules! each_block {
    ($width:expr, $f:ident($($arg:expr),*)) => {
        for start in (0..$width).step_by(LANES) {
            if $width >= LANES {
                let at = start.min($width - LANES);
                $f::<_, true>(Block { at, again: start - at }, $($arg),*);
            } else {
                $f::<_, false>(Block { at: start, again: 0 }, $($arg),*);
            }
        }
    };
}

/// A number of each channel, for each of its columns.
#[inline(always)]
fn spread<C, T: Real>(channels: &[C], spatial: usize, f: impl Fn(&C) -> T) -> Vec<T> {
    let mut columns = Vec::with_capacity(channels.len() * spatial);
    for c in channels {
        columns.resize(columns.len() + spatial, f(c));
    }
    columns
}

kernel! {
    /// Adds the columns of `xs`, `spatial` to a channel, to the moments of their channels.
    pub(crate) fn column_moments['a, 'b, T: Real]['a, 'b, T](
        xs: &'a [&'b [T]], spatial: usize, out: &'a mut [Moments],
    ) -> () {
        let width = out.len() * spatial;
        each_block!(width, moments(xs, spatial, out));
    }
}

#[inline(always)]
fn moments<T: Real, const FULL: bool>(
    Block { at, again }: Block,
    xs: &[&[T]],
    spatial: usize,
    out: &mut [Moments],
) {
    let (mut means, mut m2s, mut count) = ([0.0; LANES], [0.0; LANES], 0.0);
    for xs in xs.chunks(ROWS) {
        let n = xs.len() as f64;
        let mut mean = [T::ZERO; LANES];
        for x in xs {
            let x = load::<T, FULL>(x, at);
            for l in 0..LANES {
                mean[l] += x[l];
            }
        }
        for mean in &mut mean {
            *mean *= T::lit(1.0 / n);
        }
        let (mut sum, mut squares) = ([T::ZERO; LANES], [T::ZERO; LANES]);
        for x in xs {
            let x = load::<T, FULL>(x, at);
            for l in 0..LANES {
                let d = x[l] - mean[l];
                sum[l] += d;
                squares[l] += d * d;
            }
        }
        // `Moments::around` and `Moments::merge` side by side: all columns have the same count.
        let (share, inverse) = (n / (count + n), 1.0 / n);
        let both = count * share;
        for l in 0..LANES {
            let (sum, squares) = (sum[l].to_f64(), squares[l].to_f64());
            let off = sum * inverse;
            let delta = (mean[l].to_f64() + off) - means[l];
            means[l] += delta * share;
            m2s[l] += not_negative(squares - sum * off) + delta * delta * both;
        }
        count += n;
    }
    let columns = out.len() * spatial - at;
    for (l, (mean, m2)) in means.into_iter().zip(m2s).take(columns).enumerate().skip(again) {
        out[(at + l) / spatial].merge(&Moments { count, mean, m2 });
    }
}

kernel! {
    /// Adds `dy` and `dy (x - mean)` over the columns of each channel.
    pub(crate) fn column_sums['a, 'b, T: Real]['a, 'b, T](
        dys: &'a [&'b [T]], xs: &'a [&'b [T]], spatial: usize, means: &'a [T], out: &'a mut [(f64, f64)],
    ) -> () {
        let means = spread(means, spatial, |&m| m);
        each_block!(means.len(), sums(dys, xs, spatial, &means, out));
    }
}

#[inline(always)]
fn sums<T: Real, const FULL: bool>(
    Block { at, again }: Block,
    dys: &[&[T]],
    xs: &[&[T]],
    spatial: usize,
    means: &[T],
    out: &mut [(f64, f64)],
) {
    let mean = load::<T, FULL>(means, at);
    let (mut total, mut total_dot) = ([0.0; LANES], [0.0; LANES]);
    for (dys, xs) in dys.chunks(ROWS).zip(xs.chunks(ROWS)) {
        let (mut sum, mut dot) = ([T::ZERO; LANES], [T::ZERO; LANES]);
        for (dy, x) in dys.iter().zip(xs) {
            let (dy, x) = (load::<T, FULL>(dy, at), load::<T, FULL>(x, at));
            for l in 0..LANES {
                sum[l] += dy[l];
                dot[l] += dy[l] * (x[l] - mean[l]);
            }
        }
        for l in 0..LANES {
            total[l] += sum[l].to_f64();
            total_dot[l] += dot[l].to_f64();
        }
    }
    for (l, (sum, dot)) in
        total.into_iter().zip(total_dot).take(means.len() - at).enumerate().skip(again)
    {
        let out = &mut out[(at + l) / spatial];
        *out = (out.0 + sum, out.1 + dot);
    }
}

kernel! {
    /// `y = (x - mean) scale + shift` for columns.
    pub(crate) fn column_lines['a, 'b, 'c, T: Real]['a, 'b, 'c, T](
        xs: &'a [&'b [T]], spatial: usize, lines: &'a [Line<T>], ys: &'a mut [&'c mut [T]],
    ) -> () {
        let of = [
            spread(lines, spatial, |l| l.mean),
            spread(lines, spatial, |l| l.scale),
            spread(lines, spatial, |l| l.shift),
        ];
        for (xs, ys) in xs.chunks(ROWS).zip(ys.chunks_mut(ROWS)) {
            each_block!(of[0].len(), lines_of(xs, &of, ys));
        }
    }
}

#[inline(always)]
fn lines_of<T: Real, const FULL: bool>(
    Block { at, .. }: Block,
    xs: &[&[T]],
    of: &[Vec<T>; 3],
    ys: &mut [&mut [T]],
) {
    let [mean, scale, shift] = of.each_ref().map(|of| load::<T, FULL>(of, at));
    for (x, y) in xs.iter().zip(ys) {
        let mut v = load::<T, FULL>(x, at);
        for l in 0..LANES {
            v[l] = (v[l] - mean[l]) * scale[l] + shift[l];
        }
        store::<T, FULL>(y, at, &v);
    }
}

kernel! {
    /// `dx = scale (dy - shift - (x - mean) slope)` for columns.
    pub(crate) fn column_slopes['a, 'b, 'c, T: Real]['a, 'b, 'c, T](
        dys: &'a [&'b [T]], xs: &'a [&'b [T]], spatial: usize, slopes: &'a [Slope<T>], dxs: &'a mut [&'c mut [T]],
    ) -> () {
        let of = [
            spread(slopes, spatial, |s| s.mean),
            spread(slopes, spatial, |s| s.scale),
            spread(slopes, spatial, |s| s.shift),
            spread(slopes, spatial, |s| s.slope),
        ];
        for ((dys, xs), dxs) in dys.chunks(ROWS).zip(xs.chunks(ROWS)).zip(dxs.chunks_mut(ROWS)) {
            each_block!(of[0].len(), slopes_of(dys, xs, &of, dxs));
        }
    }
}

#[inline(always)]
fn slopes_of<T: Real, const FULL: bool>(
    Block { at, .. }: Block,
    dys: &[&[T]],
    xs: &[&[T]],
    of: &[Vec<T>; 4],
    dxs: &mut [&mut [T]],
) {
    let [mean, scale, shift, slope] = of.each_ref().map(|of| load::<T, FULL>(of, at));
    for ((dy, x), dx) in dys.iter().zip(xs).zip(dxs) {
        let (mut v, x) = (load::<T, FULL>(dy, at), load::<T, FULL>(x, at));
        for l in 0..LANES {
            v[l] = scale[l] * (v[l] - shift[l] - (x[l] - mean[l]) * slope[l]);
        }
        store::<T, FULL>(dx, at, &v);
    }
}
