//! `/rooms` and below: lists rooms, members and messages, and removes a message.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::api::idempotency::{ContentDigest, IdempotencyKey};
use crate::api::keys::Caller;
use crate::api::link::{NoReply, Reply};
use crate::api::outcome::{carry_out_once, no_room, within_time};
use crate::api::parameters::Parameters;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::state::Api;
use crate::mail;
use crate::rooms::{
    Change, Content, Deletion, FanOuts, ListedRoom, MemberAccount, MemberEntry, MessageId, Proposal,
    Request as RoomRequest, RoomFanOut, RoomMessage, Unlogged, UserId,
};

/// The order of a list of rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoomOrder {
    Name,
    /// Those with a message within the last minute, the slowest first.
    FanOut,
}

/// `GET /rooms`: by name, or the slowest ones. No shard is asked.
pub(crate) async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let mut query = Parameters::of(query.as_deref());
    let prefix = query.text("prefix").unwrap_or_default();
    let after = query.text("after");
    let limit = query.limit();
    let order = match query.text("order").as_deref() {
        None | Some("name") => RoomOrder::Name,
        Some("fan_out") => RoomOrder::FanOut,
        Some(_) => {
            query.refuse("order", "is neither name nor fan_out");
            RoomOrder::Name
        }
    };
    if order == RoomOrder::FanOut && after.is_some() {
        query.refuse("after", "cannot be given together with order=fan_out, which has one page");
    }
    query.end()?;
    let fan_outs = api.0.directory.recent_fan_outs().last_minute();
    if order == RoomOrder::FanOut {
        let slowest = fan_outs.slowest_first().iter().filter(|room| room.name().starts_with(&prefix));
        let rooms: Vec<Value> = slowest
            .filter(|room| is_open(&api, room))
            .take(limit)
            .map(|room| figures(room, &fan_outs))
            .collect();
        return Ok(Json(json!({"rooms": rooms, "next": null})));
    }
    let is_listed = |room: &Arc<ListedRoom>| {
        room.name().starts_with(&prefix) && after.as_deref().is_none_or(|after| &**room.name() > after)
    };
    let directory = &api.0.directory;
    // One more than asked for tells whether there is a next page.
    let mut rooms: Vec<_> = directory.rooms().iter().filter(|room| is_listed(room)).cloned().collect();
    rooms.extend(directory.on_demand().by_name(&prefix, after.as_deref(), limit + 1));
    rooms.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    let has_more = rooms.len() > limit;
    rooms.truncate(limit);
    let next = rooms.last().filter(|_| has_more).map(|room| Arc::clone(room.name()));
    let rooms: Vec<Value> = rooms.iter().map(|room| figures(room, &fan_outs)).collect();
    Ok(Json(json!({"rooms": rooms, "next": next})))
}

/// `GET /rooms/{room}`.
pub(crate) async fn show(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let room = find(&api, &room_name(name)?)?;
    Ok(Json(figures(&room, &api.0.directory.recent_fan_outs().last_minute())))
}

fn figures(room: &ListedRoom, fan_outs: &FanOuts) -> Value {
    let ms = |time: Duration| time.as_micros() as f64 / 1_000.0;
    let fan_out = fan_outs.of(room).map(|RoomFanOut { p50, p99, messages }| {
        json!({"p50_ms": ms(p50), "p99_ms": ms(p99), "messages": messages})
    });
    json!({
        "room": room.name(),
        "users_online": room.online(),
        "last_message_id": room.last_message(),
        "epoch": room.epoch(),
        "fan_out": fan_out,
    })
}

/// `GET /rooms/{room}/members`: by id.
pub(crate) async fn members(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let room = find(&api, &room_name(name)?)?;
    let mut query = Parameters::of(query.as_deref());
    let after = query.number("after").map(UserId::from_stored);
    let limit = query.limit();
    query.end()?;
    let reply =
        ask(&api, &room, |origin| Unlogged::ListMembersAfter { origin, after, limit: limit + 1 }.into());
    let Reply::Members(members) = within_time(reply).await? else { return Err(NoReply::Lost.problem()) };
    let mut listed = members.listed.to_vec();
    let has_more = listed.len() > limit;
    listed.truncate(limit);
    let next = listed.last().filter(|_| has_more).map(|member| member.id.to_string());
    let listed: Vec<Value> = listed.iter().map(member).collect();
    Ok(Json(json!({"members": listed, "total": members.total, "next": next})))
}

fn member(MemberEntry { id, name, account, connected_at }: &MemberEntry) -> Value {
    let mut row = json!({"id": id, "name": name, "connected_at": connected_at});
    if let Some(MemberAccount { account, is_admin }) = account {
        row["account"] = json!(account);
        row["is_admin"] = json!(is_admin);
    }
    row
}

/// `GET /rooms/{room}/history`: the last kept messages, those before one, or those behind one; the oldest first.
pub(crate) async fn history(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let room = find(&api, &room_name(name)?)?;
    let mut query = Parameters::of(query.as_deref());
    let (before, after) = (query.number("before").map(MessageId), query.number("after").map(MessageId));
    let limit = query.limit();
    if before.is_some() && after.is_some() {
        query.refuse("before", "cannot be given together with after");
    }
    query.end()?;
    let reply = ask(&api, &room, |origin| match after {
        Some(after) => Unlogged::ListHistoryAfter { origin, after, limit }.into(),
        None => Unlogged::ListHistory { origin, before, limit }.into(),
    });
    let Reply::History(page) = within_time(reply).await? else { return Err(NoReply::Lost.problem()) };
    // The page goes on behind its last message, or before its first one.
    let end = if after.is_some() { page.messages.last() } else { page.messages.first() };
    let next = end.filter(|_| page.has_more).map(|message| message.id.0.to_string());
    let messages: Vec<Value> = page.messages.iter().map(|message| row(message)).collect();
    Ok(Json(json!({"messages": messages, "epoch": page.epoch, "next": next})))
}

fn row(message: &RoomMessage) -> Value {
    let RoomMessage { id, from, from_name, from_account, content, timestamp } = message;
    let (kind, content) = match content {
        Content::Text(text) => ("message", json!(text)),
        Content::Image(url) => ("image", json!({ "url": url })),
    };
    let mut row = json!({
        "message_id": id, "type": kind, "sender": from_name, "from_id": from, "content": content, "timestamp": timestamp,
    });
    if let Some(account) = from_account {
        row["from_account"] = json!(account);
    }
    row
}

/// `DELETE /rooms/{room}/messages/{id}`.
pub(crate) async fn delete_message(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<(String, u64)>, PathRejection>,
    headers: HeaderMap,
    _: Request<Body>,
) -> Result<Response, Problem> {
    let Path((name, id)) = path.map_err(|error| Problem::new(ProblemKind::Malformed, error.body_text()))?;
    let key = IdempotencyKey::of_headers(&headers, &caller.name)?;
    let content = ContentDigest::of(&[b"delete message", name.as_bytes(), &id.to_le_bytes()]);
    let deletion = Deletion {
        message: MessageId(id),
        user: UserId::SYSTEM,
        name: caller.name,
        account: None,
        is_admin: true,
    };
    let asking = api.clone();
    let work = async move {
        let room = find(&asking, &name)?;
        let reply = ask(&asking, &room, |origin| Change::Delete { deletion, origin }.into()).await?;
        match reply {
            Reply::Done(deleted) => Ok(json!({"message_id": deleted.message, "epoch": deleted.epoch})),
            reply => Err(reply.problem()),
        }
    };
    Ok(carry_out_once(&api, key, content, work).await)
}

fn room_name(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    path.map(|Path(name)| name).map_err(|error| Problem::new(ProblemKind::Malformed, error.body_text()))
}

/// The room of this name, if it is there now.
fn find(api: &Api, name: &str) -> Result<Arc<ListedRoom>, Problem> {
    let directory = &api.0.directory;
    let configured = directory.rooms().iter().find(|room| &**room.name() == name).cloned();
    configured.or_else(|| directory.on_demand().find(name)).ok_or_else(no_room)
}

/// False once a room was closed, though there may be another one of its name.
fn is_open(api: &Api, room: &ListedRoom) -> bool {
    find(api, room.name()).is_ok_and(|found| found.index() == room.index())
}

/// Asks the home of a room, and waits for its answer without a limit: a deletion that the disk keeps waiting is carried out
/// behind the answer to its caller.
async fn ask(
    api: &Api,
    room: &ListedRoom,
    proposal: impl FnOnce(crate::rooms::ClientRef) -> Proposal,
) -> Result<Reply, Problem> {
    let room = room.index();
    let asked = api.0.link.ask(room.home(), |origin| {
        mail::Request::Room(RoomRequest::Room { room, proposal: proposal(origin) })
    });
    match asked.await.map_err(NoReply::problem)?.reply().await.map_err(NoReply::problem)? {
        refused @ Reply::Refused(_) => Err(refused.problem()),
        reply => Ok(reply),
    }
}
