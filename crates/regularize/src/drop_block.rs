//! DropBlock.

use std::fmt;

use gradus_autograd::{DType, Layer, RngStream, Tensor, Var, module};
use gradus_tensor::{Real, kernel, par, with_real};

use crate::{
    Probability, RangeError, Rate,
    mask::{Choose, drop_by, zero},
};

/// Random words that sixteen 128-bit blocks give.
const GROUP: usize = 64;

/// How [`DropBlock`] drops. Defaults are timm's.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct DropBlockConfig {
    /// Side of a block. 7 by default.
    pub block_size: usize,
    /// Factor of the rate of blocks. 1 by default.
    pub gamma_scale: f64,
    /// Whether all channels of a sample lose the same blocks. `true` by default.
    pub couple_channels: bool,
    /// Whether what stays is scaled by (elements / elements that stay), over the whole batch. `true` by default.
    pub scale_by_keep: bool,
}

impl Default for DropBlockConfig {
    fn default() -> Self {
        Self { block_size: 7, gamma_scale: 1.0, couple_channels: true, scale_by_keep: true }
    }
}

impl DropBlockConfig {
    /// The same with this side of a block.
    #[must_use]
    pub fn with_block_size(mut self, block_size: usize) -> Self {
        self.block_size = block_size;
        self
    }

    /// The same with this factor of the rate of blocks.
    #[must_use]
    pub fn with_gamma_scale(mut self, gamma_scale: f64) -> Self {
        self.gamma_scale = gamma_scale;
        self
    }

    /// The same with channels coupled or not.
    #[must_use]
    pub fn with_couple_channels(mut self, couple_channels: bool) -> Self {
        self.couple_channels = couple_channels;
        self
    }

    /// The same with what stays scaled or not.
    #[must_use]
    pub fn with_scale_by_keep(mut self, scale_by_keep: bool) -> Self {
        self.scale_by_keep = scale_by_keep;
        self
    }
}

/// Drops square blocks of feature maps: what a single element says can be read off its neighbours, what a block says
/// cannot.
///
/// The corner of a block falls on each place where a block fits with probability
/// `gamma = gamma_scale p H W / (block^2 (H - block + 1) (W - block + 1))`, so that about a share `p` is dropped (less
/// where blocks overlap). The identity on a tape that does not [draw](gradus_autograd::Tape::is_stochastic) and for
/// `p` = 0; 0 everywhere for `p` = 1. What is dropped is 0 even where it was NaN.
///
/// # Shapes
/// `x` `[N, C, H, W]`, the result as `x`.
///
/// # References
/// Ghiasi, Lin, Le: DropBlock (2018), arXiv:1810.12890; timm's `drop_block_2d`.
#[derive(Clone, Debug)]
pub struct DropBlock {
    rate: Rate,
    config: DropBlockConfig,
}
module!(DropBlock {});

impl DropBlock {
    /// At this rate: a [`Probability`] or a scheduled [`Rate`]. timm's default probability is 0.1.
    ///
    /// # Errors
    /// [`RangeError`] for blocks of side 0 or a `gamma_scale` that is negative or not finite.
    pub fn new(rate: impl Into<Rate>, config: DropBlockConfig) -> Result<Self, RangeError> {
        let side = config.block_size;
        RangeError::check(side > 0, "block_size", side as f64, "at least 1")?;
        RangeError::not_negative("gamma_scale", config.gamma_scale)?;
        Ok(Self { rate: rate.into(), config })
    }

    /// As [`forward`](Layer::forward), for maps whose size comes from outside.
    ///
    /// # Errors
    /// [`BlockError`] when a block is larger than the map, in evaluation too.
    ///
    /// # Panics
    /// When `x` does not have four dimensions or its elements are not floats.
    #[track_caller]
    pub fn try_forward(&self, x: &Var) -> Result<Var, BlockError> {
        let &[n, c, h, w] = x.shape() else {
            panic!("DropBlock: expected [N, C, H, W], found {:?}", x.shape())
        };
        let block = self.config.block_size;
        if block > h.min(w) {
            return Err(BlockError { block, height: h, width: w });
        }
        let p = self.rate.on(x.tape());
        if p == Probability::ZERO {
            return Ok(x.clone());
        }
        if p == Probability::ONE {
            return Ok(zero("drop_block", x));
        }
        let corners = (h - block + 1) * (w - block + 1);
        let gamma = self.config.gamma_scale * p.get() * (h * w) as f64
            / ((block * block) as f64 * corners as f64);
        let blocks = Blocks {
            stream: x.tape().rng_stream(),
            threshold: (gamma.min(1.0) * 4_294_967_296.0).round() as u64,
            block,
            map: [h, w],
        };
        let shape = [n, if self.config.couple_channels { 1 } else { c }, h, w];
        let scale_by_keep = self.config.scale_by_keep;
        Ok(drop_by(x, move |dtype| {
            let mask = blocks.mask(&shape, dtype);
            let kept = mask.sum(&[], false).item();
            let scaled = scale_by_keep && kept > 0.0;
            let k = if scaled { mask.numel() as f64 / kept } else { 1.0 };
            (mask, Choose { k, c: 0.0, dropped: 0.0 })
        }))
    }
}

impl Layer for DropBlock {
    /// # Panics
    /// When a block is larger than the map, and as [`DropBlock::try_forward`].
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        self.try_forward(x).unwrap_or_else(|e| panic!("{e}"))
    }
}

/// Where the blocks of an operation lie.
#[derive(Clone, Copy)]
struct Blocks {
    stream: RngStream,
    /// A block lies where a 32-bit number is below.
    threshold: u64,
    block: usize,
    map: [usize; 2],
}

impl Blocks {
    /// Zeros in the blocks, ones elsewhere.
    fn mask(self, shape: &[usize], dtype: DType) -> Tensor {
        let size = self.map[0] * self.map[1];
        with_real!("drop_block", dtype, T => Tensor::build::<T>(shape, |mask| {
            par::for_each_mut(mask, size, size as f64 * 0.5, |first, planes| {
                blocked::<T>(self, first as u64, planes);
            });
        }))
    }
}

kernel! {
    fn blocked['a, T: Real]['a, T](blocks: Blocks, first: u64, planes: &'a mut [T]) -> () {
        let Blocks { stream, threshold, block, map: [h, w] } = blocks;
        let columns = w - block + 1;
        let corners = (h - block + 1) * columns;
        let groups = corners.div_ceil(GROUP);
        for (plane, mask) in (first..).zip(planes.chunks_exact_mut(h * w)) {
            mask.fill(T::ONE);
            for group in 0..groups {
                let words = stream.blocks16((plane * groups as u64 + group as u64) * 16);
                let here = words.as_flattened().iter().take(corners - group * GROUP);
                let hits = here.enumerate().filter(|(_, word)| u64::from(**word) < threshold);
                for corner in hits.map(|(i, _)| group * GROUP + i) {
                    let (row, column) = (corner / columns, corner % columns);
                    for line in mask[row * w..(row + block) * w].chunks_exact_mut(w) {
                        line[column..column + block].fill(T::ZERO);
                    }
                }
            }
        }
    }
}

/// A block that is larger than the map it should fall on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BlockError {
    /// Side of the block.
    pub block: usize,
    /// Rows of the map.
    pub height: usize,
    /// Columns of the map.
    pub width: usize,
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { block, height, width } = self;
        write!(f, "a block of {block} x {block} does not fit into a map of {height} x {width}")
    }
}

impl std::error::Error for BlockError {}

#[cfg(test)]
mod tests {
    use gradus_autograd::{
        Tape,
        check::{gradcheck, random},
    };

    use super::*;
    use crate::testing::{self, ones, p};

    fn layer(prob: f64, side: usize) -> DropBlock {
        DropBlock::new(p(prob), DropBlockConfig::default().with_block_size(side)).unwrap()
    }

    fn plain(prob: f64, side: usize) -> DropBlock {
        let config = DropBlockConfig::default()
            .with_block_size(side)
            .with_scale_by_keep(false)
            .with_couple_channels(false);
        DropBlock::new(p(prob), config).unwrap()
    }

    #[test]
    fn the_blocks_of_a_seed_are_pinned() {
        let y = plain(0.3, 3).forward(&ones(&Tape::training(42, 0), &[1, 2, 6, 7])).into_value();
        let rows: Vec<String> = y
            .to_vec::<f32>()
            .chunks(7)
            .map(|row| row.iter().map(|&v| if v == 0.0 { '.' } else { '#' }).collect())
            .collect();
        let first = ["#######", "#######", "#######", "####...", "####...", "####..."];
        let second = ["#...###", "#......", "#......", "####...", "#######", "#######"];
        assert_eq!(rows, [first, second].concat());
    }

    #[test]
    fn what_is_dropped_are_whole_blocks() {
        let y = plain(0.1, 3).forward(&ones(&Tape::training(1, 0), &[20, 5, 11, 9])).into_value();
        let y = y.to_vec::<f32>();
        let mut dropped = 0;
        for plane in y.chunks(99) {
            let zero = |r: usize, c: usize| plane[r * 9 + c] == 0.0;
            for (r, c) in
                (0..11).flat_map(|r| (0..9).map(move |c| (r, c))).filter(|&(r, c)| zero(r, c))
            {
                dropped += 1;
                let mut corners = (r.saturating_sub(2)..=r.min(8))
                    .flat_map(|i| (c.saturating_sub(2)..=c.min(6)).map(move |j| (i, j)));
                assert!(corners.any(|(i, j)| (i..i + 3).all(|r| (j..j + 3).all(|c| zero(r, c)))));
            }
        }
        let share = f64::from(dropped) / y.len() as f64;
        assert!((0.07..0.11).contains(&share), "{share}");
    }

    #[test]
    fn the_sum_of_ones_stays_and_coupled_channels_share_blocks() {
        let y = layer(0.2, 3).forward(&ones(&Tape::training(3, 0), &[4, 3, 12, 12])).into_value();
        assert!((y.mean(&[], false).item() - 1.0).abs() < 1e-6);
        let channel = |c| y.narrow(1, c, 1).to_vec::<f32>();
        assert_eq!(channel(0), channel(2));
        let y = plain(0.2, 3).forward(&ones(&Tape::training(3, 0), &[4, 3, 12, 12])).into_value();
        assert_ne!(y.narrow(1, 0, 1).to_vec::<f32>(), y.narrow(1, 2, 1).to_vec::<f32>());
    }

    #[test]
    fn blocks_of_one_are_dropout() {
        let n = 100_000.0;
        let y = plain(0.3, 1).forward(&ones(&Tape::training(3, 0), &[10, 100, 10, 10]));
        let kept = y.mean(&[], false).item();
        assert!((kept - 0.7).abs() < 4.0 * (0.21f64 / n).sqrt(), "{kept}");
    }

    #[test]
    fn gradients_match_differences() {
        for shape in [&[2, 3, 5, 4][..], &[1, 1, 3, 3], &[0, 2, 3, 3], &[2, 0, 3, 4]] {
            gradcheck(&[random(shape, 1)], |v| layer(0.3, 3).forward(&v[0]));
            gradcheck(&[random(shape, 1)], |v| plain(0.3, 2).forward(&v[0]));
        }
        gradcheck(&[random(&[4, 3, 5, 2], 2).transpose(0, -1)], |v| {
            &layer(0.2, 2).forward(&v[0]) * &v[0]
        });
    }

    #[test]
    fn ends_draws_and_threads() {
        let as_maps = |x: &Var, layer: DropBlock| {
            let shape: Vec<isize> = x.shape().iter().map(|&n| n as isize).collect();
            layer.forward(&x.reshape(&[1, shape[0], shape[1], shape[2]])).reshape(&shape)
        };
        testing::ends(|x, p| {
            let config = DropBlockConfig::default().with_block_size(2);
            as_maps(x, DropBlock::new(p, config).unwrap())
        });
        testing::draws(|x| as_maps(x, layer(0.5, 2)));
        testing::same_everywhere(|| {
            let x = ones(&Tape::training(9, 0), &[7, 40, 20, 23]);
            plain(0.4, 5).forward(&x).into_value().to_vec()
        });
    }

    #[test]
    fn a_block_that_covers_all_is_no_nan() {
        // gamma would be above 1: everything is dropped.
        let x = ones(&Tape::training(1, 0), &[2, 1, 4, 4]);
        let config = DropBlockConfig::default().with_block_size(4).with_gamma_scale(2.0);
        let y = DropBlock::new(p(0.9), config).unwrap().forward(&x);
        assert_eq!(y.value().to_vec::<f32>(), [0.0; 32]);
    }

    #[test]
    fn bad_sizes_are_refused() {
        let x = Tape::evaluation().constant(Tensor::zeros(&[1, 1, 6, 9], DType::F32));
        let error = layer(0.1, 7).try_forward(&x).unwrap_err();
        assert_eq!(error, BlockError { block: 7, height: 6, width: 9 });
        let config = DropBlockConfig::default();
        assert!(DropBlock::new(p(0.1), config.with_block_size(0)).is_err());
        assert!(DropBlock::new(p(0.1), config.with_gamma_scale(f64::NAN)).is_err());
    }
}
