//! The deliveries and writes of a shard's homes, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fan_out_timer::{FanOutTimer, FanOutTimers};
use super::{Delivery, ShardIndex, Write};
use crate::clock::Now;
use crate::metrics::ShardMetrics;

/// The deliveries and writes of a shard's homes until they are polled, in order.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) deliveries: VecDeque<(ShardIndex, Delivery)>,
    pub(super) writes: VecDeque<Write>,
    /// Proposals without an outcome, of all rooms.
    pub(super) proposals_waiting: usize,
    /// Writes without a receipt, those that are still in here included.
    pub(super) writes_unanswered: usize,
    fan_out_timers: FanOutTimers,
}

impl Outbox {
    pub(super) fn new(metrics: Arc<ShardMetrics>) -> Self {
        Self {
            deliveries: VecDeque::new(),
            writes: VecDeque::new(),
            proposals_waiting: 0,
            writes_unanswered: 0,
            fan_out_timers: FanOutTimers::new(metrics),
        }
    }

    pub(super) fn send(&mut self, to: ShardIndex, delivery: Delivery) {
        self.deliveries.push_back((to, delivery));
    }

    pub(super) fn write(&mut self, write: Write) {
        self.writes.push_back(write);
        self.writes_unanswered += 1;
    }

    pub(super) fn note_answered(&mut self) {
        self.writes_unanswered =
            self.writes_unanswered.checked_sub(1).expect("Bug: more receipts than writes");
    }

    /// Starts to time a fan-out to this many members, if it is in the sample.
    pub(super) fn time_fan_out(&mut self, members: usize, now: Now) -> Option<Arc<FanOutTimer>> {
        self.fan_out_timers.start(members, now)
    }
}
