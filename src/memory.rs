//! Gives memory back to the kernel after a burst.
//!
//! glibc keeps freed memory, scattered among memory in use, so a server that once held two gigabytes for slow clients
//! would stay that large. A thread checks regularly how much was freed, and trims the heap when that is worth it.
//! Shards neither count nor wait; only an allocation waits while its arena is examined.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use uproar_ring::{Heap, give_back_ends, heap, trim};

/// How often it checks. Giving a gibibyte back takes some 100 ms.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The least memory that must have been freed since the last trim; also a sixteenth of the memory in use.
const FREED_BYTES_MIN: usize = 1 << 20;

/// Configures the allocator to give back the free end of each heap. To be called once, while there is one thread.
pub fn configure_allocator() {
    give_back_ends();
}

/// Gives freed memory back until it is dropped.
#[derive(Debug)]
pub struct MemoryTrimmer {
    _stop: Sender<()>,
}

impl MemoryTrimmer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start() -> io::Result<Self> {
        let (stop, stopped) = channel();
        thread::Builder::new().name("memory".to_owned()).spawn(move || {
            let mut freed = FreedMemory::since(heap());
            while stopped.recv_timeout(CHECK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let now = heap();
                if freed.is_worth_a_trim(now) {
                    trim();
                    // What is freed meanwhile may lie in an arena that was trimmed before.
                    freed = FreedMemory::since(now);
                }
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

/// The memory that was freed since the last trim.
#[derive(Debug)]
struct FreedMemory {
    /// The most memory in use at any check since then.
    used_bytes_most: usize,
    /// The least free memory at any check since then. If more is free now, it was in use in between, if only between
    /// two checks.
    free_bytes_least: usize,
}

impl FreedMemory {
    fn since(heap: Heap) -> Self {
        Self { used_bytes_most: heap.used_bytes, free_bytes_least: heap.free_bytes }
    }

    fn is_worth_a_trim(&mut self, heap: Heap) -> bool {
        self.used_bytes_most = self.used_bytes_most.max(heap.used_bytes);
        self.free_bytes_least = self.free_bytes_least.min(heap.free_bytes);
        let seen_bytes = self.used_bytes_most - heap.used_bytes;
        let unseen_bytes = heap.free_bytes - self.free_bytes_least;
        seen_bytes.max(unseen_bytes) >= FREED_BYTES_MIN.max(heap.used_bytes / 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heap(used_mib: usize, free_mib: usize) -> Heap {
        Heap { used_bytes: used_mib << 20, free_bytes: free_mib << 20 }
    }

    #[test]
    fn what_is_freed_is_given_back_once() {
        let mut freed = FreedMemory::since(heap(10, 1));
        assert!(!freed.is_worth_a_trim(heap(500, 2)), "a burst has begun");
        assert!(freed.is_worth_a_trim(heap(10, 400)));
        let mut freed = FreedMemory::since(heap(10, 400));
        assert!(!freed.is_worth_a_trim(heap(10, 400)));
        assert!(!freed.is_worth_a_trim(heap(200, 210)), "a second burst");
        assert!(freed.is_worth_a_trim(heap(10, 400)));
        // Of the free memory the allocator has meanwhile given back as much by itself.
        let mut freed = FreedMemory::since(heap(50, 400));
        assert!(freed.is_worth_a_trim(heap(40, 390)));
    }

    #[test]
    fn what_comes_and_goes_all_the_time_is_kept() {
        let mut freed = FreedMemory::since(heap(10, 5));
        assert!(!freed.is_worth_a_trim(heap(10, 5)));
        let mut freed = FreedMemory::since(heap(1_000, 5));
        assert!(!freed.is_worth_a_trim(heap(960, 45)));
    }
}
