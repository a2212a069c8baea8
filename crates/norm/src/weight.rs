//! Weights as functions of other parameters.

mod rows;
mod spectral;
mod standardize;
mod weight_norm;

pub use spectral::{SpectralNorm, SpectralNormConfig, power_iteration, spectral_norm};
pub use standardize::{WeightStandardization, weight_standardization};
pub use weight_norm::{WeightNorm, weight_norm};
