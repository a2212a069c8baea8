//! A rate for each layer.

use alloc::vec::Vec;

use num_traits::Float;

use crate::{ScheduleError, error::number};

/// The factors of the layers' rates under layer-wise decay: `decay^(layers - 1 - i)` for layer `i` from the
/// input, so that the last layer has the whole rate.
///
/// Each group of parameters takes the schedule [`scale`](crate::ScheduleExt::scale)d by its layer's factor.
///
/// ```
/// use gradus_schedule::{Schedule, ScheduleExt, layer_wise_decay, warmup_cosine};
/// let lr = warmup_cosine(0.1, 10, 100)?;
/// let factors = layer_wise_decay(0.5, 3)?;
/// assert_eq!(factors, [0.25, 0.5, 1.0]);
/// let rates: Vec<f64> =
///     factors.into_iter().map(|f| Ok(lr.scale(f)?.value(10))).collect::<Result<_, _>>()?;
/// assert_eq!(rates, [0.025, 0.05, 0.1]);
/// # Ok::<(), gradus_schedule::ScheduleError>(())
/// ```
///
/// # Errors
/// [`ScheduleError::InvalidNumber`] when `decay` is not finite or is negative.
///
/// # References
/// Clark et al.: ELECTRA: pre-training text encoders as discriminators rather than generators (2020).
pub fn layer_wise_decay(decay: f64, layers: usize) -> Result<Vec<f64>, ScheduleError> {
    let decay = number("decay", decay)?;
    let factor = |distance: usize| Float::powf(decay, distance as f64).min(f64::MAX);
    Ok((0..layers).rev().map(factor).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_layer_has_the_whole_rate() {
        assert_eq!(layer_wise_decay(0.0, 3), Ok([0.0, 0.0, 1.0].into()));
        assert_eq!(layer_wise_decay(1.0, 2), Ok([1.0, 1.0].into()));
        assert_eq!(layer_wise_decay(0.9, 0), Ok(Vec::new()));
        assert!(layer_wise_decay(f64::NAN, 3).is_err());
    }
}
