//! A batch of a connection as the ring takes it, and back. The protocol and the ring do not know each other.

use uproar_protocol::connection::{BATCH_ENTRIES_MAX, Batch, Entries};
use uproar_ring::{BATCH_FRAMES_MAX, Frames, SendBatch, SharedBytes};

// A batch of the protocol is one of the ring.
const _: () = assert!(BATCH_ENTRIES_MAX <= BATCH_FRAMES_MAX);

/// A batch of the protocol as the ring takes it.
pub(super) fn to_ring(batch: Batch<SharedBytes>) -> SendBatch {
    match batch.into_parts() {
        (Entries::One(frame), head_offset) => SendBatch::one(frame, head_offset),
        (Entries::Many(frames), head_offset) => SendBatch::many(frames, head_offset),
    }
}

/// The inverse of [`to_ring`].
pub(super) fn from_ring(batch: SendBatch) -> Batch<SharedBytes> {
    let (frames, head_offset) = batch.into_parts();
    match frames {
        Frames::One(frame) => Batch::new(Entries::One(frame), head_offset),
        Frames::Many(frames) => Batch::new(Entries::Many(frames), head_offset),
    }
}
