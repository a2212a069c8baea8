//! Convolutions of one input channel per group: each element of the window multiplies rows of a plane.

use super::geometry::Geometry;
use crate::{Real, kernel, par};

/// Partial sums of a row of products.
const LANES: usize = 16;

/// Whether the convolution is of this kind.
pub(super) fn applies(g: &Geometry) -> bool {
    g.options.groups > 1 && g.channels[0] == 1
}

/// Nanoseconds of one plane of the output, roughly.
fn plane_ns(g: &Geometry) -> f64 {
    (g.plane() * g.patch()) as f64 * 0.1 + (g.output[0] * g.patch()) as f64 * 5.0
}

/// Outputs whose element `k` of the window lies inside of the input along dimension `d`, and where the first lies.
#[inline(always)]
fn inside(g: &Geometry, d: usize, k: usize) -> ([usize; 2], usize) {
    let (stride, padding, shift) =
        (g.options.stride[d], g.options.padding[d], k * g.options.dilation[d]);
    let low = padding.saturating_sub(shift).div_ceil(stride);
    let high = (g.input[d] + padding).saturating_sub(shift).div_ceil(stride).min(g.output[d]);
    if low >= high {
        return ([0, 0], 0);
    }
    ([low, high], low * stride + shift - padding)
}

/// Calls `f(element of the window, row of the output, row of the input)` with slices of two planes that meet.
macro_rules! for_each_meeting {
    ($g:ident, |$k:ident, $out:ident, $in:ident| $body:block) => {
        for $k in 0..$g.kernel[0] * $g.kernel[1] {
            let ([top, bottom], y) = inside(&$g, 0, $k / $g.kernel[1]);
            let ([left, right], x) = inside(&$g, 1, $k % $g.kernel[1]);
            for row in top..bottom {
                let (first, n) = (row * $g.output[1] + left, right - left);
                let at = (y + (row - top) * $g.options.stride[0]) * $g.input[1] + x;
                let ($out, $in) =
                    (first..first + n, at..at + (n.max(1) - 1) * $g.options.stride[1] + n.min(1));
                $body
            }
        }
    };
}

kernel! {
    /// Adds the products of a window with a plane `x` to `y`.
    fn add_plane['a, T: Real]['a, T](g: Geometry, x: &'a [T], w: &'a [T], y: &'a mut [T]) -> () {
        for_each_meeting!(g, |k, out, from| {
            let (w, y, x) = (w[k], &mut y[out], &x[from]);
            if g.options.stride[1] == 1 {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y += w * x;
                }
            } else {
                for (y, &x) in y.iter_mut().zip(x.iter().step_by(g.options.stride[1])) {
                    *y += w * x;
                }
            }
        });
    }
}

kernel! {
    /// Adds the products of a window with a plane `dy` to where `add_plane` read them.
    fn spread_plane['a, T: Real]['a, T](g: Geometry, dy: &'a [T], w: &'a [T], dx: &'a mut [T]) -> () {
        for_each_meeting!(g, |k, out, to| {
            let (w, dy, dx) = (w[k], &dy[out], &mut dx[to]);
            if g.options.stride[1] == 1 {
                for (x, &g) in dx.iter_mut().zip(dy) {
                    *x += w * g;
                }
            } else {
                for (x, &g) in dx.iter_mut().step_by(g.options.stride[1]).zip(dy) {
                    *x += w * g;
                }
            }
        });
    }
}

kernel! {
    /// Adds to every element of a window the sum of the products of what meets there.
    fn add_window['a, T: Real]['a, T](g: Geometry, x: &'a [T], dy: &'a [T], dw: &'a mut [T]) -> () {
        for_each_meeting!(g, |k, out, from| {
            let (dy, x) = (&dy[out], &x[from]);
            let mut sum = T::ZERO;
            if g.options.stride[1] == 1 {
                let ((a, a_rest), (b, b_rest)) = (dy.as_chunks::<LANES>(), x.as_chunks::<LANES>());
                let mut lanes = [T::ZERO; LANES];
                for (a, b) in a.iter().zip(b) {
                    for (l, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                        *l += a * b;
                    }
                }
                for (&a, &b) in a_rest.iter().zip(b_rest) {
                    sum += a * b;
                }
                for l in lanes {
                    sum += l;
                }
            } else {
                for (&a, &b) in dy.iter().zip(x.iter().step_by(g.options.stride[1])) {
                    sum += a * b;
                }
            }
            dw[k] += sum;
        });
    }
}

/// The convolution.
pub(super) fn forward<T: Real>(g: &Geometry, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    let (input, outputs) = (g.group_in(), g.options.groups * g.channels[1]);
    par::for_each_mut(y, g.plane(), plane_ns(g), |first, y| {
        for (i, y) in (first..).zip(y.chunks_exact_mut(g.plane())) {
            let o = i % outputs;
            y.fill(bias.map_or(T::ZERO, |b| b[o]));
            let x = &x[i / g.channels[1] * input..][..input];
            add_plane::<T>(*g, x, &w[o * g.patch()..][..g.patch()], y);
        }
    });
}

/// Its gradient by the input.
pub(super) fn grad_input<T: Real>(g: &Geometry, dy: &[T], w: &[T], dx: &mut [T]) {
    let (groups, many) = (g.options.groups, g.channels[1]);
    par::for_each_mut(dx, g.group_in(), many as f64 * plane_ns(g), |first, dx| {
        for (i, dx) in (first..).zip(dx.chunks_exact_mut(g.group_in())) {
            dx.fill(T::ZERO);
            for o in 0..many {
                let dy = &dy[(i * many + o) * g.plane()..][..g.plane()];
                let w = &w[(i % groups * many + o) * g.patch()..][..g.patch()];
                spread_plane::<T>(*g, dy, w, dx);
            }
        }
    });
}

/// Its gradient by the weight: the windows are independent, and sum over the images in order.
pub(super) fn grad_weight<T: Real>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    let (input, outputs) = (g.group_in(), g.options.groups * g.channels[1]);
    par::for_each_mut(dw, g.patch(), g.images as f64 * plane_ns(g), |first, dw| {
        for (o, dw) in (first..).zip(dw.chunks_exact_mut(g.patch())) {
            dw.fill(T::ZERO);
            for i in (o..g.images * outputs).step_by(outputs) {
                let x = &x[i / g.channels[1] * input..][..input];
                add_window::<T>(*g, x, &dy[i * g.plane()..][..g.plane()], dw);
            }
        }
    });
}
