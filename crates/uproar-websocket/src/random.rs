//! Random bytes: a client's masks, which must not be predictable (RFC 6455, section 5.3, and 10.3 for the
//! reason), its keys, and the jitter of its delays.

use std::cell::RefCell;

use rustix::rand::{GetRandomFlags, getrandom};

/// The kernel is asked for so many bytes at a time, enough for a thousand masks.
const POOL_BYTES: usize = 4096;

struct Pool {
    bytes: [u8; POOL_BYTES],
    /// How many of them have not been used.
    left: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], left: 0 }) };
}

/// So many bytes from the kernel's generator.
pub(super) fn bytes<const COUNT: usize>() -> [u8; COUNT] {
    const { assert!(COUNT <= POOL_BYTES) };
    POOL.with_borrow_mut(|pool| {
        if pool.left < COUNT {
            pool.left = 0;
            while pool.left < POOL_BYTES {
                // It may be interrupted before it has given anything, and gives at least 256 bytes otherwise.
                pool.left += getrandom(&mut pool.bytes[pool.left..], GetRandomFlags::empty()).unwrap_or(0);
            }
        }
        pool.left -= COUNT;
        *pool.bytes[pool.left..].first_chunk().expect("Bug: the pool has fewer bytes than it counts")
    })
}

/// A number from 0 to below 1.
pub(super) fn fraction() -> f64 {
    f64::from(u32::from_ne_bytes(bytes())) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn masks_do_not_repeat() {
        let masks: HashSet<[u8; 16]> = (0..10_000).map(|_| super::bytes()).collect();
        assert_eq!(masks.len(), 10_000);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&super::fraction())));
    }
}
