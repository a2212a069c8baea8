//! A network with two layers, forward and backward by hand.

use digits::{CLASSES, PIXELS};
use gradus_core::{ParamKind, ParamMut, Parameters};
use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};

use crate::params::show;

/// `x weight + bias`, and the gradients of both.
struct Dense {
    weight: Array2<f32>,
    bias: Array1<f32>,
    grad_weight: Array2<f32>,
    grad_bias: Array1<f32>,
}

impl Dense {
    fn new(inputs: usize, outputs: usize) -> Self {
        let (weight, bias) = (Array2::zeros((inputs, outputs)), Array1::zeros(outputs));
        Self { grad_weight: weight.clone(), grad_bias: bias.clone(), weight, bias }
    }

    fn forward(&self, x: &ArrayView2<'_, f32>) -> Array2<f32> {
        x.dot(&self.weight) + &self.bias
    }

    /// Sets the gradients of the parameters, given that of the result.
    fn backward(&mut self, x: &ArrayView2<'_, f32>, grad: &Array2<f32>) {
        self.grad_weight.assign(&x.t().dot(grad));
        self.grad_bias.assign(&grad.sum_axis(Axis(0)));
    }

    fn visit(&mut self, names: [&str; 2], f: &mut dyn FnMut(ParamMut<'_>)) {
        show(f, names[0], ParamKind::Weight, &mut self.weight, &mut self.grad_weight);
        show(f, names[1], ParamKind::Bias, &mut self.bias, &mut self.grad_bias);
    }
}

/// Pixels, a hidden layer with ReLU, classes.
pub struct Mlp {
    hidden: Dense,
    head: Dense,
}

/// What of a batch is worth knowing.
pub struct Scores {
    pub loss: f64,
    pub accuracy: f64,
}

impl Mlp {
    pub fn new(hidden: usize) -> Self {
        Self { hidden: Dense::new(PIXELS, hidden), head: Dense::new(hidden, CLASSES) }
    }

    /// Mean cross-entropy and accuracy.
    pub fn evaluate(&self, x: ArrayView2<'_, f32>, labels: &[u32]) -> Scores {
        let relu = self.hidden.forward(&x).mapv_into(|a| a.max(0.0));
        cross_entropy(self.head.forward(&relu.view()), labels).0
    }

    /// The same, and the gradients of all parameters.
    pub fn backward(&mut self, x: ArrayView2<'_, f32>, labels: &[u32]) -> Scores {
        let relu = self.hidden.forward(&x).mapv_into(|a| a.max(0.0));
        let (scores, grad) = cross_entropy(self.head.forward(&relu.view()), labels);
        self.head.backward(&relu.view(), &grad);
        let mut grad = grad.dot(&self.head.weight.t());
        Zip::from(&mut grad).and(&relu).for_each(|g, &a| {
            if a <= 0.0 {
                *g = 0.0;
            }
        });
        self.hidden.backward(&x, &grad);
        scores
    }
}

impl Parameters for Mlp {
    fn visit(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        self.hidden.visit(["hidden.weight", "hidden.bias"], f);
        self.head.visit(["head.weight", "head.bias"], f);
    }
}

/// Mean cross-entropy of the softmax, and the gradient: (softmax - one-hot) / rows.
fn cross_entropy(mut logits: Array2<f32>, labels: &[u32]) -> (Scores, Array2<f32>) {
    let rows = labels.len();
    let (mut loss, mut right) = (0.0, 0);
    for (mut row, &label) in logits.rows_mut().into_iter().zip(labels) {
        let label = label as usize;
        let max = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        right += usize::from(row[label] == max);
        row.mapv_inplace(|a| (a - max).exp());
        let sum = row.sum();
        row /= sum;
        loss -= f64::from(row[label].max(f32::MIN_POSITIVE).ln());
        row[label] -= 1.0;
    }
    logits /= rows as f32;
    let scores = Scores { loss: loss / rows as f64, accuracy: right as f64 / rows as f64 };
    (scores, logits)
}

#[cfg(test)]
mod tests {
    use gradus_core::SliceMut;
    use gradus_init::{Init, init_parameters};

    use super::*;

    /// Runs `f` on parameter `at` of the walk: its value and its gradient.
    fn with(mlp: &mut Mlp, at: usize, f: &mut dyn FnMut(&mut [f32], &mut [f32])) {
        let mut i = 0;
        mlp.visit(&mut |p| {
            if let (true, Some(SliceMut::F32(v)), Some(SliceMut::F32(g))) =
                (i == at, p.value, p.grad)
            {
                f(v, g);
            }
            i += 1;
        });
    }

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        let mut mlp = Mlp::new(7);
        init_parameters(&mut mlp, 1, |_| Some(Init::normal(0.0, 0.3))).unwrap();
        let x =
            Array2::from_shape_fn((5, PIXELS), |(i, j)| ((i * 7 + j * 3) % 11) as f32 / 5.0 - 1.0);
        let labels = [3, 0, 9, 3, 5];
        mlp.backward(x.view(), &labels);
        for at in 0..4 {
            for k in [0, 3, 6] {
                let mut want = 0.0;
                with(&mut mlp, at, &mut |_, g| want = f64::from(g[k]));
                let mut at_distance = |d: f32| {
                    with(&mut mlp, at, &mut |v, _| v[k] += d);
                    let loss = mlp.evaluate(x.view(), &labels).loss;
                    with(&mut mlp, at, &mut |v, _| v[k] -= d);
                    loss
                };
                let slope = (at_distance(1e-2) - at_distance(-1e-2)) / 2e-2;
                assert!((slope - want).abs() < 2e-3, "parameter {at}[{k}]: {slope} {want}");
            }
        }
    }
}
