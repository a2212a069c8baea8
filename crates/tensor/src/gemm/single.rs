//! The product with sums in f32: packed operands, tiles in registers.
//!
//! Operands are f32, or bf16 where the machine multiplies it; see [`Source`].
//!
//! The smaller operand is packed once, by all threads; then the larger one is cut along its outer dimension, and
//! each piece packs what it needs when it needs it. A left operand stays where it is if tiles can read it there. The
//! inner dimension is cut into blocks of at most [`BLOCK`], whose tiles and panels fit into the caches.

use gradus_kernel::simd::{self, Level};

use super::{
    MULTIPLY_ADD_NS, MatMut, MatRef, Start,
    pack::SLACK,
    source::{Single, Source},
    tiles::{Isa, Tile, TileStart, with_isa},
};
use crate::{
    buffer::{Buffer, floats, scratch},
    par,
};

/// Longest block of the inner dimension, in words.
pub(super) const BLOCK: usize = 512;
/// Columns of B whose packed block rows pass by together. It is as large as a second cache of 1 MB, and part of it comes
/// from the third; half of it would stay, but then A is packed twice as often, which costs more.
const COLUMNS: usize = 512;
/// So few tiles of A meet each panel of B together; of more, each alone meets all panels.
const FEW: usize = 4;
/// Rows of A that lie a multiple of this many elements apart fall onto so few places of the first cache that a tile
/// does not stay there.
const ROW_CONFLICT: usize = 512;
/// As [`ROW_CONFLICT`], for columns of A and the second cache.
const COLUMN_CONFLICT: usize = 1024;
/// Nanoseconds that packing takes an element, roughly.
const PACK_NS: f64 = 0.1;
/// Nanoseconds of the smallest product that threads share.
const SHARED_NS: f64 = 60_000.0;
/// Nanoseconds of the smallest piece of a product that is worth more than one piece a thread.
const PIECE_NS: f64 = 20_000.0;
/// Most elements of a block of A that may pass by each panel of B: they stay in the second cache.
const IN_PLACE: usize = 1 << 17;
/// Most pieces a thread: more let a slow thread hold up the others less.
const PIECES: usize = 48;

/// `C = A B` added to `start`; nothing is empty.
pub(super) fn product(
    a: MatRef<'_, f32>,
    b: MatRef<'_, f32>,
    c: MatMut<'_, f32>,
    start: Start<'_, f32>,
) {
    let level = simd::level();
    with_isa!(level, isa => run::<_, Single>(isa, level, a, b, c, start));
}

/// As [`product`], with the first `a.cols` rows and `c.cols` columns of a packed B, on this thread.
pub(super) fn product_packed(
    a: MatRef<'_, f32>,
    b: &Panels,
    c: MatMut<'_, f32>,
    start: Start<'_, f32>,
) {
    with_isa!(b.level, isa => {
        let p = Product::<_, Single>::new(isa, a, c, start, b.blocks);
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
        with_isa!(level, isa => Self::packed::<_, Single>(isa, level, b))
    }

    /// A panel of a block.
    fn get(&self, block: usize, i: usize) -> &[f32] {
        let data = self.buf.as_slice::<f32>().expect("packed as f32");
        &data[(block * self.count + i) * self.len..][..self.len]
    }

    /// Whether it has this many rows and columns.
    pub(super) fn holds(&self, rows: usize, cols: usize) -> bool {
        rows <= self.rows && cols <= self.cols
    }

    fn packed<I: Isa, S: Source>(_: I, level: Level, b: MatRef<'_, S::Element>) -> Self {
        let blocks = Parts::new(b.rows.div_ceil(S::IN_WORD), BLOCK);
        let count = b.cols.div_ceil(I::WIDTH);
        let len = blocks.get(0)[1] * I::WIDTH;
        let mut buf = scratch(len * count * blocks.count);
        par::for_each_mut(floats(&mut buf), len, PACK_NS * len as f64, |first, out| {
            for (i, out) in (first..).zip(out.chunks_exact_mut(len)) {
                let inner = elements::<S>(blocks.get(i / count), b.rows);
                S::pack_b::<I>(b, panel::<I>(i % count, b.cols), inner, out);
            }
        });
        Self { buf, level, rows: b.rows, cols: b.cols, blocks, count, len }
    }
}

/// First column and number of columns of a panel.
fn panel<I: Isa>(i: usize, n: usize) -> [usize; 2] {
    [i * I::WIDTH, I::WIDTH.min(n - i * I::WIDTH)]
}

/// The elements of the inner dimension in some words; `n` in all.
fn elements<S: Source>([from, len]: [usize; 2], n: usize) -> [usize; 2] {
    let from = from * S::IN_WORD;
    [from, (len * S::IN_WORD).min(n - from)]
}

/// The memory of C, which several threads write at different places.
#[derive(Clone, Copy)]
struct Target<T> {
    ptr: *mut T,
    stride: usize,
}
// SAFETY: pieces write disjoint rows or columns.
unsafe impl<T> Send for Target<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Target<T> {}

impl<T> Target<T> {
    fn at(&self, row: usize, col: usize) -> *mut T {
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
struct Product<'a, I: Isa, S: Source> {
    isa: I,
    a: MatRef<'a, S::Element>,
    c: Target<I::Out>,
    /// Columns of C.
    n: usize,
    start: Start<'a, f32>,
    /// Blocks of the inner dimension, in words; that of A may end before them.
    blocks: Parts,
    /// Tiles of rows.
    tiles: Parts,
}

pub(super) fn run<I: Isa, S: Source>(
    isa: I,
    level: Level,
    a: MatRef<'_, S::Element>,
    b: MatRef<'_, S::Element>,
    c: MatMut<'_, I::Out>,
    start: Start<'_, f32>,
) {
    // A column is a row when it is dense: vectors run along rows.
    if b.cols == 1 && a.rows > 1 && c.row_stride == 1 && !matches!(start, Start::Bias(_)) {
        let c = MatMut { cols: c.rows, rows: 1, row_stride: c.rows, data: c.data };
        return run::<I, S>(isa, level, b.t(), a.t(), c, start);
    }
    let (m, n, k) = (a.rows, b.cols, a.cols);
    // The order of the sums is that of the inner size, so the cut may follow the pool and change no bit.
    let words = k.div_ceil(S::IN_WORD);
    let ns = m as f64 * n as f64 * words as f64 * MULTIPLY_ADD_NS;
    let threads = rayon::current_num_threads();
    // As many pieces for each thread: otherwise some wait for the others.
    let each_has = (ns / (PIECE_NS * threads as f64)) as usize;
    let pieces =
        if threads == 1 || ns < SHARED_NS { 1 } else { threads * each_has.clamp(1, PIECES) };
    let p = Product::<I, S>::new(isa, a, c, start, Parts::new(words, BLOCK));
    // A small A that stays in place needs no packing before the threads begin.
    let in_place = m * BLOCK.min(words) <= IN_PLACE && p.in_place([0, 0], 0).is_some();
    if m >= n && !in_place {
        let packed = Panels::packed::<I, S>(isa, level, b);
        let pieces = Parts { n: p.tiles.count, count: pieces.min(p.tiles.count) };
        each(pieces.count, |i| p.rows(pieces.get(i), &packed));
    } else {
        let packed = p.packed_a();
        let panels = n.div_ceil(I::WIDTH);
        let pieces = Parts { n: panels, count: pieces.min(panels) };
        each(pieces.count, |i| p.columns(pieces.get(i), packed.as_ref(), b));
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

impl<'a, I: Isa, S: Source> Product<'a, I, S> {
    fn new(
        isa: I,
        a: MatRef<'a, S::Element>,
        c: MatMut<'a, I::Out>,
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
        let words = self.a.cols.div_ceil(S::IN_WORD);
        (from < words).then(|| [from, len.min(words - from)])
    }

    /// Elements of a packed tile of A.
    fn tile_len(&self) -> usize {
        self.blocks.get(0)[1] * I::ROWS + SLACK
    }

    /// A tile of A in place, if tiles can read it so.
    fn in_place(&self, [from, _]: [usize; 2], i: usize) -> Option<Left<'a>> {
        let MatRef { data, row_stride, col_stride, .. } = S::words(self.a)?;
        let fits = (col_stride == 1 && !row_stride.is_multiple_of(ROW_CONFLICT))
            || (row_stride == 1 && !col_stride.is_multiple_of(COLUMN_CONFLICT));
        let first = self.tiles.get(i)[0] * row_stride + from * col_stride;
        fits.then(|| Left { data: &data[first..], strides: [row_stride, col_stride] })
    }

    /// Tiles `first..first + count` of A, each in `len` elements of `out`.
    fn pack(&self, range: [usize; 2], [first, count]: [usize; 2], out: &mut [f32]) {
        for (i, out) in (first..first + count).zip(out.chunks_exact_mut(self.tile_len())) {
            S::pack_a::<I>(self.a, self.tiles.get(i), elements::<S>(range, self.a.cols), out);
        }
    }

    /// Tile `i` of those that were packed from tile `first` on.
    fn packed<'b>(&self, out: &'b [f32], first: usize, i: usize) -> Left<'b> {
        let data = &out[(i - first) * self.tile_len()..];
        Left { data, strides: [1, self.tiles.get(i)[1]] }
    }

    /// All of A: block by block, tile by tile; or nothing, if it can stay where it is.
    fn packed_a(&self) -> Option<Buffer> {
        if self.in_place([0, 0], 0).is_some() {
            return None;
        }
        let (len, tiles) = (self.tile_len(), self.tiles.count);
        let mut buf = scratch(len * tiles * self.blocks.count);
        par::for_each_mut(floats(&mut buf), len, PACK_NS * len as f64, |first, out| {
            for (i, out) in (first..).zip(out.chunks_exact_mut(len)) {
                self.pack(self.blocks.get(i / tiles), [i % tiles, 1], out);
            }
        });
        Some(buf)
    }

    /// Computes some tiles of rows, all columns: few tiles pass by each panel, which stays in the first cache; of many
    /// tiles each passes by many panels, which stay in the second.
    fn rows(&self, [first, count]: [usize; 2], b: &Panels) {
        let group = if count <= FEW { count } else { 1 };
        let mut buf = scratch(self.tile_len() * group);
        let out = floats(&mut buf);
        let panels = self.n.div_ceil(I::WIDTH);
        let together = COLUMNS / I::WIDTH;
        for (block, range) in (0..b.blocks.count).map_while(|i| Some((i, self.block(i)?))) {
            for from in (0..panels).step_by(together) {
                for tile in (first..first + count).step_by(group) {
                    let tiles = tile..tile + group;
                    if self.in_place(range, tile).is_none() {
                        self.pack(range, [tile, group], out);
                    }
                    for j in from..panels.min(from + together) {
                        let right = b.get(block, j);
                        for i in tiles.clone() {
                            let left = self.in_place(range, i);
                            let left = left.unwrap_or_else(|| self.packed(out, tile, i));
                            self.tile(range, i, j, left, right);
                        }
                    }
                }
            }
        }
    }

    /// Computes some panels of columns, all rows.
    fn columns(&self, [first, count]: [usize; 2], a: Option<&Buffer>, b: MatRef<'_, S::Element>) {
        let mut buf = scratch(self.blocks.get(0)[1] * I::WIDTH);
        let out = floats(&mut buf);
        let a = a.map(|a| a.as_slice::<f32>().expect("packed as f32"));
        for block in 0..self.blocks.count {
            let range = self.blocks.get(block);
            let a = a.map(|a| &a[block * self.tiles.count * self.tile_len()..]);
            for j in first..first + count {
                S::pack_b::<I>(b, panel::<I>(j, self.n), elements::<S>(range, b.rows), out);
                for i in 0..self.tiles.count {
                    let left = match a {
                        Some(a) => self.packed(a, 0, i),
                        None => self.in_place(range, i).expect("not packed, so in place"),
                    };
                    self.tile(range, i, j, left, out);
                }
            }
        }
    }

    /// One tile of C, one block of the inner dimension.
    #[inline]
    fn tile(&self, [from, k]: [usize; 2], i: usize, j: usize, a: Left<'_>, b: &[f32]) {
        let [[row, rows], [col, cols]] = [self.tiles.get(i), panel::<I>(j, self.n)];
        let last = (rows - 1) * a.strides[0] + (k - 1) * a.strides[1];
        assert!(last < a.data.len() && b.len() >= k * I::WIDTH);
        let tile = Tile {
            a: a.data.as_ptr(),
            a_strides: a.strides,
            b: b.as_ptr(),
            k,
            c: self.c.at(row, col).cast(),
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

/// A tile of A: element `(r, l)` is `data[r * strides[0] + l * strides[1]]`, and one of the strides is 1.
#[derive(Clone, Copy)]
struct Left<'a> {
    data: &'a [f32],
    strides: [usize; 2],
}
