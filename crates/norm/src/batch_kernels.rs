//! Loops of batch normalization, for channels that are planes (`[N, C, S]`) and channels that are columns (`[N, C]`).

use gradus_tensor::{Real, kernel, par};

use crate::lanes;

/// `[samples, channels, spatial]`; with `spatial` 1 a channel is a column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) samples: usize,
    pub(crate) channels: usize,
    pub(crate) spatial: usize,
}

impl Layout {
    pub(crate) fn of(shape: &[usize]) -> Self {
        Self { samples: shape[0], channels: shape[1], spatial: shape[2..].iter().product() }
    }

    /// Values per channel.
    pub(crate) fn count(self) -> usize {
        self.samples * self.spatial
    }
}

/// Columns that one piece of work sums: a cache line or two of each row.
const COLUMNS: usize = 32;
/// Rows summed in the element type before the sum moves on to f64.
const ROWS: usize = 32;

/// Mean and biased variance of each channel, in two passes; 0 over nothing.
pub(crate) fn moments<T: Real>(x: &[T], layout: Layout) -> (Vec<T>, Vec<T>) {
    let n = layout.count().max(1) as f64;
    let mean: Vec<T> = channel_sums(x, x, layout, &vec![T::ZERO; layout.channels], Sum::First)
        .into_iter()
        .map(|s| T::lit(s.0 / n))
        .collect();
    let var = channel_sums(x, x, layout, &mean, Sum::Squares)
        .into_iter()
        .map(|s| T::lit(s.1 / n))
        .collect();
    (mean, var)
}

/// For each channel the sums of `dy` and of `dy (x - mean)`.
pub(crate) fn gradient_sums<T: Real>(
    dy: &[T],
    x: &[T],
    mean: &[T],
    layout: Layout,
) -> (Vec<T>, Vec<T>) {
    channel_sums(dy, x, layout, mean, Sum::Both)
        .into_iter()
        .map(|(a, b)| (T::lit(a), T::lit(b)))
        .unzip()
}

/// Which sums are wanted.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Sum {
    /// `sum a`.
    First,
    /// `sum (b - mean)^2`, as the second result.
    Squares,
    /// `sum a` and `sum a (b - mean)`.
    Both,
}

fn channel_sums<T: Real>(
    a: &[T],
    b: &[T],
    layout: Layout,
    mean: &[T],
    what: Sum,
) -> Vec<(f64, f64)> {
    let Layout { samples, channels, spatial } = layout;
    let ns = layout.count() as f64 * 0.2;
    if spatial == 1 {
        let blocks = par::map(channels.div_ceil(COLUMNS), ns * COLUMNS as f64, |block| {
            let first = block * COLUMNS;
            let mut sums = [(0.0, 0.0); COLUMNS];
            for rows in (0..samples).step_by(ROWS) {
                let rows = rows..(rows + ROWS).min(samples);
                column_sums(a, b, channels, first, rows.start, rows.end, mean, what, &mut sums);
            }
            sums
        });
        return blocks.into_iter().flatten().take(channels).collect();
    }
    par::map(channels, ns, |c| {
        let mut sums = (0.0, 0.0);
        for n in 0..samples {
            let at = (n * channels + c) * spatial;
            let (s, t) = plane_sums(&a[at..at + spatial], &b[at..at + spatial], mean[c], what);
            sums.0 += s.to_f64();
            sums.1 += t.to_f64();
        }
        sums
    })
}

kernel! {
    fn plane_sums['a, T: Real]['a, T](a: &'a [T], b: &'a [T], mean: T, what: Sum) -> (T, T) {
        match what {
            Sum::First => (lanes::sum(a, |a| a), T::ZERO),
            Sum::Squares => (T::ZERO, lanes::sum(b, |b| (b - mean) * (b - mean))),
            Sum::Both => lanes::sum2(a, b, |a, b| (a, a * (b - mean))),
        }
    }
}

kernel! {
    fn column_sums['a, T: Real]['a, T](
        a: &'a [T], b: &'a [T], channels: usize, first: usize, start: usize, end: usize, mean: &'a [T], what: Sum,
        sums: &'a mut [(f64, f64); COLUMNS],
    ) -> () {
        let width = COLUMNS.min(channels - first);
        let mean = &mean[first..first + width];
        let (mut s, mut t) = ([T::ZERO; COLUMNS], [T::ZERO; COLUMNS]);
        for row in start..end {
            let at = row * channels + first;
            let (a, b) = (&a[at..at + width], &b[at..at + width]);
            for ((((s, t), &a), &b), &mean) in s.iter_mut().zip(t.iter_mut()).zip(a).zip(b).zip(mean) {
                match what {
                    Sum::First => *s += a,
                    Sum::Squares => *t += (b - mean) * (b - mean),
                    Sum::Both => {
                        *s += a;
                        *t += a * (b - mean);
                    }
                }
            }
        }
        for ((sum, s), t) in sums.iter_mut().zip(s).zip(t) {
            sum.0 += s.to_f64();
            sum.1 += t.to_f64();
        }
    }
}

kernel! {
    /// `y = (x - mean) scale + bias`, from channel `first` on.
    pub(crate) fn normalize['a, T: Real]['a, T](
        x: &'a [T], first: usize, spatial: usize, mean: &'a [T], scale: &'a [T], bias: &'a [T], y: &'a mut [T],
    ) -> () {
        if spatial == 1 {
            let width = mean.len();
            for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
                for ((((y, &x), &m), &s), &b) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(bias) {
                    *y = (x - m) * s + b;
                }
            }
            return;
        }
        let mut c = first;
        for (x, y) in x.chunks_exact(spatial).zip(y.chunks_exact_mut(spatial)) {
            let (m, s, b) = (mean[c], scale[c], bias[c]);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x - m) * s + b;
            }
            c = if c + 1 == mean.len() { 0 } else { c + 1 };
        }
    }
}

kernel! {
    /// `dx = scale (dy - shift - (x - mean) slope)`, from channel `first` on.
    pub(crate) fn backward['a, T: Real]['a, T](
        dy: &'a [T], x: &'a [T], first: usize, spatial: usize, mean: &'a [T], scale: &'a [T], shift: &'a [T],
        slope: &'a [T], dx: &'a mut [T],
    ) -> () {
        if spatial == 1 {
            let width = mean.len();
            for ((dy, x), dx) in dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
                let of_column = mean.iter().zip(scale).zip(shift).zip(slope);
                for (((d, &g), &x), (((&m, &s), &h), &k)) in dx.iter_mut().zip(dy).zip(x).zip(of_column) {
                    *d = s * (g - h - (x - m) * k);
                }
            }
            return;
        }
        let mut c = first;
        for ((dy, x), dx) in dy.chunks_exact(spatial).zip(x.chunks_exact(spatial)).zip(dx.chunks_exact_mut(spatial)) {
            let (m, s, h, k) = (mean[c], scale[c], shift[c], slope[c]);
            for ((d, &g), &x) in dx.iter_mut().zip(dy).zip(x) {
                *d = s * (g - h - (x - m) * k);
            }
            c = if c + 1 == mean.len() { 0 } else { c + 1 };
        }
    }
}
