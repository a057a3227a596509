//! `GET /events`: what happens on this node, as server-sent events (HTML, 9.2).
//!
//! A stream has no queue: it reads the [`EventLog`](crate::events::EventLog) when its connection takes bytes. So one that is
//! read slowly, or not at all, holds its connection, and what its socket and 16 KiB have room for. Each event is encoded
//! once for all streams.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::connections;
use crate::api::open_connections::ConnectionPermit;
use crate::api::parameters::Parameters;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::events::{
    Event, EventFilter, EventKind, EventReader, LoggedEvent, ModerationEvent, ModerationTarget,
};
use crate::rooms::{Content, ObservedEvent, ObservedKind};

/// How long a stream is silent before it gets a comment, which shows that it lives, to the caller and to proxies between.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events are put together up to this many bytes, so that a busy stream has fewer writes.
const CHUNK_BYTES: usize = 16 << 10;

/// Says how far a reader has come.
const LAST_EVENT_ID: &str = "last-event-id";

/// Keeps nginx from collecting events in a buffer.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(crate) async fn stream(
    State(api): State<Api>,
    Extension(connection): Extension<Arc<ConnectionPermit>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut query = Parameters::of(query.as_deref());
    let filter = EventFilter { rooms: rooms(&mut query), kinds: kinds(&mut query) };
    query.end()?;
    connection.begin_stream()?;
    let reader = match headers.get(LAST_EVENT_ID) {
        None => api.0.events.reader(filter),
        // What is no id of an event is one of unknown age.
        Some(last) => {
            let last = last.to_str().ok().and_then(|text| text.parse().ok());
            api.0.events.reader_behind(last, filter)
        }
    };
    let kind = HeaderValue::from_static("text/event-stream");
    let source = EventSource { reader, has_begun: false };
    let body = Body::from_stream(stream::unfold(source, next_chunk));
    Ok(([(header::CONTENT_TYPE, kind), (UNBUFFERED, HeaderValue::from_static("no"))], body).into_response())
}

/// What a stream is made of.
struct EventSource {
    reader: EventReader,
    has_begun: bool,
}

/// Waits for what comes next: events, or the time for a comment. The first chunk is a comment, so that the caller has a
/// position from the beginning.
async fn next_chunk(mut source: EventSource) -> Option<(Result<Bytes, Infallible>, EventSource)> {
    let reader = &mut source.reader;
    if !source.has_begun {
        source.has_begun = true;
        return Some((Ok(comment(reader)), source));
    }
    let Ok(next) = timeout(KEEP_ALIVE, reader.next()).await else {
        return Some((Ok(comment(reader)), source));
    };
    // There is none when the server has ended.
    let first = next?;
    let first = reader.encoded(&first, encode);
    let mut next = reader.try_next();
    if next.is_none() {
        return Some((Ok(first), source));
    }
    let mut chunk = BytesMut::from(&*first);
    while let Some(logged) = next {
        chunk.extend_from_slice(&reader.encoded(&logged, encode));
        next = if chunk.len() < CHUNK_BYTES { reader.try_next() } else { None };
    }
    Some((Ok(chunk.freeze()), source))
}

/// A comment with the position of the reader, which an `EventSource` brings when it comes back: so it misses nothing and gets
/// no gap, also where the filter has left everything out for long.
fn comment(reader: &EventReader) -> Bytes {
    format!(":\nid: {}\n\n", reader.position()).into()
}

/// An event with its fields `id`, `event` and `data`.
fn encode(LoggedEvent { id, event, .. }: &LoggedEvent) -> Bytes {
    // JSON has no line breaks.
    format!("id: {id}\nevent: {}\ndata: {}\n\n", event.kind().as_str(), data(event)).into()
}

fn rooms(query: &mut Parameters) -> Option<std::collections::HashSet<String>> {
    let rooms = query.text("rooms")?;
    if rooms.split(',').any(str::is_empty) {
        query.refuse("rooms", "is not a list of names with commas between them");
    }
    Some(rooms.split(',').map(str::to_owned).collect())
}

fn kinds(query: &mut Parameters) -> Option<Vec<EventKind>> {
    let types = query.text("types")?;
    let kind_of = |name| EventKind::ALL.into_iter().find(|kind| kind.as_str() == name);
    let kinds: Option<Vec<_>> = types.split(',').map(kind_of).collect();
    if kinds.is_none() {
        let all = EventKind::ALL.map(EventKind::as_str).join(", ");
        query.refuse("types", format!("is not a list of these, with commas between them: {all}"));
    }
    kinds
}

/// An event as it is told.
fn data(event: &Event) -> Value {
    match event {
        Event::Room(event) => room_data(event),
        Event::Moderation(event) => moderation_data(event),
        Event::Connection { at, phase, connection } => {
            json!({"at": at, "phase": phase.as_str(), "connection": connections::entry(connection)})
        }
        Event::Gap { lost } => json!({ "lost": lost }),
    }
}

fn room_data(ObservedEvent { at, room, kind }: &ObservedEvent) -> Value {
    match kind {
        ObservedKind::Message { message, epoch } => {
            let mut data = json!({
                "at": at,
                "room": room,
                "message_id": message.id,
                "epoch": epoch,
                "from_id": message.from,
                "from_name": message.from_name,
                "from_account": message.from_account,
            });
            match &message.content {
                Content::Text(text) => data["content"] = json!(text),
                Content::Image(url) => data["image"] = json!(url),
            }
            data
        }
        ObservedKind::Joined { user, name, account } | ObservedKind::Left { user, name, account } => {
            json!({"at": at, "room": room, "user_id": user, "name": name, "account": account})
        }
        ObservedKind::Deleted { message, by } => json!({
            "at": at,
            "action": "delete",
            "by": by,
            "target": {
                "room": room,
                "message_id": message.id,
                "user_id": message.from,
                "name": message.from_name,
                "account": message.from_account,
            },
        }),
    }
}

fn moderation_data(event: &ModerationEvent) -> Value {
    let ModerationTarget { account, address, user, name, connection, room, message } = &event.target;
    let target = [
        ("account", account.as_ref().map(|account| json!(account))),
        ("address", address.map(|address| json!(address))),
        ("user_id", user.map(|user| json!(user))),
        ("name", name.as_ref().map(|name| json!(name))),
        ("connection", connection.map(|connection| json!(connection.to_string()))),
        ("room", room.as_ref().map(|room| json!(room))),
        ("message_id", message.map(|message| json!(message))),
    ];
    let known = target.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let mut data = json!({
        "at": event.at,
        "action": event.action,
        "by": event.by,
        "target": known.collect::<serde_json::Map<_, _>>(),
    });
    if let Some(seconds) = event.seconds {
        data["seconds"] = json!(seconds);
    }
    if let Some(reason) = &event.reason {
        data["reason"] = json!(reason);
    }
    data
}
