//! How much a turn of a shard may do, so that no client, however loud, makes the others wait.
//!
//! What a message costs is known only when it has been carried out: a byte on an echo, a thousand frames on a busy
//! topic. So work is counted as it is done, in *frames pushed*: one frame to one connection is 1, and each
//! [`BYTES_PER_UNIT`] bytes of it 1 more. A frame costs some 70 ns to push and, when it leaves with others, as much
//! again in the kernel.

/// Bytes that cost as much as one more frame: what the kernel copies in some 70 ns.
const BYTES_PER_UNIT: usize = 256;

/// What reading may do in a turn: 5 to 9 ms on a topic of a thousand, the kernel's part included. Others wait behind a
/// flood for two turns. Twice as much would carry a tenth more of a flood, and let them wait twice as long.
pub(super) const READING_MAX: u64 = 32 * 1024;

/// What one connection's input may do before that of others has its turn.
pub(super) const SHARE_MAX: u64 = 1024;

/// What messages of one class may do in a turn: see [`READING_MAX`]. One message is always taken.
pub(super) const MAIL_MAX: u64 = READING_MAX;

/// A frame of so many bytes, pushed to so many connections.
pub(super) fn frames(count: u64, bytes: usize) -> u64 {
    count * (1 + (bytes / BYTES_PER_UNIT) as u64)
}

/// Input of so many bytes, read.
pub(super) fn input(bytes: usize) -> u64 {
    1 + (bytes / BYTES_PER_UNIT) as u64
}
