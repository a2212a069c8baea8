//! Means over windows.

use super::{MaxPoolOptions, Planes};
use crate::{Real, Tensor, kernel, par, sum_row, with_real};

/// Windows of [`Tensor::avg_pool2d`].
///
/// ```
/// use gradus_tensor::AvgPoolOptions;
///
/// let o = AvgPoolOptions::new([2, 2]);
/// assert!(o.count_include_pad && o.divisor_override.is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct AvgPoolOptions {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Distance between windows. Default: the kernel.
    pub stride: [usize; 2],
    /// Implicit zeros on both sides, at most half the kernel. Default 0.
    pub padding: [usize; 2],
    /// Whether a last window may reach beyond the padded input. Default false.
    pub ceil_mode: bool,
    /// Whether the padding counts as elements: the divisor is then the size of the window clipped to the padded
    /// input, otherwise of the window clipped to the input. Default true.
    pub count_include_pad: bool,
    /// A divisor for all windows.
    pub divisor_override: Option<usize>,
}

impl AvgPoolOptions {
    /// Windows side by side.
    #[must_use]
    pub fn new(kernel: [usize; 2]) -> Self {
        Self {
            kernel,
            stride: kernel,
            padding: [0; 2],
            ceil_mode: false,
            count_include_pad: true,
            divisor_override: None,
        }
    }

    /// Sets the distance between windows.
    #[must_use]
    pub fn with_stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    /// Sets the padding.
    #[must_use]
    pub fn with_padding(self, padding: [usize; 2]) -> Self {
        Self { padding, ..self }
    }

    /// Sets whether a last window may reach beyond the padded input.
    #[must_use]
    pub fn with_ceil_mode(self, ceil_mode: bool) -> Self {
        Self { ceil_mode, ..self }
    }

    /// Sets whether the padding counts as elements.
    #[must_use]
    pub fn with_count_include_pad(self, count_include_pad: bool) -> Self {
        Self { count_include_pad, ..self }
    }

    /// Sets a divisor for all windows.
    #[must_use]
    pub fn with_divisor_override(self, divisor: usize) -> Self {
        Self { divisor_override: Some(divisor), ..self }
    }
}

/// A window along one dimension: elements `start..end` of the input, and what it counts as in the divisor.
#[derive(Clone, Copy)]
struct Window {
    start: usize,
    end: usize,
    count: usize,
}

/// The windows of a mean along height and width; a divisor is the product of two counts.
struct Means {
    planes: Planes,
    rows: Vec<Window>,
    columns: Vec<Window>,
}

impl Means {
    #[track_caller]
    fn fixed(op: &str, x: &[usize], o: &AvgPoolOptions) -> Self {
        assert_ne!(o.divisor_override, Some(0), "{op}: the divisor is 0");
        let AvgPoolOptions { kernel, stride, padding, ceil_mode, .. } = *o;
        let planes = Planes::new(
            op,
            x,
            &MaxPoolOptions { kernel, stride, padding, dilation: [1; 2], ceil_mode },
        );
        let [rows, columns] = [0, 1].map(|d| {
            let (n, p) = (planes.input[d], padding[d]);
            let window = |i: usize| {
                // Positions in the padded input first.
                let start = i * stride[d];
                let end = (start + kernel[d]).min(n + 2 * p);
                let inside = [start, end].map(|at| at.saturating_sub(p).min(n));
                let count = match o.divisor_override {
                    Some(divisor) => [divisor, 1][d],
                    None if o.count_include_pad => end - start,
                    None => inside[1] - inside[0],
                };
                Window { start: inside[0], end: inside[1], count }
            };
            (0..planes.output[d]).map(window).collect()
        });
        Self { planes, rows, columns }
    }

    #[track_caller]
    fn adaptive(op: &str, x: &[usize], output: [usize; 2]) -> Self {
        assert_eq!(x.len(), 4, "{op}: the input has to be 4-d, not {x:?}");
        assert!(x[2] > 0 && x[3] > 0, "{op}: the input {x:?} has no elements to pool");
        let input = [x[2], x[3]];
        let [rows, columns] = [0, 1].map(|d| {
            let (n, m) = (input[d], output[d]);
            let window = |i: usize| {
                let (start, end) = (i * n / m, ((i + 1) * n).div_ceil(m));
                Window { start, end, count: end - start }
            };
            (0..m).map(window).collect()
        });
        Self { planes: Planes { input, output }, rows, columns }
    }

    /// Nanoseconds of one plane, roughly.
    fn ns(&self) -> f64 {
        let rows: usize = self.rows.iter().map(|w| w.end - w.start).sum();
        let columns: usize = self.columns.iter().map(|w| w.end - w.start).sum();
        (rows * self.planes.input[1]) as f64 * 0.2 + (self.rows.len() * columns) as f64
    }

    #[track_caller]
    fn forward(&self, op: &str, x: &Tensor) -> Tensor {
        if x.is_short() {
            return x.in_compute_type(|x| self.forward(op, x));
        }
        let (from, to) = (self.planes.input_len(), self.planes.output_len());
        let shape = self.planes.output_shape(x.shape());
        with_real!(op, x.dtype(), T => {
            let x = x.contiguous();
            let x = x.as_slice::<T>();
            Tensor::build::<T>(&shape, |out| {
                par::for_each_mut(out, to, self.ns(), |first, out| {
                    let mut sums = vec![T::ZERO; self.planes.input[1]];
                    for (i, out) in out.chunks_exact_mut(to).enumerate() {
                        mean_plane::<T>(self, &x[(first + i) * from..][..from], out, &mut sums);
                    }
                });
            })
        })
    }

    #[track_caller]
    fn backward(&self, op: &str, dy: &Tensor, input: &[usize]) -> Tensor {
        assert_eq!(
            dy.shape(),
            self.planes.output_shape(input),
            "{op}: shape of the gradient for input {input:?}"
        );
        if dy.is_short() {
            return dy.in_compute_type(|dy| self.backward(op, dy, input));
        }
        let (from, to) = (self.planes.input_len(), self.planes.output_len());
        with_real!(op, dy.dtype(), T => {
            let dy = dy.contiguous();
            let dy = dy.as_slice::<T>();
            Tensor::build::<T>(input, |dx| {
                par::for_each_mut(dx, from, self.ns(), |first, dx| {
                    let mut sums = vec![T::ZERO; self.planes.input[1]];
                    for (i, dx) in dx.chunks_exact_mut(from).enumerate() {
                        mean_grad_plane::<T>(self, &dy[(first + i) * to..][..to], dx, &mut sums);
                    }
                });
            })
        })
    }
}

kernel! {
    /// Rows of a window are summed whole, then their sum by windows along the width: two short sums.
    fn mean_plane['a, T: Real]['a, T](m: &'a Means, x: &'a [T], out: &'a mut [T], sums: &'a mut [T]) -> () {
        let w = m.planes.input[1];
        for (row, out) in m.rows.iter().zip(out.chunks_exact_mut(m.columns.len().max(1))) {
            sums.fill(T::ZERO);
            for x in x[row.start * w..row.end * w].chunks_exact(w) {
                for (sum, &x) in sums.iter_mut().zip(x) {
                    *sum += x;
                }
            }
            for (out, column) in out.iter_mut().zip(&m.columns) {
                let sums = &sums[column.start..column.end];
                // Most windows are too short for lanes.
                let sum = if sums.len() < 16 { sums.iter().copied().sum() } else { sum_row(sums) };
                *out = sum / T::lit((row.count * column.count) as f64);
            }
        }
    }
}

kernel! {
    fn mean_grad_plane['a, T: Real]['a, T](m: &'a Means, dy: &'a [T], dx: &'a mut [T], sums: &'a mut [T]) -> () {
        let w = m.planes.input[1];
        dx.fill(T::ZERO);
        for (row, dy) in m.rows.iter().zip(dy.chunks_exact(m.columns.len().max(1))) {
            sums.fill(T::ZERO);
            for (&dy, column) in dy.iter().zip(&m.columns) {
                let share = dy / T::lit((row.count * column.count) as f64);
                for sum in &mut sums[column.start..column.end] {
                    *sum += share;
                }
            }
            for dx in dx[row.start * w..row.end * w].chunks_exact_mut(w) {
                for (dx, &sum) in dx.iter_mut().zip(&*sums) {
                    *dx += sum;
                }
            }
        }
    }
}

impl Tensor {
    /// The mean of each window, with the divisor that the options say. Padding counts as zeros.
    ///
    /// # Shapes
    /// As [`max_pool2d`](Self::max_pool2d), with dilation 1.
    ///
    /// # Panics
    /// As `max_pool2d`, and when the divisor is 0.
    #[must_use]
    #[track_caller]
    pub fn avg_pool2d(&self, options: AvgPoolOptions) -> Self {
        Means::fixed("avg_pool2d", self.shape(), &options).forward("avg_pool2d", self)
    }

    /// The gradient of [`avg_pool2d`](Self::avg_pool2d) by its input, whose shape is given, for `self` the gradient
    /// by its output.
    ///
    /// # Panics
    /// As `avg_pool2d`, and when `self` is not of the output's shape.
    #[must_use]
    #[track_caller]
    pub fn avg_pool2d_grad(&self, input: &[usize], options: AvgPoolOptions) -> Self {
        Means::fixed("avg_pool2d_grad", input, &options).backward("avg_pool2d_grad", self, input)
    }

    /// The means of `output[0]` by `output[1]` windows that cover the image: along a dimension of size `n` window
    /// `i` of `m` is `floor(i n / m) .. ceil((i + 1) n / m)`, so that neighbours may overlap by one element.
    ///
    /// # Shapes
    /// `[N, C, H, W]` to `[N, C, output[0], output[1]]`.
    ///
    /// # Panics
    /// When the input is not 4-d, H or W is 0, or the elements are no floats.
    #[must_use]
    #[track_caller]
    pub fn adaptive_avg_pool2d(&self, output: [usize; 2]) -> Self {
        Means::adaptive("adaptive_avg_pool2d", self.shape(), output)
            .forward("adaptive_avg_pool2d", self)
    }

    /// The gradient of [`adaptive_avg_pool2d`](Self::adaptive_avg_pool2d) by its input, whose shape is given, for
    /// `self` the gradient by its output.
    ///
    /// # Panics
    /// As `adaptive_avg_pool2d`, and when `self` has no four dimensions or does not fit the input.
    #[must_use]
    #[track_caller]
    pub fn adaptive_avg_pool2d_grad(&self, input: &[usize]) -> Self {
        const OP: &str = "adaptive_avg_pool2d_grad";
        assert_eq!(self.ndim(), 4, "{OP}: the gradient has to be 4-d, not {:?}", self.shape());
        let output = [self.shape()[2], self.shape()[3]];
        Means::adaptive(OP, input, output).backward(OP, self, input)
    }
}
