//! The deliveries, requests and writes of a shard's homes, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fan_out_timer::{FanOutTimer, FanOutTimers};
use super::{Delivery, Request, ShardIndex, Write};
use crate::clock::Now;
use crate::metrics::ShardMetrics;

/// The deliveries, requests and writes of a shard's homes until they are polled, in order.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) deliveries: VecDeque<(ShardIndex, Delivery)>,
    /// To other homes.
    pub(super) requests: VecDeque<(ShardIndex, Request)>,
    pub(super) writes: VecDeque<Write>,
    /// Proposals without an outcome, of all rooms, and clients that wait for a room to be opened.
    pub(super) proposals_waiting: usize,
    /// Writes without a receipt, those that are still in here included.
    pub(super) writes_unanswered: usize,
    /// True while nothing can be written: messages and deletions are rejected, and no room is opened.
    pub(super) is_storage_failing: bool,
    fan_out_timers: FanOutTimers,
}

impl Outbox {
    pub(super) fn new(metrics: Arc<ShardMetrics>) -> Self {
        Self {
            deliveries: VecDeque::new(),
            requests: VecDeque::new(),
            writes: VecDeque::new(),
            proposals_waiting: 0,
            writes_unanswered: 0,
            is_storage_failing: false,
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
