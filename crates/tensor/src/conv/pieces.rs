//! How a convolution is shared among threads.

use rayon::prelude::*;

use crate::{
    buffer::{Buffer, floats},
    gemm::lanes::{Band, bands},
    par,
};

/// Nanoseconds of the work that a thread takes.
const PIECE_NS: f64 = 50_000.0;
/// Most pieces of a sum.
const MAX_SUMS: usize = 16;

/// Cuts `n` lines, which take `ns` nanoseconds each, into pieces and calls `f(lines, band)` for each, on several
/// threads if there are; the rows of the images `y` that end with line `i` are those before `row(i)`.
pub(super) fn each_piece(
    [n, channels]: [usize; 2],
    ns: f64,
    y: &mut [f32],
    size: [usize; 2],
    row: impl Fn(usize) -> usize,
    f: impl Fn([usize; 2], Band<'_>) + Sync + Send,
) {
    // Every element is computed in the same way wherever it is cut.
    let pieces = ((n as f64 * ns / PIECE_NS) as usize).clamp(1, n.max(1));
    let cut = |i: usize| i * n / pieces;
    let bands = bands(y, channels, size, (1..=pieces).map(|i| row(cut(i))));
    let run = |(i, band)| f([cut(i), cut(i + 1)], band);
    if pieces > 1 && rayon::current_num_threads() > 1 {
        bands.into_par_iter().enumerate().with_max_len(1).for_each(run);
    } else {
        bands.into_iter().enumerate().for_each(run);
    }
}

/// Cuts `n` lines, which take `ns` nanoseconds each, into at most `most` pieces, and adds up what `f(lines)` returns.
///
/// The number of pieces depends on sizes only, so that any number of threads gives the same bits.
pub(super) fn sum_of_pieces(
    n: usize,
    ns: f64,
    most: usize,
    f: impl Fn([usize; 2]) -> Buffer + Sync + Send,
) -> Buffer {
    let ns = n as f64 * ns;
    let pieces = ((ns / PIECE_NS) as usize).clamp(1, most.clamp(1, MAX_SUMS));
    // Fours keep two and four threads equally busy.
    let pieces = if pieces > 4 { pieces / 4 * 4 } else { pieces };
    let sums = par::map(pieces, ns / pieces as f64, |p| f([p * n / pieces, (p + 1) * n / pieces]));
    let mut sums = sums.into_iter();
    let mut total = sums.next().expect("there is at least one piece");
    for mut sum in sums {
        floats(&mut total).iter_mut().zip(&*floats(&mut sum)).for_each(|(t, s)| *t += s);
    }
    total
}
