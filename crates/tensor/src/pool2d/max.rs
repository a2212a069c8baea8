//! Maxima over windows.

use rayon::prelude::*;

use super::Planes;
use crate::{DType, Element, Real, Stored, Tensor, kernel, par, with_float};

/// Windows of [`Tensor::max_pool2d`].
///
/// ```
/// use gradus_tensor::MaxPoolOptions;
///
/// assert_eq!(MaxPoolOptions::new([3, 2]).stride, [3, 2]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MaxPoolOptions {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Distance between windows. Default: the kernel.
    pub stride: [usize; 2],
    /// Implicit minus infinity on both sides, at most half the kernel. Default 0.
    pub padding: [usize; 2],
    /// Distance between the elements of a window. Default 1.
    pub dilation: [usize; 2],
    /// Whether a last window may reach beyond the padded input. Default false.
    pub ceil_mode: bool,
}

impl MaxPoolOptions {
    /// Windows side by side.
    #[must_use]
    pub fn new(kernel: [usize; 2]) -> Self {
        Self { kernel, stride: kernel, padding: [0; 2], dilation: [1; 2], ceil_mode: false }
    }

    /// Sets the distance between windows.
    #[must_use]
    pub fn with_stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    /// Sets the padding.
    #[must_use]
    pub fn with_padding(self, padding: [usize; 2]) -> Self {
        Self { padding, ..self }
    }

    /// Sets the distance between the elements of a window.
    #[must_use]
    pub fn with_dilation(self, dilation: [usize; 2]) -> Self {
        Self { dilation, ..self }
    }

    /// Sets whether a last window may reach beyond the padded input.
    #[must_use]
    pub fn with_ceil_mode(self, ceil_mode: bool) -> Self {
        Self { ceil_mode, ..self }
    }

    /// Whether windows are the 2x2 tiles that have a loop of their own.
    fn is_tiles_of_two(&self) -> bool {
        *self == Self::new([2, 2])
    }
}

/// Where in its window a maximum was found: row-major, stored in as little as the window allows.
trait Place: Copy + Send + Sync + PartialEq {
    fn new(i: usize) -> Self;
    /// Whether nothing was found yet.
    fn is_none(self) -> bool;
    const NONE: Self;
}

impl Place for u8 {
    const NONE: Self = Self::MAX;
    #[inline(always)]
    fn new(i: usize) -> Self {
        i as Self
    }
    #[inline(always)]
    fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl Place for i64 {
    const NONE: Self = -1;
    #[inline(always)]
    fn new(i: usize) -> Self {
        i as Self
    }
    #[inline(always)]
    fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// The type that holds places of windows of this size; u8 keeps one value for "none".
fn place_dtype(o: &MaxPoolOptions) -> DType {
    if o.kernel[0] * o.kernel[1] <= usize::from(u8::NONE) { DType::U8 } else { DType::I64 }
}

/// Replaces the maximum where `x` is larger, is NaN, or is the first.
#[inline(always)]
fn update<T: Real, P: Place>(best: &mut T, place: &mut P, x: T, i: usize) {
    // Without short cuts, so that the loop has no branches.
    let better = (x > *best) | x.is_nan() | place.is_none();
    *best = if better { x } else { *best };
    *place = if better { P::new(i) } else { *place };
}

kernel! {
    fn max_plane['a, T: Real, P: Place]['a, T, P](p: Planes, o: MaxPoolOptions, x: &'a [T], out: &'a mut [T], places: &'a mut [P], gathered: &'a mut [T]) -> () {
        out.fill(T::neg_infinity());
        places.fill(P::NONE);
        let w = p.input[1];
        for (oy, (out, places)) in out.chunks_exact_mut(p.output[1]).zip(places.chunks_exact_mut(p.output[1])).enumerate() {
            for ky in 0..o.kernel[0] {
                let y = (oy * o.stride[0] + ky * o.dilation[0]).wrapping_sub(o.padding[0]);
                if y >= p.input[0] {
                    continue;
                }
                let row = &x[y * w..(y + 1) * w];
                for kx in 0..o.kernel[1] {
                    // The outputs whose element kx lies inside of the input.
                    let shift = kx * o.dilation[1];
                    let lo = o.padding[1].saturating_sub(shift).div_ceil(o.stride[1]);
                    let hi = (w + o.padding[1]).saturating_sub(shift).div_ceil(o.stride[1]).min(p.output[1]);
                    if lo >= hi {
                        continue;
                    }
                    // Dense elements make the comparisons below a vector loop.
                    let row = &row[lo * o.stride[1] + shift - o.padding[1]..];
                    let row = if o.stride[1] == 1 {
                        &row[..hi - lo]
                    } else if o.stride[1] == 2 {
                        // The compiler knows how to load pairs; the last may be half a pair.
                        let gathered = &mut gathered[..hi - lo];
                        let (pairs, rest) = row.as_chunks::<2>();
                        for (to, x) in gathered.iter_mut().zip(pairs) {
                            *to = x[0];
                        }
                        if let (Some(to), [x]) = (gathered.get_mut(pairs.len()), rest) {
                            *to = *x;
                        }
                        &*gathered
                    } else {
                        let gathered = &mut gathered[..hi - lo];
                        for (to, &x) in gathered.iter_mut().zip(row.iter().step_by(o.stride[1])) {
                            *to = x;
                        }
                        &*gathered
                    };
                    for ((best, place), &x) in out[lo..hi].iter_mut().zip(&mut places[lo..hi]).zip(row) {
                        update(best, place, x, ky * o.kernel[1] + kx);
                    }
                }
            }
        }
    }
}

kernel! {
    /// As `max_plane`, for windows that are 2x2 tiles.
    fn max_plane_of_tiles['a, T: Real, P: Place]['a, T, P](p: Planes, x: &'a [T], out: &'a mut [T], places: &'a mut [P]) -> () {
        let w = p.input[1];
        let rows = out.chunks_exact_mut(p.output[1]).zip(places.chunks_exact_mut(p.output[1]));
        for ((out, places), x) in rows.zip(x.chunks_exact(2 * w)) {
            let (top, bottom) = x.split_at(w);
            let (top, bottom) = (top.as_chunks::<2>().0, bottom.as_chunks::<2>().0);
            for (((out, place), a), b) in out.iter_mut().zip(places).zip(top).zip(bottom) {
                let (mut best, mut at) = (a[0], P::new(0));
                update(&mut best, &mut at, a[1], 1);
                update(&mut best, &mut at, b[0], 2);
                update(&mut best, &mut at, b[1], 3);
                (*out, *place) = (best, at);
            }
        }
    }
}

kernel! {
    /// The gradient through `max_plane_of_tiles`: every tile is written whole.
    fn max_grad_plane_of_tiles['a, T: Real, P: Place]['a, T, P](p: Planes, dy: &'a [T], places: &'a [P], dx: &'a mut [T]) -> () {
        let w = p.input[1];
        let (covered_h, covered_w) = (2 * p.output[0], 2 * p.output[1]);
        let rows = dy.chunks_exact(p.output[1]).zip(places.chunks_exact(p.output[1]));
        for ((dy, places), dx) in rows.zip(dx.chunks_exact_mut(2 * w)) {
            for (half, dx) in dx.chunks_exact_mut(w).enumerate() {
                let (tiles, rest) = dx.split_at_mut(covered_w);
                rest.fill(T::ZERO);
                for ((dx, &g), &at) in tiles.as_chunks_mut::<2>().0.iter_mut().zip(dy).zip(places) {
                    dx[0] = if at == P::new(2 * half) { g } else { T::ZERO };
                    dx[1] = if at == P::new(2 * half + 1) { g } else { T::ZERO };
                }
            }
        }
        dx[covered_h * w..].fill(T::ZERO);
    }
}

impl Tensor {
    /// The largest element of each window; NaN if the window has one. Padding counts as minus infinity.
    ///
    /// # Shapes
    /// `[N, C, H, W]` to `[N, C, H', W']` with `H' = floor((H + 2 p - d (k - 1) - 1) / s) + 1`. In ceil mode the
    /// quotient is rounded up, and a last window that would start in the padding behind the input is dropped.
    ///
    /// # Panics
    /// When the input is not 4-d, H or W is 0, a kernel, stride or dilation is 0, the padding is more than half of
    /// the kernel, no window fits, or the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn max_pool2d(&self, options: MaxPoolOptions) -> Self {
        self.max_pool2d_with_places(options).0
    }

    /// As [`max_pool2d`](Self::max_pool2d), with the place of each maximum in its window: `ky * KW + kx`, the first
    /// of equals, the last of NaNs. Places are u8 for windows of at most 255 elements and i64 for larger ones; a
    /// window without an element (dilation can make it miss the input) has 255 or -1.
    ///
    /// # Panics
    /// As `max_pool2d`.
    #[must_use]
    #[track_caller]
    pub fn max_pool2d_with_places(&self, options: MaxPoolOptions) -> (Self, Self) {
        const OP: &str = "max_pool2d";
        let p = Planes::new(OP, self.shape(), &options);
        let shape = p.output_shape(self.shape());
        let mut places = None;
        let out = with_float!(OP, self.dtype(), S => Self::build::<S>(&shape, |out| {
            places = Some(match place_dtype(&options) {
                DType::U8 => Self::build::<u8>(&shape, |at| max_planes(self, p, options, out, at)),
                _ => Self::build::<i64>(&shape, |at| max_planes(self, p, options, out, at)),
            });
        }));
        (out, places.expect("made with the maxima"))
    }

    /// The gradient of [`max_pool2d`](Self::max_pool2d) by its input, whose shape is given, for `self` the gradient
    /// by its output: each element goes to the place of its maximum.
    ///
    /// # Panics
    /// As `max_pool2d`, and when `self` or `places` are not of the output's shape.
    #[must_use]
    #[track_caller]
    pub fn max_pool2d_grad(&self, places: &Self, input: &[usize], options: MaxPoolOptions) -> Self {
        const OP: &str = "max_pool2d_grad";
        let p = Planes::new(OP, input, &options);
        for t in [self, places] {
            assert_eq!(
                t.shape(),
                p.output_shape(input),
                "{OP}: shape of the gradient and places for input {input:?}"
            );
        }
        let dy = self.contiguous();
        with_float!(OP, self.dtype(), S => Self::build::<S>(input, |dx| match place_dtype(&options) {
            DType::U8 => max_grad_planes::<S, u8>(p, options, dy.as_slice(), places, dx),
            _ => max_grad_planes::<S, i64>(p, options, dy.as_slice(), places, dx),
        }))
    }
}

#[track_caller]
fn max_planes<S: Stored, P: Place>(
    x: &Tensor,
    p: Planes,
    o: MaxPoolOptions,
    out: &mut [S],
    places: &mut [P],
) {
    let x = x.contiguous();
    let x = x.as_slice::<S>();
    let (from, to) = (p.input_len(), p.output_len());
    let plane = |(i, (out, places)): (usize, (&mut [S], &mut [P]))| {
        let ([mut wide], [mut room]) = (S::rooms(from), S::rooms(to));
        let x = S::read(&x[i * from..(i + 1) * from], &mut wide);
        S::write(out, &mut room, |out| {
            if o.is_tiles_of_two() {
                max_plane_of_tiles::<S::Compute, P>(p, x, out, places);
            } else {
                let row = &mut vec![S::Compute::ZERO; p.output[1]];
                max_plane::<S::Compute, P>(p, o, x, out, places, row);
            }
        });
    };
    let ns = (to * o.kernel[0] * o.kernel[1]) as f64 * 0.3;
    if par::worth_it(out.len() / to, ns) {
        let planes = out.par_chunks_exact_mut(to).zip(places.par_chunks_exact_mut(to));
        planes.enumerate().with_min_len(par::piece(ns)).for_each(plane);
    } else {
        out.chunks_exact_mut(to).zip(places.chunks_exact_mut(to)).enumerate().for_each(plane);
    }
}

#[track_caller]
fn max_grad_planes<S: Stored, P: Place + Element + Into<i64>>(
    p: Planes,
    o: MaxPoolOptions,
    dy: &[S],
    places: &Tensor,
    dx: &mut [S],
) {
    let places = places.contiguous();
    let places = places.as_slice::<P>();
    let (h, w) = (p.input_len(), p.input[1] as isize);
    // From the first element of a window to the element at each place.
    let steps: Vec<isize> = (0..o.kernel[0] * o.kernel[1])
        .map(|i| {
            ((i / o.kernel[1] * o.dilation[0]) as isize) * w
                + (i % o.kernel[1] * o.dilation[1]) as isize
        })
        .collect();
    let n = p.output_len();
    par::for_each_mut(dx, h, h as f64 * 0.2 + n as f64, |first, dx| {
        let ([mut wide], [mut room]) = (S::rooms(n), S::rooms(h));
        for (i, dx) in dx.chunks_exact_mut(h).enumerate() {
            let range = (first + i) * n..(first + i + 1) * n;
            let (dy, places) = (S::read(&dy[range.clone()], &mut wide), &places[range]);
            S::write(dx, &mut room, |dx| {
                if o.is_tiles_of_two() {
                    return max_grad_plane_of_tiles::<S::Compute, P>(p, dy, places, dx);
                }
                dx.fill(S::Compute::ZERO);
                for oy in 0..p.output[0] {
                    let y = (oy * o.stride[0]) as isize - o.padding[0] as isize;
                    for ox in 0..p.output[1] {
                        let i = oy * p.output[1] + ox;
                        if !places[i].is_none() {
                            let x = (ox * o.stride[1]) as isize - o.padding[1] as isize;
                            let place: i64 = places[i].into();
                            dx[(y * w + x + steps[place as usize]) as usize] += dy[i];
                        }
                    }
                }
            });
        }
    });
}
