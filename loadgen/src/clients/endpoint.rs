//! What the connections of loadgen have in common as endpoints of a WebSocket: their limits and their masks.

use uproar_protocol::connection::{BATCH_ENTRIES_MAX, Limits, QueueLimits};
use uproar_ring::SharedBytes;

/// What is offered to a server.
pub(super) const NO_SUBPROTOCOLS: &[&str] = &[];

/// The longest frame that is sent: a message of a mebibyte, the most that `--payload` takes, and the JSON around it.
const FRAME_BYTES_MAX: usize = 2 << 20;

/// The sizes of a connection. Its queue takes a batch of the longest frames.
pub(super) const LIMITS: Limits = Limits {
    // The longest message that is taken from a server.
    message_bytes_max: 16 << 20,
    queue: QueueLimits {
        charged_bytes_max: BATCH_ENTRIES_MAX * (FRAME_BYTES_MAX + SharedBytes::OVERHEAD_BYTES),
        overhead_bytes: SharedBytes::OVERHEAD_BYTES,
    },
};

/// A mask for a frame that a connection sends by itself, from the generator of the thread.
pub(super) fn new_mask() -> [u8; 4] {
    fastrand::u32(..).to_ne_bytes()
}
