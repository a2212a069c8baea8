//! What the start does to the size of activations and gradients.

use alloc::{borrow::ToOwned, boxed::Box, string::String, vec, vec::Vec};
use core::fmt;

use gradus_core::{FloatElement, ParamKind, Parameters};
use num_traits::Float;

use crate::{
    Fans, Init, InitError, Kernel, Layout,
    quadrature::{mean_square, normal_mean},
};

/// A layer of a [`VarianceReport`]: a weight, a bias, and the activation behind them.
pub struct ReportLayer<'a> {
    name: String,
    fans: Fans,
    weight: f64,
    bias: f64,
    activation: Box<dyn Fn(f64) -> f64 + 'a>,
    identical: bool,
}

impl<'a> ReportLayer<'a> {
    /// A layer whose weight is going to be drawn by `init`; without a bias or an activation. `layout` is that
    /// of the weight, as `init` has it.
    ///
    /// # Errors
    /// Those of [`Init::distribution`] and [`Fans::of`].
    pub fn of_init(
        name: &str,
        shape: &[usize],
        layout: Layout,
        init: &Init,
    ) -> Result<Self, InitError> {
        let kernel = Kernel::of(shape, layout)?;
        let distribution = init.with_layout(layout).distribution(shape)?;
        let identical = kernel.outs > 1 && distribution.std() == 0.0;
        Self::new(name, shape, layout, distribution.mean_square(), identical)
    }

    /// A layer with this weight; without a bias or an activation.
    ///
    /// # Errors
    /// Those of [`Fans::of`].
    ///
    /// # Panics
    /// When `shape` does not hold exactly `weight.len()` elements.
    #[track_caller]
    pub fn of_values<T: FloatElement>(
        name: &str,
        shape: &[usize],
        layout: Layout,
        weight: &[T],
    ) -> Result<Self, InitError> {
        let identical = has_identical_units(shape, layout, weight)?;
        Self::new(name, shape, layout, second_moment(weight), identical)
    }

    fn new(
        name: &str,
        shape: &[usize],
        layout: Layout,
        weight: f64,
        identical: bool,
    ) -> Result<Self, InitError> {
        let (name, fans) = (name.to_owned(), Fans::of(shape, layout)?);
        Ok(Self { name, fans, weight, bias: 0.0, activation: Box::new(|x| x), identical })
    }

    /// Sets the mean square of the bias.
    #[must_use]
    pub fn with_bias(mut self, mean_square: f64) -> Self {
        self.bias = mean_square;
        self
    }

    /// Sets the activation behind the layer, the identity without one:
    /// `|x| Nonlinearity::Gelu.apply(x)`, or any other. It is differentiated numerically.
    #[must_use]
    pub fn with_activation(mut self, activation: impl Fn(f64) -> f64 + 'a) -> Self {
        self.activation = Box::new(activation);
        self
    }

    /// `E[phi(s z)^2]`.
    fn forward(&self, s: f64) -> f64 {
        mean_square(&self.activation, s)
    }

    /// `E[phi'(s z)^2]`.
    fn backward(&self, s: f64) -> f64 {
        normal_mean(|z| {
            let (x, step) = (s * z, 1e-5 * (1.0 + s * z.abs()));
            let slope = ((self.activation)(x + step) - (self.activation)(x - step)) / (2.0 * step);
            slope * slope
        })
    }
}

impl fmt::Debug for ReportLayer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportLayer")
            .field("name", &self.name)
            .field("fans", &self.fans)
            .field("weight", &self.weight)
            .field("bias", &self.bias)
            .field("identical", &self.identical)
            .finish_non_exhaustive()
    }
}

/// A quantity as the theory has it and as it was found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gauge {
    /// Predicted.
    pub predicted: f64,
    /// Measured, if it was.
    pub measured: Option<f64>,
}

/// A line of a [`VarianceReport`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReportRow {
    /// The layer.
    pub name: String,
    /// Variance (about 0) of its outputs before the activation.
    pub forward: Gauge,
    /// Variance (about 0) of the gradient there.
    pub backward: Gauge,
    /// Whether its units start as copies of one another: a weight of zeros or of one constant. They get the same
    /// gradient and stay copies, except where something behind them tells them apart. For a hidden layer that
    /// is a mistake; for a head, or for the last weight of a residual branch, zeros are fine.
    pub identical_units: bool,
}

/// Predicted against measured variance of activations and gradients, layer by layer, of a plain chain of layers.
///
/// Forward, a layer's outputs have the variance `fan_in E[w^2] s + E[b^2]`, where `s` is the mean square
/// of its inputs, and behind the activation the mean square is `E[phi(z)^2]` over a normal `z` of that
/// variance. Backward, the gradient at a layer's outputs is that of the next one times
/// `fan_out E[w^2] E[phi'(z)^2]`. This holds for wide layers of independent weights with mean 0; strides
/// and padding are not counted. Where a gradient is measured at the last layer, predictions start from it, else
/// from 1.
///
/// ```
/// use gradus_init::{FanMode, Init, Layout, Nonlinearity, ReportLayer, VarianceReport};
///
/// let he = Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn);
/// let mut report = VarianceReport::new(1.0);
/// for name in ["fc1", "fc2", "fc3"] {
///     let layer = ReportLayer::of_init(name, &[256, 256], Layout::OutIn, &he)?;
///     report.push(layer.with_activation(|x| Nonlinearity::Relu.apply(x)));
/// }
/// let rows = report.rows();
/// assert!((rows[2].forward.predicted - 2.0).abs() < 1e-9);
/// assert!((rows[0].backward.predicted - 1.0).abs() < 1e-9);
/// println!("{report}");
/// # Ok::<(), gradus_init::InitError>(())
/// ```
///
/// # References
/// Poole et al.: Exponential expressivity in deep neural networks through transient chaos (2016),
/// arXiv:1606.05340. Schoenholz, Gilmer, Ganguli, Sohl-Dickstein: Deep information propagation (2016),
/// arXiv:1611.01232.
#[derive(Debug)]
pub struct VarianceReport<'a> {
    input: f64,
    layers: Vec<ReportLayer<'a>>,
    measured: Vec<[Option<f64>; 2]>,
}

impl<'a> VarianceReport<'a> {
    /// A report without layers on inputs of this mean square.
    #[must_use]
    pub fn new(input: f64) -> Self {
        Self { input, layers: Vec::new(), measured: Vec::new() }
    }

    /// Adds the next layer.
    pub fn push(&mut self, layer: ReportLayer<'a>) {
        self.layers.push(layer);
        self.measured.push([None; 2]);
    }

    /// Notes the outputs of a layer before its activation.
    ///
    /// # Errors
    /// [`InitError::UnknownLayer`].
    pub fn measure_forward<T: FloatElement>(
        &mut self,
        name: &str,
        outputs: &[T],
    ) -> Result<(), InitError> {
        self.measure(name, 0, outputs)
    }

    /// Notes the gradients at the outputs of a layer before its activation.
    ///
    /// # Errors
    /// [`InitError::UnknownLayer`].
    pub fn measure_backward<T: FloatElement>(
        &mut self,
        name: &str,
        gradients: &[T],
    ) -> Result<(), InitError> {
        self.measure(name, 1, gradients)
    }

    fn measure<T: FloatElement>(
        &mut self,
        name: &str,
        pass: usize,
        values: &[T],
    ) -> Result<(), InitError> {
        let at = self.layers.iter().position(|layer| layer.name == name);
        let at = at.ok_or_else(|| InitError::UnknownLayer { name: name.to_owned() })?;
        self.measured[at][pass] = Some(second_moment(values));
        Ok(())
    }

    /// The report, from the input on.
    #[must_use]
    pub fn rows(&self) -> Vec<ReportRow> {
        let mut square = self.input;
        let mut forward = vec![0.0; self.layers.len()];
        for (layer, variance) in self.layers.iter().zip(&mut forward) {
            *variance = layer.fans.fan_in as f64 * layer.weight * square + layer.bias;
            square = layer.forward(Float::sqrt(*variance));
        }
        let mut backward = vec![0.0; self.layers.len()];
        let mut gradient = self.measured.last().and_then(|m| m[1]).unwrap_or(1.0);
        let mut behind: Option<&ReportLayer<'_>> = None;
        for ((layer, variance), forward) in
            self.layers.iter().zip(&mut backward).zip(&forward).rev()
        {
            if let Some(next) = behind {
                let weights = next.fans.fan_out as f64 * next.weight;
                gradient *= weights * layer.backward(Float::sqrt(*forward));
            }
            *variance = gradient;
            behind = Some(layer);
        }
        let rows = self.layers.iter().zip(&self.measured).zip(forward.into_iter().zip(backward));
        rows.map(|((layer, measured), (forward, backward))| ReportRow {
            name: layer.name.clone(),
            forward: Gauge { predicted: forward, measured: measured[0] },
            backward: Gauge { predicted: backward, measured: measured[1] },
            identical_units: layer.identical,
        })
        .collect()
    }
}

impl fmt::Display for VarianceReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0).max(5);
        writeln!(f, "{:width$}  {:>21}  {:>21}", "", "forward", "backward")?;
        write!(f, "{:width$}", "layer")?;
        for _ in 0..2 {
            write!(f, "  {:>10} {:>10}", "predicted", "measured")?;
        }
        for row in self.rows() {
            write!(f, "\n{:width$}", row.name)?;
            for gauge in [row.forward, row.backward] {
                write!(f, "  {:>10.3e}", gauge.predicted)?;
                match gauge.measured {
                    Some(measured) => write!(f, " {measured:>10.3e}")?,
                    None => write!(f, " {:>10}", "-")?,
                }
            }
            if row.identical_units {
                f.write_str("  units start identical")?;
            }
        }
        Ok(())
    }
}

/// The names of the weights (of two dimensions or more, embeddings too) whose units start as copies of one
/// another, because every output has the same incoming weights: zeros, one constant, repeated rows.
///
/// ```
/// use gradus_core::VecParam;
/// use gradus_init::{Layout, identical_units};
///
/// let mut params = vec![
///     VecParam::new("fc1.weight", &[2, 2], vec![0.1f32, -0.2, 0.3, 0.1]),
///     VecParam::new("fc2.weight", &[2, 2], vec![0.0; 4]),
/// ];
/// assert_eq!(identical_units(&mut params, Layout::OutIn), ["fc2.weight"]);
/// ```
#[must_use]
pub fn identical_units(params: &mut dyn Parameters, layout: Layout) -> Vec<String> {
    let mut names = Vec::new();
    params.visit(&mut |p| {
        let layout = if p.kind == ParamKind::Embedding { Layout::Embedding } else { layout };
        if let Some(value) = p.value
            && gradus_core::with_slice!(value, v => has_identical_units(p.shape, layout, v))
                == Ok(true)
        {
            names.push(p.name.to_owned());
        }
    });
    names
}

/// Whether every one of several outputs has the same weights.
#[track_caller]
fn has_identical_units<T: FloatElement>(
    shape: &[usize],
    layout: Layout,
    weight: &[T],
) -> Result<bool, InitError> {
    let kernel = Kernel::of(shape, layout)?;
    let (len, given) = (kernel.len(), weight.len());
    assert_eq!(len, given, "a weight of shape {shape:?} does not hold {given} elements");
    let same = |o: usize, i: usize| {
        let taps = 0..kernel.taps;
        taps.into_iter().all(|t| weight[kernel.index(o, i, t)] == weight[kernel.index(0, i, t)])
    };
    Ok(kernel.outs > 1 && len > 0 && (1..kernel.outs).all(|o| (0..kernel.ins).all(|i| same(o, i))))
}

/// The mean of the squares.
fn second_moment<T: FloatElement>(values: &[T]) -> f64 {
    let wide = values.iter().map(|&x| FloatElement::to_f64(x));
    wide.map(|x| x * x).sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use gradus_core::VecParam;

    use super::*;
    use crate::{FanMode, Nonlinearity};

    fn report<'a>(init: Init, nonlinearity: Nonlinearity, depth: usize) -> VarianceReport<'a> {
        let mut report = VarianceReport::new(1.0);
        for l in 0..depth {
            let name = alloc::format!("fc{l}");
            let layer = ReportLayer::of_init(&name, &[50, 100], Layout::OutIn, &init).unwrap();
            report.push(layer.with_activation(move |x| nonlinearity.apply(x)));
        }
        report
    }

    #[test]
    fn predictions_follow_the_theory() {
        // Fan-in He: the forward variance stays at 2, the gradient halves where the layers halve.
        let he = Init::kaiming_normal(Nonlinearity::Relu, FanMode::FanIn);
        let rows = report(he, Nonlinearity::Relu, 4).rows();
        for row in &rows {
            assert!((row.forward.predicted - 2.0).abs() < 1e-9, "{row:?}");
        }
        assert!((rows[0].backward.predicted - 0.125).abs() < 1e-6, "{rows:?}");
        // A bias adds its own.
        let mut biased = VarianceReport::new(3.0);
        let layer = ReportLayer::of_values("fc", &[1, 2], Layout::OutIn, &[1f32, -2.0]).unwrap();
        biased.push(layer.with_bias(0.25));
        assert!((biased.rows()[0].forward.predicted - (2.0 * 2.5 * 3.0 + 0.25)).abs() < 1e-12);
        // PyTorch's default shrinks it to a sixth a layer.
        let rows = report(Init::torch_linear(), Nonlinearity::Relu, 3).rows();
        assert!((rows[2].forward.predicted - 1.0 / 3.0 / 36.0).abs() < 1e-9);
    }

    #[test]
    fn measurements_stand_beside_predictions_and_start_the_gradient() {
        let mut report = report(Init::lecun_normal(), Nonlinearity::Tanh, 2);
        report.measure_forward("fc0", &[1.0f32, -2.0]).unwrap();
        report.measure_backward("fc1", &[3.0f64]).unwrap();
        let rows = report.rows();
        assert_eq!(rows[0].forward.measured, Some(2.5));
        assert_eq!(rows[1].backward, Gauge { predicted: 9.0, measured: Some(9.0) });
        let unknown = report.measure_forward("fc9", &[0f32]).unwrap_err();
        assert_eq!(unknown, InitError::UnknownLayer { name: "fc9".into() });
        let text = report.to_string();
        assert!(text.contains("fc0       1.000e0    2.500e0"), "{text}");
    }

    #[test]
    fn constant_layers_are_named() {
        let mut report = report(Init::zeros(), Nonlinearity::Relu, 1);
        let w = [1f32, 2.0, 1.0, 2.0];
        for (name, layout) in [("rows", Layout::OutIn), ("columns", Layout::InOut)] {
            report.push(ReportLayer::of_values(name, &[2, 2], layout, &w).unwrap());
        }
        let identical: Vec<bool> = report.rows().iter().map(|row| row.identical_units).collect();
        assert_eq!(identical, [true, true, false]);
        assert_eq!(report.to_string().matches("units start identical").count(), 2);
        let one = ReportLayer::of_init("one", &[1, 9], Layout::OutIn, &Init::ones()).unwrap();
        assert!(!one.identical);
    }

    #[test]
    fn the_walk_finds_copies_and_skips_vectors() {
        let param = |name: &str, shape: &[usize], v: &[f32]| VecParam::new(name, shape, v.to_vec());
        let mut params = vec![
            param("copies", &[2, 1, 2], &[1.0, 2.0, 1.0, 2.0]),
            param("table", &[2, 2], &[1.0, 1.0, 2.0, 2.0]).with_kind(ParamKind::Embedding),
            param("fine", &[2, 1, 2], &[1.0, 2.0, 1.0, 3.0]),
            param("single", &[1, 2], &[0.0, 0.0]),
            param("vector", &[2], &[0.0, 0.0]),
            param("empty", &[2, 0], &[]),
        ];
        assert_eq!(identical_units(&mut params, Layout::OutIn), ["copies", "table"]);
    }
}
