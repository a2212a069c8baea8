//! Inputs and targets, item by item.

use gradus_tensor::{DType, Tensor};

use crate::{DataError, Location, gather, split, stratified_split};

/// The two parts in which datasets are published.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Split {
    /// What a model is trained (and validated) on.
    Train,
    /// What it is tested on, once.
    Test,
}

/// Inputs and targets in memory; item `i` is row `i` of both.
///
/// Inputs are commonly f32 `[N, ...]`; targets i64 `[N]` for classes, f32 `[N, ...]` for regression.
///
/// ```
/// use gradus_data::{Dataset, Tensor};
///
/// let inputs = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2]);
/// let data = Dataset::new(inputs, Tensor::from_slice(&[0i64, 1, 1], &[3])).unwrap();
/// let picked = data.select(&[2, 0]);
/// assert_eq!(picked.inputs().to_vec::<f32>(), [5.0, 6.0, 1.0, 2.0]);
/// assert_eq!(picked.labels().unwrap(), [1, 0]);
/// ```
#[derive(Clone, Debug)]
pub struct Dataset {
    inputs: Tensor,
    targets: Tensor,
}

impl Dataset {
    /// Joins inputs and targets.
    ///
    /// # Errors
    /// [`DataError::LengthMismatch`] when they differ in their first dimension.
    ///
    /// # Panics
    /// When one of them has no dimension.
    #[track_caller]
    pub fn new(inputs: Tensor, targets: Tensor) -> Result<Self, DataError> {
        assert!(
            inputs.ndim() > 0 && targets.ndim() > 0,
            "Dataset::new: inputs {:?} and targets {:?} need a first dimension for the items",
            inputs.shape(),
            targets.shape()
        );
        let (n, m) = (inputs.shape()[0], targets.shape()[0]);
        if n != m {
            let names = ["inputs".into(), "targets".into()];
            return Err(DataError::LengthMismatch { names, lengths: [n, m] });
        }
        Ok(Self { inputs: inputs.contiguous(), targets: targets.contiguous() })
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inputs.shape()[0]
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The inputs, `[N, ...]`.
    #[must_use]
    pub fn inputs(&self) -> &Tensor {
        &self.inputs
    }

    /// The targets, `[N, ...]`.
    #[must_use]
    pub fn targets(&self) -> &Tensor {
        &self.targets
    }

    /// Inputs and targets.
    #[must_use]
    pub fn into_parts(self) -> (Tensor, Tensor) {
        (self.inputs, self.targets)
    }

    /// The targets as class labels.
    ///
    /// # Errors
    /// [`DataError::NotLabels`] when the targets are not i64 `[N]`.
    pub fn labels(&self) -> Result<&[i64], DataError> {
        if self.targets.dtype() == DType::I64 && self.targets.ndim() == 1 {
            return Ok(self.targets.as_slice());
        }
        let (dtype, shape) = (self.targets.dtype(), self.targets.shape().to_vec());
        Err(DataError::NotLabels { dtype, shape })
    }

    /// The highest label plus one; 0 without items. Negative labels do not count.
    ///
    /// # Errors
    /// [`DataError::NotLabels`] when the targets are not i64 `[N]`.
    pub fn num_classes(&self) -> Result<usize, DataError> {
        Ok(self.labels()?.iter().max().map_or(0, |&l| usize::try_from(l).map_or(0, |l| l + 1)))
    }

    /// Checks that every label is one of the classes `0..classes`.
    ///
    /// # Errors
    /// [`DataError::Label`] for the first that is not; [`DataError::NotLabels`] when the targets are not
    /// i64 `[N]`.
    pub fn check_labels(&self, classes: usize) -> Result<(), DataError> {
        let bad = |&label: &i64| usize::try_from(label).map_or(true, |l| l >= classes);
        match self.labels()?.iter().enumerate().find(|(_, label)| bad(label)) {
            None => Ok(()),
            Some((index, &label)) => {
                let at = Location::Item { index };
                Err(DataError::Label { at, found: label as f64, classes })
            }
        }
    }

    /// The items `indices`, in this order (an item may come several times).
    ///
    /// # Panics
    /// When an index is not below [`len`](Self::len).
    #[must_use]
    #[track_caller]
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            inputs: gather::rows(&self.inputs, indices),
            targets: gather::rows(&self.targets, indices),
        }
    }

    /// The same targets with inputs made from these: a reshape, a [`Standardize`](crate::Standardize).
    ///
    /// # Errors
    /// [`DataError::LengthMismatch`] when `f` changes the number of items.
    pub fn map_inputs(self, f: impl FnOnce(Tensor) -> Tensor) -> Result<Self, DataError> {
        Self::new(f(self.inputs), self.targets)
    }

    /// Divides the items at random into datasets of these fractions; see [`split`](crate::split()).
    ///
    /// # Errors
    /// [`DataError::Fractions`] when the fractions are not such.
    pub fn split(&self, fractions: &[f64], seed: u64) -> Result<Vec<Self>, DataError> {
        let parts = split(self.len(), fractions, seed)?;
        Ok(parts.iter().map(|part| self.select(part)).collect())
    }

    /// As [`split`](Self::split), with the items of each label divided in these fractions too; see
    /// [`stratified_split`](crate::stratified_split).
    ///
    /// # Errors
    /// [`DataError::Fractions`] when the fractions are not such; [`DataError::NotLabels`] when the targets
    /// are not i64 `[N]`.
    pub fn stratified_split(&self, fractions: &[f64], seed: u64) -> Result<Vec<Self>, DataError> {
        let parts = stratified_split(self.labels()?, fractions, seed)?;
        Ok(parts.iter().map(|part| self.select(part)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(labels: &[i64]) -> Dataset {
        let inputs: Vec<f32> = (0..labels.len() * 2).map(|i| i as f32).collect();
        let n = labels.len();
        Dataset::new(Tensor::from_slice(&inputs, &[n, 2]), Tensor::from_slice(labels, &[n]))
            .unwrap()
    }

    #[test]
    fn inputs_and_targets_go_together() {
        let inputs = Tensor::zeros(&[3, 2], DType::F32);
        let error = Dataset::new(inputs, Tensor::zeros(&[4], DType::I64)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected as many items in targets as in inputs, found 4 and 3"
        );
        let error = labelled(&[0, 1]).map_inputs(|x| x.reshape(&[4])).unwrap_err();
        assert!(matches!(error, DataError::LengthMismatch { lengths: [4, 2], .. }));
    }

    #[test]
    fn labels_are_counted_and_checked() {
        let d = labelled(&[2, 0, 4]);
        assert_eq!(d.num_classes().unwrap(), 5);
        assert!(d.check_labels(5).is_ok());
        assert_eq!(
            d.check_labels(4).unwrap_err().to_string(),
            "item 2: expected a label in 0..4, found 4"
        );
        assert!(labelled(&[0, -1]).check_labels(4).is_err());
        assert_eq!(labelled(&[-100]).num_classes().unwrap(), 0);
        assert_eq!(labelled(&[i64::MAX]).num_classes().unwrap(), 1 << 63);
        assert_eq!(labelled(&[]).num_classes().unwrap(), 0);
        assert!(labelled(&[]).check_labels(0).is_ok());
        let d = Dataset::new(Tensor::zeros(&[1, 1], DType::F32), Tensor::zeros(&[1], DType::F32));
        assert!(matches!(d.unwrap().num_classes(), Err(DataError::NotLabels { .. })));
    }

    #[test]
    fn views_and_all_types_can_be_selected_from() {
        let columns = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).transpose(0, 1);
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64, DType::I64, DType::U8] {
            let d = Dataset::new(columns.to_dtype(dtype), Tensor::zeros(&[3], DType::U8)).unwrap();
            let picked = d.select(&[2, 2, 0]);
            assert_eq!(picked.inputs().dtype(), dtype);
            let values = picked.inputs().to_dtype(DType::F64).to_vec::<f64>();
            assert_eq!(values, [3.0, 6.0, 3.0, 6.0, 1.0, 4.0], "{dtype}");
        }
        assert_eq!(labelled(&[1]).select(&[]).inputs().shape(), [0, 2]);
        let hollow = Tensor::zeros(&[3, 0], DType::F32);
        let hollow = Dataset::new(hollow, Tensor::zeros(&[3], DType::I64)).unwrap();
        assert_eq!(hollow.select(&[1, 2]).inputs().shape(), [2, 0]);
    }

    #[test]
    #[should_panic(expected = "select: item 2 of a dataset of 2 items")]
    fn an_item_that_is_not_there_panics() {
        let _ = labelled(&[0, 1]).select(&[2]);
    }

    #[test]
    fn splits_keep_inputs_and_targets_together() {
        let labels: Vec<i64> = (0..20).collect();
        for part in labelled(&labels).split(&[0.5, 0.5], 3).unwrap() {
            assert_eq!(part.len(), 10);
            let first: Vec<i64> =
                part.inputs().as_slice::<f32>().iter().step_by(2).map(|&x| x as i64 / 2).collect();
            assert_eq!(first, part.labels().unwrap());
        }
        let parts = labelled(&[0, 0, 0, 0, 1, 1]).stratified_split(&[0.5, 0.5], 3).unwrap();
        for part in parts {
            assert_eq!(part.labels().unwrap().iter().sum::<i64>(), 1);
        }
    }
}
