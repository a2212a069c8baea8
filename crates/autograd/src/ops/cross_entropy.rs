//! Losses of classification.

mod rows;

use gradus_tensor::{Element, FloatElement, Real, Tensor, par, with_real};
use rows::{Soft, grad_rows, soft_loss_rows};

use super::loss::Reduction;
use crate::{DType, Var};

/// Options of [`Var::cross_entropy`]; the defaults are PyTorch's.
///
/// ```
/// use gradus_autograd::{CrossEntropy, Reduction};
///
/// let options = CrossEntropy::default().with_label_smoothing(0.1).with_reduction(Reduction::Sum);
/// assert_eq!(options.ignore_index, -100);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CrossEntropy {
    /// A weight for each class, `[classes]`; none means 1 each.
    pub weight: Option<Tensor>,
    /// Rows with this label count for nothing: -100 by default. Not used with probabilities as target.
    pub ignore_index: i64,
    /// The part of the target that is spread evenly over all classes (Szegedy et al. 2016): 0 by default.
    pub label_smoothing: f64,
    /// How the losses of the rows become the result: their weighted mean by default.
    pub reduction: Reduction,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self { weight: None, ignore_index: -100, label_smoothing: 0.0, reduction: Reduction::Mean }
    }
}

impl CrossEntropy {
    /// With a weight for each class, `[classes]`.
    #[must_use]
    pub fn with_weight(mut self, weight: Tensor) -> Self {
        self.weight = Some(weight);
        self
    }

    /// With the label of rows that count for nothing.
    #[must_use]
    pub fn with_ignore_index(mut self, label: i64) -> Self {
        self.ignore_index = label;
        self
    }

    /// With a part of the target spread evenly over all classes.
    #[must_use]
    pub fn with_label_smoothing(mut self, part: f64) -> Self {
        self.label_smoothing = part;
        self
    }

    /// With another reduction.
    #[must_use]
    pub fn with_reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }
}

/// What the forward of a cross-entropy leaves for its backward.
struct Saved {
    /// Logits as `[.., classes]`, dense; shares the buffer of the input where that is so already.
    x: Tensor,
    /// `[.., 2]`: maximum and logarithm of the sum of exponentials of each row.
    parts: Tensor,
    /// Labels `[..]`, or probabilities `[.., classes]`.
    target: Tensor,
    /// `sum_c t_c` of each row's target.
    masses: Vec<f64>,
    options: CrossEntropy,
}

impl Saved {
    fn is_labels(&self) -> bool {
        self.target.dtype() == DType::I64
    }

    fn classes(&self) -> usize {
        self.x.shape()[self.x.ndim() - 1]
    }

    /// The part of the target that is not a single class.
    fn soft<T: Real>(&self) -> Option<Soft<'_, T>> {
        let e = self.options.label_smoothing;
        let soft = Soft {
            q: (!self.is_labels()).then(|| self.target.as_slice()),
            w: self.options.weight.as_ref().map(Tensor::as_slice),
            a: T::lit(1.0 - e),
            b: T::lit(e / self.classes() as f64),
        };
        (soft.q.is_some() || e > 0.0).then_some(soft)
    }

    /// The label of row `i` and what it weighs in the target, if the row has a label that counts.
    fn label<T: Real>(&self, i: usize) -> Option<(usize, T)> {
        let label = self.target.as_slice::<i64>()[i];
        (label != self.options.ignore_index).then(|| {
            let w =
                self.options.weight.as_ref().map_or(T::ONE, |w| w.as_slice::<T>()[label as usize]);
            (label as usize, w)
        })
    }

    /// The losses of all rows, and what their mean divides by.
    fn forward<T: Real>(&mut self) -> (Vec<T>, f64) {
        let (n, m) = (self.classes(), self.parts.numel() / 2);
        let (x, parts) = (self.x.as_slice::<T>(), self.parts.as_slice::<T>());
        let mut rows = vec![T::ZERO; 2 * m];
        if let Some(soft) = self.soft::<T>() {
            par::for_each_mut(&mut rows, 2, n as f64 * 0.5, |first, out| {
                soft_loss_rows::<T>(x, parts, soft, n, first, out);
            });
        }
        let mut total = m as f64;
        if self.is_labels() {
            total = 0.0;
            let keep = T::lit(1.0 - self.options.label_smoothing);
            for (i, row) in rows.chunks_exact_mut(2).enumerate() {
                let Some((label, w)) = self.label::<T>(i) else {
                    row.fill(T::ZERO);
                    continue;
                };
                total += w.to_f64();
                row[0] += keep * w * (parts[2 * i + 1] - (x[i * n + label] - parts[2 * i]));
                row[1] += keep * w;
            }
        }
        self.masses = rows.chunks_exact(2).map(|r| r[1].to_f64()).collect();
        (rows.chunks_exact(2).map(|r| r[0]).collect(), total)
    }

    /// The gradient of the logits, for the gradient `scale(i)` of row `i`'s loss.
    fn backward<T: Real>(&self, scale: impl Fn(usize) -> f64) -> Tensor {
        let n = self.classes();
        let (x, parts, soft) =
            (self.x.as_slice::<T>(), self.parts.as_slice::<T>(), self.soft::<T>());
        let labels = self.is_labels();
        let rows: Vec<(T, T)> = (self.masses.iter().enumerate())
            .map(|(i, &mass)| {
                let counts = !labels || self.label::<T>(i).is_some();
                (if counts { T::lit(scale(i)) } else { T::ZERO }, T::lit(mass))
            })
            .collect();
        let keep = T::lit(1.0 - self.options.label_smoothing);
        Tensor::build(self.x.shape(), |out: &mut [T]| {
            par::for_each_mut(out, n, n as f64 * 0.4, |first, out| {
                grad_rows::<T>(x, parts, &rows, soft, n, first, out);
                if labels {
                    for (i, out) in (first..).zip(out.chunks_exact_mut(n)) {
                        if let Some((label, w)) = self.label::<T>(i) {
                            out[label] = out[label] - rows[i].0 * keep * w;
                        }
                    }
                }
            });
        })
    }
}

/// The order of dimensions with `dim` last.
fn order_with_last(ndim: usize, dim: usize) -> Vec<isize> {
    (0..ndim).filter(|&d| d != dim).chain([dim]).map(|d| d as isize).collect()
}

/// The order that undoes [`order_with_last`].
fn order_from_last(ndim: usize, dim: usize) -> Vec<isize> {
    let mut order: Vec<isize> = (0..ndim as isize - 1).collect();
    order.insert(dim, ndim as isize - 1);
    order
}

/// The dimension that holds the classes (1, or 0 of a single row), after the checks that both losses share.
#[track_caller]
fn class_dim(
    op: &str,
    input: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    ignore_index: i64,
) -> usize {
    assert!(input.ndim() > 0, "{op}: an input of shape [] has no classes");
    let dim = usize::from(input.ndim() > 1);
    let classes = input.shape()[dim];
    if let Some(w) = weight {
        assert_eq!(
            w.shape(),
            [classes],
            "{op}: shape of the weight for an input of shape {:?}",
            input.shape()
        );
    }
    if target.dtype() != DType::I64 {
        return dim;
    }
    let mut rows = input.shape().to_vec();
    rows.remove(dim);
    assert_eq!(
        target.shape(),
        rows,
        "{op}: shape of the labels for an input of shape {:?}",
        input.shape()
    );
    for (row, &label) in target.contiguous().as_slice::<i64>().iter().enumerate() {
        assert!(
            (0..classes as i64).contains(&label) || label == ignore_index,
            "{op}: label {label} of row {row} is none of {classes} classes, nor {ignore_index}, which is ignored"
        );
    }
    dim
}

impl Var {
    /// The cross-entropy of logits `x` against a target `t`, `-sum_c t_c ln softmax(x)_c`, reduced. Softmax and
    /// loss are one operation: finite for any finite logits, and the probabilities are never stored.
    ///
    /// Logits are `[n, classes, ..]`, or `[classes]`. The target is either labels (i64, the shape without the
    /// classes), where `t` is `w_label` at the label, and `label_smoothing` `e` makes it
    /// `(1 - e) t + w e / classes`; or probabilities `q` (the shape of the logits), where
    /// `t = w ((1 - e) q + e / classes)`. With labels the mean divides by the sum of the weights of the labels
    /// that count (NaN if none does), with probabilities by the number of rows.
    ///
    /// A class with `t_c = 0` costs 0 even if it is impossible (a logit of negative infinity), where PyTorch's
    /// probabilities give NaN. No gradient flows into the target or the weight.
    ///
    /// ```
    /// use gradus_autograd::{CrossEntropy, Tape, Tensor};
    ///
    /// let tape = Tape::training(0, 0);
    /// let logits = tape.leaf(Tensor::from_slice(&[0f64, 0.0], &[1, 2]));
    /// let loss = logits.cross_entropy(&Tensor::from_slice(&[1i64], &[1]), &CrossEntropy::default());
    /// assert!((loss.item() - 2f64.ln()).abs() < 1e-12);
    /// assert_eq!(loss.backward().wrt(&logits).unwrap().to_vec::<f64>(), [0.5, -0.5]);
    /// ```
    ///
    /// # Panics
    /// When shapes or types do not fit, a label is neither a class nor `ignore_index`, or `label_smoothing` is not
    /// within [0, 1].
    #[must_use]
    #[track_caller]
    pub fn cross_entropy(&self, target: &Tensor, options: &CrossEntropy) -> Self {
        const OP: &str = "cross_entropy";
        let e = options.label_smoothing;
        assert!(
            (0.0..=1.0).contains(&e),
            "{OP}: label_smoothing is {e}; it has to be within [0, 1]"
        );
        Self::loss_of(OP, self, Some(target.dtype()), |logits| {
            logits.cross_entropy_real(target, options)
        })
    }

    #[track_caller]
    fn cross_entropy_real(&self, target: &Tensor, options: &CrossEntropy) -> Self {
        const OP: &str = "cross_entropy";
        let input = self.value();
        let dim = class_dim(OP, input, target, options.weight.as_ref(), options.ignore_index);
        let (order, back) =
            (order_with_last(input.ndim(), dim), order_from_last(input.ndim(), dim));
        let target = if target.dtype() == DType::I64 {
            target.contiguous()
        } else {
            assert_eq!(
                target.shape(),
                input.shape(),
                "{OP}: shapes of the probabilities and the input"
            );
            target.to_dtype(input.dtype()).permute(&order).contiguous()
        };
        let mut options = options.clone();
        options.weight = options.weight.map(|w| w.to_dtype(input.dtype()).contiguous());
        let reduction = options.reduction;
        let x = input.permute(&order).contiguous();
        let parts = x.log_normalizer();
        let mut saved = Saved { x, parts, target, masses: Vec::new(), options };
        let batch = if input.ndim() > 1 { input.shape()[0] } else { 1 };
        let rows = &saved.x.shape()[..input.ndim() - 1].to_vec();
        with_real!(OP, input.dtype(), T => {
            let (losses, total) = saved.forward::<T>();
            let y = reduction.apply(Tensor::from_slice(&losses, rows), total, batch);
            Self::op(OP, &[self], y, move |g, sink| {
                let dx = match reduction.share(&g, total, batch) {
                    Some(g) => saved.backward::<T>(|_| g),
                    None => {
                        let g = g.to_vec::<T>();
                        saved.backward::<T>(|i| g[i].to_f64())
                    }
                };
                sink.add(0, dx.permute(&back));
            })
        })
    }

    /// The negative log-likelihood `-w_label x_label` of labels under log-probabilities `x`, reduced. Shapes, weights,
    /// ignored labels and the mean are those of [`cross_entropy`](Self::cross_entropy), which takes logits and
    /// spares the log-probabilities; PyTorch's default `ignore_index` is -100.
    ///
    /// # Panics
    /// When shapes or types do not fit, the labels are not i64, or one is neither a class nor `ignore_index`.
    #[must_use]
    #[track_caller]
    pub fn nll_loss(
        &self,
        target: &Tensor,
        weight: Option<&Tensor>,
        ignore_index: i64,
        reduction: Reduction,
    ) -> Self {
        const OP: &str = "nll_loss";
        assert_eq!(target.dtype(), DType::I64, "{OP}: type of the labels");
        Self::loss_of(OP, self, None, |x| x.nll_real(target, weight, ignore_index, reduction))
    }

    #[track_caller]
    fn nll_real(
        &self,
        target: &Tensor,
        weight: Option<&Tensor>,
        ignore_index: i64,
        reduction: Reduction,
    ) -> Self {
        const OP: &str = "nll_loss";
        let dim = class_dim(OP, self.value(), target, weight, ignore_index);
        let shape = self.shape().to_vec();
        let (classes, inner) = (shape[dim], shape[dim + 1..].iter().product::<usize>());
        let batch = if shape.len() > 1 { shape[0] } else { 1 };
        let labels = target.to_vec::<i64>();
        // Where the label of row i stands in the input, and the class.
        let place =
            move |i: usize, label: i64| (i / inner * classes + label as usize) * inner + i % inner;
        with_real!(OP, self.dtype(), T => {
            let weight = weight.map(|w| w.to_dtype(T::DTYPE).to_vec::<T>());
            let counted = labels.into_iter().enumerate().filter(move |&(_, label)| label != ignore_index);
            let counted: Vec<(usize, usize, T)> = counted
                .map(|(i, label)| (i, place(i, label), weight.as_ref().map_or(T::ONE, |w| w[label as usize])))
                .collect();
            let x = self.value().contiguous();
            let x = x.as_slice::<T>();
            let mut losses = vec![T::ZERO; target.numel()];
            for &(i, at, w) in &counted {
                losses[i] = -w * x[at];
            }
            let total = counted.iter().map(|c| c.2.to_f64()).sum();
            let y = reduction.apply(Tensor::from_slice(&losses, target.shape()), total, batch);
            Self::op(OP, &[self], y, move |g, sink| {
                let all = reduction.share(&g, total, batch);
                let each = if all.is_none() { g.to_vec::<T>() } else { Vec::new() };
                let mut dx = Tensor::zeros(&shape, T::DTYPE);
                let out = dx.make_mut::<T>();
                for (i, at, w) in counted {
                    out[at] = -w * all.map_or_else(|| each[i], T::lit);
                }
                sink.add(0, dx);
            })
        })
    }
}
