//! Asks the kernel what it offers of io_uring, before any ring of full size is set up.

use std::io;

use io_uring::{IoUring, opcode};
use rustix::io::Errno;

/// The operations that a [`Ring`](crate::Ring) submits, and those of tokio-uring beside it.
const OPERATIONS: [(&str, u8); 8] = [
    ("RECV", opcode::Recv::CODE),
    ("SEND", opcode::Send::CODE),
    ("SENDMSG", opcode::SendMsg::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ("ACCEPT", opcode::Accept::CODE),
    ("READ", opcode::Read::CODE),
    ("WRITE", opcode::Write::CODE),
    ("CLOSE", opcode::Close::CODE),
];

/// The entries of the ring that asks.
const ENTRIES: u32 = 8;

/// A small ring with the flags of a [`Ring`](crate::Ring), through which the kernel is asked.
pub struct Probe {
    ring: IoUring,
}

/// Why such a ring cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct ProbeError {
    /// What `io_uring_setup(2)` reports.
    #[source]
    pub error: io::Error,
    /// True when a ring can be set up without these flags: then the kernel is older than Linux 6.1.
    pub has_older_ring: bool,
}

/// The operations that are needed, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operations {
    /// Those that the kernel has.
    pub supported: Vec<&'static str>,
    /// Those that it lacks.
    pub missing: Vec<&'static str>,
}

impl Probe {
    /// Sets the small ring up.
    ///
    /// # Errors
    ///
    /// [`ProbeError`], when the kernel refuses.
    pub fn new() -> Result<Self, ProbeError> {
        // The second flag came with Linux 6.1 and needs the first.
        match IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(ENTRIES) {
            Ok(ring) => Ok(Self { ring }),
            Err(error) => Err(ProbeError { error, has_older_ring: IoUring::new(ENTRIES).is_ok() }),
        }
    }

    /// Which of the needed operations the kernel has.
    ///
    /// # Errors
    ///
    /// What `io_uring_register(2)` reports.
    pub fn operations(&self) -> io::Result<Operations> {
        let mut probe = io_uring::Probe::new();
        self.ring.submitter().register_probe(&mut probe)?;
        let names = |is_supported: bool| {
            let operations = OPERATIONS.iter().filter(|(_, code)| probe.is_supported(*code) == is_supported);
            operations.map(|(name, _)| *name).collect()
        };
        Ok(Operations { supported: names(true), missing: names(false) })
    }

    /// Checks that the kernel has provided-buffer rings.
    ///
    /// # Errors
    ///
    /// What `io_uring_register(2)` reports when it has none.
    pub fn check_buffer_rings(&self) -> io::Result<()> {
        // Takes a buffer ring away that does not exist: a kernel that has buffer rings does not find it (ENOENT), an older
        // one does not know the request (EINVAL).
        match self.ring.submitter().unregister_buf_ring(0) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::NOENT) => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: where a ring can be set up, as here, the probe finds all that the ring needs.
    #[test]
    fn a_kernel_that_can_set_up_a_ring_has_what_it_needs() {
        let probe = Probe::new().unwrap();
        let names = OPERATIONS.map(|(name, _)| name).to_vec();
        assert_eq!(probe.operations().unwrap(), Operations { supported: names, missing: Vec::new() });
        probe.check_buffer_rings().unwrap();
    }
}
