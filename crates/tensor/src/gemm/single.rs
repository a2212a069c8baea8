//! The product in f32: packed operands, tiles in registers.
//!
//! The smaller operand is packed once, by all threads; then the larger one is cut along its outer dimension, and
//! each piece packs what it needs when it needs it. The inner dimension is cut into blocks of at most [`BLOCK`],
//! whose packed tiles and panels fit into the caches.

use gradus_core::DType;
use gradus_kernel::simd;

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
        return with_isa!(level, isa => run(isa, b.t(), a.t(), c, start));
    }
    with_isa!(level, isa => run(isa, a, b, c, start));
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
#[derive(Clone, Copy)]
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
    b: MatRef<'a, f32>,
    c: Target,
    start: Start<'a, f32>,
    /// Blocks of the inner dimension.
    blocks: Parts,
    /// Tiles of rows.
    tiles: Parts,
    /// Panels of columns, all but the last as wide as a tile.
    panels: usize,
}

fn run<I: Isa>(
    isa: I,
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    c: MatMut<'_, f32>,
    start: Start<'_, f32>,
) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    let p = Product {
        isa,
        a,
        b,
        c: Target { ptr: c.data.as_mut_ptr(), stride: c.row_stride },
        start,
        blocks: Parts::new(k, BLOCK),
        tiles: Parts::new(m, I::ROWS),
        panels: n.div_ceil(I::WIDTH),
    };
    // The order of the sums is that of the inner size, so the cut may follow the pool and change no bit.
    let ns = m as f64 * n as f64 * k as f64 * MULTIPLY_ADD_NS;
    let threads = rayon::current_num_threads();
    let pieces =
        if threads == 1 { 1 } else { ((ns / PIECE_NS) as usize).clamp(1, PIECES * threads) };
    if m >= n {
        let packed = p.packed_b(ns);
        let pieces = Parts::new(p.tiles.count, p.tiles.count.div_ceil(pieces));
        each(pieces.count, |i| p.rows(pieces.get(i), &packed));
    } else {
        let packed = p.packed_a(ns);
        let pieces = Parts::new(p.panels, p.panels.div_ceil(pieces));
        each(pieces.count, |i| p.columns(pieces.get(i), &packed));
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

impl<I: Isa> Product<'_, I> {
    /// Elements of a packed tile of A.
    fn tile_len(&self) -> usize {
        self.block_len() * I::ROWS + SLACK
    }

    /// Elements of a packed panel of B.
    fn panel_len(&self) -> usize {
        self.block_len() * I::WIDTH
    }

    /// The longest block.
    fn block_len(&self) -> usize {
        self.blocks.get(0)[1]
    }

    fn panel(&self, i: usize) -> [usize; 2] {
        [i * I::WIDTH, I::WIDTH.min(self.b.cols - i * I::WIDTH)]
    }

    /// All of B: block by block, panel by panel.
    fn packed_b(&self, ns: f64) -> Buffer {
        let len = self.panel_len();
        let mut buf = scratch(len * self.panels * self.blocks.count);
        let ns = ns / (self.panels * self.blocks.count * self.a.rows) as f64;
        par::for_each_mut(floats(&mut buf), len, 8.0 * ns, |first, out| {
            for (i, out) in (first..).zip(out.chunks_exact_mut(len)) {
                let block = self.blocks.get(i / self.panels);
                pack_b::<I>(self.b, self.panel(i % self.panels), block, out);
            }
        });
        buf
    }

    /// All of A: block by block, tile by tile.
    fn packed_a(&self, ns: f64) -> Buffer {
        let len = self.tile_len();
        let mut buf = scratch(len * self.tiles.count * self.blocks.count);
        let ns = ns / (self.tiles.count * self.blocks.count * self.b.cols) as f64;
        par::for_each_mut(floats(&mut buf), len, 8.0 * ns, |first, out| {
            for (i, out) in (first..).zip(out.chunks_exact_mut(len)) {
                let block = self.blocks.get(i / self.tiles.count);
                pack_a::<I>(self.a, self.tiles.get(i % self.tiles.count), block, out);
            }
        });
        buf
    }

    /// Computes some tiles of rows, all columns.
    fn rows(&self, [first, count]: [usize; 2], b: &Buffer) {
        let mut buf = scratch(self.tile_len());
        let (tile, b) = (floats(&mut buf), b.as_slice::<f32>().expect("packed as f32"));
        let group = (COLUMNS / I::WIDTH).max(1);
        for block in 0..self.blocks.count {
            let b = &b[block * self.panels * self.panel_len()..];
            for panels in (0..self.panels).step_by(group) {
                for i in first..first + count {
                    pack_a::<I>(self.a, self.tiles.get(i), self.blocks.get(block), tile);
                    for j in panels..self.panels.min(panels + group) {
                        self.tile(block, i, j, tile, &b[j * self.panel_len()..]);
                    }
                }
            }
        }
    }

    /// Computes some panels of columns, all rows.
    fn columns(&self, [first, count]: [usize; 2], a: &Buffer) {
        let mut buf = scratch(self.panel_len());
        let (panel, a) = (floats(&mut buf), a.as_slice::<f32>().expect("packed as f32"));
        for block in 0..self.blocks.count {
            let a = &a[block * self.tiles.count * self.tile_len()..];
            for j in first..first + count {
                let range = self.blocks.get(block);
                pack_b::<I>(self.b, self.panel(j), range, panel);
                for i in 0..self.tiles.count {
                    self.tile(block, i, j, &a[i * self.tile_len()..], panel);
                }
            }
        }
    }

    /// One tile of C, one block of the inner dimension.
    #[inline]
    fn tile(&self, block: usize, i: usize, j: usize, a: &[f32], b: &[f32]) {
        let [[row, rows], [col, cols]] = [self.tiles.get(i), self.panel(j)];
        let k = self.blocks.get(block)[1];
        assert!(a.len() >= k * rows && b.len() >= k * I::WIDTH);
        let tile = Tile {
            a: a.as_ptr(),
            b: b.as_ptr(),
            k,
            c: self.c.at(row, col),
            c_stride: self.c.stride,
            rows,
            cols,
            start: if block == 0 { TileStart::of(self.start, col) } else { TileStart::Current },
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
