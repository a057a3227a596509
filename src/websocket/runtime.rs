//! A runtime for servers with many connections.

use std::future::Future;

/// Operations that are submitted at once; more are submitted in several steps.
const SUBMISSIONS: u32 = 1024;

/// Completions that the ring holds; the kernel keeps further ones in a list.
const COMPLETIONS: u32 = 4096;

/// Runs a future on a tokio-uring runtime, as [`tokio_uring::start`] does, with a ring that is made for many
/// connections: larger, and without an interrupt of this thread for each completion (`IORING_SETUP_COOP_TASKRUN`),
/// which it would only take note of. Everything in this module works on either.
///
/// # Panics
///
/// When the kernel is older than Linux 6.0, or forbids io_uring.
pub fn start<F: Future>(future: F) -> F::Output {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_coop_taskrun().setup_single_issuer().setup_cqsize(COMPLETIONS);
    tokio_uring::builder().entries(SUBMISSIONS).uring_builder(&ring).start(future)
}
