//! Passes over blocks of scores.

use crate::{Real, kernel};

/// Sums and maxima run in this many lanes.
const LANES: usize = 16;

kernel! {
    /// `s = scale * s`, and negative infinity where the mask is 0.
    pub(super) fn mask_where['a, T: Real]['a, T](s: &'a mut [T], mask: &'a [u8], scale: T) -> () {
        for (s, &m) in s.iter_mut().zip(mask) {
            *s = if m == 0 { T::lit(f64::NEG_INFINITY) } else { *s * scale };
        }
    }
}

kernel! {
    /// `s = scale * s + mask`
    pub(super) fn mask_add['a, T: Real]['a, T](s: &'a mut [T], mask: &'a [T], scale: T) -> () {
        for (s, &m) in s.iter_mut().zip(mask) {
            *s = *s * scale + m;
        }
    }
}

/// How many of `width` keys row `r` of a block sees; `causal` is the position of the block's first query.
#[inline(always)]
fn seen(causal: Option<usize>, r: usize, width: usize) -> usize {
    causal.map_or(width, |first| (first + r + 1).min(width))
}

#[inline(always)]
fn max_scaled<T: Real>(x: &[T], scale: T) -> T {
    let mut acc = [T::lit(f64::NEG_INFINITY); LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for c in chunks {
        for (a, &x) in acc.iter_mut().zip(c) {
            *a = a.max_nan(x * scale);
        }
    }
    for (a, &x) in acc.iter_mut().zip(rest) {
        *a = a.max_nan(x * scale);
    }
    acc.into_iter().fold(T::lit(f64::NEG_INFINITY), T::max_nan)
}

/// `x = e^(scale * x - shift)`, where `shift` is the maximum of `scale * x`; returns the sum.
#[inline(always)]
fn exp_in_place<T: Real>(x: &mut [T], scale: T, shift: T) -> T {
    let mut acc = [T::ZERO; LANES];
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for c in chunks {
        for (a, x) in acc.iter_mut().zip(c) {
            *x = (*x * scale - shift).exp_neg_();
            *a += *x;
        }
    }
    for (a, x) in acc.iter_mut().zip(rest) {
        *x = (*x * scale - shift).exp_neg_();
        *a += *x;
    }
    acc.into_iter().sum()
}

kernel! {
    pub(super) fn dot['a, T: Real]['a, T](a: &'a [T], b: &'a [T]) -> T {
        let mut acc = [T::ZERO; LANES];
        let ((a, ra), (b, rb)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            for l in 0..LANES {
                acc[l] += a[l] * b[l];
            }
        }
        for ((acc, &a), &b) in acc.iter_mut().zip(ra).zip(rb) {
            *acc += a * b;
        }
        acc.into_iter().sum()
    }
}

kernel! {
    /// Rows of scores become `e^(scale * s - max)`; `inverse` is what makes them sum to 1.
    pub(super) fn softmax_rows['a, T: Real]['a, T](
        s: &'a mut [T], width: usize, causal: Option<usize>, scale: T, lse: &'a mut [T], inverse: &'a mut [T],
    ) -> () {
        for (r, (lse, inverse)) in lse.iter_mut().zip(inverse).enumerate() {
            let (row, hidden) = s[r * width..][..width].split_at_mut(seen(causal, r, width));
            hidden.fill(T::ZERO);
            let max = max_scaled(row, scale);
            if max == T::lit(f64::NEG_INFINITY) {
                row.fill(T::ZERO);
                (*lse, *inverse) = (max, T::ZERO);
                continue;
            }
            let sum = exp_in_place(row, scale, max);
            (*lse, *inverse) = (max + sum.ln_(), T::ONE / sum);
        }
    }
}

kernel! {
    /// Rows of scores become probabilities, and gradients of probabilities those of the raw scores.
    pub(super) fn softmax_grad_rows['a, T: Real]['a, T](
        s: &'a mut [T], ds: &'a mut [T], width: usize, causal: Option<usize>, scale: T, grad_scale: T, lse: &'a [T], delta: &'a [T],
    ) -> () {
        for (r, (&lse, &delta)) in lse.iter().zip(delta).enumerate() {
            let n = seen(causal, r, width);
            let (s, hidden) = s[r * width..][..width].split_at_mut(n);
            let (ds, hidden_grad) = ds[r * width..][..width].split_at_mut(n);
            hidden.fill(T::ZERO);
            hidden_grad.fill(T::ZERO);
            if lse == T::lit(f64::NEG_INFINITY) {
                s.fill(T::ZERO);
                ds.fill(T::ZERO);
                continue;
            }
            for (s, ds) in s.iter_mut().zip(ds) {
                // No probability is above 1.
                *s = (*s * scale - lse).exp_neg_();
                *ds = *s * (*ds - delta) * grad_scale;
            }
        }
    }
}

kernel! {
    /// Multiplies each row by its factor; 0 wins against NaN, because such a row saw no key.
    pub(super) fn scale_rows['a, T: Real]['a, T](y: &'a mut [T], width: usize, stride: usize, factors: &'a [T]) -> () {
        for (r, &k) in factors.iter().enumerate() {
            let row = &mut y[r * stride..][..width];
            if k == T::ZERO {
                row.fill(T::ZERO);
            } else {
                for y in row {
                    *y *= k;
                }
            }
        }
    }
}
