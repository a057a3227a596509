//! The configuration of loadgen's connections as endpoints of a WebSocket: limits and masks.

use std::sync::{Arc, LazyLock};

use uproar_protocol::connection::{BATCH_ENTRIES_MAX, ClosingTimes, Config, ControlOrder, QueueLimits};
use uproar_ring::SharedBytes;

/// The subprotocols that are offered to a server.
pub(super) const NO_SUBPROTOCOLS: &[&str] = &[];

/// The longest frame that is sent: a message of a mebibyte, the most that `--payload` takes, and the JSON around it.
const FRAME_BYTES_MAX: usize = 2 << 20;

/// What all connections of loadgen have in common. The queue takes a batch of the longest frames.
pub(super) static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| {
    Arc::new(Config {
        new_mask: Some(new_mask),
        // The longest message that is taken from a server.
        message_bytes_max: 16 << 20,
        queue: QueueLimits {
            charged_bytes_max: BATCH_ENTRIES_MAX * (FRAME_BYTES_MAX + SharedBytes::OVERHEAD_BYTES),
            overhead_bytes: SharedBytes::OVERHEAD_BYTES,
            control: ControlOrder::Queued,
        },
        closing: ClosingTimes::default(),
    })
});

/// A mask for a frame that a connection sends by itself, from the generator of the thread.
fn new_mask() -> [u8; 4] {
    fastrand::u32(..).to_ne_bytes()
}
