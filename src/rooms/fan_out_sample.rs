//! How many fan-outs are timed, of all that a home makes.

use crate::metrics::RoomSizeClass;

/// The least time between two timed fan-outs to rooms of one size class, on average: 50 a second. It spreads the sample
/// over time, so that it is taken from quiet and busy moments as they come.
pub(super) const INTERVAL_MS: u64 = 20;

/// Fan-outs that may be timed at once after a pause.
pub(super) const BURST: u64 = 100;

/// The most fan-outs of one home that are timed within so many seconds.
pub(super) const fn timed_max(seconds: u64) -> usize {
    RoomSizeClass::ALL.len() * (BURST + seconds * 1_000 / INTERVAL_MS) as usize
}
