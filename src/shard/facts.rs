//! What a shard knows of its connections, for those who ask the HTTP API. Nothing here visits more than
//! [`SLOTS_A_PAGE`] connections or tells of more than [`FACTS_A_PAGE`], and it counts as work, so that no client waits for
//! it.

use std::sync::Arc;

use uproar_ring::ConnectionId;

use super::Shard;
use super::client::{Client, Session};
use super::client_io::Context;
use super::link::{Link, LinkEnd};
use crate::clock::Now;
use crate::events::{ConnectionEnd, ConnectionFacts, ConnectionLimits};
use crate::mail::{ConnectionPage, Delivery, FACTS_A_PAGE, SLOTS_A_PAGE};
use crate::rooms::ClientRef;

impl Shard {
    /// Tells the API of one connection, if that is open, or if its end is not reported yet.
    pub(super) fn explain(&mut self, id: ConnectionId, to: ClientRef, now: Now) {
        let client = self.clients.get_mut(id).filter(|client| client.link.is_open());
        let open = client.map(|client| facts(id, client, &self.context, now));
        let facts = open.or_else(|| self.ended.get(id).map(|ended| ended.facts.clone()));
        self.context.work.count_facts(1);
        self.context.mail.deliver(
            to.shard,
            Delivery::Connections { to, facts: facts.into_iter().collect(), next_slot: None },
        );
    }

    /// Tells the API of some connections, in the order of their slots.
    pub(super) fn list_connections(&mut self, page: &ConnectionPage, to: ClientRef, now: Now) {
        let slots = self.clients.slots();
        let slots_end = page.from_slot.saturating_add(SLOTS_A_PAGE).min(slots);
        let limit = page.limit.min(FACTS_A_PAGE);
        let mut listed = Vec::new();
        let mut slot = page.from_slot;
        while slot < slots_end && listed.len() < limit {
            if let Some((id, client)) = self.clients.in_slot(slot)
                && is_listed(id, client, page, &self.context)
            {
                listed.push(facts(id, client, &self.context, now));
            }
            slot += 1;
        }
        self.context.work.count_looks((slot - page.from_slot) as usize);
        self.context.work.count_facts(listed.len());
        let next_slot = (slot < slots).then_some(slot);
        self.context.mail.deliver(to.shard, Delivery::Connections { to, facts: listed, next_slot });
    }
}

fn is_listed(id: ConnectionId, client: &Client, page: &ConnectionPage, context: &Context) -> bool {
    let is_of = |account| account_of(id, client, context).as_deref() == Some(account);
    client.link.is_open()
        && page.queued_over.is_none_or(|bytes| client.link.queued_bytes() > bytes)
        && page.address.is_none_or(|address| client.link.peer.ip() == address)
        && page.account.as_deref().is_none_or(is_of)
}

/// What is known of an open connection, but for what the kernel knows.
pub(super) fn facts(id: ConnectionId, client: &Client, context: &Context, now: Now) -> ConnectionFacts {
    let account = account_of(id, client, context);
    let Client { link, session } = client;
    let client = ClientRef { shard: context.settings.index, connection: id };
    let last_received_ms = link.connection.last_received_ms().unwrap_or(now.monotonic_ms);
    let (user, topic) = match session {
        Session::User(user) => (Some(user), None),
        Session::Raw { topic, .. } => (None, Some(Arc::clone(topic))),
        Session::Echo => (None, None),
    };
    let not_empty = |text: &Arc<str>| (!text.is_empty()).then(|| Arc::clone(text));
    ConnectionFacts {
        name: context.directory.instance().name(client),
        dialect: link.dialect,
        since: link.since,
        address: link.peer,
        account,
        user: user.and_then(|user| user.id),
        display_name: user.and_then(|user| not_empty(&user.name)),
        room: user.and_then(|user| not_empty(&user.room_name)),
        topic,
        queued_bytes: link.queued_bytes(),
        queued_frames: link.queued_frames(),
        tcp: None,
        messages_in: link.messages_in,
        messages_out: link.messages_out(),
        received_bytes: link.received_bytes,
        sent_bytes: link.sent_bytes(),
        last_received: unix_seconds(last_received_ms, now),
        limits: limits(link, session, context),
        end: None,
    }
}

/// The account that a client has shown.
fn account_of(id: ConnectionId, client: &Client, context: &Context) -> Option<Arc<str>> {
    match &client.session {
        Session::User(user) => user.account(),
        Session::Raw { .. } | Session::Echo => context.token_connections.account(id).cloned(),
    }
}

/// What is known of a connection that has ended just now.
pub(super) fn facts_of_ended(
    id: ConnectionId,
    client: &Client,
    end: &LinkEnd,
    context: &Context,
    now: Now,
) -> ConnectionFacts {
    let LinkEnd { reason, code, queued_bytes, queued_frames, last_received_ms } = *end;
    ConnectionFacts {
        queued_bytes,
        queued_frames,
        last_received: unix_seconds(last_received_ms, now),
        end: Some(ConnectionEnd { at: now.unix_seconds, reason, code }),
        ..facts(id, client, context, now)
    }
}

/// A time of the shard's own clock, which may have stood still meanwhile, as Unix seconds.
fn unix_seconds(monotonic_ms: u64, now: Now) -> u64 {
    now.unix_seconds.saturating_sub(now.monotonic_ms.saturating_sub(monotonic_ms) / 1_000)
}

fn limits(link: &Link, session: &Session, context: &Context) -> ConnectionLimits {
    let limits = &context.settings.limits;
    let (message_bytes, per_second) = match session {
        Session::User(user) => (limits.message_bytes_max, user.rate.per_second),
        Session::Raw { .. } => (limits.frame_bytes_max, limits.topic_rate.per_second),
        Session::Echo => (limits.frame_bytes_max, 0),
    };
    ConnectionLimits {
        queue_bytes: link.connection.queue_bytes_max(),
        message_bytes,
        messages_per_second: (per_second > 0).then_some(per_second),
    }
}
