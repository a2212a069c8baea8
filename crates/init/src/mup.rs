//! Maximal update parametrization: hyper-parameters that are right at one width are right at every width.

use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::fmt;

use num_traits::Float;

use crate::{Fans, InitError, Layout, error::in_range};

/// Where a parameter stands: which of its sides grow with the width of the model.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MupRole {
    /// From a fixed number of inputs to the width: first layers, embeddings.
    Input,
    /// Biases, and scales of normalizations.
    Bias,
    /// From the width to the width.
    Hidden,
    /// From the width to a fixed number of outputs: the head.
    Output,
}

/// How the optimizer's steps scale with the gradient.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MupOptimizer {
    /// Not at all: Adam, AdamW, Lion and their kin.
    Adam,
    /// Like it: SGD, with momentum or without.
    Sgd,
}

/// Factors for one parameter, relative to those at the base width.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct MupScaling {
    /// On the standard deviation of the starting weights.
    pub init: f64,
    /// On what the layer puts out, in every forward pass.
    pub multiplier: f64,
    /// On the learning rate.
    pub lr: f64,
}

/// The factors of a parameter with these fans, when hyper-parameters were tuned on a model where it had the
/// fans `base`: with `m_in` and `m_out` the ratios of the fans,
///
/// | role | init | multiplier | lr, Adam | lr, SGD |
/// |---|---|---|---|---|
/// | input, bias | 1 | 1 | 1 | `m_out` |
/// | hidden | `1 / sqrt(m_in)` | 1 | `1 / m_in` | `m_out / m_in` |
/// | output | 1 | `1 / m_in` | 1 | `m_in` |
///
/// ```
/// use gradus_init::{Fans, Layout, MupOptimizer, MupRole, mup_scaling};
///
/// let fans = |width| Fans::of(&[4 * width, width], Layout::OutIn);
/// let scaling = mup_scaling(MupOptimizer::Adam, MupRole::Hidden, fans(1024)?, fans(64)?)?;
/// assert_eq!((scaling.init, scaling.multiplier, scaling.lr), (0.25, 1.0, 1.0 / 16.0));
/// # Ok::<(), gradus_init::InitError>(())
/// ```
///
/// # Errors
/// [`InitError::OutOfRange`] where a fan is 0.
///
/// # References
/// Yang et al.: Tensor programs V (2022), arXiv:2203.03466, table 8.
pub fn mup_scaling(
    optimizer: MupOptimizer,
    role: MupRole,
    fans: Fans,
    base: Fans,
) -> Result<MupScaling, InitError> {
    let ratio = |name, fan: usize, base: usize| {
        let smaller = fan.min(base) as f64;
        in_range(name, smaller, smaller >= 1.0, "[1, inf)")?;
        Ok(fan as f64 / base as f64)
    };
    let m_in = ratio("fan_in", fans.fan_in, base.fan_in)?;
    let m_out = ratio("fan_out", fans.fan_out, base.fan_out)?;
    let sgd = optimizer == MupOptimizer::Sgd;
    Ok(match role {
        MupRole::Input | MupRole::Bias => {
            MupScaling { init: 1.0, multiplier: 1.0, lr: if sgd { m_out } else { 1.0 } }
        }
        MupRole::Hidden => MupScaling {
            init: 1.0 / Float::sqrt(m_in),
            multiplier: 1.0,
            lr: if sgd { m_out / m_in } else { 1.0 / m_in },
        },
        MupRole::Output => {
            MupScaling { init: 1.0, multiplier: 1.0 / m_in, lr: if sgd { m_in } else { 1.0 } }
        }
    })
}

/// What attention multiplies `q k^T` by: `sqrt(base_d_head) / d_head`, which is the usual `1 / sqrt(d_head)` at
/// the base size and falls like `1 / d_head` (Yang et al. 2022).
///
/// # Errors
/// [`InitError::OutOfRange`] where a size is 0.
pub fn mup_attention_scale(d_head: usize, base_d_head: usize) -> Result<f64, InitError> {
    let (d, base) = (d_head as f64, base_d_head as f64);
    in_range("d_head", d, d >= 1.0, "[1, inf)")?;
    in_range("base_d_head", base, base >= 1.0, "[1, inf)")?;
    Ok(Float::sqrt(base) / d)
}

/// The factors of a whole model, by the names of its parameters: for [`Init::times`](crate::Init::times), for
/// the forward pass, and for the learning rates of the optimizer's groups.
///
/// ```
/// use gradus_init::{Layout, MupOptimizer, MupRole, MupTable};
///
/// let mut table = MupTable::new(MupOptimizer::Adam);
/// table.add("fc1.weight", MupRole::Input, [&[512, 784], &[128, 784]], Layout::OutIn)?;
/// table.add("fc1.bias", MupRole::Bias, [&[512], &[128]], Layout::OutIn)?;
/// table.add("head.weight", MupRole::Output, [&[10, 512], &[10, 128]], Layout::OutIn)?;
/// assert_eq!(table.get("head.weight").unwrap().multiplier, 0.25);
/// println!("{table}");
/// # Ok::<(), gradus_init::InitError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MupTable {
    optimizer: MupOptimizer,
    rows: Vec<(String, MupScaling)>,
}

impl MupTable {
    /// An empty table.
    #[must_use]
    pub fn new(optimizer: MupOptimizer) -> Self {
        Self { optimizer, rows: Vec::new() }
    }

    /// Adds a parameter, of the first of these shapes, that has the second one in the base model. Vectors
    /// have one input.
    ///
    /// # Errors
    /// Those of [`mup_scaling`] and [`Fans::of`].
    pub fn add(
        &mut self,
        name: &str,
        role: MupRole,
        shapes: [&[usize]; 2],
        layout: Layout,
    ) -> Result<(), InitError> {
        let fans = |shape: &[usize]| match *shape {
            [fan_out] => Ok(Fans { fan_in: 1, fan_out }),
            _ => Fans::of(shape, layout),
        };
        let [fans, base] = [fans(shapes[0])?, fans(shapes[1])?];
        self.rows.push((name.to_owned(), mup_scaling(self.optimizer, role, fans, base)?));
        Ok(())
    }

    /// The factors of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<MupScaling> {
        self.rows.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// Names and factors, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, MupScaling)> {
        self.rows.iter().map(|(name, scaling)| (name.as_str(), *scaling))
    }
}

impl fmt::Display for MupTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.0.len()).max().unwrap_or(0);
        write!(f, "{:width$}  {:>10}  {:>10}  {:>10}", "", "init", "multiplier", "lr")?;
        for (name, MupScaling { init, multiplier, lr }) in &self.rows {
            write!(f, "\n{name:width$}  {init:>10.4}  {multiplier:>10.4}  {lr:>10.4}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn of(optimizer: MupOptimizer, role: MupRole, fans: [usize; 2], base: [usize; 2]) -> [f64; 3] {
        let [fans, base] = [fans, base].map(|[fan_in, fan_out]| Fans { fan_in, fan_out });
        let s = mup_scaling(optimizer, role, fans, base).unwrap();
        [s.init, s.multiplier, s.lr]
    }

    #[test]
    fn factors_are_those_of_the_paper() {
        use MupOptimizer::{Adam, Sgd};
        for optimizer in [Adam, Sgd] {
            let lr = |adam, sgd| if optimizer == Adam { adam } else { sgd };
            let input = of(optimizer, MupRole::Input, [10, 256], [10, 64]);
            assert_eq!(input, [1.0, 1.0, lr(1.0, 4.0)]);
            let hidden = of(optimizer, MupRole::Hidden, [256, 2048], [64, 128]);
            assert_eq!(hidden, [0.5, 1.0, lr(0.25, 4.0)]);
            let output = of(optimizer, MupRole::Output, [256, 5], [64, 5]);
            assert_eq!(output, [1.0, 0.25, lr(1.0, 4.0)]);
            assert_eq!(of(optimizer, MupRole::Hidden, [64, 64], [64, 64]), [1.0; 3]);
        }
    }

    #[test]
    fn attention_agrees_with_the_usual_scale_at_the_base_size() {
        assert_eq!(mup_attention_scale(64, 64), Ok(0.125));
        assert_eq!(mup_attention_scale(128, 64), Ok(0.0625));
    }

    #[test]
    fn sizes_of_0_are_errors() {
        let fans = |fan_in, fan_out| Fans { fan_in, fan_out };
        for (a, b) in [(fans(0, 1), fans(1, 1)), (fans(1, 1), fans(1, 0))] {
            let result = mup_scaling(MupOptimizer::Adam, MupRole::Bias, a, b);
            assert!(matches!(result, Err(InitError::OutOfRange { .. })));
        }
        assert!(mup_attention_scale(0, 1).is_err() && mup_attention_scale(1, 0).is_err());
    }

    #[test]
    fn tables_name_their_rows() {
        let mut table = MupTable::new(MupOptimizer::Sgd);
        table.add("bias", MupRole::Bias, [&[8], &[4]], Layout::OutIn).unwrap();
        assert_eq!(table.get("bias").unwrap().lr, 2.0);
        assert_eq!(table.get("weight"), None);
        assert_eq!(table.iter().count(), 1);
        assert!(table.to_string().ends_with("bias      1.0000      1.0000      2.0000"));
        let error = table.add("x", MupRole::Input, [&[], &[4]], Layout::OutIn).unwrap_err();
        assert_eq!(error, InitError::TooFewDims { shape: [].into() });
    }
}
