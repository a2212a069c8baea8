//! Convolutions of any window and stride on vectors of channels, without a matrix of patches.
//!
//! Some rows of an image are turned into vectors of channels. A row of the output is then one product whose inner
//! dimension runs over the elements of the window and the channels: each is a [`Run`] that begins elsewhere in the
//! same rows.

use super::{
    geometry::Geometry,
    image::Images,
    pieces::{each_piece, sum_of_pieces},
};
use crate::{
    ConvOptions, DType,
    buffer::{Buffer, floats, scratch},
    gemm::{
        MULTIPLY_ADD_NS,
        lanes::{LANES, Lanes, RowStep, Run, vectors},
    },
};

/// Fewest channels that are worth a vector.
const MIN_CHANNELS: usize = 8;
/// Elements of the rows that are turned at once.
const BLOCK: usize = 1 << 16;
/// Fewest pixels that are added to a sum of its own.
const MIN_SUMMED: usize = 256;

/// Rows of the input in vectors of channels, and where windows begin in them.
#[derive(Clone, Copy)]
struct Rows {
    g: Geometry,
    /// Vectors of channels.
    vectors: usize,
    /// Pixels of a row.
    width: usize,
}

impl Rows {
    fn new(g: &Geometry) -> Self {
        let reach = (g.kernel[1] - 1) * g.options.dilation[1];
        let width = (g.output[1] - 1) * g.options.stride[1] + reach + 1;
        Self { g: *g, vectors: vectors(g.channels[0]), width }
    }

    /// Rows of the input behind `rows` rows of the output.
    fn height(&self, rows: usize) -> usize {
        let reach = (self.g.kernel[0] - 1) * self.g.options.dilation[0];
        (rows - 1) * self.g.options.stride[0] + reach + 1
    }

    /// Rows of the output whose input is turned at once.
    fn most(&self) -> usize {
        let row = self.vectors * self.width * LANES * self.g.options.stride[0];
        (BLOCK / row).clamp(1, self.g.output[0])
    }

    /// Elements of the turned rows behind `rows` rows of the output.
    fn len(&self, rows: usize) -> usize {
        self.vectors * self.height(rows) * self.width * LANES
    }

    /// Whether row `y` of those behind some rows of the output is part of a window.
    fn is_used(&self, y: usize) -> bool {
        let (stride, dilation) = (self.g.options.stride[0], self.g.options.dilation[0]);
        let begins = |k: usize| y >= k * dilation && (y - k * dilation).is_multiple_of(stride);
        (0..self.g.kernel[0]).any(begins)
    }

    /// Turns the rows behind `rows` rows of the output from `first` on: `[vector][row][pixel][16]`.
    fn turn(&self, x: &Images<'_>, image: usize, [first, rows]: [usize; 2], out: &mut [f32]) {
        let height = self.height(rows);
        let [py, px] = self.g.options.padding.map(|p| p as isize);
        let top = (first * self.g.options.stride[0]) as isize - py;
        let planes = out.chunks_exact_mut(height * self.width * LANES);
        for (v, out) in planes.enumerate().take(self.vectors) {
            for (y, out) in out.chunks_exact_mut(self.width * LANES).enumerate() {
                if self.is_used(y) {
                    x.row(image, v * LANES, [top + y as isize, -px], out);
                }
            }
        }
    }

    /// Where what lies behind element `k` of the window begins, in vector `v`.
    fn place(&self, rows: usize, k: usize, v: usize) -> usize {
        let ([dy, dx], kw) = (self.g.options.dilation, self.g.kernel[1]);
        ((v * self.height(rows) + k / kw * dy) * self.width + k % kw * dx) * LANES
    }
}

/// Whether the convolution is of this kind: not if a vector holds few channels, or neighbouring windows are far apart.
pub(super) fn applies(g: &Geometry) -> bool {
    g.channels[0] >= MIN_CHANNELS && applies_to_weight(g)
}

/// Whether its gradient by the input is.
pub(super) fn applies_to_input(g: &Geometry) -> bool {
    let [inputs, outputs] = g.channels;
    g.options.groups == 1 && !g.is_pointwise() && inputs >= MIN_CHANNELS && outputs > 0
}

/// Whether its gradient by the weight is.
pub(super) fn applies_to_weight(g: &Geometry) -> bool {
    let ConvOptions { groups, stride, .. } = g.options;
    let [inputs, outputs] = g.channels;
    groups == 1 && !g.is_pointwise() && inputs > 0 && outputs >= MIN_CHANNELS && stride[1] <= 2
}

/// Nanoseconds of one row of the output.
fn row_ns(g: &Geometry) -> f64 {
    (g.output[1] * g.patch() * g.channels[1]) as f64 * 1.3 * MULTIPLY_ADD_NS
}

/// Rows between `first` and `end`, counted over images of `height`, in parts of one image of at most `most`:
/// image, first row in it, how many.
fn parts(
    [first, end]: [usize; 2],
    height: usize,
    most: usize,
) -> impl Iterator<Item = (usize, usize, usize)> {
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
    let source = Rows::new(g);
    let ([channels, outputs], elements) = (g.channels, g.kernel[0] * g.kernel[1]);
    // `[vector of outputs][element of the window][channel][16]`
    let mut weight = Buffer::zeroed(DType::F32, vectors(outputs) * elements * channels * LANES);
    for (i, lanes) in floats(&mut weight).chunks_exact_mut(LANES).enumerate() {
        let (v, k, c) = (i / (elements * channels), i / channels % elements, i % channels);
        for (o, lane) in (v * LANES..outputs).zip(lanes) {
            *lane = w[(o * channels + c) * elements + k];
        }
    }
    let weight = floats(&mut weight);
    let x = Images { data: x, channels: g.channels[0], size: g.input };
    let [height, width] = g.output;
    let lines = [g.images * height, outputs];
    each_piece(
        lines,
        row_ns(g),
        y,
        g.output,
        |i| i,
        |lines, mut band| {
            let mut turned = scratch(source.len(source.most()));
            let mut strip = scratch(vectors(outputs) * width * LANES);
            let (turned, strip) = (floats(&mut turned), floats(&mut strip));
            let mut runs = Vec::with_capacity(elements * vectors(channels));
            for (image, first, rows) in parts(lines, height, source.most()) {
                source.turn(&x, image, [first, rows], turned);
                runs.clear();
                for (k, v) in
                    (0..elements).flat_map(|k| (0..vectors(channels)).map(move |v| (k, v)))
                {
                    let len = LANES.min(channels - v * LANES);
                    runs.push(Run {
                        a: source.place(rows, k, v),
                        b: (k * channels + v * LANES) * LANES,
                        len,
                    });
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
                        a: &turned[row * g.options.stride[0] * source.width * LANES..],
                        a_row: if g.options.stride[1] == 1 {
                            RowStep::Pixel
                        } else {
                            RowStep::TwoPixels
                        },
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
        },
    );
}

/// Its gradient by the input: every row and column of the input is reached by every `stride`-th element of the window.
pub(super) fn grad_input(g: &Geometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    if dx.is_empty() {
        return;
    }
    let [inputs, outputs] = g.channels;
    let [kh, kw] = g.kernel;
    let ([sy, sx], [py, px], [dil_y, dil_x]) =
        (g.options.stride, g.options.padding, g.options.dilation);
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
    let lines = [g.images * height, inputs];
    each_piece(
        lines,
        row_ns(g) / sy as f64,
        dx,
        g.input,
        |i| i,
        |lines, mut band| {
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
                        upstream.row(
                            image,
                            v * LANES,
                            [y as isize, low],
                            &mut turned[at..][..pixels * LANES],
                        );
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
                                let a = (v * (bottom - top) + y as usize - top) * pixels
                                    + (x - low) as usize;
                                let b = (k * outputs + v * LANES) * LANES;
                                runs.push(Run {
                                    a: a * LANES,
                                    b,
                                    len: LANES.min(outputs - v * LANES),
                                });
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
                        .multiply(
                            &mut strip[column * LANES..],
                            [sx * LANES, width * LANES],
                            false,
                        );
                    }
                    for (v, pixels) in strip.chunks_exact(width * LANES).enumerate() {
                        band.write(image * height + row, 0, v * LANES, width, pixels);
                    }
                }
            }
        },
    );
}

/// Its gradient by the weight.
pub(super) fn grad_weight(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let source = Rows::new(g);
    let ([channels, outputs], elements) = (g.channels, g.kernel[0] * g.kernel[1]);
    let lines = g.images * g.output[0];
    let x = Images { data: x, channels, size: g.input };
    let dy = Images { data: dy, channels: outputs, size: g.output };
    let most = lines * g.output[1] / MIN_SUMMED;
    let sum = sum_of_pieces(lines, row_ns(g), most, |lines| sum_of_products(&source, x, dy, lines));
    let sum = sum.as_slice::<f32>().expect("made for f32");
    let width = vectors(outputs) * LANES;
    for o in 0..outputs {
        for (c, k) in (0..channels).flat_map(|c| (0..elements).map(move |k| (c, k))) {
            dw[(o * channels + c) * elements + k] = sum[(k * channels + c) * width + o];
        }
    }
}

/// The sums `[element of the window][channel][output]` over some rows of the output.
fn sum_of_products(source: &Rows, x: Images<'_>, dy: Images<'_>, lines: [usize; 2]) -> Buffer {
    let g = &source.g;
    let (channels, outputs) = (x.channels, vectors(dy.channels));
    let elements = g.kernel[0] * g.kernel[1];
    let mut sum = Buffer::zeroed(DType::F32, elements * channels * outputs * LANES);
    let total = floats(&mut sum);
    let [height, width] = g.output;
    let most = source.most();
    let mut turned = scratch(source.len(most));
    let mut upstream = scratch(outputs * most * width * LANES);
    let (turned, upstream) = (floats(&mut turned), floats(&mut upstream));
    let mut runs = Vec::with_capacity(most);
    for (image, first, rows) in parts(lines, height, most) {
        source.turn(&x, image, [first, rows], turned);
        for (i, out) in upstream.chunks_exact_mut(width * LANES).enumerate().take(outputs * rows) {
            dy.row(image, i / rows * LANES, [(first + i % rows) as isize, 0], out);
        }
        for (k, v) in (0..elements).flat_map(|k| (0..vectors(channels)).map(move |v| (k, v))) {
            runs.clear();
            let step = g.options.stride[0] * source.width * LANES;
            let at = source.place(rows, k, v);
            runs.extend((0..rows).map(|r| Run {
                a: at + r * step,
                b: r * width * LANES,
                len: width,
            }));
            Lanes {
                a: turned,
                a_row: RowStep::Lane,
                a_step: g.options.stride[1] * LANES,
                b: upstream,
                b_step: LANES,
                b_vector: rows * width * LANES,
                runs: &runs,
                rows: LANES.min(channels - v * LANES),
                vectors: outputs,
            }
            .multiply(
                &mut total[(k * channels + v * LANES) * outputs * LANES..],
                [outputs * LANES, LANES],
                true,
            );
        }
    }
    sum
}
