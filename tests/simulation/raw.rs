//! A member of a topic: what it has heard, and whether it may hear that.

use std::collections::BTreeSet;

use crate::record::{Record, RelayKey, content_key};
use crate::violation::{Checked, ensure, violated};

/// A member of a topic.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) topic: String,
    pub(crate) sent: usize,
    pub(crate) own_received: usize,
    pub(crate) last: Option<RelayKey>,
    pub(crate) seen: BTreeSet<RelayKey>,
}

impl Raw {
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
    ) -> Checked {
        let Some(key) = std::str::from_utf8(payload).ok().and_then(content_key) else {
            violated!(Protocol, "{} bytes that nobody sent", payload.len())
        };
        ensure!(OneOrder, self.seen.insert(key), "{key:?} came twice");
        if key.0 == client {
            ensure!(
                OneOrder,
                key.1 == self.own_received + 1,
                "own message {} after {}",
                key.1,
                self.own_received
            );
            self.own_received = key.1;
        }
        record.see_relay(&self.topic, self.last.replace(key), key, is_text, payload)
    }
}
