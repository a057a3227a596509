//! The memory that glibc's allocator keeps after it was freed. With other allocators these functions do nothing.

/// The state of the heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// Bytes in use.
    pub used_bytes: usize,
    /// Bytes that were freed and kept; some of their pages may have been given back already.
    pub free_bytes: usize,
}

/// The state of the heap now (mallinfo(3)). It walks all free chunks while allocations wait.
#[must_use]
pub fn heap() -> Heap {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes nothing, returns a value, and may be called from any thread (attributes(7): MT-Safe
        // but for the settings of mallopt(3), which are made before).
        let info = unsafe { libc::mallinfo2() };
        Heap { used_bytes: info.uordblks, free_bytes: info.fordblks }
    }
    #[cfg(not(target_env = "gnu"))]
    Heap::default()
}

/// The most that may be free at the end of a thread's heap before it is given back.
#[cfg(target_env = "gnu")]
const END_BYTES_MAX: libc::c_int = 1 << 20;

/// The least bytes of an allocation that has pages of its own. The kernel moves those when an array grows, so a table with
/// an entry for each connection leaves no copies of its smaller self behind: 75 bytes for each connection. Buffers of
/// messages are shorter.
#[cfg(target_env = "gnu")]
const OWN_PAGES_BYTES_MIN: libc::c_int = 512 << 10;

/// Configures the allocator to give back the free end of each thread's heap (mallopt(3)), which [`trim`] does not. To
/// be called before other threads exist.
///
/// By itself glibc does so, too, until a large allocation is freed: then it raises the limit, up to 64 MiB.
pub fn give_back_ends() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it changes two numbers, and is called while there is one thread (attributes(7): MT-Unsafe init
    // const:mallopt). It fails only for values that are out of range.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, END_BYTES_MAX);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_BYTES_MIN);
    }
}

/// Gives free pages back to the kernel (malloc_trim(3)). Threads that allocate from an arena wait while it is trimmed.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it frees pages that hold nothing, and is MT-Safe.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The least bytes of a freed block for which glibc joins the small free blocks around it, and gives the free end of the
/// thread's heap back (`FASTBIN_CONSOLIDATION_THRESHOLD`).
const JOINING_BYTES: usize = 64 << 10;

/// Gives the free end of this thread's heap back to the kernel, which [`trim`] does not. To be called after many small
/// blocks were freed: glibc keeps those apart until a large one is.
pub fn give_back_own_end() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(JOINING_BYTES)));
}
