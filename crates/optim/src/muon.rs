//! Muon.

use alloc::{vec, vec::Vec};

use gradus_core::{FloatElement, StepError};
use num_traits::Float;

use crate::{
    OptimError,
    error::{finite, non_negative, positive},
    lanes::dot,
    param::Value,
    rule::{Rule, optimizer, setters},
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

/// Hyper-parameters of [`Muon`], with PyTorch's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct MuonConfig {
    /// Decoupled weight decay, scaled by the rate (without `scale`); 0.1.
    pub weight_decay: f64,
    /// Decay of the running mean of gradients; 0.95.
    pub momentum: f64,
    /// Whether to look ahead along the momentum; true.
    pub nesterov: bool,
    /// Coefficients a, b, c of the Newton-Schulz iteration; 3.4445, -4.775, 2.0315.
    pub ns_coefficients: [f64; 3],
    /// Least norm that the update is divided by before the iteration; 1e-7.
    pub eps: f64,
    /// Iterations; 5.
    pub ns_steps: usize,
    /// How the rate depends on the shape (PyTorch's `adjust_lr_fn`); the original way.
    pub scale: MuonScale,
}

impl MuonConfig {
    /// PyTorch's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            weight_decay: 0.1,
            momentum: 0.95,
            nesterov: true,
            ns_coefficients: [3.4445, -4.775, 2.0315],
            eps: 1e-7,
            ns_steps: 5,
            scale: MuonScale::Original,
        }
    }
}

impl Default for MuonConfig {
    fn default() -> Self {
        Self::new()
    }
}

setters!(MuonConfig {
    with_weight_decay => weight_decay: f64,
    with_momentum => momentum: f64,
    with_nesterov => nesterov: bool,
    with_ns_coefficients => ns_coefficients: [f64; 3],
    with_eps => eps: f64,
    with_ns_steps => ns_steps: usize,
    with_scale => scale: MuonScale,
});

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
/// `ns_steps (4 A B + 2 A^2) A` flops for A <= B. Give it the matrices, and everything else (embeddings,
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
        non_negative("weight_decay", config.weight_decay)?;
        non_negative("momentum", config.momentum)?;
        positive("eps", config.eps)?;
        for c in config.ns_coefficients {
            finite("ns_coefficients", c)?;
        }
        Ok(Self { config, slots: Slots::new(&["momentum_buffer"]) })
    }
}

optimizer!(Muon, MuonConfig, "`NAME.step` and `NAME.momentum_buffer`.");

impl Rule for MuonConfig {
    fn accepts(&self, name: &str, shape: &[usize]) -> Result<(), StepError> {
        if shape.len() == 2 {
            return Ok(());
        }
        let expected = "a matrix (two dimensions)";
        Err(StepError::Shape { name: name.into(), shape: shape.to_vec(), expected })
    }

    fn update<T: Value>(
        &self,
        lr: f64,
        shape: &[usize],
        slot: &mut Slot,
        value: &mut [T],
        grad: &[T],
    ) {
        let &[rows, cols] = shape else { unreachable!("accepts() lets only matrices through") };
        if value.is_empty() {
            return;
        }
        let work = T::Work::from_f64;
        let (momentum, rest) = (work(self.momentum), work(1.0 - self.momentum));
        let buffer = T::Work::typed(&mut slot.buffers[0]);
        let mut update: Vec<T::Work> = Vec::with_capacity(value.len());
        for (b, g) in buffer.iter_mut().zip(grad) {
            let g = g.load();
            *b = momentum * *b + rest * g;
            update.push(if self.nesterov { momentum * *b + rest * g } else { *b });
        }
        let wide = if rows > cols { transposed(&update, rows, cols) } else { update };
        let x = self.orthogonalized(wide, rows.min(cols), rows.max(cols));
        let x = if rows > cols { transposed(&x, cols, rows) } else { x };
        let shrink = work(1.0 - lr * self.weight_decay);
        let rate = work(lr * self.scale.factor(rows, cols));
        for (p, x) in value.iter_mut().zip(x) {
            *p = T::store(shrink * p.load() - rate * x);
        }
    }
}

impl MuonConfig {
    /// The Newton-Schulz iteration on a `[rows, cols]` matrix, rows <= cols.
    fn orthogonalized<W: Work>(&self, mut x: Vec<W>, rows: usize, cols: usize) -> Vec<W> {
        let [a, b, c] = self.ns_coefficients.map(W::from_f64);
        let scale = W::from_f64(1.0 / Float::sqrt(dot(&x, &x)).max(self.eps));
        x.iter_mut().for_each(|v| *v = *v * scale);
        let mut next = vec![W::zero(); x.len()];
        for _ in 0..self.ns_steps {
            let gram = times_transposed(&x, &x, rows, cols);
            // The Gram matrix is symmetric: its square is its product with its own transpose.
            let square = times_transposed(&gram, &gram, rows, rows);
            for (r, next) in next.chunks_mut(cols).enumerate() {
                for (n, &v) in next.iter_mut().zip(&x[r * cols..]) {
                    *n = a * v;
                }
                for (k, row) in x.chunks(cols).enumerate() {
                    let factor = b * gram[r * rows + k] + c * square[r * rows + k];
                    for (n, &v) in next.iter_mut().zip(row) {
                        *n = *n + factor * v;
                    }
                }
            }
            core::mem::swap(&mut x, &mut next);
        }
        x
    }
}

/// `a b^T` of two `[rows, cols]` matrices.
fn times_transposed<W: Work>(a: &[W], b: &[W], rows: usize, cols: usize) -> Vec<W> {
    let mut product = Vec::with_capacity(rows * rows);
    for a in a.chunks(cols) {
        product.extend(b.chunks(cols).map(|b| W::from_f64(dot(a, b))));
    }
    product
}

fn transposed<W: Work>(x: &[W], rows: usize, cols: usize) -> Vec<W> {
    (0..cols).flat_map(|c| (0..rows).map(move |r| x[r * cols + c])).collect()
}

#[cfg(test)]
mod tests {
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
        assert_eq!(transposed(&a, 2, 3), b);
        let norm = dot(&a[..3], &a[..3]);
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
