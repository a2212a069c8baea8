//! 3x3 windows with fewer multiplications: Winograd's minimal filtering.
//!
//! A tile of 2x2 outputs needs 36 products per pair of channels; between a transformed tile of 4x4 inputs and a transformed
//! window it needs 16. The transforms add, subtract and halve, so that they are exact where the sums are, and
//! rounding errors stay within a small factor of those of the plain sum. The gradient of the input is the same
//! with the windows turned round; that of the weight is the transpose of the algorithm: the products of the
//! transformed upstream gradient and the transformed input, summed over all tiles, and transformed back once.
//!
//! Lavin and Gray 2015, Fast algorithms for convolutional neural networks, arXiv:1509.09308.

mod transforms;

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
        lanes::{Band, LANES, Lanes, RowStep, Run, from_lanes, to_lanes, vectors},
    },
};

/// Elements of a transformed tile.
const POINTS: usize = 16;
/// Elements of the window.
const WINDOW: usize = 9;
/// Fewest channels, on either side, that make up for the transforms.
const MIN_CHANNELS: usize = 8;
/// Elements of the transformed input of a block of tiles, which stays in the second cache.
const BLOCK: usize = 1 << 16;
/// Fewest tiles of a block.
const MIN_TILES: usize = 28;
/// Fewest tiles that are added to a sum at once, since the sums of many channels leave the caches in between.
const MIN_SUMMED: usize = 112;

/// Whether the convolution is of this kind and the tiles save multiplications.
pub(super) fn applies(g: &Geometry) -> bool {
    let ConvOptions { stride, dilation, groups, .. } = g.options;
    let [h, w] = g.output;
    g.kernel == [3, 3]
        && stride == [1, 1]
        && dilation == [1, 1]
        && groups == 1
        && g.channels.iter().all(|&c| c >= MIN_CHANNELS)
        && POINTS * h.div_ceil(2) * w.div_ceil(2) < WINDOW * h * w
}

/// The transformed weight, `[point][vector of outputs][input][16]`.
struct Weight {
    data: Buffer,
    inputs: usize,
    outputs: usize,
}

impl Weight {
    /// Elements of one point.
    fn step(&self) -> usize {
        vectors(self.outputs) * self.inputs * LANES
    }

    /// For `w` of shape `[outputs, inputs, 3, 3]`.
    fn forward(w: &[f32], [inputs, outputs]: [usize; 2]) -> Self {
        Self::new([inputs, outputs], |i, first, channels, g| {
            let from = &w[(first * inputs + i) * WINDOW..];
            to_lanes(from, inputs * WINDOW, channels, WINDOW, g.as_flattened_mut());
        })
    }

    /// For `w` of shape `[inputs, outputs, 3, 3]`, with every window turned round.
    fn backward(w: &[f32], [inputs, outputs]: [usize; 2]) -> Self {
        Self::new([inputs, outputs], |i, first, channels, g| {
            to_lanes(
                &w[(i * outputs + first) * WINDOW..],
                WINDOW,
                channels,
                WINDOW,
                g.as_flattened_mut(),
            );
            g.reverse();
        })
    }

    /// `window(input, first output, outputs, out)` writes nine vectors.
    fn new(
        [inputs, outputs]: [usize; 2],
        window: impl Fn(usize, usize, usize, &mut [[f32; LANES]; WINDOW]),
    ) -> Self {
        let step = vectors(outputs) * inputs * LANES;
        let mut data = scratch(POINTS * step);
        let to = floats(&mut data);
        let mut g = [[0.0; LANES]; WINDOW];
        for first in (0..outputs).step_by(LANES) {
            for i in 0..inputs {
                window(i, first, LANES.min(outputs - first), &mut g);
                transforms::weight(&g, &mut to[(first * inputs) + i * LANES..], step);
            }
        }
        Self { data, inputs, outputs }
    }
}

/// Tiles that are computed together: `lines` rows of `columns` tiles.
#[derive(Clone, Copy)]
struct Block {
    /// First row of tiles, counted over the whole batch.
    line: usize,
    lines: usize,
    /// First tile of a row.
    column: usize,
    columns: usize,
}

impl Block {
    fn tiles(&self) -> usize {
        self.lines * self.columns
    }
}

/// The tiles of one image: rows and columns.
#[derive(Clone, Copy)]
struct Grid {
    rows: usize,
    columns: usize,
}

impl Grid {
    fn new([h, w]: [usize; 2]) -> Self {
        Self { rows: h.div_ceil(2), columns: w.div_ceil(2) }
    }

    /// Rows of tiles between `first` and `end` in blocks of at most `most` tiles (but at least one).
    fn blocks(self, [first, end]: [usize; 2], most: usize) -> impl Iterator<Item = Block> {
        let lines = (most / self.columns).max(1);
        let parts = self.columns.div_ceil(most);
        let groups = (end - first).div_ceil(lines);
        (0..groups).flat_map(move |g| {
            let at = |i: usize| first + i * (end - first) / groups;
            let (line, lines) = (at(g), at(g + 1) - at(g));
            (0..parts).map(move |p| {
                let at = |i: usize| i * self.columns / parts;
                Block { line, lines, column: at(p), columns: at(p + 1) - at(p) }
            })
        })
    }
}

/// Most tiles of a block with `channels` channels, but not less than `least`.
fn most_tiles(channels: usize, least: usize) -> usize {
    (BLOCK / (POINTS * LANES * vectors(channels))).max(least)
}

/// Elements between the points of transformed tiles: odd multiples of a cache line, which share no cache set.
fn point_step(vectors: usize, tiles: usize) -> usize {
    ((vectors * tiles) | 1) * LANES
}

/// `y[n, o] = bias[o] + sum over c of w[o, c] * x[n, c]`, of the image with `padding` zeros before it.
fn correlate(
    x: Images<'_>,
    padding: [isize; 2],
    weight: &Weight,
    bias: Option<&[f32]>,
    size: [usize; 2],
    y: &mut [f32],
) {
    let grid = Grid::new(size);
    let images = y.len() / (weight.outputs * size[0] * size[1]);
    let lines = images * grid.rows;
    let ns = (POINTS * grid.columns * weight.inputs * weight.outputs) as f64 * MULTIPLY_ADD_NS;
    let mut padded_bias = vec![0.0; vectors(weight.outputs) * LANES];
    if let Some(bias) = bias {
        padded_bias[..bias.len()].copy_from_slice(bias);
    }
    let most = most_tiles(weight.inputs, MIN_TILES);
    let pass = Pass { x, padding, grid, weight, bias: &padded_bias, size, most };
    let row = |line: usize| line / grid.rows * size[0] + 2 * (line % grid.rows);
    each_piece([lines, weight.outputs], ns, y, size, row, |lines, band| pass.run(lines, band));
}

/// What the pieces of a pass share.
struct Pass<'a> {
    x: Images<'a>,
    padding: [isize; 2],
    grid: Grid,
    weight: &'a Weight,
    bias: &'a [f32],
    size: [usize; 2],
    most: usize,
}

impl Pass<'_> {
    fn run(&self, lines: [usize; 2], mut band: Band<'_>) {
        let Self { grid, weight, most, .. } = self;
        let tiles = (*most).max(1).min((lines[1] - lines[0]) * grid.columns);
        let width = grid.columns.min(*most);
        // Outputs are computed two vectors at a time.
        let mut input = scratch(POINTS * point_step(vectors(weight.inputs), tiles));
        let mut products = scratch(POINTS * point_step(2, tiles));
        let mut rows = scratch(4 * (2 * width + 2) * LANES);
        let (input, products, rows) =
            (floats(&mut input), floats(&mut products), floats(&mut rows));
        for block in grid.blocks(lines, *most) {
            transform_input(&self.x, self.padding, *grid, block, rows, input);
            for vector in (0..vectors(weight.outputs)).step_by(2) {
                self.multiply(block, vector, input, products);
                self.write(block, vector, products, rows, &mut band);
            }
        }
    }

    /// The products of two vectors of outputs, `[point][vector][tile][16]`.
    fn multiply(&self, block: Block, vector: usize, input: &[f32], products: &mut [f32]) {
        let (weight, tiles) = (self.weight, block.tiles());
        let w = weight.data.as_slice::<f32>().expect("made for f32");
        let run = |v: usize| Run {
            a: v * tiles * LANES,
            b: v * LANES * LANES,
            len: LANES.min(weight.inputs - v * LANES),
        };
        let runs: Vec<Run> = (0..vectors(weight.inputs)).map(run).collect();
        let step = point_step(2, tiles);
        for point in 0..POINTS {
            Lanes {
                a: &input[point * point_step(vectors(weight.inputs), tiles)..],
                a_row: RowStep::Pixel,
                a_step: 1,
                b: &w[point * weight.step() + vector * weight.inputs * LANES..],
                b_step: LANES,
                b_vector: weight.inputs * LANES,
                runs: &runs,
                rows: tiles,
                vectors: (vectors(weight.outputs) - vector).min(2),
            }
            .multiply(&mut products[point * step..], [LANES, tiles * LANES], false);
        }
    }

    /// Transforms the products of two vectors of outputs back.
    fn write(
        &self,
        block: Block,
        vector: usize,
        products: &[f32],
        rows: &mut [f32],
        band: &mut Band<'_>,
    ) {
        let [h, w] = self.size;
        let step = point_step(2, block.tiles());
        let width = 2 * block.columns * LANES;
        let pixels = (2 * block.columns).min(w - 2 * block.column);
        let (top, bottom) = rows.split_at_mut(width);
        for v in vector..vectors(self.weight.outputs).min(vector + 2) {
            for i in 0..block.lines {
                let from = &products[((v - vector) * block.tiles() + i * block.columns) * LANES..];
                let out = [&mut top[..width], &mut bottom[..width]];
                transforms::output(from, step, &self.bias[v * LANES..], out, block.columns);
                let (image, line) =
                    ((block.line + i) / self.grid.rows, (block.line + i) % self.grid.rows);
                let row = image * h + 2 * line;
                band.write(row, 2 * block.column, v * LANES, pixels, top);
                if 2 * line + 1 < h {
                    band.write(row + 1, 2 * block.column, v * LANES, pixels, bottom);
                }
            }
        }
    }
}

/// Transforms the tiles of a block: `[point][vector of channels][tile][16]`; `rows` holds four rows of pixels.
fn transform_input(
    x: &Images<'_>,
    padding: [isize; 2],
    grid: Grid,
    block: Block,
    rows: &mut [f32],
    out: &mut [f32],
) {
    let width = (2 * block.columns + 2) * LANES;
    let step = point_step(vectors(x.channels), block.tiles());
    let column = 2 * block.column as isize - padding[1];
    for v in 0..vectors(x.channels) {
        for i in 0..block.lines {
            let (image, line) = ((block.line + i) / grid.rows, (block.line + i) % grid.rows);
            // The line before has left two of the four rows.
            let known = if i > 0 && line > 0 { 2 } else { 0 };
            for row in 2 * line + known..2 * line + 4 {
                let at = [row as isize - padding[0], column];
                x.row(image, v * LANES, at, &mut rows[row % 4 * width..][..width]);
            }
            x.prefetch(image, v * LANES, 2 * line as isize + 4 - padding[0]);
            x.prefetch(image, v * LANES, 2 * line as isize + 5 - padding[0]);
            let row = |r: usize| &rows[(2 * line + r) % 4 * width..][..width];
            let to = &mut out[(v * block.tiles() + i * block.columns) * LANES..];
            transforms::input([row(0), row(1), row(2), row(3)], block.columns, to, step);
        }
    }
}

/// Transforms the tiles of a block of the upstream gradient.
fn transform_upstream(
    dy: &Images<'_>,
    grid: Grid,
    block: Block,
    rows: &mut [f32],
    out: &mut [f32],
) {
    let width = 2 * block.columns * LANES;
    let step = point_step(vectors(dy.channels), block.tiles());
    let (top, bottom) = rows[..2 * width].split_at_mut(width);
    for v in 0..vectors(dy.channels) {
        for i in 0..block.lines {
            let (image, line) = ((block.line + i) / grid.rows, (block.line + i) % grid.rows);
            let at = [2 * line as isize, 2 * block.column as isize];
            dy.row(image, v * LANES, at, top);
            dy.row(image, v * LANES, [at[0] + 1, at[1]], bottom);
            dy.prefetch(image, v * LANES, at[0] + 2);
            dy.prefetch(image, v * LANES, at[0] + 3);
            let to = &mut out[(v * block.tiles() + i * block.columns) * LANES..];
            transforms::upstream([top, bottom], block.columns, to, step);
        }
    }
}

/// The convolution.
pub(super) fn forward(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    if y.is_empty() {
        return;
    }
    let weight = Weight::forward(w, g.channels);
    let x = Images { data: x, channels: g.channels[0], size: g.input };
    correlate(x, g.options.padding.map(|p| p as isize), &weight, bias, g.output, y);
}

/// Its gradient by the input.
pub(super) fn grad_input(g: &Geometry, dy: &[f32], w: &[f32], dx: &mut [f32]) {
    if dx.is_empty() {
        return;
    }
    let [inputs, outputs] = g.channels;
    let weight = Weight::backward(w, [outputs, inputs]);
    let dy = Images { data: dy, channels: outputs, size: g.output };
    correlate(dy, g.options.padding.map(|p| 2 - p as isize), &weight, None, g.input, dx);
}

/// Its gradient by the weight.
pub(super) fn grad_weight(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let [inputs, outputs] = g.channels;
    let grid = Grid::new(g.output);
    let lines = g.images * grid.rows;
    let ns = (POINTS * grid.columns * inputs * outputs) as f64 * MULTIPLY_ADD_NS;
    let x = Images { data: x, channels: inputs, size: g.input };
    let dy = Images { data: dy, channels: outputs, size: g.output };
    let padding = g.options.padding.map(|p| p as isize);
    let most = lines * grid.columns / MIN_SUMMED;
    let mut total =
        sum_of_pieces(lines, ns, most, |lines| sum_of_products(x, padding, dy, grid, lines));
    let total = floats(&mut total);
    let step = sum_step(g.channels);
    let mut window = [[0.0; LANES]; WINDOW];
    for o in 0..outputs {
        for first in (0..inputs).step_by(LANES) {
            let from = &total[o * vectors(inputs) * LANES + first..];
            transforms::weight_back(from, step, &mut window);
            let channels = LANES.min(inputs - first);
            from_lanes(
                window.as_flattened(),
                WINDOW,
                channels,
                &mut dw[(o * inputs + first) * WINDOW..],
                WINDOW,
            );
        }
    }
}

/// Elements of one point of the sums.
fn sum_step([inputs, outputs]: [usize; 2]) -> usize {
    vectors(outputs) * LANES * vectors(inputs) * LANES
}

/// The sums `[point][output][input]` over some rows of tiles.
fn sum_of_products(
    x: Images<'_>,
    padding: [isize; 2],
    dy: Images<'_>,
    grid: Grid,
    lines: [usize; 2],
) -> Buffer {
    let (inputs, outputs) = (vectors(x.channels), vectors(dy.channels));
    let sum_step = sum_step([x.channels, dy.channels]);
    let mut sum = Buffer::zeroed(DType::F32, POINTS * sum_step);
    let most = most_tiles(x.channels.max(dy.channels), MIN_SUMMED);
    let tiles = most.min((lines[1] - lines[0]) * grid.columns);
    let width = grid.columns.min(most);
    let mut input = scratch(POINTS * point_step(inputs, tiles));
    let mut upstream = scratch(POINTS * point_step(outputs, tiles));
    let mut rows = scratch(4 * (2 * width + 2) * LANES);
    let (input, upstream, rows) = (floats(&mut input), floats(&mut upstream), floats(&mut rows));
    let total = floats(&mut sum);
    for block in grid.blocks(lines, most) {
        transform_input(&x, padding, grid, block, rows, input);
        transform_upstream(&dy, grid, block, rows, upstream);
        let tiles = block.tiles();
        for point in 0..POINTS {
            for v in 0..outputs {
                let c = &mut total[point * sum_step + v * LANES * inputs * LANES..];
                Lanes {
                    a: &upstream[point * point_step(outputs, tiles) + v * tiles * LANES..],
                    a_row: RowStep::Lane,
                    a_step: LANES,
                    b: &input[point * point_step(inputs, tiles)..],
                    b_step: LANES,
                    b_vector: tiles * LANES,
                    runs: &[Run { a: 0, b: 0, len: tiles }],
                    rows: LANES.min(dy.channels - v * LANES),
                    vectors: inputs,
                }
                .multiply(c, [inputs * LANES, LANES], true);
            }
        }
    }
    sum
}
