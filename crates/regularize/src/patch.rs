//! PatchDropout.

use gradus_autograd::{Layer, Tensor, Var, module};

use crate::{Probability, Rate, draws::Draws};

/// Keeps a random part of the tokens of each sample: `max(1, floor((1 - p) L))` of its `L` patches, in their old order,
/// behind the first `prefix` tokens, which always stay. A transformer then works on fewer tokens. Returns what is kept
/// and its places in the input.
///
/// All is kept on a tape that does not [draw](gradus_autograd::Tape::is_stochastic) and for `p` = 0; a sample that has
/// patches keeps at least one of them, for `p` = 1 too. Nothing is scaled.
///
/// # Shapes
/// `x` `[N, prefix + L, ..]`; what is kept `[N, prefix + K, ..]`, its places i64 `[N, prefix + K]`.
///
/// # Panics
/// When `x` has fewer than two dimensions, or fewer than `prefix` tokens.
///
/// # References
/// Liu, Matsoukas, Strand, Azizpour, Smith: PatchDropout (2022), arXiv:2208.07220; timm, whose default order is a random
/// one.
#[must_use]
#[track_caller]
pub fn patch_dropout(x: &Var, p: Probability, prefix: usize) -> (Var, Tensor) {
    let shape = x.shape().to_vec();
    assert!(
        shape.len() >= 2 && prefix <= shape[1],
        "patch_dropout: expected [N, {prefix} + L, ..], found {shape:?}"
    );
    let (samples, tokens) = (shape[0], shape[1]);
    let patches = tokens - prefix;
    let all = !x.tape().is_stochastic() || p == Probability::ZERO || patches == 0;
    let keep =
        if all { patches } else { (((1.0 - p.get()) * patches as f64).floor() as usize).max(1) };
    let mut draws = (!all).then(|| Draws::of(x.tape().rng_stream()));
    let mut places = Vec::with_capacity(samples * (prefix + keep));
    for _ in 0..samples {
        places.extend(0..prefix as i64);
        match &mut draws {
            None => places.extend((prefix..tokens).map(|i| i as i64)),
            Some(draws) => {
                let mut kept = draws.permutation(patches);
                kept.truncate(keep);
                kept.sort_unstable();
                places.extend(kept.into_iter().map(|i| (prefix + i) as i64));
            }
        }
    }
    let width = prefix + keep;
    let index = Tensor::from_slice(&places, &[samples, width]);
    if all {
        return (x.clone(), index);
    }
    // All samples in one list of rows.
    let rows: Vec<i64> = (0..samples)
        .flat_map(|n| {
            places[n * width..(n + 1) * width].iter().map(move |i| (n * tokens) as i64 + i)
        })
        .collect();
    let mut flat: Vec<isize> = shape[1..].iter().map(|&d| d as isize).collect();
    flat[0] = (samples * tokens) as isize;
    let kept = x.reshape(&flat).index_select(0, &Tensor::from_slice(&rows, &[rows.len()]));
    let mut kept_shape: Vec<isize> = shape.iter().map(|&d| d as isize).collect();
    kept_shape[1] = width as isize;
    (kept.reshape(&kept_shape), index)
}

/// [`patch_dropout`] as a layer. One token stays in front by default, as in timm.
#[derive(Clone, Debug)]
pub struct PatchDropout {
    rate: Rate,
    prefix: usize,
}
module!(PatchDropout {});

impl PatchDropout {
    /// At this rate: a [`Probability`] or a scheduled [`Rate`].
    #[must_use]
    pub fn new(rate: impl Into<Rate>) -> Self {
        Self { rate: rate.into(), prefix: 1 }
    }

    /// The same with this number of tokens in front that always stay.
    #[must_use]
    pub fn with_prefix(mut self, prefix: usize) -> Self {
        self.prefix = prefix;
        self
    }
}

impl Layer for PatchDropout {
    #[track_caller]
    fn forward(&self, x: &Var) -> Var {
        patch_dropout(x, self.rate.on(x.tape()), self.prefix).0
    }
}

#[cfg(test)]
mod tests {
    use gradus_autograd::{
        Tape,
        check::{gradcheck, random},
    };

    use super::*;
    use crate::testing::{ones, p};

    #[test]
    fn the_patches_of_a_seed_are_pinned() {
        let x = random(&[2, 9, 3], 1);
        let (y, index) = patch_dropout(&Tape::training(42, 0).constant(x.clone()), p(0.5), 1);
        assert_eq!(index.to_vec::<i64>(), [0, 5, 6, 7, 8, 0, 1, 5, 6, 8]);
        assert_eq!(y.shape(), [2, 5, 3]);
        for n in 0..2 {
            let sample = x.narrow(0, n, 1).squeeze(0);
            let places = index.narrow(0, n, 1).squeeze(0).contiguous();
            let want = sample.index_select(0, &places).to_vec::<f64>();
            assert_eq!(y.value().narrow(0, n, 1).to_vec::<f64>(), want);
        }
    }

    #[test]
    fn numbers_of_tokens() {
        let shape = |tape: Tape, prob, prefix, tokens| {
            let (y, index) = patch_dropout(&ones(&tape, &[2, tokens, 3]), p(prob), prefix);
            assert_eq!(y.shape()[..2], *index.shape());
            y.shape()[1]
        };
        let training = || Tape::training(1, 0);
        assert_eq!(shape(training(), 0.25, 1, 197), 148);
        assert_eq!(shape(training(), 0.0, 1, 10), 10);
        assert_eq!(shape(training(), 1.0, 2, 10), 3);
        assert_eq!(shape(training(), 0.5, 4, 4), 4);
        assert_eq!(shape(training(), 0.5, 0, 0), 0);
        assert_eq!(shape(Tape::evaluation(), 0.5, 1, 10), 10);
        let layer = PatchDropout::new(p(0.5)).with_prefix(2);
        assert_eq!(layer.forward(&ones(&training(), &[0, 10])).shape(), [0, 6]);
    }

    #[test]
    fn gradients_match_differences() {
        for shape in [&[2, 5, 3][..], &[1, 1, 1], &[0, 3, 2], &[3, 4]] {
            gradcheck(&[random(shape, 1)], |v| patch_dropout(&v[0], p(0.4), 1).0);
        }
        gradcheck(&[random(&[3, 4, 2], 2).transpose(0, -1)], |v| {
            let half = patch_dropout(&v[0], p(0.5), 0).0;
            &half * &half
        });
    }

    #[test]
    fn every_patch_stays_as_often_as_every_other() {
        let mut counts = [0u32; 6];
        for step in 0..1000 {
            let tape = Tape::training(3, step);
            let (_, index) = patch_dropout(&ones(&tape, &[4, 7]), p(0.5), 1);
            let kept = index.to_vec::<i64>();
            kept.iter().filter(|&&i| i > 0).for_each(|&i| counts[i as usize - 1] += 1);
        }
        assert_eq!(counts.iter().sum::<u32>(), 12_000);
        assert!(counts.iter().all(|c| c.abs_diff(2000) < 4 * 32), "{counts:?}");
    }

    #[test]
    #[should_panic(expected = "expected [N, 3 + L, ..], found [1, 2]")]
    fn too_few_tokens_panic() {
        let _ = patch_dropout(&ones(&Tape::evaluation(), &[1, 2]), p(0.5), 3);
    }
}
