//! Layer-sequential unit variance.

use alloc::vec::Vec;

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{InitError, error::non_negative};

/// Brings the outputs of layer after layer to variance 1 by dividing their weights by the deviation that they
/// are measured to have, on a batch of data. The weights are to be initialized before, orthogonally as a
/// rule.
///
/// The network can be anything: all that is asked of it is one closure.
///
/// # References
/// Mishkin, Matas: All you need is a good init (2015), arXiv:1511.06422.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Lsuv {
    /// A variance nearer to 1 than this is good enough; 0.1 by default.
    pub tol_var: f64,
    /// A layer's weights are divided at most this often; 10 by default.
    pub max_iters: usize,
}

/// What became of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LsuvLayer {
    /// The variance of its outputs now.
    pub variance: f64,
    /// How often its weights were divided.
    pub iterations: usize,
}

impl Default for Lsuv {
    fn default() -> Self {
        Self { tol_var: 0.1, max_iters: 10 }
    }
}

impl Lsuv {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how near to 1 is good enough.
    #[must_use]
    pub fn with_tol_var(mut self, tol_var: f64) -> Self {
        self.tol_var = tol_var;
        self
    }

    /// Sets how often a layer's weights are divided at most.
    #[must_use]
    pub fn with_max_iters(mut self, max_iters: usize) -> Self {
        self.max_iters = max_iters;
        self
    }

    /// Goes through `layers` layers from the input on. `scale(l, factor)` has to multiply the weights of layer
    /// `l` by `factor`, run the network up to that layer and return the [`variance`] of its outputs (before the
    /// activation); it is called with factor 1 first.
    ///
    /// ```
    /// use gradus_init::{Init, InitError, Lsuv, variance};
    ///
    /// // One layer of three units on four examples of two features.
    /// let x = [[1.0, 2.0], [-3.0, 0.5], [0.0, -1.0], [2.0, 2.0]];
    /// let mut weight = vec![0f32; 6];
    /// Init::orthogonal(1.0).fill(1, "fc.weight", &[3, 2], &mut weight)?;
    /// let done = Lsuv::new().with_tol_var(1e-3).run(1, |_layer, factor| {
    ///     weight.iter_mut().for_each(|w| *w *= factor as f32);
    ///     let outputs: Vec<f32> = x
    ///         .iter()
    ///         .flat_map(|x| weight.chunks(2).map(|w| w[0] * x[0] + w[1] * x[1]))
    ///         .collect();
    ///     Ok::<_, InitError>(variance(&outputs))
    /// })?;
    /// assert!((done[0].variance - 1.0).abs() < 1e-3);
    /// # Ok::<(), InitError>(())
    /// ```
    ///
    /// # Errors
    /// Those of `scale`; [`InitError::OutOfRange`] where the tolerance is negative or NaN;
    /// [`InitError::NoVariance`] where a variance is 0, negative or not finite. Weights are as the last call
    /// left them.
    pub fn run<E: From<InitError>>(
        &self,
        layers: usize,
        mut scale: impl FnMut(usize, f64) -> Result<f64, E>,
    ) -> Result<Vec<LsuvLayer>, E> {
        non_negative("tol_var", self.tol_var)?;
        let mut run = |layer| {
            let mut measure = |factor| {
                let variance = scale(layer, factor)?;
                if variance > 0.0 && variance.is_finite() {
                    Ok(variance)
                } else {
                    Err(E::from(InitError::NoVariance { layer, variance }))
                }
            };
            let mut done = LsuvLayer { variance: measure(1.0)?, iterations: 0 };
            while (done.variance - 1.0).abs() >= self.tol_var && done.iterations < self.max_iters {
                done.variance = measure(1.0 / Float::sqrt(done.variance))?;
                done.iterations += 1;
            }
            Ok(done)
        };
        (0..layers).map(&mut run).collect()
    }
}

/// The population variance of all values together, in two passes; NaN without any.
#[must_use]
pub fn variance<T: FloatElement>(values: &[T]) -> f64 {
    let n = values.len() as f64;
    let wide = || values.iter().map(|&x| FloatElement::to_f64(x));
    let mean = wide().sum::<f64>() / n;
    wide().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    /// Two linear layers of one unit on the inputs -1 and 1.
    fn run(lsuv: Lsuv, weights: &mut [f64; 2]) -> Result<Vec<LsuvLayer>, InitError> {
        lsuv.run(2, |layer, factor| {
            weights[layer] *= factor;
            let gain: f64 = weights[..=layer].iter().product();
            Ok(variance(&[-gain, gain]))
        })
    }

    #[test]
    fn every_layer_reaches_unit_variance_in_one_division() {
        let mut weights = [4.0, 0.5];
        let done = run(Lsuv::new(), &mut weights).unwrap();
        assert_eq!(weights, [1.0, 1.0]);
        assert_eq!(done, vec![LsuvLayer { variance: 1.0, iterations: 1 }; 2]);
    }

    #[test]
    fn what_is_near_enough_is_left_alone_and_the_limit_is_kept() {
        let mut weights = [1.04, 1.0];
        let done = run(Lsuv::new(), &mut weights).unwrap();
        assert_eq!((done[0].iterations, weights[0]), (0, 1.04));
        let mut weights = [4.0, 0.5];
        let done = run(Lsuv::new().with_max_iters(0), &mut weights).unwrap();
        assert_eq!((weights, done[0].variance), ([4.0, 0.5], 16.0));
        // A tolerance of 0 is never met, even at 1.
        let done = run(Lsuv::new().with_tol_var(0.0).with_max_iters(3), &mut weights).unwrap();
        assert_eq!(done[1].iterations, 3);
    }

    #[test]
    fn outputs_without_variance_and_senseless_tolerances_are_errors() {
        let mut weights = [1.0, 0.0];
        let error = InitError::NoVariance { layer: 1, variance: 0.0 };
        assert_eq!(run(Lsuv::new(), &mut weights), Err(error));
        for variance in [f64::NAN, f64::INFINITY, -1.0] {
            let result = Lsuv::new().run(1, |_, _| Ok::<_, InitError>(variance));
            assert!(matches!(result, Err(InitError::NoVariance { layer: 0, .. })));
        }
        let result = run(Lsuv::new().with_tol_var(f64::NAN), &mut weights);
        assert!(matches!(result, Err(InitError::OutOfRange { name: "tol_var", .. })));
    }

    #[test]
    fn variances_are_of_the_population() {
        assert_eq!(variance(&[1f32, 2.0, 3.0, 4.0]), 1.25);
        assert_eq!(variance(&[1e9f64, 1e9 + 2.0]), 1.0);
        assert!(variance::<f32>(&[]).is_nan());
    }
}
