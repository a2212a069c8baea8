//! Batches of a dataset, epoch by epoch.

use std::{iter::FusedIterator, num::NonZeroUsize};

use gradus_tensor::Tensor;

use crate::{DataError, Dataset, gather, shuffled};

/// How an epoch is cut into batches. Like PyTorch's: in order, with the last batch smaller, unless told
/// otherwise.
///
/// It has no state. The batches of an epoch are a function of the dataset, these fields and the epoch's
/// number, so that a run goes on where it stood from two numbers.
///
/// ```
/// use gradus_data::{DataLoader, Dataset, Tensor};
///
/// let data = Dataset::new(
///     Tensor::from_slice(&[0f32, 1.0, 2.0, 3.0, 4.0], &[5, 1]),
///     Tensor::from_slice(&[0i64, 1, 2, 3, 4], &[5]),
/// ).unwrap();
/// let loader = DataLoader::new(2).unwrap().with_shuffle(42);
/// for epoch in 0..3 {
///     for batch in loader.epoch(&data, epoch) {
///         assert_eq!(batch.inputs.shape(), [batch.indices.len(), 1]);
///     }
/// }
/// // A run that stopped after one batch of epoch 2.
/// let rest: Vec<_> = loader.epoch(&data, 2).skip_to(1).collect();
/// assert_eq!(rest.len(), 2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DataLoader {
    /// Items in a batch.
    pub batch_size: NonZeroUsize,
    /// The seed of the order in which items come, another one each epoch; `None` (the default) for the
    /// order of the dataset.
    pub shuffle: Option<u64>,
    /// Whether a last batch that would be smaller than the others is left out. Default `false`.
    pub drop_last: bool,
}

impl DataLoader {
    /// Batches of this size, in order, the last one smaller where need be.
    ///
    /// # Errors
    /// [`DataError::ZeroBatchSize`].
    pub fn new(batch_size: usize) -> Result<Self, DataError> {
        NonZeroUsize::new(batch_size).map(Self::from).ok_or(DataError::ZeroBatchSize)
    }

    /// The same with items in a random order, another one each epoch; see [`shuffled`].
    #[must_use]
    pub fn with_shuffle(mut self, seed: u64) -> Self {
        self.shuffle = Some(seed);
        self
    }

    /// The same with a smaller last batch left out, or not.
    #[must_use]
    pub fn with_drop_last(mut self, drop_last: bool) -> Self {
        self.drop_last = drop_last;
        self
    }

    /// Batches in an epoch over `items` items.
    #[must_use]
    pub fn num_batches(&self, items: usize) -> usize {
        if self.drop_last { items / self.batch_size } else { items.div_ceil(self.batch_size.get()) }
    }

    /// The batches of an epoch, counted from 0.
    #[must_use]
    pub fn epoch<'a>(&self, dataset: &'a Dataset, epoch: u64) -> Batches<'a> {
        let n = dataset.len();
        let order = match self.shuffle {
            Some(seed) => shuffled(n, seed, epoch),
            None => (0..n).collect(),
        };
        Batches {
            dataset,
            order,
            batch_size: self.batch_size.get(),
            position: 0,
            end: self.num_batches(n),
        }
    }
}

impl From<NonZeroUsize> for DataLoader {
    /// Batches of this size, in order, the last one smaller where need be.
    fn from(batch_size: NonZeroUsize) -> Self {
        Self { batch_size, shuffle: None, drop_last: false }
    }
}

/// Some items of a dataset.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The inputs, `[B, ...]`.
    pub inputs: Tensor,
    /// The targets, `[B, ...]`.
    pub targets: Tensor,
    /// Where the items stand in the dataset, B numbers.
    pub indices: Vec<usize>,
}

/// The batches of one epoch, made by [`DataLoader::epoch`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    dataset: &'a Dataset,
    order: Vec<usize>,
    batch_size: usize,
    position: usize,
    end: usize,
}

impl Batches<'_> {
    /// Goes to batch number `position` of the epoch, counted from 0, without making the batches between.
    /// Past the last one there is nothing left.
    #[must_use]
    pub fn skip_to(mut self, position: usize) -> Self {
        self.position = position.min(self.end);
        self
    }

    /// The number of the batch that comes next: what a checkpoint keeps for [`skip_to`](Self::skip_to).
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.position == self.end {
            return None;
        }
        let first = self.position * self.batch_size;
        let last = self.order.len().min(first.saturating_add(self.batch_size));
        self.position += 1;
        let indices = self.order[first..last].to_vec();
        Some(Batch {
            inputs: gather::rows(self.dataset.inputs(), &indices),
            targets: gather::rows(self.dataset.targets(), &indices),
            indices,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end - self.position;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches<'_> {}
impl FusedIterator for Batches<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Dataset {
        let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let y: Vec<i64> = (0..n as i64).collect();
        Dataset::new(Tensor::from_slice(&x, &[n, 1]), Tensor::from_slice(&y, &[n])).unwrap()
    }

    #[test]
    fn in_order_the_last_batch_is_smaller_or_left_out() {
        let data = numbers(5);
        let loader = DataLoader::new(2).unwrap();
        let all: Vec<_> = loader.epoch(&data, 9).map(|b| b.indices).collect();
        assert_eq!(all, [vec![0, 1], vec![2, 3], vec![4]]);
        let loader = loader.with_drop_last(true);
        let whole: Vec<_> = loader.epoch(&data, 9).map(|b| b.targets.to_vec::<i64>()).collect();
        assert_eq!(whole, [[0, 1], [2, 3]]);
        assert_eq!(loader.epoch(&data, 0).len(), 2);
    }

    #[test]
    fn sizes_at_the_edges() {
        for (n, size, keep, drop) in
            [(0, 3, 0, 0), (1, 3, 1, 0), (3, 3, 1, 1), (3, 1, 3, 3), (3, usize::MAX, 1, 0)]
        {
            let (data, loader) = (numbers(n), DataLoader::new(size).unwrap());
            assert_eq!(loader.num_batches(n), keep);
            assert_eq!(loader.epoch(&data, 0).count(), keep);
            assert_eq!(loader.with_drop_last(true).epoch(&data, 0).count(), drop);
        }
        assert!(matches!(DataLoader::new(0), Err(DataError::ZeroBatchSize)));
    }

    #[test]
    fn skipping_past_the_end_leaves_nothing() {
        let data = numbers(4);
        let batches = DataLoader::new(2).unwrap().epoch(&data, 0);
        assert_eq!(batches.clone().skip_to(usize::MAX).count(), 0);
        let mut one_left = batches.skip_to(1);
        assert_eq!((one_left.position(), one_left.len()), (1, 1));
        assert_eq!(one_left.next().unwrap().indices, [2, 3]);
        assert!(one_left.next().is_none());
    }
}
