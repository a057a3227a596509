//! `/connections`: what the server knows of its clients, one by one, and of those that have ended lately.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use serde_json::{Value, json};

use crate::api::link::{NoReply, Reply};
use crate::api::outcome::within_time;
use crate::api::parameters::Parameters;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::state::Api;
use crate::events::ConnectionFacts;
use crate::mail::{ConnectionPage, Request};
use crate::rooms::{ClientRef, ConnectionName, ShardIndex};

/// `GET /connections/{id}`.
pub(crate) async fn show(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let Path(name) = name.map_err(|error| Problem::new(ProblemKind::Malformed, error.body_text()))?;
    let none = || Problem::new(ProblemKind::NotFound, "there is no connection of this name");
    let ConnectionName { instance, client } = name.parse().map_err(|_| none())?;
    let directory = &api.0.directory;
    if instance != directory.instance() || client.shard.0 >= directory.shards() {
        return Err(none());
    }
    let connection = client.connection;
    let asked = ask(&api, client.shard, |origin| Request::Explain { connection, origin }).await;
    if let Ok((facts, _)) = &asked
        && let [facts] = &facts[..]
    {
        return Ok(Json(entry(facts)));
    }
    // Before a shard answers that it does not know a connection, it has entered its end in the list of ended ones. While the
    // server shuts down, no shard is asked.
    match api.0.events.ended().find(client, Instant::now()) {
        Some(facts) => Ok(Json(entry(&facts))),
        None => Err(asked.err().unwrap_or_else(none)),
    }
}

/// `GET /connections`: by shard and slot, by queue, or those that have ended.
pub(crate) async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let mut query = Parameters::of(query.as_deref());
    let limit = query.limit();
    let after = query.text("after");
    let (is_by_queue, is_ended) = (is_by_queue(&mut query), is_ended(&mut query));
    let account: Option<Arc<str>> = query.text("account").map(Into::into);
    let address = address(&mut query);
    if is_by_queue && is_ended {
        query.refuse("order", "cannot be given for ended connections");
    }
    if is_by_queue && after.is_some() {
        query.refuse("after", "cannot be given together with order: there is one page");
    }
    if is_ended {
        let after = after.map(|text| text.parse::<ConnectionName>());
        if matches!(after, Some(Err(_))) {
            query.refuse("after", "is not a next of this list");
        }
        query.end()?;
        return Ok(Json(list_ended(&api, after.and_then(Result::ok), limit, account.as_deref(), address)));
    }
    let from = after.map(|text| text.parse::<ConnectionCursor>());
    if matches!(from, Some(Err(_))) {
        query.refuse("after", "is not a next of this list");
    }
    query.end()?;
    let from = from.and_then(Result::ok).unwrap_or_default();
    let (from_slot, queued_over) = (from.slot, None);
    let mut found = if is_by_queue {
        let page = ConnectionPage { from_slot, limit, queued_over, account, address };
        within_time(longest_queues(&api, page)).await?
    } else {
        // One more than asked for tells whether there is a next page.
        let page = ConnectionPage { from_slot, limit: limit + 1, queued_over, account, address };
        within_time(first_from(&api, from.shard, page)).await?
    };
    let next = found.get(limit).map(ConnectionCursor::of);
    found.truncate(limit);
    let connections: Vec<Value> = found.iter().map(entry).collect();
    Ok(Json(json!({"connections": connections, "next": next.map(|cursor| cursor.to_string())})))
}

fn is_by_queue(query: &mut Parameters) -> bool {
    match query.text("order").as_deref() {
        None => false,
        Some("queue") => true,
        Some(_) => {
            query.refuse("order", "is not queue");
            false
        }
    }
}

fn is_ended(query: &mut Parameters) -> bool {
    match query.text("ended").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            query.refuse("ended", "is not true or false");
            false
        }
    }
}

fn address(query: &mut Parameters) -> Option<IpAddr> {
    let text = query.text("address")?;
    let address = text.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if address.is_none() {
        query.refuse("address", "is not an address of IPv4 or IPv6");
    }
    address
}

fn list_ended(
    api: &Api,
    after: Option<ConnectionName>,
    limit: usize,
    account: Option<&str>,
    address: Option<IpAddr>,
) -> Value {
    let is_listed = |facts: &ConnectionFacts| {
        account.is_none_or(|account| facts.account.as_deref() == Some(account))
            && address.is_none_or(|address| facts.address.ip() == address)
    };
    let after = after.map(|name| name.client);
    let mut found = api.0.events.ended().newest(after, limit + 1, Instant::now(), is_listed);
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| has_more).map(|facts| facts.name.to_string());
    let connections: Vec<Value> = found.iter().map(|facts| entry(facts)).collect();
    json!({"connections": connections, "next": next})
}

/// Where a list goes on.
#[derive(Clone, Copy, Debug, Default)]
struct ConnectionCursor {
    shard: u16,
    slot: u32,
}

impl ConnectionCursor {
    fn of(facts: &ConnectionFacts) -> Self {
        let client = facts.name.client;
        Self { shard: client.shard.0, slot: client.connection.index }
    }
}

impl std::fmt::Display for ConnectionCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.shard, self.slot)
    }
}

impl std::str::FromStr for ConnectionCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (shard, slot) = text.split_once('-').ok_or(())?;
        let cursor = Self { shard: shard.parse().map_err(|_| ())?, slot: slot.parse().map_err(|_| ())? };
        if cursor.to_string() == text { Ok(cursor) } else { Err(()) }
    }
}

/// The connections from a cursor on, by shard and slot, as many as `page` wants.
async fn first_from(
    api: &Api,
    from_shard: u16,
    mut page: ConnectionPage,
) -> Result<Vec<ConnectionFacts>, Problem> {
    let mut found = Vec::new();
    let mut cursor = Some(ConnectionCursor { shard: from_shard, slot: page.from_slot });
    while let Some(from) = cursor
        && page.limit > 0
    {
        let (facts, next) = ask_part(api, from, &page).await?;
        page.limit -= facts.len();
        found.extend(facts);
        cursor = next;
    }
    Ok(found)
}

/// The connections of all shards for which the most bytes wait, as many as `page` wants.
async fn longest_queues(api: &Api, mut page: ConnectionPage) -> Result<Vec<ConnectionFacts>, Problem> {
    let mut found: Vec<ConnectionFacts> = Vec::new();
    let mut cursor = Some(ConnectionCursor::default());
    while let Some(from) = cursor {
        let (facts, next) = ask_part(api, from, &page).await?;
        found.extend(facts);
        found.sort_by_key(|facts| Reverse(facts.queued_bytes));
        found.truncate(page.limit);
        // Once there are enough, a shorter queue than all of these is not told of.
        page.queued_over = found.get(page.limit - 1).map(|last| last.queued_bytes);
        cursor = next;
    }
    Ok(found)
}

/// Some connections from a cursor on, and the cursor behind the last that was looked at. Each request looks at few slots, so
/// that no client waits for it.
async fn ask_part(
    api: &Api,
    from: ConnectionCursor,
    page: &ConnectionPage,
) -> Result<(Vec<ConnectionFacts>, Option<ConnectionCursor>), Problem> {
    let ConnectionCursor { shard, slot } = from;
    if shard >= api.0.directory.shards() {
        return Ok((Vec::new(), None));
    }
    let page = ConnectionPage { from_slot: slot, ..page.clone() };
    let request = |origin| Request::ListConnections { page, origin };
    let (facts, next_slot) = ask(api, ShardIndex(shard), request).await?;
    let next = next_slot
        .map_or(ConnectionCursor { shard: shard + 1, slot: 0 }, |slot| ConnectionCursor { shard, slot });
    Ok((facts, Some(next)))
}

/// The connections that a shard answers with, and the slot from which their list goes on.
async fn ask(
    api: &Api,
    shard: ShardIndex,
    request: impl FnOnce(ClientRef) -> Request,
) -> Result<(Vec<ConnectionFacts>, Option<u32>), Problem> {
    let reply = async { api.0.link.ask(shard, request).await?.reply().await };
    match within_time(async { reply.await.map_err(NoReply::problem) }).await? {
        Reply::Connections { facts, next_slot } => Ok((facts, next_slot)),
        other => Err(other.problem()),
    }
}

/// A connection as it is answered.
pub(super) fn entry(facts: &ConnectionFacts) -> Value {
    let limits = facts.limits;
    let ended = facts.end.map(|end| {
        let mut ended = json!({"at": end.at, "reason": end.reason.to_string()});
        if let Some(code) = end.code {
            ended["code"] = json!(code);
        }
        ended
    });
    json!({
        "id": facts.name.to_string(),
        "dialect": facts.dialect.to_string(),
        "since": facts.since,
        "address": facts.address.to_string(),
        "account": facts.account,
        "user_id": facts.user,
        "name": facts.display_name,
        "room": facts.room,
        "topic": facts.topic,
        "queued_bytes": facts.queued_bytes,
        "queued_frames": facts.queued_frames,
        "acknowledged_bytes": facts.tcp.map(|tcp| tcp.acknowledged_bytes),
        "round_trip_ms": facts.round_trip_ms(),
        "messages_in": facts.messages_in,
        "messages_out": facts.messages_out,
        "received_bytes": facts.received_bytes,
        "sent_bytes": facts.sent_bytes,
        "last_received": facts.last_received,
        "limits": {
            "queue_bytes": limits.queue_bytes,
            "message_bytes": limits.message_bytes,
            "messages_per_second": limits.messages_per_second,
        },
        "ended": ended,
    })
}
