//! Muon.

use alloc::vec::Vec;

use gradus_core::{FloatElement, StepError};
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    config::config,
    error::{finite, non_negative, positive},
    lanes::sum1,
    matrix::{add_product, transposed},
    moments::Mean,
    param::{Site, Value},
    pass::Out,
    rule::{Direction, Frame, Layout, optimizer},
    slots::{Slot, Slots, Work},
};

/// What the rate of an `[A, B]` parameter is multiplied by in [`Muon`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum MuonScale {
    /// `sqrt(max(1, A / B))`: Keller Jordan's, PyTorch's default.
    #[default]
    Original,
    /// `0.2 sqrt(max(A, B))`: elements move as far as AdamW's do, so that its rate and decay can be kept.
    MatchRmsAdamW,
    /// `sqrt(A / B)`: a bounded change of the output's root mean square, whatever the shape.
    SpectralUnclamped,
}

impl MuonScale {
    fn factor(self, rows: usize, cols: usize) -> f64 {
        let (rows, cols) = (rows as f64, cols as f64);
        match self {
            Self::Original => Float::sqrt((rows / cols).max(1.0)),
            Self::MatchRmsAdamW => 0.2 * Float::sqrt(rows.max(cols)),
            Self::SpectralUnclamped => Float::sqrt(rows / cols),
        }
    }
}

config! {
    /// Hyper-parameters of [`Muon`], with PyTorch's names and defaults.
    pub struct MuonConfig;
    /// PyTorch's defaults.
    pub fn new {
        /// Decoupled weight decay, scaled by the rate (without `scale`); 0.1.
        weight_decay: f64 = 0.1, with_weight_decay;
        /// Decay of the running mean of gradients; 0.95.
        momentum: f64 = 0.95, with_momentum;
        /// Whether to look ahead along the momentum; true.
        nesterov: bool = true, with_nesterov;
        /// Coefficients a, b, c of the Newton-Schulz iteration; 3.4445, -4.775, 2.0315.
        ns_coefficients: [f64; 3] = [3.4445, -4.775, 2.0315], with_ns_coefficients;
        /// Least norm that the update is divided by before the iteration; 1e-7.
        eps: f64 = 1e-7, with_eps;
        /// Iterations; 5.
        ns_steps: usize = 5, with_ns_steps;
        /// How the rate depends on the shape (PyTorch's `adjust_lr_fn`); the original way.
        scale: MuonScale = MuonScale::Original, with_scale;
    }
}

/// Muon: momentum whose singular values are all brought near 1, for the matrices of a network's hidden layers.
///
/// With gradient `g`, an `[A, B]` parameter `p`, buffer `b`:
///
/// ```text
/// b = momentum b + (1 - momentum) g
/// u = nesterov ? momentum b + (1 - momentum) g : b
/// X = u / max(norm(u), eps), transposed if A > B; ns_steps times: S = X X^T, X = a X + (b S + c S S) X
/// p = p (1 - lr weight_decay) - lr scale X
/// ```
///
/// The iteration runs in the type of the update, f32 or f64 (PyTorch's runs in bf16). It costs
/// `ns_steps (4 B + 2 A) A^2` flops for A <= B. Give it the matrices, and everything else (embeddings,
/// the output layer, vectors) to AdamW, through [`Group`](crate::Group)s in a [`Chain`](crate::Chain).
///
/// A parameter that has not two dimensions is a [`StepError::Shape`].
///
/// # References
/// Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein: Muon: an optimizer for hidden layers in neural
/// networks (2024). Liu et al.: Muon is scalable for LLM training (2025).
///
/// ```
/// use gradus_core::{GradientTransform, VecParam};
/// use gradus_optim::{Adam, AdamConfig, Chain, Group, Muon, MuonConfig};
///
/// let muon = Muon::new(MuonConfig::new())?;
/// let adamw = Adam::new(AdamConfig::adamw())?;
/// let mut rule = Chain::new()
///     .then(Group::new(|_, shape, _| shape.len() == 2, muon).with_lr_scale(20.0))
///     .then(Group::new(|_, shape, _| shape.len() != 2, adamw));
/// let param = |name, shape: &[usize]| VecParam::new(name, shape, vec![1.0f32; 4]).with_grad(vec![0.5; 4]);
/// rule.step(1e-3, &mut vec![param("weight", &[2, 2]), param("bias", &[4])])?;
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Muon {
    config: MuonConfig,
    slots: Slots,
}

impl Muon {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a hyper-parameter that is not finite, a momentum or weight decay that is negative,
    /// or an eps that is not above 0 (a zero gradient would give NaN).
    pub fn new(config: MuonConfig) -> Result<Self, OptimError> {
        Ok(Self { slots: Slots::of(&config)?, config })
    }
}

optimizer!(Muon, MuonConfig, "`NAME.step` and `NAME.momentum_buffer`.");

impl Layout for MuonConfig {
    fn check(&self) -> Result<(), OptimError> {
        non_negative("weight_decay", self.weight_decay)?;
        non_negative("momentum", self.momentum)?;
        positive("eps", self.eps)?;
        self.ns_coefficients.iter().try_for_each(|&c| finite("ns_coefficients", c))
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(&["momentum_buffer"])
    }

    fn accepts(&self, Site { name, shape, .. }: Site<'_>) -> Result<(), StepError> {
        if shape.len() == 2 {
            return Ok(());
        }
        let expected = "a matrix (two dimensions)";
        Err(StepError::Shape { name: name.into(), shape: shape.to_vec(), expected })
    }
}

impl Direction for MuonConfig {
    fn frame(&self) -> Frame {
        Frame {
            weight_decay: self.weight_decay,
            decoupled: true,
            mask: DecayMask::All,
            maximize: false,
        }
    }

    fn send<T: Value>(&self, out: Out<'_, T>, shape: &[usize], slot: &mut Slot) {
        let &[rows, cols] = shape else { unreachable!("accepts() lets only matrices through") };
        if rows == 0 || cols == 0 {
            return;
        }
        let mean = Mean::new(self.momentum);
        let [buffer] = slot.typed();
        let momentum = buffer.iter_mut().zip(out.gradient()).map(|(b, g)| {
            let g = g.load();
            *b = mean.of(*b, g);
            if self.nesterov { mean.of(*b, g) } else { *b }
        });
        let update: Vec<T::Work> = momentum.collect();
        let wide = if rows > cols { transposed(&update, rows, cols) } else { update };
        let x = self.orthogonalized(wide, rows.min(cols), rows.max(cols));
        let mut x = if rows > cols { transposed(&x, cols, rows) } else { x };
        let scale = T::Work::from_f64(self.scale.factor(rows, cols));
        out.pass1(&mut x, move |_, x| scale * *x);
    }
}

impl MuonConfig {
    /// The Newton-Schulz iteration on a `[rows, cols]` matrix, rows <= cols.
    fn orthogonalized<W: Work>(&self, mut x: Vec<W>, rows: usize, cols: usize) -> Vec<W> {
        let [a, b, c] = self.ns_coefficients.map(W::from_f64);
        let scale = W::from_f64(1.0 / Float::sqrt(sum1(&x, |x| x * x)).max(self.eps));
        x.iter_mut().for_each(|v| *v = *v * scale);
        for _ in 0..self.ns_steps {
            let mut gram = alloc::vec![W::zero(); rows * rows];
            add_product(&mut gram, &x, &transposed(&x, rows, cols), cols, rows);
            let mut square = alloc::vec![W::zero(); rows * rows];
            add_product(&mut square, &gram, &gram, rows, rows);
            for (s, &g) in square.iter_mut().zip(&gram) {
                *s = b * g + c * *s;
            }
            let mut next: Vec<W> = x.iter().map(|&v| a * v).collect();
            add_product(&mut next, &square, &x, rows, cols);
            x = next;
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use gradus_core::{GradientTransform, VecParam};

    use super::*;

    /// The coefficients of the cubic iteration, which converges to singular values of exactly 1.
    fn exact() -> MuonConfig {
        let config = MuonConfig::new().with_ns_coefficients([1.5, -0.5, 0.0]).with_ns_steps(40);
        config.with_momentum(0.0).with_weight_decay(0.0)
    }

    fn moved(config: MuonConfig, shape: &[usize], grad: &[f64]) -> Vec<f64> {
        let mut params =
            vec![VecParam::new("w", shape, vec![0.0; grad.len()]).with_grad(grad.to_vec())];
        Muon::new(config).unwrap().step(1.0, &mut params).unwrap();
        params[0].value.iter().map(|x| -x).collect()
    }

    #[test]
    fn the_update_is_the_nearest_orthogonal_matrix() {
        // A rotation times a positive definite matrix: the rotation remains.
        let got = moved(exact(), &[2, 2], &[0.6 * 3.0, -0.8, 0.8 * 3.0, 0.6]);
        for (got, want) in got.iter().zip([0.6, -0.8, 0.8, 0.6]) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn tall_matrices_are_those_transposed() {
        let wide = [1.0, 2.0, -1.0, 0.5, 0.25, 3.0];
        let tall = [1.0, 0.5, 2.0, 0.25, -1.0, 3.0];
        let scale = MuonScale::MatchRmsAdamW;
        let a = moved(exact().with_scale(scale), &[2, 3], &wide);
        let b = moved(exact().with_scale(scale), &[3, 2], &tall);
        for (a, b) in transposed(&a, 2, 3).iter().zip(&b) {
            assert!((a - b).abs() < 1e-15, "{a} {b}");
        }
        let norm = sum1(&a[..3], |x| x * x);
        assert!((norm - 0.04 * 3.0).abs() < 1e-12, "{norm}");
    }

    #[test]
    fn scales_follow_the_shape() {
        let factors = |s: MuonScale| [s.factor(8, 2), s.factor(2, 8)];
        assert_eq!(factors(MuonScale::Original), [2.0, 1.0]);
        assert_eq!(factors(MuonScale::SpectralUnclamped), [2.0, 0.5]);
        assert_eq!(factors(MuonScale::MatchRmsAdamW), [0.2 * 8f64.sqrt(); 2]);
    }

    #[test]
    fn other_shapes_are_errors_and_zero_gradients_are_not() {
        let vector = VecParam::new("v", &[2], vec![1.0f32; 2]).with_grad(vec![1.0; 2]);
        let mut muon = Muon::new(MuonConfig::new()).unwrap();
        let error = muon.step(0.1, &mut vec![vector]).unwrap_err();
        assert!(matches!(error, StepError::Shape { ref name, .. } if name == "v"), "{error}");
        assert_eq!(moved(exact(), &[2, 2], &[0.0; 4]), [0.0; 4]);
        assert!(moved(exact(), &[0, 3], &[]).is_empty());
    }
}
