//! How long fan-outs take, by the size of the room.

use std::time::Duration;

use super::{DurationHistogram, Labelled, RoomSizeClass};

/// How long it takes to deliver an event, by the size of the room.
#[derive(Debug, Default)]
pub struct FanOutHistogram {
    pub(super) series: Labelled<DurationHistogram, RoomSizeClass, { RoomSizeClass::ALL.len() }>,
}

impl FanOutHistogram {
    /// Counts one delivery that took this long.
    pub fn record(&self, class: RoomSizeClass, took: Duration) {
        self.series.with(class).record(took);
    }
}
