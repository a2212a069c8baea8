use gradus_tensor::{Real, kernel};

use super::{Line, Slope};
use crate::{batch::moments::Moments, lanes};

/// Values of a plane that are looked at twice while they are in the cache.
const BLOCK: usize = 4096;

/// The value at a position that counts, 0 elsewhere: whatever hides behind a mask, NaN too, is never seen.
#[inline(always)]
fn shown<T: Real>(mask: u8, value: T) -> T {
    if mask == 0 { T::ZERO } else { value }
}

/// Block `b` of plane `p` of a mask for one sample.
#[inline(always)]
fn block_of(mask: &[u8], b: usize, len: usize) -> &[u8] {
    &mask[b * BLOCK..b * BLOCK + len]
}

kernel! {
    /// Adds the planes of `xs` to the moments of their channels.
    pub(crate) fn plane_moments['a, 'b, T: Real]['a, 'b, T](
        xs: &'a [&'b [T]], masks: &'a [&'b [u8]], spatial: usize, out: &'a mut [Moments],
    ) -> () {
        let mut buffer = if masks.is_empty() { Vec::new() } else { vec![T::ZERO; BLOCK.min(spatial)] };
        for (i, x) in xs.iter().enumerate() {
            for (x, moments) in x.chunks_exact(spatial).zip(out.iter_mut()) {
                for (b, x) in x.chunks(BLOCK).enumerate() {
                    let block = match masks.get(i) {
                        None => block_moments(x),
                        Some(mask) => masked_moments(x, block_of(mask, b, x.len()), &mut buffer[..x.len()]),
                    };
                    moments.merge(&block);
                }
            }
        }
    }
}

/// Accumulators side by side.
const LANES: usize = 32;

/// Calls `f` with all of `x`, `LANES` values at a time; the last time, `pad` stands after the end.
#[inline(always)]
fn each_chunk<T: Real>(x: &[T], pad: T, mut f: impl FnMut(&[T; LANES])) {
    let (chunks, rest) = x.as_chunks();
    for chunk in chunks {
        f(chunk);
    }
    if !rest.is_empty() {
        let mut last = [pad; LANES];
        last[..rest.len()].copy_from_slice(rest);
        f(&last);
    }
}

/// The sum of a block, which is no longer than `BLOCK`.
#[inline(always)]
fn sum<T: Real>(x: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    each_chunk(x, T::ZERO, |x| {
        for l in 0..LANES {
            lanes[l] += x[l];
        }
    });
    lanes::tree(lanes)
}

/// The sums of the distances of a block from `mean`, and of their squares.
#[inline(always)]
fn distances<T: Real>(x: &[T], mean: T) -> (T, T) {
    let (mut sum, mut squares) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    // Padded by the mean, whose distance is 0.
    each_chunk(x, mean, |x| {
        for l in 0..LANES {
            let d = x[l] - mean;
            sum[l] += d;
            squares[l] += d * d;
        }
    });
    (lanes::tree(sum), lanes::tree(squares))
}

/// The sums of `dy` and of `dy (x - mean)` over a block.
#[inline(always)]
fn products<T: Real>(dy: &[T], x: &[T], mean: T) -> (T, T) {
    let (mut sum, mut dot) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    let mut add = |dy: &[T; LANES], x: &[T; LANES]| {
        for l in 0..LANES {
            sum[l] += dy[l];
            dot[l] += dy[l] * (x[l] - mean);
        }
    };
    let ((dys, rest_dy), (xs, rest_x)) = (dy.as_chunks(), x.as_chunks());
    for (dy, x) in dys.iter().zip(xs) {
        add(dy, x);
    }
    if !rest_dy.is_empty() {
        // Padded by gradients of 0.
        let (mut dy, mut x) = ([T::ZERO; LANES], [mean; LANES]);
        dy[..rest_dy.len()].copy_from_slice(rest_dy);
        x[..rest_x.len()].copy_from_slice(rest_x);
        add(&dy, &x);
    }
    (lanes::tree(sum), lanes::tree(dot))
}

#[inline(always)]
fn block_moments<T: Real>(x: &[T]) -> Moments {
    let n = x.len() as f64;
    let mean = sum(x) / T::lit(n);
    let (sum, squares) = distances(x, mean);
    Moments::around(mean.to_f64(), n, sum.to_f64(), squares.to_f64())
}

#[inline(always)]
fn masked_moments<T: Real>(x: &[T], mask: &[u8], buffer: &mut [T]) -> Moments {
    let n: usize = mask.iter().map(|&m| usize::from(m != 0)).sum();
    if n == 0 {
        return Moments::default();
    }
    for ((b, &x), &m) in buffer.iter_mut().zip(x).zip(mask) {
        *b = shown(m, x);
    }
    let mean = sum(buffer) / T::lit(n as f64);
    for ((b, &x), &m) in buffer.iter_mut().zip(x).zip(mask) {
        *b = shown(m, x - mean);
    }
    let (sum, squares) = distances(buffer, T::ZERO);
    Moments::around(mean.to_f64(), n as f64, sum.to_f64(), squares.to_f64())
}

kernel! {
    /// Adds `dy` and `dy (x - mean)` over the planes of each channel.
    pub(crate) fn plane_sums['a, 'b, T: Real]['a, 'b, T](
        dys: &'a [&'b [T]], xs: &'a [&'b [T]], masks: &'a [&'b [u8]], spatial: usize, means: &'a [T],
        out: &'a mut [(f64, f64)],
    ) -> () {
        let len = if masks.is_empty() { 0 } else { BLOCK.min(spatial) };
        let (mut g, mut d) = (vec![T::ZERO; len], vec![T::ZERO; len]);
        for (i, (dy, x)) in dys.iter().zip(xs).enumerate() {
            let planes = dy.chunks_exact(spatial).zip(x.chunks_exact(spatial));
            for (((dy, x), &mean), out) in planes.zip(means).zip(out.iter_mut()) {
                for (b, (dy, x)) in dy.chunks(BLOCK).zip(x.chunks(BLOCK)).enumerate() {
                    let (sum, dot) = match masks.get(i) {
                        None => products(dy, x, mean),
                        Some(mask) => {
                            let (g, d) = (&mut g[..x.len()], &mut d[..x.len()]);
                            let mask = block_of(mask, b, x.len());
                            for ((((g, d), &dy), &x), &m) in g.iter_mut().zip(d.iter_mut()).zip(dy).zip(x).zip(mask) {
                                (*g, *d) = (shown(m, dy), shown(m, x - mean));
                            }
                            products(g, d, T::ZERO)
                        }
                    };
                    out.0 += sum.to_f64();
                    out.1 += dot.to_f64();
                }
            }
        }
    }
}

kernel! {
    /// `y = (x - mean) scale + shift` for planes; 0 where the mask is.
    pub(crate) fn plane_lines['a, 'b, 'c, T: Real]['a, 'b, 'c, T](
        xs: &'a [&'b [T]], masks: &'a [&'b [u8]], spatial: usize, lines: &'a [Line<T>], ys: &'a mut [&'c mut [T]],
    ) -> () {
        for (i, (x, y)) in xs.iter().zip(ys).enumerate() {
            let planes = x.chunks_exact(spatial).zip(y.chunks_exact_mut(spatial));
            for ((x, y), line) in planes.zip(lines) {
                let Line { mean, scale, shift } = *line;
                match masks.get(i) {
                    None => {
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = (x - mean) * scale + shift;
                        }
                    }
                    Some(mask) => {
                        for ((y, &x), &m) in y.iter_mut().zip(x).zip(*mask) {
                            *y = shown(m, (x - mean) * scale + shift);
                        }
                    }
                }
            }
        }
    }
}

kernel! {
    /// `dx = scale (dy - shift - (x - mean) slope)` for planes; 0 where the mask is.
    pub(crate) fn plane_slopes['a, 'b, 'c, T: Real]['a, 'b, 'c, T](
        dys: &'a [&'b [T]], xs: &'a [&'b [T]], masks: &'a [&'b [u8]], spatial: usize, slopes: &'a [Slope<T>],
        dxs: &'a mut [&'c mut [T]],
    ) -> () {
        for (i, ((dy, x), dx)) in dys.iter().zip(xs).zip(dxs).enumerate() {
            let planes = dy.chunks_exact(spatial).zip(x.chunks_exact(spatial)).zip(dx.chunks_exact_mut(spatial));
            for (((dy, x), dx), of) in planes.zip(slopes) {
                let Slope { mean, scale, shift, slope } = *of;
                match masks.get(i) {
                    None => {
                        for ((d, &g), &x) in dx.iter_mut().zip(dy).zip(x) {
                            *d = scale * (g - shift - (x - mean) * slope);
                        }
                    }
                    Some(mask) => {
                        for (((d, &g), &x), &m) in dx.iter_mut().zip(dy).zip(x).zip(*mask) {
                            *d = shown(m, scale * (g - shift - (x - mean) * slope));
                        }
                    }
                }
            }
        }
    }
}
