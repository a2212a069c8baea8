//! Loops over groups of elements that are decided by the same random blocks.

use gradus_autograd::{DType, Tensor};
use gradus_tensor::{Real, kernel, par};

/// What happens to a group of `N` elements. Mark `group` `#[inline(always)]`, and write its loops with indices and fixed
/// lengths: only so do they become vector code to their end.
pub(crate) trait Groups<T, const N: usize>: Copy + Send + Sync {
    /// Nanoseconds an element takes, roughly.
    const COST: f64;

    /// Computes group number `at`, elements `at N` to `at N + N - 1`.
    fn group(self, at: u64, x: &[T; N], y: &mut [T; N]);
}

/// Applies `groups` to the elements in row-major order; in place where nobody else holds them.
#[track_caller]
pub(crate) fn map<T: Real, const N: usize, G: Groups<T, N>>(mut x: Tensor, groups: G) -> Tensor {
    let cost = N as f64 * G::COST;
    if x.is_unique() && x.is_contiguous() {
        par::for_each_mut(x.make_mut::<T>(), N, cost, |at, x| {
            update::<T, N, G>(groups, at as u64, x);
        });
        return x;
    }
    let x = x.contiguous();
    let xs = x.as_slice::<T>();
    Tensor::build::<T>(x.shape(), |y| {
        par::for_each_mut(y, N, cost, |at, y| {
            compute::<T, N, G>(groups, at as u64, &xs[at * N..at * N + y.len()], y);
        });
    })
}

kernel! {
    fn compute['a, T: Real, const N: usize, G: Groups<T, N>]['a, T, N, G](
        groups: G, first: u64, x: &'a [T], y: &'a mut [T],
    ) -> () {
        let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<N>(), y.as_chunks_mut::<N>());
        for ((at, x), y) in (first..).zip(xs).zip(ys) {
            groups.group(at, x, y);
        }
        if !x_rest.is_empty() {
            y_rest.copy_from_slice(x_rest);
            part(groups, first + xs.len() as u64, y_rest);
        }
    }
}

kernel! {
    fn update['a, T: Real, const N: usize, G: Groups<T, N>]['a, T, N, G](
        groups: G, first: u64, x: &'a mut [T],
    ) -> () {
        let (xs, rest) = x.as_chunks_mut::<N>();
        let last = first + xs.len() as u64;
        for (at, x) in (first..).zip(xs) {
            groups.group(at, &x.clone(), x);
        }
        if !rest.is_empty() {
            part(groups, last, rest);
        }
    }
}

/// The last group, which is not full.
#[inline(always)]
fn part<T: Real, const N: usize, G: Groups<T, N>>(groups: G, at: u64, x: &mut [T]) {
    let (mut whole, mut y) = ([T::ZERO; N], [T::ZERO; N]);
    whole[..x.len()].copy_from_slice(x);
    groups.group(at, &whole, &mut y);
    x.copy_from_slice(&y[..x.len()]);
}

/// Runs `f` in f32 for the 16-bit types, which are storage only, and in the type of `x` otherwise.
pub(crate) fn in_real(x: Tensor, f: impl FnOnce(Tensor) -> Tensor) -> Tensor {
    match x.dtype() {
        DType::F16 | DType::BF16 => f(x.to_dtype(DType::F32)).to_dtype(x.dtype()),
        _ => f(x),
    }
}
