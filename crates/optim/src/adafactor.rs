//! Adafactor.

use alloc::{vec, vec::Vec};

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    error::{non_negative, positive},
    lanes::sum,
    param::Value,
    rule::{Rule, optimizer, setters},
    slots::{Slot, Slots, Work},
};

/// Hyper-parameters of [`Adafactor`], with PyTorch's names and defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdafactorConfig {
    /// The second moment's mean takes a share of `t^beta2_decay` of the new square at update `t`; -0.8.
    pub beta2_decay: f64,
    /// Bound of the second moment from below (its square; itself, for the mean of the row sums). `None`,
    /// the default: machine epsilon of the type that the update is computed in.
    pub eps1: Option<f64>,
    /// Least scale of a parameter; 1e-3.
    pub eps2: f64,
    /// Root mean square above which an update is scaled down; 1.
    pub d: f64,
    /// Decoupled weight decay, scaled by the rate; 0.
    pub weight_decay: f64,
    /// Whether to climb instead of to descend; false.
    pub maximize: bool,
    /// Which parameters decay; all.
    pub decay_mask: DecayMask,
}

impl AdafactorConfig {
    /// PyTorch's defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            beta2_decay: -0.8,
            eps1: None,
            eps2: 1e-3,
            d: 1.0,
            weight_decay: 0.0,
            maximize: false,
            decay_mask: DecayMask::All,
        }
    }
}

impl Default for AdafactorConfig {
    fn default() -> Self {
        Self::new()
    }
}

setters!(AdafactorConfig {
    with_beta2_decay => beta2_decay: f64,
    with_eps1 => eps1: Option<f64>,
    with_eps2 => eps2: f64,
    with_d => d: f64,
    with_weight_decay => weight_decay: f64,
    with_maximize => maximize: bool,
    with_decay_mask => decay_mask: DecayMask,
});

/// Adafactor: the second moment of a matrix from its row and column means, so that the state of an `[m, n]`
/// parameter is `m + n` numbers; as PyTorch has it.
///
/// With gradient `g` (negated by `maximize`), parameter `p`, `t` counting its updates from 1,
/// `k = t^beta2_decay`, `rms` the root mean square over the parameter:
///
/// ```text
/// alpha = max(eps2, rms(p)) min(lr, 1 / sqrt(t)),  p = p (1 - lr weight_decay)
/// R = (1 - k) R + k (mean of g^2 over the last dimension),  C likewise over the one before
/// V = R C / max(mean(R), eps1)           the mean over R's rows
/// V = (1 - k) V + k g^2                  for parameters of fewer than two dimensions, without R and C
/// u = g / sqrt(max(V, eps1^2))
/// p = p - alpha / max(1, rms(u) / d) u
/// ```
///
/// Dimensions before the last two are a batch of matrices. f16 and bf16 parameters are updated in f32.
///
/// # References
/// Shazeer, Stern: Adafactor: adaptive learning rates with sublinear memory cost (2018).
///
/// ```
/// use gradus_core::{GradientTransform, State, VecParam};
/// use gradus_optim::{Adafactor, AdafactorConfig};
///
/// let mut adafactor = Adafactor::new(AdafactorConfig::new())?;
/// let mut params =
///     vec![VecParam::new("w", &[2, 3], vec![1.0f32; 6]).with_grad(vec![0.5; 6])];
/// adafactor.step(0.01, &mut params)?;
/// assert!((params[0].value[0] - 0.99).abs() < 1e-6);
/// assert_eq!(adafactor.save_state().f32s("w.row_var")?.len(), 2);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Adafactor {
    config: AdafactorConfig,
    slots: Slots,
}

impl Adafactor {
    /// An optimizer without state yet.
    ///
    /// # Errors
    /// [`OptimError`] for a `beta2_decay` above 0, an `eps1` that is not above 0 (a zero gradient would give
    /// NaN), a `d` below 1, or an `eps2` or weight decay that is negative; or any that is not finite.
    pub fn new(config: AdafactorConfig) -> Result<Self, OptimError> {
        let out_of_range = |name, value, range| Err(OptimError::OutOfRange { name, value, range });
        if !(config.beta2_decay <= 0.0 && config.beta2_decay.is_finite()) {
            return out_of_range("beta2_decay", config.beta2_decay, "(-inf, 0]");
        }
        if !(config.d >= 1.0 && config.d.is_finite()) {
            return out_of_range("d", config.d, "[1, inf)");
        }
        if let Some(eps1) = config.eps1 {
            positive("eps1", eps1)?;
        }
        non_negative("eps2", config.eps2)?;
        non_negative("weight_decay", config.weight_decay)?;
        Ok(Self { config, slots: Slots::new(&["row_var", "col_var", "variance"]) })
    }
}

optimizer!(
    Adafactor,
    AdafactorConfig,
    "`NAME.step`, `NAME.row_var`, `NAME.col_var` and `NAME.variance`; what is not in use is empty."
);

/// A parameter as `batch` matrices.
#[derive(Clone, Copy)]
struct Matrices {
    batch: usize,
    rows: usize,
    cols: usize,
}

impl Matrices {
    fn of(shape: &[usize]) -> Option<Self> {
        let [batch @ .., rows, cols] = shape else { return None };
        Some(Self { batch: batch.iter().product(), rows: *rows, cols: *cols })
    }
}

impl Rule for AdafactorConfig {
    fn buffer_len(&self, field: usize, shape: &[usize], len: usize) -> usize {
        match (field, Matrices::of(shape)) {
            (0, Some(m)) => m.batch * m.rows,
            (1, Some(m)) => m.batch * m.cols,
            (2, None) => len,
            _ => 0,
        }
    }

    fn update<T: Value>(
        &self,
        lr: f64,
        shape: &[usize],
        slot: &mut Slot,
        value: &mut [T],
        grad: &[T],
    ) {
        if value.is_empty() {
            return;
        }
        let t = slot.step as f64;
        let work = T::Work::from_f64;
        let eps1 = self.eps1.unwrap_or_else(epsilon::<T::Work>);
        let rms = |sum: f64| Float::sqrt(sum / value.len() as f64);
        let scale = self.eps2.max(rms(sum(value.len(), |i| value[i].load() * value[i].load())));
        let alpha = scale * lr.min(1.0 / Float::sqrt(t));
        let share = work(Float::powf(t, self.beta2_decay));
        let [row, col, whole] = slot.buffers.as_mut_slice() else {
            unreachable!("Adafactor has three buffers")
        };
        let (row, col, whole) = (T::Work::typed(row), T::Work::typed(col), T::Work::typed(whole));
        let lerp = |old: T::Work, new: T::Work| old + share * (new - old);
        let least = work(eps1 * eps1);
        let bounded = |v: T::Work| if v < least { least } else { v };
        let shape_2d = Matrices::of(shape);
        // 1 / max(mean(R), eps1) of each matrix.
        let mut row_scales = Vec::new();
        match shape_2d {
            Some(m) => {
                factor(m, grad, row, col, lerp);
                row_scales.extend(
                    row.chunks(m.rows)
                        .map(|r| work(1.0 / (sum(m.rows, |i| r[i]) / m.rows as f64).max(eps1))),
                );
            }
            None => {
                for (v, &g) in whole.iter_mut().zip(grad) {
                    *v = lerp(*v, g.load() * g.load());
                }
            }
        }
        let direction = |i: usize| {
            let v = match shape_2d {
                Some(m) => {
                    let (r, matrix) = (i / m.cols, i / m.cols / m.rows);
                    row[r] * col[matrix * m.cols + i % m.cols] * row_scales[matrix]
                }
                None => whole[i],
            };
            grad[i].load() / bounded(v).sqrt()
        };
        let length = rms(sum(value.len(), |i| direction(i) * direction(i)));
        let rate = alpha / (length / self.d).max(1.0);
        let rate = work(if self.maximize { -rate } else { rate });
        let shrink = work(1.0 - lr * self.decay_mask.decay(self.weight_decay, shape));
        for (i, p) in value.iter_mut().enumerate() {
            *p = T::store(shrink * p.load() - rate * direction(i));
        }
    }
}

/// Machine epsilon of the type.
fn epsilon<W: Work>() -> f64 {
    FloatElement::to_f64(W::epsilon())
}

/// Moves the means over rows and columns of each matrix towards those of the squared gradient.
fn factor<T: Value>(
    m: Matrices,
    grad: &[T],
    row: &mut [T::Work],
    col: &mut [T::Work],
    lerp: impl Fn(T::Work, T::Work) -> T::Work,
) {
    let work = T::Work::from_f64;
    let square = |g: &T| g.load() * g.load();
    let matrices = grad.chunks(m.rows * m.cols);
    for ((g, row), col) in matrices.zip(row.chunks_mut(m.rows)).zip(col.chunks_mut(m.cols)) {
        let mut columns = vec![0.0f64; m.cols];
        for (g, r) in g.chunks(m.cols).zip(row) {
            *r = lerp(*r, work(sum(m.cols, |i| square(&g[i])) / m.cols as f64));
            for (total, g) in columns.iter_mut().zip(g) {
                *total += FloatElement::to_f64(square(g));
            }
        }
        for (c, total) in col.iter_mut().zip(columns) {
            *c = lerp(*c, work(total / m.rows as f64));
        }
    }
}

#[cfg(test)]
mod tests {
    use gradus_core::{GradientTransform, State, VecParam};

    use super::*;

    #[test]
    fn a_squared_gradient_of_rank_one_is_factored_without_loss() {
        // g^2 is the product of (1, 4) and (1, 9): u is all ones at the first step.
        let mut params =
            vec![VecParam::new("w", &[2, 2], vec![2.0f64; 4]).with_grad(vec![1.0, -3.0, 2.0, 6.0])];
        let mut rule = Adafactor::new(AdafactorConfig::new()).unwrap();
        rule.step(0.25, &mut params).unwrap();
        for (got, want) in params[0].value.iter().zip([1.5, 2.5, 1.5, 1.5]) {
            assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
        let state = rule.save_state();
        assert_eq!(state.f64s("w.row_var"), Ok(vec![5.0, 20.0]));
        assert_eq!(state.f64s("w.col_var"), Ok(vec![2.5, 22.5]));
    }

    #[test]
    fn empty_and_zero_gradients_give_no_nan() {
        let zero = VecParam::new("zero", &[2, 1], vec![1.0f32; 2]).with_grad(vec![0.0; 2]);
        let empty =
            |name: &str, shape: &[usize]| VecParam::new(name, shape, vec![]).with_grad(vec![]);
        let mut params = vec![zero, empty("a", &[0, 3]), empty("b", &[2, 0]), empty("c", &[0])];
        let mut rule = Adafactor::new(AdafactorConfig::new()).unwrap();
        rule.step(0.25, &mut params).unwrap();
        rule.step(0.25, &mut params).unwrap();
        assert_eq!(params[0].value, [1.0, 1.0]);
    }

    #[test]
    fn hyper_parameters_are_checked() {
        let config = AdafactorConfig::new();
        for bad in [
            config.with_beta2_decay(0.5),
            config.with_d(0.5),
            config.with_eps1(Some(0.0)),
            config.with_eps2(f64::NAN),
            config.with_weight_decay(-1.0),
        ] {
            assert!(matches!(Adafactor::new(bad), Err(OptimError::OutOfRange { .. })), "{bad:?}");
        }
    }
}
