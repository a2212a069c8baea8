//! Inputs of mean 0 and standard deviation 1.

use gradus_tensor::Tensor;

use crate::DataError;

/// Standardization: `(x - mean) / std`, by feature or with one mean and deviation for all.
///
/// Fitted on the training part and applied to every part. The deviation is the biased one (divisor n). A
/// feature that never changes becomes 0: it is divided by 1.
///
/// ```
/// use gradus_data::{Standardize, Tensor};
///
/// let x = Tensor::from_slice(&[1f32, 5.0, 3.0, 5.0], &[2, 2]);
/// let s = Standardize::fit(&x).unwrap();
/// assert_eq!((s.mean(), s.std()), (&[2.0, 5.0][..], &[1.0, 1.0][..]));
/// assert_eq!(s.apply(x).to_vec::<f32>(), [-1.0, 0.0, 1.0, 0.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Standardize {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Standardize {
    /// With known statistics, one of each for a feature or one of each for all.
    ///
    /// # Errors
    /// [`DataError::LengthMismatch`] when there are more means than deviations or the reverse,
    /// [`DataError::Statistics`] when a mean is not finite or a deviation not positive and finite.
    pub fn new(mean: &[f32], std: &[f32]) -> Result<Self, DataError> {
        if mean.len() != std.len() {
            return Err(DataError::LengthMismatch {
                names: ["mean".into(), "std".into()],
                lengths: [mean.len(), std.len()],
            });
        }
        for (feature, (&mean, &std)) in mean.iter().zip(std).enumerate() {
            if !(mean.is_finite() && std.is_finite() && std > 0.0) {
                return Err(DataError::Statistics { feature, mean, std });
            }
        }
        Ok(Self { mean: mean.to_vec(), std: std.to_vec() })
    }

    /// The statistics of each feature: dimension 1 of f32 `[N, F]` or `[N, C, ...]` (channels).
    ///
    /// # Errors
    /// [`DataError::Statistics`] when there is no item or a number is not finite.
    ///
    /// # Panics
    /// When the tensor is not f32 or has fewer than two dimensions.
    #[track_caller]
    pub fn fit(inputs: &Tensor) -> Result<Self, DataError> {
        assert!(inputs.ndim() > 1, "Standardize::fit: {:?} has no dimension 1", inputs.shape());
        Self::fit_features(inputs, inputs.shape()[1])
    }

    /// One mean and one deviation of all numbers of an f32 tensor.
    ///
    /// # Errors
    /// [`DataError::Statistics`] when there is no number or one is not finite.
    ///
    /// # Panics
    /// When the tensor is not f32.
    #[track_caller]
    pub fn fit_global(inputs: &Tensor) -> Result<Self, DataError> {
        Self::fit_features(inputs, 1)
    }

    #[track_caller]
    fn fit_features(inputs: &Tensor, features: usize) -> Result<Self, DataError> {
        let inputs = inputs.contiguous();
        let x = inputs.as_slice::<f32>();
        let width = feature_width(&inputs, features);
        let n = x.len() as f64 / features as f64;
        // A rounded mean would leave a constant feature a tiny deviation: count from its first number.
        let origin: Vec<f64> =
            (0..features).map(|f| x.get(f * width).map_or(f64::NAN, |&x| x.into())).collect();
        let shift = sums(x, features, width, |f, x| x - origin[f]).into_iter().map(|s| s / n);
        let mean: Vec<f64> = origin.iter().zip(shift).map(|(o, s)| o + s).collect();
        let squares = sums(x, features, width, |f, x| (x - mean[f]).powi(2));
        let std = squares.into_iter().map(|s| match (s / n).sqrt() as f32 {
            0.0 => 1.0,
            std => std,
        });
        let (mean, std): (Vec<f32>, Vec<f32>) = mean.iter().map(|&m| m as f32).zip(std).unzip();
        Self::new(&mean, &std)
    }

    /// The means.
    #[must_use]
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviations.
    #[must_use]
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// The standardized numbers, in place where nobody else holds the tensor.
    ///
    /// # Panics
    /// When the tensor is not f32 or, unless there is one mean for all, its dimension 1 is not the number
    /// of features.
    #[must_use]
    #[track_caller]
    pub fn apply(&self, mut inputs: Tensor) -> Tensor {
        let features = self.mean.len();
        assert!(
            features == 1 || inputs.shape().get(1) == Some(&features),
            "Standardize::apply: inputs {:?} do not have {features} features in dimension 1",
            inputs.shape()
        );
        let width = feature_width(&inputs, features);
        for (i, x) in inputs.make_mut::<f32>().chunks_mut(width).enumerate() {
            let (mean, std) = (self.mean[i % features], self.std[i % features]);
            for x in x {
                *x = (*x - mean) / std;
            }
        }
        inputs
    }
}

/// How many numbers of a feature lie side by side.
fn feature_width(inputs: &Tensor, features: usize) -> usize {
    let width: usize = match features {
        1 => inputs.numel(),
        _ => inputs.shape()[2..].iter().product(),
    };
    width.max(1)
}

/// The sums over `f(feature, number)`, by feature.
fn sums(x: &[f32], features: usize, width: usize, f: impl Fn(usize, f64) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; features];
    for item in x.chunks((features * width).max(1)) {
        for (feature, (sum, x)) in sums.iter_mut().zip(item.chunks(width)).enumerate() {
            *sum += x.iter().map(|&x| f(feature, x.into())).sum::<f64>();
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use gradus_tensor::DType;

    use super::*;

    #[test]
    fn channels_have_statistics_of_their_own() {
        // Two items, two channels, two pixels.
        let x = Tensor::from_slice(&[1f32, 3.0, 10.0, 10.0, 5.0, 7.0, 30.0, 30.0], &[2, 2, 2]);
        let s = Standardize::fit(&x).unwrap();
        assert_eq!(s.mean(), [4.0, 20.0]);
        assert_eq!(s.std(), [5f32.sqrt(), 10.0]);
        let y = s.apply(x.clone()).to_vec::<f32>();
        assert_eq!(y[2..4], [-1.0, -1.0]);
        assert_eq!(y[4], (5.0 - 4.0) / 5f32.sqrt());
        let g = Standardize::fit_global(&x).unwrap();
        assert_eq!(g.mean(), [12.0]);
        assert_eq!(
            g.std(),
            [((121.0 + 81.0 + 49.0 + 25.0 + 4.0 + 4.0 + 324.0 * 2.0) / 8f32).sqrt()]
        );
        assert_eq!(x.to_vec::<f32>()[0], 1.0);
    }

    #[test]
    fn a_constant_feature_becomes_zero() {
        // The mean of three times 0.1f32 is not 0.1f32 in f64 arithmetic.
        let x = Tensor::from_slice(&[0.1f32, 1e8, 0.1, 1e8, 0.1, 1e8], &[3, 2]);
        let s = Standardize::fit(&x).unwrap();
        assert_eq!(s.std(), [1.0, 1.0]);
        assert_eq!(s.apply(x).to_vec::<f32>(), [0.0; 6]);
    }

    #[test]
    fn a_small_deviation_on_a_large_mean_is_not_lost() {
        let x = Tensor::from_slice(&[8_000_000f32, 8_000_001.0, 8_000_002.0, 8_000_003.0], &[4, 1]);
        assert_eq!(Standardize::fit(&x).unwrap().std(), [1.25f32.sqrt()]);
    }

    #[test]
    fn what_cannot_be_standardized_is_refused() {
        for bad in [f32::NAN, f32::INFINITY] {
            let x = Tensor::from_slice(&[0f32, 0.0, 1.0, bad], &[2, 2]);
            assert!(matches!(Standardize::fit(&x), Err(DataError::Statistics { feature: 1, .. })));
        }
        let none = Tensor::zeros(&[0, 2], DType::F32);
        assert!(matches!(Standardize::fit(&none), Err(DataError::Statistics { .. })));
        assert!(matches!(Standardize::fit_global(&none), Err(DataError::Statistics { .. })));
        assert!(Standardize::new(&[0.0], &[0.0]).is_err());
        assert!(Standardize::new(&[0.0], &[-1.0]).is_err());
        assert!(matches!(
            Standardize::new(&[0.0], &[]),
            Err(DataError::LengthMismatch { lengths: [1, 0], .. })
        ));
    }

    #[test]
    #[should_panic(expected = "do not have 2 features")]
    fn other_inputs_panic() {
        let s = Standardize::new(&[0.0; 2], &[1.0; 2]).unwrap();
        let _ = s.apply(Tensor::zeros(&[2, 3], DType::F32));
    }
}
