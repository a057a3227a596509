//! One raw topic at its home: it puts messages into one order and keeps nothing.

use std::sync::Arc;

use bytes::Bytes;
use uproar_protocol::frames::MessageKind;

use super::event::{Event, Publication};
use super::outbox::Outbox;
use super::{ClientRef, Delivery, ShardIndex};
use crate::clock::Now;

/// The number of subscribed connections on each shard.
#[derive(Debug)]
pub(super) struct Topic {
    by_shard: Vec<usize>,
}

impl Topic {
    pub(super) fn new(shards: u16) -> Self {
        Self { by_shard: vec![0; usize::from(shards)] }
    }

    pub(super) fn subscribe(&mut self, shard: ShardIndex) {
        self.by_shard[usize::from(shard.0)] += 1;
    }

    pub(super) fn unsubscribe(&mut self, shard: ShardIndex) {
        let count = &mut self.by_shard[usize::from(shard.0)];
        *count = count.checked_sub(1).expect("Bug: a connection left a topic that it was not on");
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_shard.iter().all(|count| *count == 0)
    }

    pub(super) fn relay(
        &self,
        name: &Arc<str>,
        kind: MessageKind,
        payload: Bytes,
        origin: Option<ClientRef>,
        now: Now,
        outbox: &mut Outbox,
    ) {
        if let Some(to) = origin {
            let shards = self.by_shard.iter().filter(|count| **count > 0).count();
            outbox.send(to.shard, Delivery::Relayed { to, shards });
        }
        let members = self.by_shard.iter().sum();
        let timer = outbox.time_fan_out(None, members, now);
        let event = Event::Relay { topic: Arc::clone(name), kind, payload };
        let publication = Arc::new(Publication { event, origin, pending: None, timer });
        for (shard, count) in (0..).map(ShardIndex).zip(&self.by_shard) {
            if *count > 0 {
                outbox.send(shard, Delivery::Publish(Arc::clone(&publication)));
            }
        }
    }
}
