//! Where blocks come from.
//!
//! Small blocks come from the allocator of the program. On Linux larger ones are pages of the system, huge ones where
//! it has them, which are 512 times as large: walks over memory then hardly ever miss the translation cache. Blocks of
//! medium size lie side by side in regions, since each by itself would fill no huge page; the largest are whole huge
//! pages of their own. What a tensor leaves unused of its block is not touched.

#![allow(unsafe_code)]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ptr::NonNull,
    sync::Mutex,
};

use super::{ALIGNMENT, Block, CLASSES, Lists, class_bytes, lock};

/// Bytes of a huge page.
const HUGE: usize = 2 << 20;
/// Blocks from this size on come from the system; those below share their pages with all that the program has.
const MEDIUM: usize = if cfg!(target_os = "linux") { 64 << 10 } else { usize::MAX };
/// Blocks from this size on, which are multiples of a huge page, are given back by themselves.
const LARGE: usize = 4 * HUGE;
/// Bytes of a region.
const REGION: usize = 16 * HUGE;

/// The newest region.
static NEWEST: Mutex<Region> = Mutex::new(Region { next: None, left: 0 });
/// Blocks of regions whose memory the system has back.
static EMPTY: Lists = [const { Mutex::new(Vec::new()) }; CLASSES];

/// Memory that blocks are cut from.
struct Region {
    next: Option<Block>,
    left: usize,
}

impl Region {
    /// The next `bytes`, of a new region where this one has less.
    fn cut(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        if self.left < bytes {
            *self = Self { next: Some(Block(pages::take(REGION)?)), left: REGION };
        }
        let block = self.next.as_ref()?.0;
        self.left -= bytes;
        // SAFETY: the region has at least `bytes` after this place.
        self.next = Some(Block(unsafe { block.add(bytes) }));
        Some(block)
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, ALIGNMENT).expect("a tensor's size in bytes overflows isize")
}

/// An initialised block of a class: zeros, or old numbers.
pub(super) fn take(class: usize) -> NonNull<u8> {
    let bytes = class_bytes(class);
    let block = if bytes < MEDIUM {
        heap::take(bytes)
    } else if bytes < LARGE {
        let empty = lock(&EMPTY[class]).pop();
        empty.map(|block| block.0).or_else(|| lock(&NEWEST).cut(bytes))
    } else {
        pages::take(bytes)
    };
    block.unwrap_or_else(|| handle_alloc_error(layout(bytes)))
}

/// Gives the memory of a block back.
///
/// # Safety
/// The block came from `take` with this class, and nothing else points to it.
pub(super) unsafe fn give(class: usize, block: Block) {
    let bytes = class_bytes(class);
    // SAFETY: this is where `take` has it from.
    unsafe {
        if bytes < MEDIUM {
            heap::give(block.0, bytes);
        } else if bytes < LARGE {
            pages::empty(block.0, bytes);
            lock(&EMPTY[class]).push(block);
        } else {
            pages::give(block.0, bytes);
        }
    }
}

/// Zeroed memory from the allocator of the program.
mod heap {
    use super::{NonNull, alloc_zeroed, dealloc, layout};

    /// A block of `bytes`, which are not 0.
    pub(super) fn take(bytes: usize) -> Option<NonNull<u8>> {
        assert_ne!(bytes, 0);
        // SAFETY: the size is not 0.
        NonNull::new(unsafe { alloc_zeroed(layout(bytes)) })
    }

    /// # Safety
    /// The block came from `take` with this size, and nothing points to it any more.
    pub(super) unsafe fn give(block: NonNull<u8>, bytes: usize) {
        // SAFETY: that is what the caller promises.
        unsafe { dealloc(block.as_ptr(), layout(bytes)) };
    }

    /// # Safety
    /// As for `give`, except that the block stays.
    #[cfg(not(target_os = "linux"))]
    pub(super) unsafe fn empty(_block: NonNull<u8>, _bytes: usize) {}
}

#[cfg(not(target_os = "linux"))]
use heap as pages;

/// Zeroed memory from the system.
#[cfg(target_os = "linux")]
mod pages {
    use std::ptr::null_mut;

    use super::{HUGE, NonNull};

    /// Memory of `bytes`, a multiple of a huge page, in huge pages if the system has them.
    pub(super) fn take(bytes: usize) -> Option<NonNull<u8>> {
        assert!(bytes > 0 && bytes.is_multiple_of(HUGE));
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let all = bytes.checked_add(HUGE)?;
        // SAFETY: a mapping at a place that the system chooses touches no memory of ours.
        let start = unsafe { libc::mmap(null_mut(), all, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let before = start.cast::<u8>().align_offset(HUGE);
        // SAFETY: `before < HUGE`, so that the block lies within the mapping; what is around it is unmapped, and nobody
        // knows of it. Advice that the system does not take changes nothing.
        unsafe {
            let block = start.cast::<u8>().add(before);
            for (unused, len) in [(start.cast(), before), (block.add(bytes), HUGE - before)] {
                if len > 0 {
                    libc::munmap(unused.cast(), len);
                }
            }
            libc::madvise(block.cast(), bytes, libc::MADV_HUGEPAGE);
            NonNull::new(block)
        }
    }

    /// # Safety
    /// The memory came from `take` with this size, and nothing points to it any more.
    pub(super) unsafe fn give(block: NonNull<u8>, bytes: usize) {
        // SAFETY: that is what the caller promises.
        unsafe { libc::munmap(block.as_ptr().cast(), bytes) };
    }

    /// Lets the system have the memory and keeps its place: it is zeros then, or what it was if the system refuses.
    ///
    /// # Safety
    /// The block is part of what came from `take`, and nothing points to it.
    pub(super) unsafe fn empty(block: NonNull<u8>, bytes: usize) {
        // SAFETY: that is what the caller promises; nothing relies on the numbers in the block.
        unsafe { libc::madvise(block.as_ptr().cast(), bytes, libc::MADV_DONTNEED) };
    }
}

#[cfg(test)]
mod tests {
    use super::{super::class_of, *};

    /// The block as bytes.
    fn bytes_of<'a>(block: NonNull<u8>, bytes: usize) -> &'a mut [u8] {
        // SAFETY: the tests ask for blocks of this size, one at a time, and use them until they give them back.
        unsafe { std::slice::from_raw_parts_mut(block.as_ptr(), bytes) }
    }

    #[test]
    fn memory_of_the_system_and_of_the_heap_is_alike() {
        for bytes in [HUGE, 5 * HUGE] {
            let blocks = [pages::take(bytes).unwrap(), heap::take(bytes).unwrap()];
            for block in blocks {
                assert_eq!(block.as_ptr() as usize % ALIGNMENT, 0);
                assert!(bytes_of(block, bytes).iter().all(|&b| b == 0), "{bytes}");
                bytes_of(block, bytes).fill(7);
            }
            if cfg!(target_os = "linux") {
                assert_eq!(blocks[0].as_ptr() as usize % HUGE, 0);
            }
            // SAFETY: they came from there, with this size.
            unsafe {
                pages::empty(blocks[0], bytes);
                bytes_of(blocks[0], bytes).fill(8);
                pages::give(blocks[0], bytes);
                heap::give(blocks[1], bytes);
            }
        }
    }

    #[test]
    fn blocks_of_all_sizes_lie_apart_and_are_given_back() {
        let sizes =
            [1, MEDIUM.min(1 << 20) - 1, 64 << 10, 100_003, 5 << 20, (5 << 20) + 1, LARGE, 9 << 20];
        for _ in 0..2 {
            let blocks: Vec<(usize, NonNull<u8>)> =
                sizes.iter().cycle().take(16).map(|&n| (class_of(n), take(class_of(n)))).collect();
            for (i, &(class, block)) in blocks.iter().enumerate() {
                assert_eq!(block.as_ptr() as usize % ALIGNMENT, 0);
                for part in bytes_of(block, class_bytes(class)).chunks_mut(4096) {
                    (part[0], part[part.len() - 1]) = (i as u8, i as u8);
                }
            }
            for (i, &(class, block)) in blocks.iter().enumerate() {
                let parts = bytes_of(block, class_bytes(class)).chunks(4096);
                assert!(parts.into_iter().all(|p| p[0] == i as u8 && p[p.len() - 1] == i as u8));
                // SAFETY: it came from there, with this class, and is not used any more.
                unsafe { give(class, Block(block)) };
            }
        }
    }

    #[test]
    fn large_blocks_are_whole_huge_pages() {
        let first = class_of(LARGE);
        assert_eq!(class_bytes(first), LARGE);
        assert!((first..first + 40).all(|class| class_bytes(class).is_multiple_of(HUGE)));
    }
}
