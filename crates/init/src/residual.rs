//! Factors for networks of residual blocks.

use num_traits::Float;

use crate::{InitError, error::in_range};

/// `1 / sqrt(2 n_layers)`: the factor on the last weight of each of the two branches of a transformer's layers,
/// so that the variance of their sum does not grow with the depth (Radford et al. 2019, GPT-2).
///
/// ```
/// use gradus_init::{Distribution, Init, residual_scale};
///
/// let proj = Init::normal(0.0, 0.02).times(residual_scale(12)?);
/// assert_eq!(
///     proj.distribution(&[768, 768])?,
///     Distribution::Normal { mean: 0.0, std: 0.02 * residual_scale(12)? }
/// );
/// # Ok::<(), gradus_init::InitError>(())
/// ```
///
/// # Errors
/// [`InitError::OutOfRange`] without a layer.
pub fn residual_scale(n_layers: usize) -> Result<f64, InitError> {
    let n = n_layers as f64;
    in_range("n_layers", n, n >= 1.0, "[1, inf)")?;
    Ok(1.0 / Float::sqrt(2.0 * n))
}

/// `blocks^(-1 / (2 layers - 2))`: Fixup's factor on the weights inside residual branches of `layers` layers each.
///
/// The rest of the rule, with [`Init::zeros`](crate::Init::zeros): the last weight of each branch and the
/// classifier start at 0, as do all biases; the weights outside of the branches start as usual. It replaces
/// normalization; with it, zeroing the scale of each branch's last normalization does (Goyal et al. 2017,
/// [`presets::zeroed`](crate::presets::zeroed)).
///
/// # Errors
/// [`InitError::OutOfRange`] without a block or with fewer than two layers in it.
///
/// # References
/// Zhang, Dauphin, Ma: Fixup initialization: residual learning without normalization (2019),
/// arXiv:1901.09321.
pub fn fixup_scale(blocks: usize, layers: usize) -> Result<f64, InitError> {
    let (n, m) = (blocks as f64, layers as f64);
    in_range("blocks", n, n >= 1.0, "[1, inf)")?;
    in_range("layers", m, m >= 2.0, "[2, inf)")?;
    Ok(libm::pow(n, -1.0 / (2.0 * m - 2.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_shrink_with_depth() {
        assert_eq!(residual_scale(2), Ok(0.5));
        assert_eq!(fixup_scale(1, 3), Ok(1.0));
        assert_eq!(fixup_scale(16, 2), Ok(0.25));
        assert_eq!(fixup_scale(16, 3), Ok(0.5));
    }

    #[test]
    fn networks_without_depth_have_none() {
        for result in [residual_scale(0), fixup_scale(0, 2), fixup_scale(4, 1)] {
            assert!(matches!(result, Err(InitError::OutOfRange { .. })));
        }
    }
}
