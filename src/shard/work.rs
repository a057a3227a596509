//! The limit of the work in a turn, so that no client, however busy, delays the others for long.
//!
//! The cost of a message is known only after it was handled: a byte on an echo, a thousand frames on a busy
//! topic. So work is counted as it is done, in *frames pushed*: one frame to one connection is 1, and each
//! [`BYTES_PER_UNIT`] bytes of it 1 more. A frame costs some 70 ns to push and, when it leaves with others, as much
//! again in the kernel.

/// Bytes that cost as much as one more frame: what the kernel copies in some 70 ns.
const BYTES_PER_UNIT: usize = 256;

/// What reading may do in a turn: 5 to 9 ms on a topic of a thousand, the kernel's part included. Others wait behind a
/// flood for two turns. Twice as much would carry a tenth more of a flood, and let them wait twice as long.
const READING_MAX: u64 = 32 * 1024;

/// What one connection's input may do before that of others has its turn.
const SHARE_MAX: u64 = 1024;

/// Rooms that cost as much to look at as a frame: 4 to 5 ns each.
const ROOMS_PER_UNIT: usize = 16;

/// What it costs to tell what is known of a connection: half of it is a system call, which takes a microsecond.
const FACTS_UNITS: u64 = 28;

/// What it costs to report the end of a connection: its facts, an event and a line in a log.
const REPORT_UNITS: u64 = 2 * FACTS_UNITS;

/// What the check of a token with a key costs: up to half a millisecond for ES256, a fifth of that for EdDSA. So it is more than a
/// connection's share, and eight of them are a turn.
const TOKEN_CHECK_UNITS: u64 = 4 * 1024;

/// What messages of one class may do in a turn: see [`READING_MAX`]. One message is always taken.
pub(super) const MAIL_MAX: u64 = READING_MAX;

/// What reports of ends may do in a turn: some 300 of them, in a millisecond.
pub(super) const REPORTS_MAX: u64 = READING_MAX / 2;

/// The work of a shard.
#[derive(Debug)]
pub(super) struct Work {
    /// Since the shard was made.
    done: u64,
    /// What reading may still do in this turn.
    reading_left: u64,
}

/// One connection's share of a turn's reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    begun_at: u64,
    ends_at: u64,
}

impl Work {
    pub(super) fn new() -> Self {
        Self { done: 0, reading_left: READING_MAX }
    }

    /// How much has been done since the shard was made.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Counts a frame of so many bytes, pushed to so many connections.
    pub(super) fn count_frames(&mut self, count: u64, bytes: usize) {
        self.done += count * (1 + (bytes / BYTES_PER_UNIT) as u64);
    }

    /// Counts input of so many bytes, read.
    pub(super) fn count_input(&mut self, bytes: usize) {
        self.done += 1 + (bytes / BYTES_PER_UNIT) as u64;
    }

    /// Counts a look at so many rooms, for a list of them.
    pub(super) fn count_rooms(&mut self, rooms: usize) {
        self.done += (rooms / ROOMS_PER_UNIT) as u64;
    }

    /// Counts a look at so many clients, most of which are not in the cache.
    pub(super) fn count_looks(&mut self, clients: usize) {
        self.done += clients as u64;
    }

    /// Counts the facts of so many connections, with what the kernel knows of them.
    pub(super) fn count_facts(&mut self, connections: usize) {
        self.done += connections as u64 * FACTS_UNITS;
    }

    /// Counts the report of an end.
    pub(super) fn count_report(&mut self) {
        self.done += REPORT_UNITS;
    }

    /// Counts the check of a token with so many keys.
    pub(super) fn count_token_checks(&mut self, keys: u64) {
        self.done += keys * TOKEN_CHECK_UNITS;
    }

    /// Begins to read from a connection.
    pub(super) fn begin_share(&self) -> Share {
        Share { begun_at: self.done, ends_at: self.done + SHARE_MAX.min(self.reading_left) }
    }

    /// True when a connection has had its share.
    pub(super) fn is_over(&self, share: Share) -> bool {
        self.done >= share.ends_at
    }

    /// Counts what a connection's share has cost.
    pub(super) fn end_share(&mut self, share: Share) {
        self.reading_left = self.reading_left.saturating_sub(self.done - share.begun_at);
    }

    /// True while this turn may go on reading.
    pub(super) fn may_read(&self) -> bool {
        self.reading_left > 0
    }

    /// Ends this turn's reading.
    pub(super) fn end_reading(&mut self) {
        self.reading_left = READING_MAX;
    }
}
