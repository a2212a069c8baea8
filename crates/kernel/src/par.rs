//! Sharing work among threads.
//!
//! Work is cut by its size, never by the number of threads, and what is cut is either independent or
//! combined in a fixed order: results are the same bits for any pool. Waking a second thread costs up to
//! some tens of microseconds, so smaller work stays where it is. Without the feature `rayon` all work does.

use alloc::vec::Vec;

#[cfg(feature = "rayon")]
use rayon::prelude::*;

/// Work below this many nanoseconds is not shared.
const SHARE_NS: f64 = 40_000.0;
/// Work is cut into pieces of about this many nanoseconds.
const PIECE_NS: f64 = 20_000.0;

/// Whether `n` items of `ns` nanoseconds each are worth sharing (and there is somebody to share with).
#[must_use]
pub fn worth_it(n: usize, ns: f64) -> bool {
    n as f64 * ns > SHARE_NS && n > 1 && threads() > 1
}

#[cfg(feature = "rayon")]
fn threads() -> usize {
    rayon::current_num_threads()
}

#[cfg(not(feature = "rayon"))]
fn threads() -> usize {
    1
}

/// Items per piece for items of `ns` nanoseconds.
#[must_use]
pub fn piece(ns: f64) -> usize {
    ((PIECE_NS / ns.max(1e-3)) as usize).max(1)
}

/// Calls `f(first_item, items)` on pieces of `out`, whose items are `width` elements long and take `ns`
/// nanoseconds each; on several threads when that is worth it.
pub fn for_each_mut<T: Send>(
    out: &mut [T],
    width: usize,
    ns: f64,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let width = width.max(1);
    let n = out.len() / width;
    #[cfg(feature = "rayon")]
    if worth_it(n, ns) {
        let items = piece(ns);
        out.par_chunks_mut(items * width).enumerate().for_each(|(i, chunk)| f(i * items, chunk));
        return;
    }
    let _ = (n, ns);
    if !out.is_empty() {
        f(0, out);
    }
}

/// Cuts each of `outs`, which all hold `n` items, into parts of `items` items and calls `f(first_item, parts)`
/// for the parts that belong together; on several threads when items of `ns` nanoseconds are worth that.
pub fn for_each_part<T: Send, const N: usize>(
    outs: [&mut [T]; N],
    n: usize,
    items: usize,
    ns: f64,
    f: impl Fn(usize, [&mut [T]; N]) + Sync + Send,
) {
    let widths = outs.each_ref().map(|o| o.len() / n.max(1));
    let items = items.max(1);
    let mut rest = outs;
    let mut parts = Vec::with_capacity(n.div_ceil(items));
    for first in (0..n).step_by(items) {
        let count = items.min(n - first);
        let part: [&mut [T]; N] = core::array::from_fn(|k| {
            let (mine, later) = core::mem::take(&mut rest[k]).split_at_mut(count * widths[k]);
            rest[k] = later;
            mine
        });
        parts.push((first, part));
    }
    #[cfg(feature = "rayon")]
    if parts.len() > 1 && worth_it(n, ns) {
        parts.into_par_iter().for_each(|(first, part)| f(first, part));
        return;
    }
    let _ = ns;
    for (first, part) in parts {
        f(first, part);
    }
}

/// Calls `f(i)` for every `i` below `n`, each taking `ns` nanoseconds, and returns the results in order.
pub fn map<R: Send>(n: usize, ns: f64, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    #[cfg(feature = "rayon")]
    if worth_it(n, ns) {
        return (0..n).into_par_iter().with_min_len(piece(ns).min(n)).map(f).collect();
    }
    let _ = ns;
    (0..n).map(f).collect()
}

/// Cuts `out` into chunks of `size` elements, the last one maybe shorter, calls `f(number, chunk)` for each, which takes
/// `ns` nanoseconds, and returns the results in order; on several threads when that is worth it.
pub fn map_chunks<T: Send, R: Send>(
    out: &mut [T],
    size: usize,
    ns: f64,
    f: impl Fn(usize, &mut [T]) -> R + Sync + Send,
) -> Vec<R> {
    let size = size.max(1);
    #[cfg(feature = "rayon")]
    if worth_it(out.len().div_ceil(size), ns) {
        return out.par_chunks_mut(size).enumerate().map(|(i, chunk)| f(i, chunk)).collect();
    }
    let _ = ns;
    out.chunks_mut(size).enumerate().map(|(i, chunk)| f(i, chunk)).collect()
}

/// Does both, on two threads if one is free; what is cut in two again and again is shared among all of them.
#[cfg(feature = "rayon")]
pub fn join(a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
    rayon::join(a, b);
}

/// Does both, one after the other.
#[cfg(not(feature = "rayon"))]
pub fn join(a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
    a();
    b();
}

#[cfg(all(test, feature = "rayon"))]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn pieces_cover_everything_once_on_any_number_of_threads() {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                for items in [0, 1, 7, 1000, 4099] {
                    let mut out = vec![0usize; items * 3 + 2];
                    let whole = items * 3;
                    // So costly that every piece is shared.
                    for_each_mut(&mut out[..whole], 3, 5e3, |first, piece| {
                        for (i, x) in piece.iter_mut().enumerate() {
                            *x += first * 3 + i + 1;
                        }
                    });
                    assert!(out[..whole].iter().enumerate().all(|(i, &x)| x == i + 1));
                    assert_eq!(
                        map(items, 5e3, |i| i * i),
                        (0..items).map(|i| i * i).collect::<Vec<_>>()
                    );
                    let firsts = map_chunks(&mut out, 7, 5e3, |i, chunk| (i, chunk[0]));
                    assert!(firsts.iter().take(items / 7).all(|&(i, x)| x == i * 7 + 1));
                    let (mut a, mut b) = (vec![0; items], vec![0; items * 2]);
                    for_each_part([&mut a, &mut b], items, 3, 5e3, |first, [a, b]| {
                        assert_eq!(a.len() * 2, b.len());
                        a.iter_mut().for_each(|x| *x += 1);
                        b.fill(first);
                    });
                    assert!(a.iter().all(|&x| x == 1));
                    assert!(b.iter().enumerate().all(|(i, &x)| x == i / 2 / 3 * 3));
                }
            });
        }
    }
}
