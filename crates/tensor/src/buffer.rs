//! Aligned buffers from a caching pool.
//!
//! A training step asks for the same sizes again and again, and the page faults of fresh memory cost
//! more than the arithmetic on it; so freed buffers are kept by size class and handed out again.
//! Fresh memory comes zeroed and recycled memory holds old numbers: a buffer is never uninitialised,
//! and every [`Element`] type takes any bit pattern, so reading one early is a wrong number, not
//! undefined behaviour.
//!
//! Where blocks come from says `source`.

#![allow(unsafe_code)]

mod source;

use std::{
    fmt,
    ptr::NonNull,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use gradus_core::{DType, Element};

/// Bytes to which every buffer is aligned: one cache line, one AVX-512 register.
pub const ALIGNMENT: usize = 64;
/// Size classes: four to a power of two, from 64 bytes up.
const CLASSES: usize = 4 * 58;

/// A dense array of `len` elements of one type.
pub(crate) struct Buffer {
    ptr: NonNull<u8>,
    class: usize,
    len: usize,
    dtype: DType,
}

// SAFETY: a Buffer owns its memory; shared access only reads, and writing needs `&mut`.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer whose elements have arbitrary (but valid) values.
    pub(crate) fn uninit(dtype: DType, len: usize) -> Self {
        let bytes =
            len.checked_mul(dtype.size()).expect("a tensor's size in bytes overflows usize");
        let class = class_of(bytes);
        Self { ptr: pool_take(class), class, len, dtype }
    }

    /// A buffer of zeros.
    pub(crate) fn zeroed(dtype: DType, len: usize) -> Self {
        let mut b = Self::uninit(dtype, len);
        b.bytes_mut().fill(0);
        b
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// The elements, if they are of type `T`.
    #[inline]
    pub(crate) fn as_slice<T: Element>(&self) -> Option<&[T]> {
        // SAFETY: ptr is aligned to 64 bytes, holds at least len * size_of::<T>() initialised bytes (the
        // dtype check), every bit pattern is a T, and `&self` keeps writers out.
        (T::DTYPE == self.dtype)
            .then(|| unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().cast(), self.len) })
    }

    /// The elements for writing, if they are of type `T`.
    #[inline]
    pub(crate) fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        // SAFETY: as in as_slice, and `&mut self` makes this the only access.
        (T::DTYPE == self.dtype)
            .then(|| unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr().cast(), self.len) })
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the class holds at least this many initialised bytes; `&mut self` makes this the only access.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len * self.dtype.size()) }
    }
}

/// A buffer of arbitrary f32 numbers.
pub(crate) fn scratch(len: usize) -> Buffer {
    Buffer::uninit(DType::F32, len)
}

/// The elements of a buffer of f32.
pub(crate) fn floats(buf: &mut Buffer) -> &mut [f32] {
    buf.as_mut_slice().expect("the buffer was made for f32")
}

impl Drop for Buffer {
    fn drop(&mut self) {
        pool_give(self.class, self.ptr);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} x {})", self.len, self.dtype)
    }
}

/// The class of the smallest block that holds `bytes`.
fn class_of(bytes: usize) -> usize {
    let units = bytes.div_ceil(ALIGNMENT).max(1);
    if units <= 4 {
        return units - 1;
    }
    // Four steps to an octave: a block is at most a quarter larger than asked for.
    let octave = (units - 1).ilog2() as usize;
    let step = (units - 1) >> (octave - 2);
    4 * (octave - 1) + (step - 4)
}

/// Bytes of a block of this class.
fn class_bytes(class: usize) -> usize {
    if class < 4 {
        return (class + 1) * ALIGNMENT;
    }
    let octave = class / 4 + 1;
    ((class % 4 + 5) << (octave - 2)) * ALIGNMENT
}

struct Block(NonNull<u8>);
// SAFETY: a Block is free memory that nobody else points to.
unsafe impl Send for Block {}

/// Free blocks of each class.
type Lists = [Mutex<Vec<Block>>; CLASSES];

static FREE: Lists = [const { Mutex::new(Vec::new()) }; CLASSES];
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static HELD: AtomicUsize = AtomicUsize::new(0);
static FRESH: AtomicUsize = AtomicUsize::new(0);

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    // A panic elsewhere cannot leave a list half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pool_take(class: usize) -> NonNull<u8> {
    let bytes = class_bytes(class);
    let used = IN_USE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(used, Relaxed);
    if let Some(block) = lock(&FREE[class]).pop() {
        HELD.fetch_sub(bytes, Relaxed);
        return block.0;
    }
    FRESH.fetch_add(1, Relaxed);
    source::take(class)
}

fn pool_give(class: usize, ptr: NonNull<u8>) {
    let bytes = class_bytes(class);
    IN_USE.fetch_sub(bytes, Relaxed);
    HELD.fetch_add(bytes, Relaxed);
    lock(&FREE[class]).push(Block(ptr));
}

/// What the buffer pool of this process holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PoolStats {
    /// Bytes in living tensors.
    pub in_use: usize,
    /// The most that `in_use` has been since the start or the last [`reset_peak`].
    pub peak: usize,
    /// Bytes kept for the next tensors.
    pub held: usize,
    /// Blocks that had to be asked from the system allocator; stands still in a steady training loop.
    pub fresh: usize,
}

/// The pool's counters.
#[must_use]
pub fn stats() -> PoolStats {
    PoolStats {
        in_use: IN_USE.load(Relaxed),
        peak: PEAK.load(Relaxed),
        held: HELD.load(Relaxed),
        fresh: FRESH.load(Relaxed),
    }
}

/// Starts a new peak at what is in use now.
pub fn reset_peak() {
    PEAK.store(IN_USE.load(Relaxed), Relaxed);
}

/// Returns the memory kept for later tensors to the system.
pub fn trim() {
    for (class, list) in FREE.iter().enumerate() {
        let blocks = std::mem::take(&mut *lock(list));
        for block in blocks {
            HELD.fetch_sub(class_bytes(class), Relaxed);
            // SAFETY: the block came from there, and nobody else points to it.
            unsafe { source::give(class, block) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_holds_what_it_is_chosen_for() {
        for bytes in (0..5000).chain([1 << 20, (1 << 20) + 1, 3 << 20, (5 << 28) - 1, 1 << 40]) {
            let class = class_of(bytes);
            assert!(class_bytes(class) >= bytes, "{bytes}");
            assert!(
                class_bytes(class) <= bytes + bytes / 4 + 2 * ALIGNMENT,
                "{bytes}: {}",
                class_bytes(class)
            );
            assert!(
                class == 0 || class_bytes(class - 1) < bytes.max(1),
                "{bytes}: a smaller class would do"
            );
        }
        assert!(class_of(isize::MAX as usize) < CLASSES);
    }

    #[test]
    fn what_is_kept_can_be_returned() {
        drop(Buffer::zeroed(DType::F32, 1 << 20));
        trim();
        // Others take and give at the same time; the largest classes have never had a block.
        assert!(stats().held < 1 << 40);
    }

    #[test]
    fn buffers_are_aligned_and_typed() {
        let mut b = Buffer::zeroed(DType::F32, 5);
        assert_eq!(b.as_slice::<f32>(), Some(&[0.0; 5][..]));
        assert_eq!(b.as_slice::<f64>(), None);
        b.as_mut_slice::<f32>().unwrap()[4] = 1.0;
        assert_eq!(b.as_slice::<f32>().unwrap().as_ptr() as usize % ALIGNMENT, 0);
        assert_eq!(Buffer::zeroed(DType::U8, 0).as_slice::<u8>(), Some(&[][..]));
    }
}
