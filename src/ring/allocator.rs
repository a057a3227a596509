//! What glibc's allocator keeps of what was freed. Elsewhere there is nothing to ask and nothing to do.

/// What an allocator has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// Bytes in use.
    pub used_bytes: usize,
    /// Bytes that were freed and are kept for later; pages of them may have been given back already.
    pub free_bytes: usize,
}

/// What the allocator has now (mallinfo(3)). It looks at each free piece of memory while allocations wait.
#[must_use]
pub fn heap() -> Heap {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes nothing, returns a value, and may be called from any thread (attributes(7): MT-Safe
        // but for the settings of mallopt(3), which nobody changes).
        let info = unsafe { libc::mallinfo2() };
        Heap { used_bytes: info.uordblks, free_bytes: info.fordblks }
    }
    #[cfg(not(target_env = "gnu"))]
    Heap::default()
}

/// Gives whole pages of free memory back to the kernel (malloc_trim(3)). Threads whose memory it is at wait for
/// it when they allocate.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it frees pages that hold nothing, and is MT-Safe.
    unsafe {
        libc::malloc_trim(0);
    }
}
