//! The product in f32: packed operands, tiles in registers.
//!
//! The smaller operand is packed once, by all threads; then the larger one is cut along its outer dimension, and
//! each piece packs what it needs when it needs it. The inner dimension is cut into blocks of at most [`BLOCK`],
//! whose packed tiles and panels fit into the caches.

use gradus_core::DType;
use gradus_kernel::simd::{self, Level};

use super::{
    MULTIPLY_ADD_NS, MatMut, MatRef, Start,
    pack::{SLACK, pack_a, pack_b},
    tiles::{Isa, Tile, TileStart, with_isa},
};
use crate::{buffer::Buffer, par};

/// Longest block of the inner dimension.
const BLOCK: usize = 256;
/// Columns of B whose packed block stays in the second cache while rows pass by.
const COLUMNS: usize = 512;
/// Nanoseconds that packing takes an element, roughly.
const PACK_NS: f64 = 0.1;
/// Nanoseconds of the smallest piece that a thread takes.
const PIECE_NS: f64 = 40_000.0;
/// Most pieces a thread: more let a slow thread hold up the others less.
const PIECES: usize = 4;

/// `C = A B` added to `start`; nothing is empty.
pub(super) fn product(
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    c: MatMut<'_, f32>,
    start: Start<'_, f32>,
) {
    let level = simd::level();
    // A column is a row when it is dense: vectors run along rows.
    if b.cols == 1 && c.row_stride == 1 && !matches!(start, Start::Bias(_)) {
        let c = MatMut { cols: c.rows, rows: 1, row_stride: c.rows, data: c.data };
        return with_isa!(level, isa => run(isa, level, b.t(), a.t(), c, start));
    }
    with_isa!(level, isa => run(isa, level, a, b, c, start));
}

/// As [`product`], with the first `a.cols` rows and `c.cols` columns of a packed B, on this thread.
pub(super) fn product_packed(
    a: MatRef<'_, f32>,
    b: &Panels,
    c: MatMut<'_, f32>,
    start: Start<'_, f32>,
) {
    with_isa!(b.level, isa => {
        let p = Product::new(isa, a, c, start, b.blocks);
        p.rows([0, p.tiles.count], b);
    });
}

/// A right operand, all of it packed: block by block, panel by panel.
#[derive(Debug)]
pub(crate) struct Panels {
    buf: Buffer,
    level: Level,
    rows: usize,
    cols: usize,
    /// Blocks of the inner dimension.
    blocks: Parts,
    /// Panels of a block.
    count: usize,
    /// Elements of a panel.
    len: usize,
}

impl Panels {
    /// Packs B, which is not empty.
    pub(super) fn new(b: MatRef<'_, f32>) -> Self {
        let level = simd::level();
        with_isa!(level, isa => Self::packed(isa, level, b))
    }

    /// Whether it has this many rows and columns.
    pub(super) fn holds(&self, rows: usize, cols: usize) -> bool {
        rows <= self.rows && cols <= self.cols
    }

    fn packed<I: Isa>(_: I, level: Level, b: MatRef<'_, f32>) -> Self {
        let blocks = Parts::new(b.rows, BLOCK);
        let count = b.cols.div_ceil(I::WIDTH);
        let len = blocks.get(0)[1] * I::WIDTH;
        let mut buf = scratch(len * count * blocks.count);
        par::for_each_mut(floats(&mut buf), len, PACK_NS * len as f64, |first, out| {
            for (i, out) in (first..).zip(out.chunks_exact_mut(len)) {
                pack_b::<I>(b, panel::<I>(i % count, b.cols), blocks.get(i / count), out);
            }
        });
        Self { buf, level, rows: b.rows, cols: b.cols, blocks, count, len }
    }
}

/// First column and number of columns of a panel.
fn panel<I: Isa>(i: usize, n: usize) -> [usize; 2] {
    [i * I::WIDTH, I::WIDTH.min(n - i * I::WIDTH)]
}

/// The memory of C, which several threads write at different places.
#[derive(Clone, Copy)]
struct Target {
    ptr: *mut f32,
    stride: usize,
}
// SAFETY: pieces write disjoint rows or columns.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    fn at(&self, row: usize, col: usize) -> *mut f32 {
        // Inside C for every element of it.
        self.ptr.wrapping_add(row * self.stride + col)
    }
}

/// `n` in parts of nearly the same size, at most `most` each.
#[derive(Clone, Copy, Debug)]
struct Parts {
    n: usize,
    count: usize,
}

impl Parts {
    fn new(n: usize, most: usize) -> Self {
        Self { n, count: n.div_ceil(most) }
    }

    /// Beginning and length of a part.
    fn get(self, i: usize) -> [usize; 2] {
        let (size, more) = (self.n / self.count, self.n % self.count);
        [i * size + i.min(more), size + usize::from(i < more)]
    }
}

/// What pieces of a product share.
struct Product<'a, I> {
    isa: I,
    a: MatRef<'a, f32>,
    c: Target,
    /// Columns of C.
    n: usize,
    start: Start<'a, f32>,
    /// Blocks of the inner dimension; that of A may end before them.
    blocks: Parts,
    /// Tiles of rows.
    tiles: Parts,
}

fn run<I: Isa>(
    isa: I,
    level: Level,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    c: MatMut<'_, f32>,
    start: Start<'_, f32>,
) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    // The order of the sums is that of the inner size, so the cut may follow the pool and change no bit.
    let ns = m as f64 * n as f64 * k as f64 * MULTIPLY_ADD_NS;
    let threads = rayon::current_num_threads();
    let pieces =
        if threads == 1 { 1 } else { ((ns / PIECE_NS) as usize).clamp(1, PIECES * threads) };
    let p = Product::new(isa, a, c, start, Parts::new(k, BLOCK));
    if m >= n {
        let packed = Panels::packed(isa, level, b);
        let pieces = Parts::new(p.tiles.count, p.tiles.count.div_ceil(pieces));
        each(pieces.count, |i| p.rows(pieces.get(i), &packed));
    } else {
        let packed = p.packed_a();
        let panels = n.div_ceil(I::WIDTH);
        let pieces = Parts::new(panels, panels.div_ceil(pieces));
        each(pieces.count, |i| p.columns(pieces.get(i), &packed, b));
    }
}

/// Calls `f` for every number below `n`, on several threads if there are several numbers.
fn each(n: usize, f: impl Fn(usize) + Sync + Send) {
    use rayon::prelude::*;
    if n == 1 {
        f(0);
    } else {
        (0..n).into_par_iter().with_max_len(1).for_each(f);
    }
}

impl<'a, I: Isa> Product<'a, I> {
    fn new(
        isa: I,
        a: MatRef<'a, f32>,
        c: MatMut<'a, f32>,
        start: Start<'a, f32>,
        blocks: Parts,
    ) -> Self {
        let (tiles, n) = (Parts::new(a.rows, I::ROWS), c.cols);
        let c = Target { ptr: c.data.as_mut_ptr(), stride: c.row_stride };
        Self { isa, a, c, n, start, blocks, tiles }
    }

    /// Beginning and length of a block of A's columns; none is left where A ends before it.
    fn block(&self, i: usize) -> Option<[usize; 2]> {
        let [from, len] = self.blocks.get(i);
        (from < self.a.cols).then(|| [from, len.min(self.a.cols - from)])
    }

    /// Elements of a packed tile of A.
    fn tile_len(&self) -> usize {
        self.blocks.get(0)[1] * I::ROWS + SLACK
    }

    /// All of A: block by block, tile by tile.
    fn packed_a(&self) -> Buffer {
        let (len, tiles) = (self.tile_len(), self.tiles);
        let mut buf = scratch(len * tiles.count * self.blocks.count);
        par::for_each_mut(floats(&mut buf), len, PACK_NS * len as f64, |first, out| {
            for (i, out) in (first..).zip(out.chunks_exact_mut(len)) {
                let block = self.blocks.get(i / tiles.count);
                pack_a::<I>(self.a, tiles.get(i % tiles.count), block, out);
            }
        });
        buf
    }

    /// Computes some tiles of rows, all columns.
    fn rows(&self, [first, count]: [usize; 2], b: &Panels) {
        let mut buf = scratch(self.tile_len());
        let tile = floats(&mut buf);
        let packed = b.buf.as_slice::<f32>().expect("packed as f32");
        let (panels, group) = (self.n.div_ceil(I::WIDTH), COLUMNS / I::WIDTH);
        for (block, range) in (0..b.blocks.count).map_while(|i| Some((i, self.block(i)?))) {
            let packed = &packed[block * b.count * b.len..];
            for from in (0..panels).step_by(group) {
                for i in first..first + count {
                    pack_a::<I>(self.a, self.tiles.get(i), range, tile);
                    for j in from..panels.min(from + group) {
                        self.tile(range, i, j, tile, &packed[j * b.len..]);
                    }
                }
            }
        }
    }

    /// Computes some panels of columns, all rows.
    fn columns(&self, [first, count]: [usize; 2], a: &Buffer, b: MatRef<'_, f32>) {
        let mut buf = scratch(self.blocks.get(0)[1] * I::WIDTH);
        let (packed, a) = (floats(&mut buf), a.as_slice::<f32>().expect("packed as f32"));
        for block in 0..self.blocks.count {
            let a = &a[block * self.tiles.count * self.tile_len()..];
            let range = self.blocks.get(block);
            for j in first..first + count {
                pack_b::<I>(b, panel::<I>(j, self.n), range, packed);
                for i in 0..self.tiles.count {
                    self.tile(range, i, j, &a[i * self.tile_len()..], packed);
                }
            }
        }
    }

    /// One tile of C, one block of the inner dimension.
    #[inline]
    fn tile(&self, [from, k]: [usize; 2], i: usize, j: usize, a: &[f32], b: &[f32]) {
        let [[row, rows], [col, cols]] = [self.tiles.get(i), panel::<I>(j, self.n)];
        assert!(a.len() >= k * rows && b.len() >= k * I::WIDTH);
        let tile = Tile {
            a: a.as_ptr(),
            b: b.as_ptr(),
            k,
            c: self.c.at(row, col),
            c_stride: self.c.stride,
            rows,
            cols,
            start: if from == 0 { TileStart::of(self.start, col) } else { TileStart::Current },
        };
        // SAFETY: the instruction set was chosen by what the machine has; the operands are long enough; MatMut checked
        // that C lies inside of its slice, which is borrowed, and every piece writes its own tiles.
        unsafe { self.isa.tile(&tile) }
    }
}

fn scratch(len: usize) -> Buffer {
    Buffer::uninit(DType::F32, len)
}

fn floats(buf: &mut Buffer) -> &mut [f32] {
    buf.as_mut_slice().expect("made for f32")
}
