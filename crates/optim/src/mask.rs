//! Which parameters decay.

use gradus_core::ParamKind;

use crate::param::Site;

/// Which parameters weight decay applies to.
///
/// [`NoNormOrBias`](Self::NoNormOrBias) is what is commonly meant by "no decay on norms and biases" (timm's
/// `param_groups_weight_decay`, with the parameter's kind as well as its shape and name).
///
/// ```
/// use gradus_core::ParamKind;
/// use gradus_optim::DecayMask;
///
/// let mask = DecayMask::NoNormOrBias;
/// assert!(mask.decays("fc.weight", &[4, 4], ParamKind::Weight));
/// assert!(!mask.decays("fc.bias", &[4], ParamKind::Bias));
/// assert!(!mask.decays("attention.bias", &[9, 4], ParamKind::Weight)); // a table of biases, by its name
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
// Two functions count as one when their addresses are the same: good enough for comparing configurations.
#[allow(unpredictable_function_pointer_comparisons)]
#[non_exhaustive]
pub enum DecayMask {
    /// All of them, as in PyTorch.
    #[default]
    All,
    /// Those with two or more dimensions.
    NoDecay1d,
    /// All but norms and biases: of these kinds, or of fewer than two dimensions, or named `bias` (the last part of
    /// the name).
    NoNormOrBias,
    /// All but norms, biases and embedding tables.
    NoNormBiasOrEmbedding,
    /// Those for which this is true of name, shape and kind.
    Only(fn(&str, &[usize], ParamKind) -> bool),
}

impl DecayMask {
    /// Whether a parameter decays.
    #[must_use]
    pub fn decays(self, name: &str, shape: &[usize], kind: ParamKind) -> bool {
        let matrix = shape.len() >= 2;
        let bias = || name == "bias" || name.ends_with(".bias");
        match self {
            Self::All => true,
            Self::NoDecay1d => matrix,
            Self::NoNormOrBias => {
                matrix && !matches!(kind, ParamKind::Norm | ParamKind::Bias) && !bias()
            }
            Self::NoNormBiasOrEmbedding => {
                kind != ParamKind::Embedding && Self::NoNormOrBias.decays(name, shape, kind)
            }
            Self::Only(decays) => decays(name, shape, kind),
        }
    }

    /// The weight decay of this parameter.
    pub(crate) fn decay(self, weight_decay: f64, site: Site<'_>) -> f64 {
        if self.decays(site.name, site.shape, site.kind) { weight_decay } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_go_by_kind_shape_and_name() {
        use ParamKind::{Bias, Embedding, Norm, Weight};
        let table: &[(&str, &[usize], ParamKind, [bool; 4])] = &[
            ("w", &[2, 2], Weight, [true, true, true, true]),
            ("conv", &[2, 2, 3, 3], Weight, [true, true, true, true]),
            ("tok", &[9, 2], Embedding, [true, true, true, false]),
            ("gain", &[2], Norm, [true, false, false, false]),
            ("gain", &[2, 1, 1], Norm, [true, true, false, false]),
            ("b", &[2, 2], Bias, [true, true, false, false]),
            ("bias", &[2, 2], Weight, [true, true, false, false]),
            ("x.bias", &[2, 2], Weight, [true, true, false, false]),
            ("unbias", &[2, 2], Weight, [true, true, true, true]),
            ("scale", &[], Weight, [true, false, false, false]),
        ];
        for &(name, shape, kind, want) in table {
            let masks = [
                DecayMask::All,
                DecayMask::NoDecay1d,
                DecayMask::NoNormOrBias,
                DecayMask::NoNormBiasOrEmbedding,
            ];
            assert_eq!(masks.map(|m| m.decays(name, shape, kind)), want, "{name} {shape:?}");
        }
        let only = DecayMask::Only(|name, _, _| name.starts_with("head"));
        assert!(only.decays("head.bias", &[1], Bias) && !only.decays("w", &[2, 2], Weight));
    }
}
