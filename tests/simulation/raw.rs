//! A member of a topic: what it has heard, and whether it may hear that.

use std::collections::BTreeSet;

use uproar::shard::Limits;

use crate::record::{Record, RelayKey, content_key};
use crate::violation::{Checked, ensure, violated};

/// A member of a topic.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) topic: String,
    pub(crate) sent: usize,
    pub(crate) own_received: usize,
    /// The number of the last of them.
    pub(crate) own_last: usize,
    pub(crate) last: Option<RelayKey>,
    pub(crate) seen: BTreeSet<RelayKey>,
}

impl Raw {
    /// All of its own messages have come back, or as many as the rate lets through at least.
    pub(crate) fn check_own(&self, limits: &Limits) -> Checked {
        let least = match limits.topic_rate.per_second {
            0 => self.sent,
            _ => self.sent.min(limits.topic_rate.burst as usize),
        };
        ensure!(
            NoWaitingOnTheSlow,
            (least..=self.sent).contains(&self.own_received),
            "{} of {} own messages came back, and {least} at least should",
            self.own_received,
            self.sent
        );
        Ok(())
    }

    /// It has heard everything that anyone has heard of what was said since it came.
    pub(crate) fn check_topic(&self, greeted_at: u64, record: &Record) -> Checked {
        for (key, relayed) in &record.relayed {
            let is_due = relayed.is_seen && relayed.step > greeted_at && relayed.topic == self.topic;
            ensure!(OneOrder, !is_due || self.seen.contains(key), "{key:?} is missing, others have it");
        }
        Ok(())
    }

    pub(crate) fn hear(
        &mut self,
        client: usize,
        is_text: bool,
        payload: &[u8],
        record: &mut Record,
        limits: &Limits,
    ) -> Checked {
        let Some(key) = std::str::from_utf8(payload).ok().and_then(content_key) else {
            violated!(Protocol, "{} bytes that nobody sent", payload.len())
        };
        ensure!(OneOrder, self.seen.insert(key), "{key:?} came twice");
        if key.0 == client {
            // Where there is a rate, some may have been dropped.
            let is_next = match limits.topic_rate.per_second {
                0 => key.1 == self.own_last + 1,
                _ => key.1 > self.own_last,
            };
            ensure!(OneOrder, is_next, "own message {} after {}", key.1, self.own_last);
            self.own_last = key.1;
            self.own_received += 1;
        }
        record.see_relay(&self.topic, self.last.replace(key), key, is_text, payload)
    }
}
