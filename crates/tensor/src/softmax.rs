//! Softmax, its logarithm and its normaliser.
//!
//! Every exponent is taken relative to the row's maximum, so that nothing overflows, and the maximum stays apart
//! from the logarithm of the sum until the end, so that large logits keep their digits.

use crate::{
    Real, Tensor, kernel,
    map::same_dtype,
    normalize_dim, normalize_dims, par,
    reduce::{fold_lanes, sum_row, without_dims},
    shape::Dims,
    with_real,
};

/// Nanoseconds an element takes, roughly.
const COST: f64 = 0.6;

#[inline(always)]
fn row_max<T: Real>(x: &[T]) -> T {
    fold_lanes(x, (T::neg_infinity(), T::neg_infinity()), T::max_nan, T::max_nan)
}

/// Elements whose exponentials are taken at once: several narrow rows together fill the vectors.
const BLOCK: usize = 1024;

/// Writes `e^(x - max)` for rows of `n` elements, and the maxima.
#[inline(always)]
fn exp_rows<T: Real>(x: &[T], n: usize, out: &mut [T], maxima: &mut [T; BLOCK]) {
    if x.len() == n {
        maxima[0] = row_max(x);
        return exp_shifted(x, maxima[0], out);
    }
    for ((x, out), max) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)).zip(maxima) {
        *max = row_max(x);
        for (o, &x) in out.iter_mut().zip(x) {
            *o = x - *max;
        }
    }
    for o in out {
        *o = o.exp_neg_();
    }
}

#[inline(always)]
fn exp_shifted<T: Real>(x: &[T], shift: T, out: &mut [T]) {
    for (o, &x) in out.iter_mut().zip(x) {
        *o = (x - shift).exp_neg_();
    }
}

/// The sum of exponentials: in lanes of their own type for a block, which a maximum of 1 keeps exact enough, and in f64
/// from block to block.
#[inline(always)]
fn sum_blocks<T: Real>(x: &[T]) -> f64 {
    let mut sum = 0.0;
    for x in x.chunks(BLOCK) {
        sum += fold_lanes(x, (T::ZERO, T::ZERO), |a, b| a + b, |a, b| a + b).to_f64();
    }
    sum
}

kernel! {
    fn softmax_rows['a, T: Real]['a, T](x: &'a [T], n: usize, out: &'a mut [T]) -> () {
        let group = (BLOCK / n).max(1) * n;
        let mut maxima = [T::ZERO; BLOCK];
        for (x, out) in x.chunks(group).zip(out.chunks_mut(group)) {
            exp_rows(&x[..out.len()], n, out, &mut maxima);
            for out in out.chunks_exact_mut(n) {
                let scale = T::ONE / T::from_f64(sum_blocks(out));
                for o in out {
                    *o *= scale;
                }
            }
        }
    }
}

kernel! {
    fn log_softmax_rows['a, T: Real]['a, T](x: &'a [T], n: usize, out: &'a mut [T]) -> () {
        let group = (BLOCK / n).max(1) * n;
        let mut maxima = [T::ZERO; BLOCK];
        for (x, out) in x.chunks(group).zip(out.chunks_mut(group)) {
            exp_rows(&x[..out.len()], n, out, &mut maxima);
            for ((x, out), &max) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)).zip(&maxima) {
                let log_sum = T::from_f64(sum_blocks(out)).ln_();
                for (o, &x) in out.iter_mut().zip(x) {
                    *o = (x - max) - log_sum;
                }
            }
        }
    }
}

kernel! {
    /// Pairs of the maximum and the logarithm of the sum of `e^(x - max)`. Long rows are read once, block by block:
    /// where one raises the maximum, the sum of those before is scaled down (Milakov, Gimelshein 2018).
    fn normalizer_rows['a, T: Real]['a, T](x: &'a [T], n: usize, out: &'a mut [T]) -> () {
        let (mut scratch, mut maxima) = ([T::ZERO; BLOCK], [T::ZERO; BLOCK]);
        if n > BLOCK {
            for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(2)) {
                let (mut max, mut sum) = (T::neg_infinity(), 0.0);
                for x in x.chunks(BLOCK) {
                    let (before, scratch) = (max, &mut scratch[..x.len()]);
                    max = max.max_nan(row_max(x));
                    // Of what was negative infinity so far, the exponentials are 0.
                    let shift = if max == T::neg_infinity() { T::ZERO } else { max };
                    exp_shifted(x, shift, scratch);
                    sum = sum * (before - shift).exp_neg_().to_f64() + sum_blocks(scratch);
                }
                (out[0], out[1]) = (max, T::from_f64(sum));
            }
        } else {
            let rows = BLOCK / n;
            for (x, out) in x.chunks(rows * n).zip(out.chunks_mut(2 * rows)) {
                let x = &x[..out.len() / 2 * n];
                exp_rows(x, n, &mut scratch[..x.len()], &mut maxima);
                for ((row, out), &max) in scratch.chunks_exact(n).zip(out.chunks_exact_mut(2)).zip(&maxima) {
                    (out[0], out[1]) = (max, T::from_f64(sum_blocks(row)));
                }
            }
        }
        for pair in out.chunks_exact_mut(2) {
            pair[1] = pair[1].ln_();
        }
    }
}

kernel! {
    fn softmax_grad_rows['a, T: Real]['a, T](y: &'a [T], g: &'a [T], n: usize, out: &'a mut [T]) -> () {
        for ((y, g), out) in y.chunks_exact(n).zip(g.chunks_exact(n)).zip(out.chunks_exact_mut(n)) {
            for ((o, &y), &g) in out.iter_mut().zip(y).zip(g) {
                *o = y * g;
            }
            let dot = sum_row(out);
            for ((o, &y), &g) in out.iter_mut().zip(y).zip(g) {
                *o = y * (g - dot);
            }
        }
    }
}

kernel! {
    fn log_softmax_grad_rows['a, T: Real]['a, T](y: &'a [T], g: &'a [T], n: usize, out: &'a mut [T]) -> () {
        for ((y, g), out) in y.chunks_exact(n).zip(g.chunks_exact(n)).zip(out.chunks_exact_mut(n)) {
            let sum = sum_row(g);
            for ((o, &y), &g) in out.iter_mut().zip(y).zip(g) {
                *o = g - y.exp_() * sum;
            }
        }
    }
}

/// Runs `f(first_row, rows of the result)` over rows along `dim`, which `f` sees as the last dimension.
fn by_rows<T: Real>(t: &Tensor, dim: isize, f: impl Fn(usize, &mut [T]) + Sync + Send) -> Tensor {
    let rows = t.transpose(dim, -1);
    let n = rows.shape()[rows.ndim() - 1];
    let y =
        Tensor::build(rows.shape(), |out: &mut [T]| par::for_each_mut(out, n, n as f64 * COST, f));
    y.transpose(dim, -1).contiguous()
}

#[track_caller]
fn same_shape(op: &str, y: &Tensor, grad: &Tensor) {
    assert_eq!(y.shape(), grad.shape(), "{op}: shapes of the result and its gradient");
}

impl Tensor {
    /// `e^x_i / sum_j e^x_j` along a dimension. A row that is all negative infinity, or has infinity, is NaN.
    ///
    /// ```
    /// # use gradus_tensor::Tensor;
    /// let p = Tensor::from_slice(&[1000f64, 1000.0], &[2]).softmax(0);
    /// assert_eq!(p.to_vec::<f64>(), [0.5, 0.5]);
    /// ```
    ///
    /// # Panics
    /// When the dimension does not exist, or the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn softmax(&self, dim: isize) -> Self {
        if self.ndim() == 0 {
            return self.view(&[1]).softmax(dim).view(&[]);
        }
        if self.is_short() {
            return self.in_compute_type(|x| x.softmax(dim));
        }
        let n = self.shape()[normalize_dim("softmax", dim, self.ndim())];
        let x = self.transpose(dim, -1).contiguous();
        with_real!("softmax", self.dtype(), T => {
            let x = x.as_slice::<T>();
            by_rows::<T>(self, dim, |first, out| softmax_rows::<T>(&x[first * n..], n, out))
        })
    }

    /// `x_i - ln sum_j e^x_j` along a dimension: the logarithm of [`softmax`](Self::softmax), without its overflow
    /// and underflow.
    ///
    /// # Panics
    /// As [`softmax`](Self::softmax).
    #[must_use]
    #[track_caller]
    pub fn log_softmax(&self, dim: isize) -> Self {
        if self.ndim() == 0 {
            return self.view(&[1]).log_softmax(dim).view(&[]);
        }
        if self.is_short() {
            return self.in_compute_type(|x| x.log_softmax(dim));
        }
        let n = self.shape()[normalize_dim("log_softmax", dim, self.ndim())];
        let x = self.transpose(dim, -1).contiguous();
        with_real!("log_softmax", self.dtype(), T => {
            let x = x.as_slice::<T>();
            by_rows::<T>(self, dim, |first, out| log_softmax_rows::<T>(&x[first * n..], n, out))
        })
    }

    /// `ln sum e^x` along `dims`, dimensions as in [`sum`](Self::sum). All negative infinity, or nothing, gives
    /// negative infinity; infinity gives infinity.
    ///
    /// # Panics
    /// As [`sum`](Self::sum).
    #[must_use]
    #[track_caller]
    pub fn logsumexp(&self, dims: &[isize], keepdim: bool) -> Self {
        if self.is_short() {
            return self.in_compute_type(|x| x.logsumexp(dims, keepdim));
        }
        let dims = normalize_dims("logsumexp", dims, self.ndim());
        let mut kept = Dims::from_slice(self.shape());
        dims.iter().for_each(|&d| kept[d] = 1);
        let n: usize = dims.iter().map(|&d| self.shape()[d]).product();
        let order = (0..self.ndim()).filter(|d| !dims.contains(d)).chain(dims.iter().copied());
        let rows = self.permute(&order.map(|d| d as isize).collect::<Vec<_>>());
        let m: usize = kept.iter().product();
        let parts = rows.view(&[m, n]).log_normalizer();
        let y = with_real!("logsumexp", self.dtype(), T => {
            let parts = parts.as_slice::<T>();
            Self::build(&kept, |out: &mut [T]| {
                for (o, part) in out.iter_mut().zip(parts.chunks_exact(2)) {
                    *o = if part[0].is_infinite() { part[0] } else { part[0] + part[1] };
                }
            })
        });
        if keepdim { y } else { without_dims(&y, &dims) }
    }

    /// For rows along the last dimension, the pair `m = max x` and `l = ln sum e^(x - m)`, with which
    /// `log_softmax(x) = (x - m) - l`: what a fused loss needs of the row, in two numbers.
    ///
    /// Shape `[.., n]` gives `[.., 2]`, in f32 for 16-bit floats. The maximum of nothing is negative infinity.
    ///
    /// # Panics
    /// When there is no dimension, or the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn log_normalizer(&self) -> Self {
        if self.is_short() {
            return self.to_dtype(self.dtype().compute()).log_normalizer();
        }
        let last = normalize_dim("log_normalizer", -1, self.ndim());
        let n = self.shape()[last];
        let mut shape = Dims::from_slice(self.shape());
        shape[last] = 2;
        if n == 0 {
            return Self::full(&shape, f64::NEG_INFINITY, self.dtype());
        }
        let x = self.contiguous();
        with_real!("log_normalizer", self.dtype(), T => {
            let x = x.as_slice::<T>();
            Self::build(&shape, |out: &mut [T]| {
                par::for_each_mut(out, 2, n as f64 * COST, |first, out| normalizer_rows::<T>(&x[first * n..], n, out));
            })
        })
    }

    /// The gradient of [`softmax`](Self::softmax) from its result `y` (this tensor) and the gradient `g` of the
    /// result: `y (g - sum g y)` along the dimension.
    ///
    /// # Panics
    /// When shapes or types differ, and as [`softmax`](Self::softmax).
    #[must_use]
    #[track_caller]
    pub fn softmax_grad(&self, grad: &Self, dim: isize) -> Self {
        same_shape("softmax_grad", self, grad);
        if self.ndim() == 0 {
            return self.view(&[1]).softmax_grad(&grad.view(&[1]), dim).view(&[]);
        }
        let dtype = same_dtype("softmax_grad", self, grad);
        if self.is_short() {
            return self.in_compute_type(|y| y.softmax_grad(&grad.to_dtype(dtype.compute()), dim));
        }
        let n = self.shape()[normalize_dim("softmax_grad", dim, self.ndim())];
        let (y, g) = (self.transpose(dim, -1).contiguous(), grad.transpose(dim, -1).contiguous());
        with_real!("softmax_grad", dtype, T => {
            let (y, g) = (y.as_slice::<T>(), g.as_slice::<T>());
            by_rows::<T>(self, dim, |i, out| softmax_grad_rows::<T>(&y[i * n..], &g[i * n..], n, out))
        })
    }

    /// The gradient of [`log_softmax`](Self::log_softmax) from its result `y` (this tensor) and the gradient `g` of
    /// the result: `g - e^y sum g` along the dimension.
    ///
    /// # Panics
    /// When shapes or types differ, and as [`softmax`](Self::softmax).
    #[must_use]
    #[track_caller]
    pub fn log_softmax_grad(&self, grad: &Self, dim: isize) -> Self {
        same_shape("log_softmax_grad", self, grad);
        if self.ndim() == 0 {
            return self.view(&[1]).log_softmax_grad(&grad.view(&[1]), dim).view(&[]);
        }
        let dtype = same_dtype("log_softmax_grad", self, grad);
        if self.is_short() {
            return self
                .in_compute_type(|y| y.log_softmax_grad(&grad.to_dtype(dtype.compute()), dim));
        }
        let n = self.shape()[normalize_dim("log_softmax_grad", dim, self.ndim())];
        let (y, g) = (self.transpose(dim, -1).contiguous(), grad.transpose(dim, -1).contiguous());
        with_real!("log_softmax_grad", dtype, T => {
            let (y, g) = (y.as_slice::<T>(), g.as_slice::<T>());
            by_rows::<T>(self, dim, |i, out| log_softmax_grad_rows::<T>(&y[i * n..], &g[i * n..], n, out))
        })
    }
}

#[cfg(test)]
mod tests {
    use gradus_core::DType;

    use super::*;

    const INF: f64 = f64::INFINITY;

    fn tensor(rows: usize, n: usize) -> Tensor {
        let x = (0..rows * n).map(|i| ((i * 7919) % 1013) as f64 / 100.0 - 5.0).collect::<Vec<_>>();
        Tensor::from_slice(&x, &[rows, n])
    }

    #[test]
    fn f32_agrees_with_the_formula_in_f64_for_any_width() {
        for n in [1, 2, 10, 31, 32, 33, 1000, 1024, 1025, 5000] {
            let x = tensor(3, n).to_dtype(DType::F32);
            let wide = x.to_dtype(DType::F64).to_vec::<f64>();
            let (p, l, lse) = (
                x.softmax(1).to_vec::<f32>(),
                x.log_softmax(-1).to_vec::<f32>(),
                x.logsumexp(&[1], false),
            );
            for (i, row) in wide.chunks(n).enumerate() {
                let sum: f64 = row.iter().map(|x| x.exp()).sum();
                assert!(
                    (lse.to_vec::<f32>()[i] as f64 - sum.ln()).abs()
                        < 1e-6 * (1.0 + sum.ln().abs())
                );
                for (j, x) in row.iter().enumerate() {
                    let (want, at) = (x.exp() / sum, i * n + j);
                    assert!(
                        (f64::from(p[at]) - want).abs() < 1e-6 * want + 1e-9,
                        "n {n}: {} {want}",
                        p[at]
                    );
                    assert!(
                        (f64::from(l[at]) - want.ln()).abs() < 1e-6 * (1.0 + want.ln().abs()),
                        "n {n}"
                    );
                }
            }
        }
    }

    #[test]
    fn any_dimension_is_the_last_one_transposed() {
        let x = tensor(6, 35).view(&[5, 6, 7]);
        for d in 0..3 {
            let turned = x.transpose(d, -1).to_contiguous();
            assert_eq!(
                x.softmax(d).to_vec::<f64>(),
                turned.softmax(-1).transpose(d, -1).to_vec::<f64>()
            );
            assert_eq!(x.logsumexp(&[d], true).ndim(), 3);
            assert_eq!(
                x.logsumexp(&[d], false).to_vec::<f64>(),
                x.logsumexp(&[d], true).to_vec::<f64>()
            );
        }
        let all = x.logsumexp(&[0, 2], false).logsumexp(&[], false).item();
        assert!((all - x.logsumexp(&[], false).item()).abs() < 1e-12);
    }

    #[test]
    fn the_maximum_of_a_long_row_may_come_late() {
        let n = 3 * BLOCK + 7;
        for dtype in [DType::F32, DType::F64] {
            let lse = |edit: &dyn Fn(&mut [f64])| {
                let mut x = (0..n).map(|i| i as f64 * 0.02 - 90.0).collect::<Vec<_>>();
                edit(&mut x);
                let want = x.iter().map(|x| x.exp()).sum::<f64>().ln();
                let x = Tensor::from_slice(&x, &[n]).to_dtype(dtype);
                (x.logsumexp(&[], false).item(), want)
            };
            for first in [0, BLOCK, 2 * BLOCK + 1] {
                let (got, want) = lse(&|x| x[..first].fill(-INF));
                assert!((got - want).abs() < 2e-6 * want.abs(), "{first}: {got} {want}");
                let (got, want) = lse(&|x| x[first..].fill(-INF));
                assert!(got == want || (got - want).abs() < 2e-6 * want.abs(), "{got} {want}");
                assert!(lse(&|x| x[first] = f64::NAN).0.is_nan());
                assert_eq!(lse(&|x| x[first] = INF).0, INF);
            }
        }
    }

    #[test]
    fn infinities_follow_the_convention() {
        let x = Tensor::from_slice(&[-INF, -INF, 0.0, -INF, INF, 1.0], &[3, 2]);
        for dtype in [DType::F32, DType::F64] {
            let x = x.to_dtype(dtype);
            let lse = x.logsumexp(&[1], false).to_dtype(DType::F64).to_vec::<f64>();
            assert_eq!(lse, [-INF, 0.0, INF]);
            let p = x.softmax(1).to_dtype(DType::F64).to_vec::<f64>();
            assert!(p[0].is_nan() && p[1].is_nan() && p[4].is_nan());
            assert_eq!(p[2..4], [1.0, 0.0]);
            let l = x.log_softmax(1).to_dtype(DType::F64).to_vec::<f64>();
            assert_eq!(l[2..4], [0.0, -INF]);
        }
    }

    #[test]
    fn empty_rows_and_no_rows() {
        let x = Tensor::zeros(&[2, 0], DType::F32);
        assert_eq!(x.softmax(1).shape(), [2, 0]);
        assert_eq!(x.log_softmax(0).shape(), [2, 0]);
        assert_eq!(x.logsumexp(&[1], false).to_vec::<f32>(), [f32::NEG_INFINITY; 2]);
        assert_eq!(x.logsumexp(&[0], true).shape(), [1, 0]);
        assert_eq!(Tensor::scalar(3f64).logsumexp(&[], false).item(), 3.0);
    }

    #[test]
    fn large_logits_keep_their_digits() {
        let x = Tensor::from_slice(&[10_000.0f32, 10_001.0], &[2]);
        let want = [-1.313_261_7f32, -0.313_261_7];
        for (got, want) in x.log_softmax(0).to_vec::<f32>().iter().zip(want) {
            assert!((got - want).abs() < 3e-7);
        }
    }
}
