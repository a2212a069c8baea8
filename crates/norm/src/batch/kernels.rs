//! Inner loops of batch normalization.
//!
//! They work on the pieces that some neighbouring channels have in each of a list of samples. Where a channel has many
//! values in a sample (a *plane*), loops run along it; where it has few, they run across the channels, and each place of
//! a piece (a *column*) is summed by itself over the samples.
//!
//! Memory is read once: the mean and the squared distances from it are taken of a block that stays in the first-level
//! cache, and blocks are merged in f64.

mod columns;
mod planes;

pub(crate) use columns::{column_lines, column_moments, column_slopes, column_sums};
pub(crate) use planes::{plane_lines, plane_moments, plane_slopes, plane_sums};

/// `y = (x - mean) scale + shift`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<T> {
    pub(crate) mean: T,
    pub(crate) scale: T,
    pub(crate) shift: T,
}

/// `dx = scale (dy - shift - (x - mean) slope)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slope<T> {
    pub(crate) mean: T,
    pub(crate) scale: T,
    pub(crate) shift: T,
    pub(crate) slope: T,
}
