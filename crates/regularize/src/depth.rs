//! Stochastic depth.

use gradus_autograd::{Layer, Tensor, Var, module};
use gradus_tensor::{Real, par, with_real};

use crate::{
    Probability, Rate,
    groups::in_real,
    mask::{Choose, drop_by, zero},
};

/// What is dropped together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum DepthMode {
    /// Each sample (entry of the first dimension) by itself. The default, and what timm does.
    #[default]
    Row,
    /// The whole batch.
    Batch,
}

/// Stochastic depth: the residual branch of a block is left out with probability `p`, and divided by `1 - p` where it
/// stays.
///
/// As a [`Layer`] it drops its input, a branch (timm's `DropPath`, torchvision's `stochastic_depth`);
/// [`add`](Self::add) adds the branch to the trunk as well, in one pass. The identity, or the plain sum, on a tape that
/// does not [draw](gradus_autograd::Tape::is_stochastic) and for `p` = 0; for `p` = 1 the branch is 0, and so is its
/// gradient. [`depth_rates`] are the usual probabilities of the blocks of a network. Batch mode without scale is
/// LayerDrop (Fan, Grave, Joulin 2019, arXiv:1909.11556).
///
/// ```
/// use gradus_autograd::{DType, Tape, Tensor};
/// use gradus_regularize::{Probability, StochasticDepth, depth_rates};
///
/// let rates = depth_rates(3, Probability::new(0.5)?);
/// assert_eq!(rates.iter().map(|p| p.get()).collect::<Vec<_>>(), [0.0, 0.25, 0.5]);
/// let depth = StochasticDepth::new(rates[2]);
/// let x = Tape::training(0, 0).constant(Tensor::ones(&[8, 4], DType::F32));
/// let y = depth.add(&x, &x.mul_scalar(10.0));
/// assert!(y.value().to_vec::<f32>().iter().all(|&v| v == 1.0 || v == 21.0));
/// # Ok::<(), gradus_regularize::ProbabilityError>(())
/// ```
///
/// # References
/// Huang, Sun, Liu, Sedra, Weinberger: Deep networks with stochastic depth (2016), arXiv:1603.09382.
#[doc(alias = "DropPath")]
#[derive(Clone, Debug)]
pub struct StochasticDepth {
    rate: Rate,
    mode: DepthMode,
    scale_by_keep: bool,
}
module!(StochasticDepth {});

impl StochasticDepth {
    /// At this rate (a [`Probability`] or a scheduled [`Rate`]), by row, with scale.
    #[must_use]
    pub fn new(rate: impl Into<Rate>) -> Self {
        Self { rate: rate.into(), mode: DepthMode::Row, scale_by_keep: true }
    }

    /// The same in this mode.
    #[must_use]
    pub fn with_mode(mut self, mode: DepthMode) -> Self {
        self.mode = mode;
        self
    }

    /// The same with what stays divided by `1 - p` or not.
    #[must_use]
    pub fn with_scale_by_keep(mut self, scale_by_keep: bool) -> Self {
        self.scale_by_keep = scale_by_keep;
        self
    }

    /// `x` plus the branch, where it stays.
    ///
    /// # Shapes
    /// `x` and `branch` `[N, ..]`, the result as they.
    ///
    /// # Panics
    /// When shapes or types differ, or there is no dimension to draw along in row mode.
    #[must_use]
    #[track_caller]
    pub fn add(&self, x: &Var, branch: &Var) -> Var {
        match self.rate.on(x.tape()) {
            Probability::ZERO => x.add(branch),
            p => add_flagged(x, branch, self.flags(branch, p), scale(p, self.scale_by_keep)),
        }
    }

    /// Draws 1 for what stays and 0 for what is dropped, one for each row or one for the batch: as often as it is called.
    #[track_caller]
    fn flags(&self, branch: &Var, p: Probability) -> impl Fn() -> Vec<u8> + Send + use<> {
        let n = match self.mode {
            DepthMode::Row => branch.shape().first().copied(),
            DepthMode::Batch => Some(1),
        };
        let n = n.expect("stochastic depth by row: a branch of shape [] has no rows") as u64;
        let stream = branch.tape().rng_stream();
        move || (0..n).map(|i| u8::from(stream.uniform(i) >= p.get())).collect()
    }
}

impl Layer for StochasticDepth {
    #[track_caller]
    fn forward(&self, branch: &Var) -> Var {
        let p = self.rate.on(branch.tape());
        match p {
            Probability::ZERO => branch.clone(),
            Probability::ONE => zero("stochastic_depth", branch),
            _ => {
                let (flags, k) = (self.flags(branch, p), scale(p, self.scale_by_keep));
                let ndim = branch.shape().len();
                drop_by(branch, move |dtype| {
                    let keep = flags();
                    let mut shape = vec![1; ndim];
                    shape.iter_mut().take(1).for_each(|rows| *rows = keep.len());
                    let mask = Tensor::from_slice(&keep, &shape).to_dtype(dtype);
                    (mask, Choose { k, c: 0.0, dropped: 0.0 })
                })
            }
        }
    }
}

/// Factor of a branch that stays; of no use for `p` = 1, where none does.
fn scale(p: Probability, by_keep: bool) -> f64 {
    if by_keep && p != Probability::ONE { 1.0 / (1.0 - p.get()) } else { 1.0 }
}

/// `x + k branch` for the rows that `keep` has a 1 for, `x` for the others, whose branch gets gradient 0.
///
/// This is what [`StochasticDepth::add`] does with flags that it draws.
///
/// # Shapes
/// `x` and `branch` `[N, ..]`, `keep` u8 `[N]`, or `[1]` for all rows; the result as `x`.
///
/// # Panics
/// When shapes or types do not fit.
#[must_use]
#[track_caller]
pub fn add_kept(x: &Var, branch: &Var, keep: &Tensor, k: f64) -> Var {
    let rows = x.shape().first().copied().unwrap_or(1);
    let flags = keep.to_vec::<u8>();
    assert!(
        keep.ndim() == 1 && (flags.len() == rows || flags.len() == 1),
        "stochastic depth: flags of shape {:?} for a branch of shape {:?}",
        keep.shape(),
        branch.shape()
    );
    add_flagged(x, branch, move || flags.clone(), k)
}

/// [`add_kept`] by the flags that `flags` gives: in forward, and again in backward.
#[track_caller]
fn add_flagged(x: &Var, branch: &Var, flags: impl Fn() -> Vec<u8> + Send + 'static, k: f64) -> Var {
    let (shape, other) = (x.shape(), branch.shape());
    assert_eq!(shape, other, "stochastic depth: shapes of trunk and branch");
    // A residual stream in f32 with branches in 16 bits stays f32.
    let [x, branch] = Var::promoted("stochastic_depth", [x, branch]);
    let y =
        in_real(x.value().clone(), |x| added(&x, &branch.value().to_dtype(x.dtype()), &flags(), k));
    Var::op("stochastic_depth", &[&x, &branch], y, move |g, sink| {
        sink.add(0, g.clone());
        if sink.needs(1) {
            let zeros = Tensor::zeros(g.shape(), g.dtype());
            sink.add(
                1,
                in_real(zeros, |zeros| added(&zeros, &g.to_dtype(zeros.dtype()), &flags(), k)),
            );
        }
    })
}

/// `x + k branch` by rows.
fn added(x: &Tensor, branch: &Tensor, flags: &[u8], k: f64) -> Tensor {
    let rows = x.shape().first().copied().unwrap_or(1).max(1);
    let width = x.numel() / rows;
    let (x, branch) = (x.contiguous(), branch.contiguous());
    with_real!("stochastic_depth", x.dtype(), T => {
        let (xs, branches, k) = (x.as_slice::<T>(), branch.as_slice::<T>(), T::lit(k));
        Tensor::build::<T>(x.shape(), |y| {
            par::for_each_mut(y, width, width as f64 * 0.3, |first, y| {
                for (row, y) in (first..).zip(y.chunks_mut(width.max(1))) {
                    let at = row * width..(row + 1) * width;
                    let x = &xs[at.clone()];
                    if flags[row % flags.len()] == 0 {
                        y.copy_from_slice(x);
                    } else {
                        for ((y, &x), &b) in y.iter_mut().zip(x).zip(&branches[at]) {
                            *y = x + k * b;
                        }
                    }
                }
            });
        })
    })
}

/// Drops rows of a branch, or all of it, with probability `p`, and divides what stays by `1 - p`: see
/// [`StochasticDepth`].
///
/// # Panics
/// When there is no dimension to draw along in row mode.
#[doc(alias = "stochastic_depth")]
#[must_use]
#[track_caller]
pub fn drop_path(branch: &Var, p: Probability, mode: DepthMode) -> Var {
    StochasticDepth::new(p).with_mode(mode).forward(branch)
}

/// The depth rule: probabilities that grow linearly from 0 in the first of `blocks` to `last` in the last one; a single
/// block gets 0.
#[must_use]
pub fn depth_rates(blocks: usize, last: Probability) -> Vec<Probability> {
    let share = |i: usize| if blocks > 1 { i as f64 / (blocks - 1) as f64 } else { 0.0 };
    (0..blocks).map(|i| last.part(share(i))).collect()
}

/// The depth rule by stages: all blocks of a stage share a probability, which grows linearly from 0 in the first stage to
/// `last` in the last one. `depths` holds the numbers of blocks.
#[must_use]
pub fn stagewise_depth_rates(depths: &[usize], last: Probability) -> Vec<Vec<Probability>> {
    depths.iter().zip(depth_rates(depths.len(), last)).map(|(&n, p)| vec![p; n]).collect()
}

#[cfg(test)]
mod tests {
    use gradus_autograd::{
        DType, Tape,
        check::{gradcheck, random},
    };
    use gradus_core::bf16;

    use super::*;
    use crate::testing::{self, ones, p};

    fn rates(rates: &[Probability]) -> Vec<f64> {
        rates.iter().map(|p| p.get()).collect()
    }

    #[test]
    fn the_rows_of_a_seed_are_pinned() {
        let tape = Tape::training(42, 0);
        let y = drop_path(&ones(&tape, &[12, 2]), p(0.5), DepthMode::Row).into_value();
        let rows = y.narrow(1, 0, 1).to_vec::<f32>();
        assert_eq!(rows, [0.0, 2.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0, 0.0, 2.0, 2.0, 2.0]);
        assert_eq!(y.narrow(1, 1, 1).to_vec::<f32>(), rows);
        let tape = Tape::training(42, 0);
        let x = ones(&tape, &[12, 2]);
        let sum = StochasticDepth::new(p(0.5)).add(&x, &x).into_value();
        assert_eq!(
            sum.narrow(1, 0, 1).to_vec::<f32>(),
            rows.iter().map(|r| r + 1.0).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_batch_is_dropped_whole_and_scale_is_a_choice() {
        let layer = StochasticDepth::new(p(0.25)).with_mode(DepthMode::Batch);
        let mut sum = 0.0;
        for step in 0..4000 {
            let y = layer.forward(&ones(&Tape::training(1, step), &[3, 2])).into_value();
            let y = y.to_vec::<f32>();
            assert!(
                y.iter().all(|&v| v == y[0]) && (y[0] == 0.0 || (y[0] - 4.0 / 3.0).abs() < 1e-6)
            );
            sum += f64::from(y[0]) / 4000.0;
        }
        assert!((sum - 1.0).abs() < 0.04, "{sum}");
        let y = layer.with_mode(DepthMode::Row).with_scale_by_keep(false);
        let y = y.forward(&ones(&Tape::training(1, 0), &[4000])).into_value();
        assert!(y.to_vec::<f32>().iter().all(|&v| v == 0.0 || v == 1.0));
        assert!((y.mean(&[], false).item() - 0.75).abs() < 0.03);
    }

    #[test]
    fn a_batch_may_have_no_dimension() {
        let y = drop_path(&ones(&Tape::training(1, 0), &[]), p(0.5), DepthMode::Batch);
        assert!(y.shape().is_empty() && [0.0, 2.0].contains(&y.item()));
    }

    #[test]
    fn gradients_match_differences() {
        testing::gradients(|x| drop_path(x, p(0.4), DepthMode::Row));
        testing::gradients(|x| drop_path(x, p(0.4), DepthMode::Batch));
        let depth = StochasticDepth::new(p(0.4));
        for shape in [&[6, 3][..], &[1], &[0, 2], &[3, 0]] {
            gradcheck(&[random(shape, 1), random(shape, 2)], |v| depth.add(&v[0], &v[1]));
        }
        gradcheck(&[random(&[3, 5], 3).transpose(0, 1)], |v| depth.add(&v[0], &v[0]));
    }

    #[test]
    fn ends_draws_and_threads() {
        for mode in [DepthMode::Row, DepthMode::Batch] {
            testing::ends(|x, p| drop_path(x, p, mode));
        }
        testing::draws(|x| drop_path(x, p(0.5), DepthMode::Row));
        testing::same_everywhere(|| {
            let x = ones(&Tape::training(9, 0), &[300, 777]);
            StochasticDepth::new(p(0.4)).add(&x, &x).into_value().to_vec()
        });
    }

    #[test]
    fn a_dropped_branch_of_nan_leaves_the_trunk_alone() {
        for prob in [0.5, 1.0] {
            let tape = Tape::training(1, 0);
            let x = tape.leaf(Tensor::ones(&[64, 2], DType::F32));
            let branch = tape.leaf(Tensor::full(&[64, 2], f64::NAN, DType::F32));
            let y = StochasticDepth::new(p(prob)).add(&x, &branch);
            let grads = tape.backward(&[(&y, Tensor::ones(&[64, 2], DType::F32))]);
            assert_eq!(grads.wrt(&x).unwrap().to_vec::<f32>(), [1.0; 128]);
            let slopes = grads.wrt(&branch).unwrap().to_vec::<f32>();
            for (y, slope) in y.value().to_vec::<f32>().into_iter().zip(slopes) {
                assert!(if slope == 0.0 { y == 1.0 } else { slope == 2.0 && y.is_nan() });
            }
        }
    }

    #[test]
    fn evaluation_adds_and_sixteen_bits_do_too() {
        let depth = StochasticDepth::new(p(0.5));
        let tape = Tape::evaluation();
        let x = ones(&tape, &[3]);
        assert_eq!(depth.add(&x, &x).value().to_vec::<f32>(), [2.0; 3]);
        let x = tape.constant(Tensor::ones(&[3], DType::BF16));
        let keep = Tensor::from_slice(&[1u8, 0, 1], &[3]);
        let y = add_kept(&x, &x, &keep, 2.0).value().to_vec::<bf16>();
        assert_eq!(y.iter().map(|v| v.to_f32()).collect::<Vec<_>>(), [3.0, 1.0, 3.0]);
    }

    #[test]
    fn depth_rules() {
        assert_eq!(rates(&depth_rates(5, p(0.2)))[..3], [0.0, 0.05, 0.1]);
        assert_eq!(rates(&depth_rates(1, p(0.5))), [0.0]);
        assert_eq!(rates(&depth_rates(0, p(0.5))), [0.0; 0]);
        assert_eq!(depth_rates(7, p(1.0))[6], Probability::ONE);
        let stages = stagewise_depth_rates(&[2, 1, 3], p(0.4));
        let want: [&[f64]; 3] = [&[0.0, 0.0], &[0.2], &[0.4, 0.4, 0.4]];
        assert_eq!(stages.iter().map(|s| rates(s)).collect::<Vec<_>>(), want);
    }

    #[test]
    #[should_panic(expected = "flags of shape [2] for a branch of shape [3]")]
    fn flags_have_to_fit() {
        let x = ones(&Tape::evaluation(), &[3]);
        let _ = add_kept(&x, &x, &Tensor::from_slice(&[1u8, 1], &[2]), 1.0);
    }
}
