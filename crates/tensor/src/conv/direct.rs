//! Convolutions of any window and stride on vectors of channels, without a matrix of patches.
//!
//! Some rows of an image are turned into vectors of channels. A row of the output is then one product whose inner
//! dimension runs over the elements of the window and the channels: each is a [`Run`] that begins elsewhere in the
//! same rows.
//!
//! The columns of the window are folded into the channels where both fit into one vector, as in a first layer.

use rayon::prelude::*;

use super::{geometry::Geometry, image::Images};
use crate::{
    DType,
    buffer::{Buffer, floats, scratch},
    gemm::{
        MULTIPLY_ADD_NS,
        lanes::{Band, LANES, Lanes, RowStep, Run, bands, vectors},
    },
    par,
};

/// Fewest channels that are worth a vector.
const MIN_CHANNELS: usize = 8;
/// Elements of the rows that are turned at once.
const BLOCK: usize = 1 << 16;
/// Nanoseconds of the work that a thread takes.
const PIECE_NS: f64 = 150_000.0;
/// Most pieces of the gradient of the weight, each with its own sum.
const MAX_PIECES: usize = 16;

/// A window as it is applied to rows in vectors of channels.
#[derive(Clone, Copy)]
struct Window {
    g: Geometry,
    /// Whether the columns of the window are channels.
    folded: bool,
}

impl Window {
    fn new(g: &Geometry) -> Self {
        Self { g: *g, folded: g.kernel[1] > 1 && g.channels[0] * g.kernel[1] <= LANES }
    }

    /// Channels of the rows.
    fn channels(&self) -> usize {
        self.g.channels[0] * if self.folded { self.g.kernel[1] } else { 1 }
    }

    /// Columns of the window that are left.
    fn columns(&self) -> usize {
        if self.folded { 1 } else { self.g.kernel[1] }
    }

    /// Elements of the window that are left.
    fn elements(&self) -> usize {
        self.g.kernel[0] * self.columns()
    }

    /// Distance of the pixels behind neighbouring outputs.
    fn step(&self) -> usize {
        if self.folded { 1 } else { self.g.options.stride[1] }
    }

    /// Pixels of a row.
    fn width(&self) -> usize {
        let reach = (self.columns() - 1) * self.g.options.dilation[1];
        (self.g.output[1] - 1) * self.step() + reach + 1
    }

    /// Rows of the input behind `rows` rows of the output.
    fn height(&self, rows: usize) -> usize {
        let reach = (self.g.kernel[0] - 1) * self.g.options.dilation[0];
        (rows - 1) * self.g.options.stride[0] + reach + 1
    }

    /// Rows of the output whose input is turned at once.
    fn rows(&self) -> usize {
        let row = vectors(self.channels()) * self.width() * LANES * self.g.options.stride[0];
        (BLOCK / row).clamp(1, self.g.output[0])
    }

    /// Elements of the turned rows behind `rows` rows of the output.
    fn turned(&self, rows: usize) -> usize {
        vectors(self.channels()) * self.height(rows) * self.width() * LANES
    }

    /// Whether row `y` of those behind some rows of the output is part of a window.
    fn is_used(&self, y: usize) -> bool {
        let (stride, dilation) = (self.g.options.stride[0], self.g.options.dilation[0]);
        (0..self.g.kernel[0]).any(|k| y >= k * dilation && (y - k * dilation).is_multiple_of(stride))
    }

    /// Turns the rows behind `rows` rows of the output from `first` on: `[vector][row][pixel][16]`.
    fn turn(&self, x: &Images<'_>, image: usize, [first, rows]: [usize; 2], taps: &mut [f32], out: &mut [f32]) {
        let (height, width) = (self.height(rows), self.width());
        let [py, px] = self.g.options.padding.map(|p| p as isize);
        let top = (first * self.g.options.stride[0]) as isize - py;
        for (v, out) in out.chunks_exact_mut(height * width * LANES).enumerate().take(vectors(self.channels())) {
            for (y, out) in out.chunks_exact_mut(width * LANES).enumerate() {
                if !self.is_used(y) {
                    continue;
                }
                let at = [top + y as isize, -px];
                if self.folded {
                    let [step, reach] = [self.g.options.stride[1], self.g.options.dilation[1]];
                    x.folded_row(image, at, [self.g.kernel[1], reach, step], taps, out);
                } else {
                    x.row(image, v * LANES, at, out);
                }
            }
        }
    }

    /// Elements that `turn` needs besides.
    fn taps(&self) -> usize {
        if self.folded { self.channels() * self.width() } else { 0 }
    }

    /// Where the rows behind element `k` of the window begin in the turned ones, in vector `v`.
    fn place(&self, rows: usize, k: usize, v: usize) -> usize {
        let [dy, dx] = self.g.options.dilation;
        let (y, x) = (k / self.columns() * dy, k % self.columns() * dx);
        ((v * self.height(rows) + y) * self.width() + x) * LANES
    }

    /// Element `(output, channel of the rows, element of the window)` of the weight.
    fn weight(&self, o: usize, c: usize, k: usize) -> usize {
        let [kh, kw] = self.g.kernel;
        let patch = self.g.channels[0] * kh * kw;
        if self.folded {
            o * patch + (c / kw * kh + k) * kw + c % kw
        } else {
            o * patch + c * kh * kw + k
        }
    }
}

/// Whether the convolution is of this kind.
pub(super) fn applies(g: &Geometry) -> bool {
    let window = Window::new(g);
    g.options.groups == 1 && !g.is_pointwise() && g.channels[1] >= MIN_CHANNELS && window.step() <= 2
}

/// Whether its gradient by the input is.
pub(super) fn applies_to_input(g: &Geometry) -> bool {
    g.options.groups == 1 && !g.is_pointwise() && g.channels[0] >= MIN_CHANNELS
}

/// Nanoseconds of one row of the output.
fn row_ns(g: &Geometry) -> f64 {
    (g.output[1] * g.patch() * g.channels[1]) as f64 * 1.3 * MULTIPLY_ADD_NS
}

/// Cuts the `n` rows of all images into pieces, and calls `f(rows, band)` for each, on several threads.
fn each_piece(
    n: usize,
    ns: f64,
    y: &mut [f32],
    channels: usize,
    size: [usize; 2],
    f: impl Fn([usize; 2], Band<'_>) + Sync + Send,
) {
    // Every element is computed in the same way wherever it is cut.
    let pieces = ((n as f64 * ns / PIECE_NS) as usize).clamp(1, n.max(1));
    let cut = |i: usize| i * n / pieces;
    let bands = bands(y, channels, size, (1..=pieces).map(cut));
    let run = |(i, band)| f([cut(i), cut(i + 1)], band);
    if pieces > 1 && rayon::current_num_threads() > 1 {
        bands.into_par_iter().enumerate().with_max_len(1).for_each(run);
    } else {
        bands.into_iter().enumerate().for_each(run);
    }
}

/// Rows between `first` and `end`, counted over images of `height`, in parts of one image of at most `most`:
/// image, first row in it, how many.
fn parts([first, end]: [usize; 2], height: usize, most: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut at = first;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (image, row) = (at / height, at % height);
            let rows = most.min(height - row).min(end - at);
            at += rows;
            (image, row, rows)
        })
    })
}

/// The convolution.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    if y.is_empty() {
        return;
    }
    let window = Window::new(g);
    let (channels, outputs, elements) = (window.channels(), g.channels[1], window.elements());
    // `[vector of outputs][element of the window][channel][16]`
    let mut weight = Buffer::zeroed(DType::F32, vectors(outputs) * elements * channels * LANES);
    for (i, lanes) in floats(&mut weight).chunks_exact_mut(LANES).enumerate() {
        let (v, k, c) = (i / (elements * channels), i / channels % elements, i % channels);
        for (o, lane) in (v * LANES..outputs).zip(lanes) {
            *lane = w[window.weight(o, c, k)];
        }
    }
    let weight = floats(&mut weight);
    let x = Images { data: x, channels: g.channels[0], size: g.input };
    let [height, width] = g.output;
    each_piece(g.images * height, row_ns(g), y, outputs, g.output, |lines, mut band| {
        let mut turned = scratch(window.turned(window.rows()));
        let mut taps = scratch(window.taps());
        let mut strip = scratch(vectors(outputs) * width * LANES);
        let (turned, taps, strip) = (floats(&mut turned), floats(&mut taps), floats(&mut strip));
        let mut runs = Vec::with_capacity(elements * vectors(channels));
        for (image, first, rows) in parts(lines, height, window.rows()) {
            window.turn(&x, image, [first, rows], taps, turned);
            runs.clear();
            for (k, v) in (0..elements).flat_map(|k| (0..vectors(channels)).map(move |v| (k, v))) {
                let len = LANES.min(channels - v * LANES);
                runs.push(Run { a: window.place(rows, k, v), b: (k * channels + v * LANES) * LANES, len });
            }
            for row in 0..rows {
                if let Some(bias) = bias {
                    for (o, pixels) in strip.chunks_exact_mut(width * LANES).enumerate() {
                        let mut lanes = [0.0; LANES];
                        lanes.iter_mut().zip(&bias[o * LANES..]).for_each(|(l, &b)| *l = b);
                        pixels.as_chunks_mut().0.fill(lanes);
                    }
                }
                Lanes {
                    a: &turned[row * g.options.stride[0] * window.width() * LANES..],
                    a_row: if window.step() == 1 { RowStep::Pixel } else { RowStep::TwoPixels },
                    a_step: 1,
                    b: weight,
                    b_step: LANES,
                    b_vector: elements * channels * LANES,
                    runs: &runs,
                    rows: width,
                    vectors: vectors(outputs),
                }
                .multiply(strip, [LANES, width * LANES], bias.is_some());
                for (v, pixels) in strip.chunks_exact(width * LANES).enumerate() {
                    band.write(image * height + first + row, 0, v * LANES, width, pixels);
                }
            }
        }
    });
}

/// Its gradient by the input: every row and column of the input is reached by every `stride`-th element of the window.
pub(super) fn grad_input(g: &Geometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    if dx.is_empty() {
        return;
    }
    let [inputs, outputs] = g.channels;
    let [kh, kw] = g.kernel;
    let ([sy, sx], [py, px], [dil_y, dil_x]) = (g.options.stride, g.options.padding, g.options.dilation);
    // `[vector of inputs][element of the window][output][16]`
    let mut weight = Buffer::zeroed(DType::F32, vectors(inputs) * kh * kw * outputs * LANES);
    for (i, lanes) in floats(&mut weight).chunks_exact_mut(LANES).enumerate() {
        let (v, k, o) = (i / (kh * kw * outputs), i / outputs % (kh * kw), i % outputs);
        for (c, lane) in (v * LANES..inputs).zip(lanes) {
            *lane = w[(o * inputs + c) * kh * kw + k];
        }
    }
    let weight = floats(&mut weight);
    let upstream = Images { data: dy, channels: outputs, size: g.output };
    let [height, width] = g.input;
    // The pixel of the output that element k of the window takes to pixel `at` of the input, if any does.
    let source = |at: usize, k: usize, padding: usize, stride: usize, dilation: usize| {
        let from = (at + padding) as isize - (k * dilation) as isize;
        (from.rem_euclid(stride as isize) == 0).then(|| from.div_euclid(stride as isize))
    };
    // Columns of the output that are read, with zeros around it.
    let reads = (0..width).flat_map(|at| (0..kw).filter_map(move |k| source(at, k, px, sx, dil_x)));
    let (low, high) = reads.fold((0, 0), |(low, high), j| (low.min(j), high.max(j)));
    let pixels = (high - low + 1) as usize;
    let most = (BLOCK / (vectors(outputs) * pixels * LANES)).max(1) * sy;
    let reach = (kh - 1) * dil_y;
    each_piece(g.images * height, row_ns(g) / sy as f64, dx, inputs, g.input, |lines, mut band| {
        let most = most.min(lines[1] - lines[0]).min(height);
        let mut turned = scratch(vectors(outputs) * ((most + reach) / sy + 2) * pixels * LANES);
        let mut strip = scratch(vectors(inputs) * width * LANES);
        let (turned, strip) = (floats(&mut turned), floats(&mut strip));
        let mut runs = Vec::with_capacity(kh * kw * vectors(outputs));
        for (image, first, rows) in parts(lines, height, most) {
            // Rows of the output behind these.
            let top = (first + py).saturating_sub(reach).div_ceil(sy).min(g.output[0]);
            let bottom = ((first + rows - 1 + py) / sy + 1).clamp(top, g.output[0]);
            for v in 0..vectors(outputs) {
                for y in top..bottom {
                    let at = (v * (bottom - top) + y - top) * pixels * LANES;
                    upstream.row(image, v * LANES, [y as isize, low], &mut turned[at..][..pixels * LANES]);
                }
            }
            for row in first..first + rows {
                for column in 0..sx.min(width) {
                    runs.clear();
                    for k in 0..kh * kw {
                        let y = source(row, k / kw, py, sy, dil_y);
                        let x = source(column, k % kw, px, sx, dil_x);
                        let (Some(y), Some(x)) = (y, x) else { continue };
                        if y < 0 || y >= g.output[0] as isize {
                            continue;
                        }
                        for v in 0..vectors(outputs) {
                            let a = (v * (bottom - top) + y as usize - top) * pixels + (x - low) as usize;
                            let b = (k * outputs + v * LANES) * LANES;
                            runs.push(Run { a: a * LANES, b, len: LANES.min(outputs - v * LANES) });
                        }
                    }
                    Lanes {
                        a: turned,
                        a_row: RowStep::Pixel,
                        a_step: 1,
                        b: weight,
                        b_step: LANES,
                        b_vector: kh * kw * outputs * LANES,
                        runs: &runs,
                        rows: (width - column).div_ceil(sx),
                        vectors: vectors(inputs),
                    }
                    .multiply(&mut strip[column * LANES..], [sx * LANES, width * LANES], false);
                }
                for (v, pixels) in strip.chunks_exact(width * LANES).enumerate() {
                    band.write(image * height + row, 0, v * LANES, width, pixels);
                }
            }
        }
    });
}

/// Its gradient by the weight.
pub(super) fn grad_weight(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let window = Window::new(g);
    let (channels, outputs, elements) = (window.channels(), g.channels[1], window.elements());
    let lines = g.images * g.output[0];
    // Each piece has its own sum; their number depends on sizes only, so that any number of threads gives the same bits.
    let ns = lines as f64 * row_ns(g);
    let most = (lines * g.output[1] / 256).min(MAX_PIECES).max(1);
    let pieces = ((ns / PIECE_NS) as usize).clamp(1, most);
    let x = Images { data: x, channels: g.channels[0], size: g.input };
    let dy = Images { data: dy, channels: outputs, size: g.output };
    let sums = par::map(pieces, ns / pieces as f64, |p| {
        sum_of_products(&window, x, dy, [p * lines / pieces, (p + 1) * lines / pieces])
    });
    let width = vectors(outputs) * LANES;
    for o in 0..outputs {
        for (c, k) in (0..channels).flat_map(|c| (0..elements).map(move |k| (c, k))) {
            let at = (k * channels + c) * width + o;
            let sum = |s: &Buffer| s.as_slice::<f32>().expect("made for f32")[at];
            dw[window.weight(o, c, k)] = sums.iter().map(sum).sum();
        }
    }
}

/// The sums `[element of the window][channel][output]` over some rows of the output.
fn sum_of_products(window: &Window, x: Images<'_>, dy: Images<'_>, lines: [usize; 2]) -> Buffer {
    let g = &window.g;
    let (channels, outputs) = (window.channels(), vectors(dy.channels));
    let mut sum = Buffer::zeroed(DType::F32, window.elements() * channels * outputs * LANES);
    let total = floats(&mut sum);
    let [height, width] = g.output;
    let most = window.rows();
    let mut turned = scratch(window.turned(most));
    let mut taps = scratch(window.taps());
    let mut upstream = scratch(outputs * most * width * LANES);
    let (turned, taps, upstream) = (floats(&mut turned), floats(&mut taps), floats(&mut upstream));
    let mut runs = Vec::with_capacity(most);
    for (image, first, rows) in parts(lines, height, most) {
        window.turn(&x, image, [first, rows], taps, turned);
        for (i, out) in upstream.chunks_exact_mut(width * LANES).enumerate().take(outputs * rows) {
            dy.row(image, i / rows * LANES, [(first + i % rows) as isize, 0], out);
        }
        for (k, v) in (0..window.elements()).flat_map(|k| (0..vectors(channels)).map(move |v| (k, v))) {
            runs.clear();
            let step = g.options.stride[0] * window.width() * LANES;
            let at = window.place(rows, k, v);
            runs.extend((0..rows).map(|r| Run { a: at + r * step, b: r * width * LANES, len: width }));
            Lanes {
                a: turned,
                a_row: RowStep::Lane,
                a_step: window.step() * LANES,
                b: upstream,
                b_step: LANES,
                b_vector: rows * width * LANES,
                runs: &runs,
                rows: LANES.min(channels - v * LANES),
                vectors: outputs,
            }
            .multiply(&mut total[(k * channels + v * LANES) * outputs * LANES..], [outputs * LANES, LANES], true);
        }
    }
    sum
}
