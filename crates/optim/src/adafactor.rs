//! Adafactor.

use alloc::{vec, vec::Vec};

use gradus_core::FloatElement;
use num_traits::Float;

use crate::{
    DecayMask, OptimError,
    config::config,
    error::{non_negative, positive},
    lanes::{sum1, sum2},
    param::Value,
    pieces::{Rows, in_pieces, in_rows},
    rule::{Layout, Rule, Turn, optimizer},
    slots::{Slots, Work},
};

config! {
    /// Hyper-parameters of [`Adafactor`], with PyTorch's names and defaults.
    pub struct AdafactorConfig;
    /// PyTorch's defaults.
    pub fn new {
        /// The second moment's mean takes a share of `t^beta2_decay` of the new square at update `t`; -0.8.
        beta2_decay: f64 = -0.8, with_beta2_decay;
        /// Bound of the second moment from below (its square; itself, for the mean of the row sums). `None`,
        /// the default: machine epsilon of the type that the update is computed in.
        eps1: Option<f64> = None, with_eps1;
        /// Least scale of a parameter; 1e-3.
        eps2: f64 = 1e-3, with_eps2;
        /// Root mean square above which an update is scaled down; 1.
        d: f64 = 1.0, with_d;
        /// Decoupled weight decay, scaled by the rate; 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Whether to climb instead of to descend; false.
        maximize: bool = false, with_maximize;
        /// Which parameters decay; all.
        decay_mask: DecayMask = DecayMask::All, with_decay_mask;
    }
}

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
        Ok(Self { slots: Slots::of(&config)?, config })
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

impl Layout for AdafactorConfig {
    fn check(&self) -> Result<(), OptimError> {
        let out_of_range = |name, value, range| Err(OptimError::OutOfRange { name, value, range });
        if !(self.beta2_decay <= 0.0 && self.beta2_decay.is_finite()) {
            return out_of_range("beta2_decay", self.beta2_decay, "(-inf, 0]");
        }
        if !(self.d >= 1.0 && self.d.is_finite()) {
            return out_of_range("d", self.d, "[1, inf)");
        }
        if let Some(eps1) = self.eps1 {
            positive("eps1", eps1)?;
        }
        non_negative("eps2", self.eps2)?;
        non_negative("weight_decay", self.weight_decay)
    }

    fn fields(&self) -> Option<&'static [&'static str]> {
        Some(&["row_var", "col_var", "variance"])
    }

    fn buffer_len(&self, field: usize, shape: &[usize], len: usize) -> usize {
        match (field, Matrices::of(shape)) {
            (0, Some(m)) => m.batch * m.rows,
            (1, Some(m)) => m.batch * m.cols,
            (2, None) => len,
            _ => 0,
        }
    }
}

impl Rule for AdafactorConfig {
    fn update<T: Value>(&self, Turn { lr, site, slot, value, grad }: Turn<'_, T>) {
        if value.is_empty() {
            return;
        }
        let grad = &*grad;
        let t = slot.step as f64;
        let work = T::Work::from_f64;
        let eps1 = self.eps1.unwrap_or_else(epsilon::<T::Work>);
        let rms = |sum: f64| Float::sqrt(sum / value.len() as f64);
        let scale = self.eps2.max(rms(sum1(value, |p| p.load() * p.load())));
        let alpha = scale * lr.min(1.0 / Float::sqrt(t));
        let share = work(Float::powf(t, self.beta2_decay));
        let lerp = |old: T::Work, new: T::Work| old + share * (new - old);
        let least = work(eps1 * eps1);
        let direction =
            move |g: T, v: T::Work| g.load() / (if v < least { least } else { v }).sqrt();
        let squared = move |g: T, v: T::Work| direction(g, v) * direction(g, v);
        let shrink = work(1.0 - lr * self.decay_mask.decay(self.weight_decay, site));
        // The rate for updates of this root mean square, which is bounded.
        let rate = |length: f64| {
            let rate = alpha / (length / self.d).max(1.0);
            work(if self.maximize { -rate } else { rate })
        };
        let moved = move |p: T, rate: T::Work, g: T, v| {
            T::store(shrink * p.load() - rate * direction(g, v))
        };
        let [row, col, whole] = slot.typed::<T::Work, 3>();
        let Some(m) = Matrices::of(site.shape) else {
            for (v, g) in whole.iter_mut().zip(grad) {
                *v = lerp(*v, g.load() * g.load());
            }
            let rate = rate(rms(sum2(grad, whole, squared)));
            return in_pieces(
                (value, grad, &*whole),
                move |(value, grad, whole): (_, &[T], &[_])| {
                    let value: &mut [T] = value;
                    for ((p, &g), &v) in value.iter_mut().zip(grad).zip(whole) {
                        *p = moved(*p, rate, g, v);
                    }
                },
            );
        };
        factor(m, grad, row, col, lerp);
        // 1 / max(mean(R), eps1) of each matrix.
        let (row, col) = (&*row, &*col);
        let mean = |r: &[T::Work]| sum1(r, |x| x) / m.rows as f64;
        let scales: Vec<_> = row.chunks(m.rows).map(|r| work(1.0 / mean(r).max(eps1))).collect();
        // The second moment of row `r` is the first of these times the second.
        let scales = scales.as_slice();
        let factors = move |r: usize| {
            let matrix = r / m.rows;
            (row[r] * scales[matrix], &col[matrix * m.cols..][..m.cols])
        };
        let lengths = grad.chunks(m.cols).enumerate().map(|(r, g)| {
            let (row, col) = factors(r);
            sum2(g, col, |g, c| squared(g, row * c))
        });
        let rate = rate(rms(lengths.sum()));
        in_rows(
            (Rows { data: value, width: m.cols }, 0..m.batch * m.rows),
            m.cols,
            move |(value, at): (Rows<'_, T>, core::ops::Range<usize>)| {
                for (p, r) in value.data.chunks_mut(m.cols).zip(at) {
                    let (row, col) = factors(r);
                    for ((p, &g), &c) in p.iter_mut().zip(&grad[r * m.cols..]).zip(col) {
                        *p = moved(*p, rate, g, row * c);
                    }
                }
            },
        );
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
    let square = |g: T| g.load() * g.load();
    let matrices = grad.chunks(m.rows * m.cols);
    for ((g, row), col) in matrices.zip(row.chunks_mut(m.rows)).zip(col.chunks_mut(m.cols)) {
        let mut columns = vec![0.0f64; m.cols];
        for (g, r) in g.chunks(m.cols).zip(row) {
            *r = lerp(*r, work(sum1(g, square) / m.cols as f64));
            for (total, g) in columns.iter_mut().zip(g) {
                *total += FloatElement::to_f64(square(*g));
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
