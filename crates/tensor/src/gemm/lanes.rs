//! Products of operands that the caller lays out in vectors of [`LANES`] channels.
//!
//! An image kept as `[channels / 16][pixels][16]` can be read with any stride and offset along a row at no cost: a
//! convolution then needs no matrix of patches, only a list of [`Run`]s, one for each element of its window. The
//! sums go in the order of the runs, whatever the tile and the instruction set.

mod bands;
mod tiles;
mod turn;

use gradus_kernel::simd;

pub(crate) use bands::{Band, bands};
use tiles::{Set, Tile, with_set};
pub(crate) use turn::{from_lanes, prefetch, to_lanes};

/// Channels side by side.
pub(crate) const LANES: usize = 16;

/// `n` rounded up to whole vectors.
pub(crate) fn vectors(n: usize) -> usize {
    n.div_ceil(LANES)
}

/// Some steps of the inner dimension: where A and B begin, and how many steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) a: usize,
    pub(crate) b: usize,
    pub(crate) len: usize,
}

/// Distance between rows of A; a constant, so that it is part of the instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RowStep {
    /// The rows are lanes.
    Lane,
    /// The rows are pixels.
    Pixel,
    /// The rows are every other pixel.
    TwoPixels,
}

impl RowStep {
    fn elements(self) -> usize {
        match self {
            Self::Lane => 1,
            Self::Pixel => LANES,
            Self::TwoPixels => 2 * LANES,
        }
    }
}

/// `C[r][v] = sum over runs and l < len of a[run.a + r * a_row + l * a_step] * B[v][l]`, where the 16 lanes of `B[v][l]`
/// begin at `b[run.b + l * b_step + v * b_vector]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lanes<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) a_row: RowStep,
    pub(crate) a_step: usize,
    pub(crate) b: &'a [f32],
    pub(crate) b_step: usize,
    pub(crate) b_vector: usize,
    pub(crate) runs: &'a [Run],
    pub(crate) rows: usize,
    pub(crate) vectors: usize,
}

impl Lanes<'_> {
    /// Computes C, whose lanes begin at `c[r * c_row + v * c_vector]`; adds to what it holds if `accumulate`.
    ///
    /// # Panics
    /// When an operand reaches outside of its slice.
    pub(crate) fn multiply(&self, c: &mut [f32], [c_row, c_vector]: [usize; 2], accumulate: bool) {
        if self.rows == 0 || self.vectors == 0 {
            return;
        }
        let (last_row, last_vector) = (self.rows - 1, self.vectors - 1);
        for run in self.runs.iter().filter(|r| r.len > 0) {
            let a = run.a + last_row * self.a_row.elements() + (run.len - 1) * self.a_step;
            let b = run.b + (run.len - 1) * self.b_step + last_vector * self.b_vector + LANES;
            assert!(a < self.a.len() && b <= self.b.len(), "an operand is too short");
        }
        assert!(last_row * c_row + last_vector * c_vector + LANES <= c.len(), "C is too short");
        with_set!(simd::level(), set => self.tiles(set, c.as_mut_ptr(), [c_row, c_vector], accumulate));
    }

    fn tiles<S: Set>(&self, set: S, c: *mut f32, [c_row, c_vector]: [usize; 2], accumulate: bool) {
        let tiles = self.rows.div_ceil(S::ROWS);
        for v in (0..self.vectors).step_by(S::VECTORS) {
            for i in 0..tiles {
                let row = i * self.rows / tiles;
                let tile = Tile {
                    a: self.a.as_ptr().wrapping_add(row * self.a_row.elements()),
                    a_step: self.a_step,
                    b: self.b.as_ptr().wrapping_add(v * self.b_vector),
                    b_step: self.b_step,
                    b_vector: self.b_vector,
                    runs: self.runs,
                    c: c.wrapping_add(row * c_row + v * c_vector),
                    c_row,
                    c_vector,
                    rows: (i + 1) * self.rows / tiles - row,
                    vectors: S::VECTORS.min(self.vectors - v),
                    accumulate,
                };
                // SAFETY: the set was chosen by what the machine has; `multiply` checked that the last row, step and
                // vector of every operand lie inside of their slices, and C is borrowed mutably.
                unsafe { set.tile(&tile, self.a_row) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradus_kernel::simd::{Level, detected, force};

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let at =
            |i| (gradus_core::splitmix64(seed * 1_000_003 + i) >> 40) as f32 / (1 << 24) as f32;
        (0..n as u64).map(|i| at(i) - 0.5).collect()
    }

    #[test]
    fn products_match_the_definition_at_every_level() {
        let widest = detected();
        for (a_row, a_step, b_step) in
            [(RowStep::Lane, 16, 16), (RowStep::Pixel, 1, 16), (RowStep::TwoPixels, 1, 32)]
        {
            for rows in [0, 1, 2, 5, 13, 14, 15, 16, 29] {
                for vectors in [0, 1, 2, 3] {
                    let runs = [
                        Run { a: 3, b: 0, len: 7 },
                        Run { a: 0, b: 9, len: 0 },
                        Run { a: 20, b: 16, len: 1 },
                        Run { a: 1, b: 33, len: 16 },
                    ];
                    let (a, b) = (numbers(1500, 1), numbers(1800, 2));
                    let lanes = Lanes {
                        a: &a,
                        a_row,
                        a_step,
                        b: &b,
                        b_step,
                        b_vector: 600,
                        runs: &runs,
                        rows,
                        vectors,
                    };
                    let run = |level| {
                        force(level);
                        let mut c = vec![1f32; 2000];
                        lanes.multiply(&mut c, [20, 640], false);
                        lanes.multiply(&mut c, [20, 640], true);
                        c
                    };
                    let c = run(widest);
                    let mut want = vec![1f64; 2000];
                    for (r, v) in (0..rows).flat_map(|r| (0..vectors).map(move |v| (r, v))) {
                        for lane in 0..LANES {
                            let mut sum = 0.0;
                            for run in runs {
                                for l in 0..run.len {
                                    let x = a[run.a + r * a_row.elements() + l * a_step];
                                    let y = b[run.b + l * b_step + v * 600 + lane];
                                    sum += f64::from(x) * f64::from(y);
                                }
                            }
                            want[r * 20 + v * 640 + lane] = 2.0 * sum;
                        }
                    }
                    for (got, want) in c.iter().zip(&want) {
                        assert!(
                            (f64::from(*got) - want).abs() < 1e-5,
                            "{rows} {vectors} {a_row:?}"
                        );
                    }
                    if widest != Level::Portable {
                        assert_eq!(run(Level::Avx2), c);
                        assert_eq!(run(Level::Portable), c);
                    }
                    force(widest);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "an operand is too short")]
    fn operands_outside_of_their_slices_are_refused() {
        let lanes = Lanes {
            a: &[0.0; 16],
            a_row: RowStep::Pixel,
            a_step: 1,
            b: &[0.0; 256],
            b_step: 16,
            b_vector: 0,
            runs: &[Run { a: 0, b: 0, len: 16 }],
            rows: 2,
            vectors: 1,
        };
        lanes.multiply(&mut [0.0; 64], [16, 0], false);
    }
}
