//! The receive buffers: one pool for all connections, from which the kernel takes a buffer when bytes arrive. An idle
//! connection holds none.
//!
//! The pool is a provided-buffer ring (`io_uring_register_buf_ring(3)`): an array of entries that we
//! fill and whose tail we publish, and the buffers that the entries point at.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// The only buffer group of a ring.
pub(crate) const GROUP: u16 = 0;

/// Entries start on a page, as the kernel demands; the buffers behind them too.
const PAGE_BYTES: usize = 4096;

/// Memory from the allocator, page-aligned and zeroed, freed on drop.
#[derive(Debug)]
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
    /// True when the memory is leaked.
    is_leaked: bool,
}

impl Pages {
    fn new(bytes: usize) -> io::Result<Self> {
        let layout =
            Layout::from_size_align(bytes.max(1), PAGE_BYTES).expect("Bug: a layout over isize::MAX");
        // SAFETY: the layout's size is at least 1, by the `max` above.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) });
        // The operator may have set a memory limit, so this is an error and not a panic.
        let start = start.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { start, layout, is_leaked: false })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if !self.is_leaked {
            // SAFETY: `start` came from `alloc_zeroed` with this very layout, and is freed once, here.
            unsafe { dealloc(self.start.as_ptr(), self.layout) }
        }
    }
}

/// A pool of receive buffers, registered with one ring.
///
/// Invariant: each buffer is either with the kernel (its entry was published) or with us (between the
/// completion that named it and `give_back`), never both.
#[derive(Debug)]
pub(crate) struct Buffers {
    entries: Pages,
    data: Pages,
    count: u16,
    buffer_bytes: u32,
    /// How many entries were ever published, modulo 2^16, as the kernel counts.
    tail: u16,
    /// Asserts the invariant: true while the buffer is with us.
    taken: Vec<bool>,
}

impl Buffers {
    /// Makes a pool of `count` buffers and registers it.
    pub(crate) fn register(ring: &io_uring::IoUring, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "a pool of {count} buffers");
        let entries = Pages::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let data = Pages::new(usize::from(count) * buffer_bytes as usize)?;
        // SAFETY: the pages are page-aligned, hold `count` entries, and live in `Self` until `Ring::drop` has
        // unregistered them, once no receive is under way any more, or has leaked them.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.start.as_ptr() as u64, count, GROUP, 0)?;
        }
        let mut buffers =
            Self { entries, data, count, buffer_bytes, tail: 0, taken: vec![true; usize::from(count)] };
        for buffer in 0..count {
            buffers.give_back(buffer);
        }
        Ok(buffers)
    }

    /// The number of buffers.
    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// The first `len` bytes of a buffer that the kernel has filled.
    pub(crate) fn bytes(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(self.taken[usize::from(buffer)] && len <= self.buffer_bytes as usize);
        let offset = usize::from(buffer) * self.buffer_bytes as usize;
        // SAFETY: the range lies inside `data` (the assertion above, and `taken` bounds the index); it is
        // initialised (zeroed at first, then written by the kernel); and it is not written while it is
        // taken: the kernel writes only to published buffers, and `give_back` needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.data.start.as_ptr().add(offset), len) }
    }

    /// Leaks the memory, because the kernel may still write to it.
    pub(crate) fn leak(&mut self) {
        self.entries.is_leaked = true;
        self.data.is_leaked = true;
        self.taken.clear();
    }

    /// Notes that the kernel has filled this buffer.
    pub(crate) fn take(&mut self, buffer: u16) {
        let taken = &mut self.taken[usize::from(buffer)];
        assert!(!*taken, "Bug: buffer {buffer} was handed out twice");
        *taken = true;
    }

    /// Publishes a buffer to the kernel again.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        let taken = &mut self.taken[usize::from(buffer)];
        assert!(*taken, "Bug: buffer {buffer} was given back twice");
        *taken = false;
        let base = self.entries.start.as_ptr().cast::<BufRingEntry>();
        let slot = self.tail & (self.count - 1);
        // SAFETY: `slot < count`, so the entry lies inside `entries`; the kernel reads an entry only after
        // its index was published by the store below, so it does not access it now. The address lies
        // inside `data` since `buffer < count` (the index above was in bounds).
        unsafe {
            let entry = &mut *base.add(usize::from(slot));
            entry.set_addr(
                self.data.start.as_ptr().add(usize::from(buffer) * self.buffer_bytes as usize) as u64
            );
            entry.set_len(self.buffer_bytes);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `base` is the first entry, whose reserved field is the ring's tail by the kernel's
        // definition; it is aligned for a u16 and only ever written here, atomically, while the kernel
        // reads it. Release orders the entry's fields before it.
        unsafe {
            AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()).store(self.tail, Ordering::Release)
        };
    }
}
