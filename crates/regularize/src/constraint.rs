//! Bounds on weights, enforced after the optimizer's step.

use gradus_core::{
    FloatElement, GradientTransform, ParamKind, ParamMut, Parameters, State, StateDict, StateError,
    StepError, with_slice,
};

use crate::RangeError;

/// A set of weights that training may not leave: after each step they are moved to its nearest point (for norms, along
/// the ray from 0).
///
/// Norms are L2 and taken row by row: over all dimensions but the first, which in a weight `[out, in, ..]` holds the
/// outputs, so that the incoming weights of each unit are bounded together (Keras's `axis` for its transposed layout).
/// [`with_dim`](Self::with_dim) chooses another dimension, or one norm for the whole parameter. A parameter of fewer
/// than two dimensions is one row. Norms are accumulated in f64; a row that satisfies its bound keeps its bits, and so
/// does one whose norm is not finite, which is for a guard to find. A row of zeros has no direction and stays.
///
/// [`apply`](Self::apply) works on any [`Parameters`]; as a [`GradientTransform`] it is the last stage of a chain of
/// `gradus-optim`, in a group there for a part of the parameters.
///
/// ```
/// use gradus_core::{ParamKind, VecParam};
/// use gradus_regularize::Constraint;
///
/// let mut params = vec![
///     VecParam::new("w", &[2, 2], vec![3f32, 4.0, 0.3, 0.4]),
///     VecParam::new("b", &[2], vec![30f32, 40.0]).with_kind(ParamKind::Bias),
/// ];
/// Constraint::max_norm(1.0)?.apply(&mut params, |_, _, kind| kind == ParamKind::Weight)?;
/// assert_eq!(params[0].value, [0.6, 0.8, 0.3, 0.4]);
/// assert_eq!(params[1].value, [30.0, 40.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Constraint {
    rule: Rule,
    dim: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Rule {
    MinMaxNorm { min: f64, max: f64, rate: f64 },
    NonNegative,
}

impl Constraint {
    fn norms(min: f64, max: f64, rate: f64) -> Self {
        Self { rule: Rule::MinMaxNorm { min, max, rate }, dim: Some(0) }
    }

    /// Norms of at most `max`. Keras's default is 2.
    ///
    /// # Errors
    /// [`RangeError`] when `max` is negative or not finite.
    ///
    /// # References
    /// Srebro, Rennie, Jaakkola: Maximum-margin matrix factorization (2004); Hinton et al. (2012), arXiv:1207.0580.
    pub fn max_norm(max: f64) -> Result<Self, RangeError> {
        RangeError::not_negative("max", max)?;
        Ok(Self::norms(0.0, max, 1.0))
    }

    /// Norms of 1.
    #[must_use]
    pub fn unit_norm() -> Self {
        Self::norms(1.0, 1.0, 1.0)
    }

    /// Norms between `min` and `max`, approached by the share `rate` of the way in each step. Keras's defaults are 0, 1
    /// and 1.
    ///
    /// # Errors
    /// [`RangeError`] when `min` or `max` is negative or not finite, `min` above `max`, or `rate` outside of \[0, 1\].
    pub fn min_max_norm(min: f64, max: f64, rate: f64) -> Result<Self, RangeError> {
        RangeError::not_negative("min", min)?;
        RangeError::not_negative("max", max)?;
        RangeError::check(min <= max, "min", min, "at most max")?;
        RangeError::check((0.0..=1.0).contains(&rate), "rate", rate, "in [0, 1]")?;
        Ok(Self::norms(min, max, rate))
    }

    /// No element below 0. NaN stays.
    #[must_use]
    pub fn non_negative() -> Self {
        Self { rule: Rule::NonNegative, dim: None }
    }

    /// The same with a norm for each place along this dimension, or one for the whole parameter.
    #[must_use]
    pub fn with_dim(mut self, dim: Option<usize>) -> Self {
        self.dim = dim;
        self
    }

    /// Moves the values of the parameters for whose name, shape and kind `select` is true.
    ///
    /// # Errors
    /// [`StepError::Shape`] for a parameter of two or more dimensions that does not have the chosen one; those before
    /// it have been moved, it and those behind it not.
    pub fn apply(
        &self,
        params: &mut (impl Parameters + ?Sized),
        select: impl Fn(&str, &[usize], ParamKind) -> bool,
    ) -> Result<(), StepError> {
        let mut result = Ok(());
        params.visit(&mut |p| {
            if result.is_ok() && select(p.name, p.shape, p.kind) {
                result = self.move_one(p);
            }
        });
        result
    }

    fn move_one(&self, p: ParamMut<'_>) -> Result<(), StepError> {
        let [outer, rows, inner] = match self.dim {
            Some(dim) if p.shape.len() >= 2 => {
                let Some(&rows) = p.shape.get(dim) else {
                    let (name, shape) = (p.name.into(), p.shape.to_vec());
                    return Err(StepError::Shape {
                        name,
                        shape,
                        expected: "the dimension of its rows",
                    });
                };
                let [outer, inner] = [&p.shape[..dim], &p.shape[dim + 1..]];
                [outer.iter().product(), rows, inner.iter().product()]
            }
            _ => [1, 1, p.shape.iter().product()],
        };
        let Some(value) = p.value else { return Ok(()) };
        with_slice!(value, w => match self.rule {
            Rule::NonNegative => non_negative(w),
            Rule::MinMaxNorm { min, max, rate } => {
                scale_rows(w, [outer, rows, inner], |norm| {
                    let wanted = rate * norm.clamp(min, max) + (1.0 - rate) * norm;
                    (norm < min || norm > max).then(|| wanted / norm)
                });
            }
        });
        Ok(())
    }
}

fn non_negative<T: FloatElement>(w: &mut [T]) {
    for w in w {
        if *w < T::zero() {
            *w = T::zero();
        }
    }
}

/// Multiplies each row of `[outer, rows, inner]` with the factor that its norm asks for.
fn scale_rows<T: FloatElement>(
    w: &mut [T],
    [outer, rows, inner]: [usize; 3],
    factor: impl Fn(f64) -> Option<f64>,
) {
    for row in 0..rows {
        let starts = (0..outer).map(|o| (o * rows + row) * inner);
        let norm = starts.clone().map(|at| squares(&w[at..at + inner])).sum::<f64>().sqrt();
        if !norm.is_finite() || norm == 0.0 {
            continue;
        }
        if let Some(k) = factor(norm) {
            for at in starts {
                w[at..at + inner].iter_mut().for_each(|w| *w = T::from_f64(w.to_f64() * k));
            }
        }
    }
}

/// The sum of squares, in independent lanes.
fn squares<T: FloatElement>(w: &[T]) -> f64 {
    let square = |w: T| FloatElement::to_f64(w).powi(2);
    let (groups, rest) = w.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for group in groups {
        for (lane, &w) in lanes.iter_mut().zip(group) {
            *lane += square(w);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&w| square(w)).sum::<f64>()
}

impl State for Constraint {
    fn save_state(&self) -> StateDict {
        StateDict::new()
    }

    fn load_state(&mut self, _: &StateDict) -> Result<(), StateError> {
        Ok(())
    }
}

impl GradientTransform for Constraint {
    fn step(&mut self, _: f64, params: &mut dyn Parameters) -> Result<(), StepError> {
        self.apply(params, |_, _, _| true)
    }
}

#[cfg(test)]
mod tests {
    use gradus_core::{VecParam, bf16};

    use super::*;

    fn moved(constraint: Constraint, shape: &[usize], value: &[f64]) -> Vec<f64> {
        let mut params = vec![VecParam::new("w", shape, value.to_vec())];
        constraint.apply(&mut params, |_, _, _| true).unwrap();
        params.remove(0).value
    }

    fn near(got: Vec<f64>, want: &[f64]) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?} {want:?}");
    }

    #[test]
    fn rows_are_the_first_dimension() {
        let max = Constraint::max_norm(5.0).unwrap();
        let w = [6.0, 8.0, 3.0, 4.0];
        near(moved(max, &[2, 2], &w), &[3.0, 4.0, 3.0, 4.0]);
        near(moved(max, &[2, 2, 1], &w), &[3.0, 4.0, 3.0, 4.0]);
        let [a, b] = [45f64, 80.0].map(|square| 5.0 / square.sqrt());
        near(moved(max.with_dim(Some(1)), &[2, 2], &w), &[6.0 * a, 8.0 * b, 3.0 * a, 4.0 * b]);
        let k = 5.0 / 125f64.sqrt();
        let whole = w.map(|w| w * k);
        near(moved(max.with_dim(None), &[2, 2], &w), &whole);
        near(moved(max, &[4], &w), &whole);
        near(moved(max, &[], &[-7.0]), &[-5.0]);
        near(moved(max, &[0, 3], &[]), &[]);
        near(moved(max, &[3, 0], &[]), &[]);
    }

    #[test]
    fn every_rule_is_kerass() {
        near(moved(Constraint::unit_norm(), &[2, 2], &[3.0, 4.0, 0.0, 0.0]), &[0.6, 0.8, 0.0, 0.0]);
        let half = Constraint::min_max_norm(1.0, 2.0, 0.5).unwrap();
        // Norms 5 and 0.5 go half of the way to 2 and to 1.
        near(moved(half, &[2, 2], &[3.0, 4.0, 0.3, 0.4]), &[2.1, 2.8, 0.45, 0.6]);
        let w = [-1.0, -0.0, 2.0];
        near(moved(Constraint::non_negative(), &[3], &w), &[0.0, 0.0, 2.0]);
    }

    #[test]
    fn what_is_inside_keeps_its_bits_and_what_is_not_finite_is_left() {
        let w = [0.1, 0.2, f64::NAN, 1.0, f64::INFINITY, 1.0, 1e200, 1e200];
        let got = moved(Constraint::max_norm(1.0).unwrap(), &[4, 2], &w);
        assert!(got.iter().zip(&w).all(|(a, b)| a.to_bits() == b.to_bits()), "{got:?}");
        assert!(moved(Constraint::non_negative(), &[1], &[f64::NAN])[0].is_nan());
    }

    #[test]
    fn only_what_is_selected_is_moved_and_every_type_is() {
        let mut params = vec![
            VecParam::new("a", &[1, 1], vec![bf16::from_f32(4.0)]),
            VecParam::new("b", &[1], vec![bf16::from_f32(4.0)]).with_kind(ParamKind::Bias),
        ];
        let one = Constraint::max_norm(1.0).unwrap();
        one.apply(&mut params, |name, shape, kind| {
            name == "a" && shape.len() == 2 && kind == ParamKind::Weight
        })
        .unwrap();
        assert_eq!((params[0].value[0].to_f32(), params[1].value[0].to_f32()), (1.0, 4.0));
        let mut stage: Box<dyn GradientTransform> = Box::new(one);
        stage.step(0.1, &mut params).unwrap();
        assert_eq!(params[1].value[0].to_f32(), 1.0);
        assert!(stage.save_state().is_empty());
    }

    #[test]
    fn bad_bounds_and_dimensions_are_refused() {
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Constraint::max_norm(bad).unwrap_err().name, "max");
            assert!(Constraint::min_max_norm(bad, 1.0, 1.0).is_err());
            assert_eq!(Constraint::min_max_norm(0.0, 1.0, bad).unwrap_err().name, "rate");
        }
        assert_eq!(Constraint::min_max_norm(2.0, 1.0, 1.0).unwrap_err().name, "min");
        let mut params = vec![VecParam::new("w", &[1, 1], vec![4f32])];
        let error = Constraint::unit_norm().with_dim(Some(2)).apply(&mut params, |_, _, _| true);
        assert!(matches!(error, Err(StepError::Shape { name, .. }) if name == "w"));
        assert_eq!(params[0].value, [4.0]);
    }
}
