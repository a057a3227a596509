//! `/rooms` and below: lists rooms, members and messages, and removes a message.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::api::keys::Caller;
use crate::api::link::{NoReply, Reply};
use crate::api::outcome::{REQUEST_TIMEOUT, carry_out, no_room};
use crate::api::parameters::Parameters;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::state::Api;
use crate::mail;
use crate::rooms::{
    Change, Content, Deletion, ListedRoom, MemberAccount, MemberEntry, MessageId, Proposal,
    Request as RoomRequest, RoomMessage, Unlogged, UserId,
};

/// `GET /rooms`: by name. No shard is asked.
pub(crate) async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let mut query = Parameters::of(query.as_deref());
    let prefix = query.text("prefix").unwrap_or_default();
    let after = query.text("after");
    let limit = query.limit();
    query.end()?;
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
    let rooms: Vec<Value> = rooms.iter().map(|room| figures(room)).collect();
    Ok(Json(json!({"rooms": rooms, "next": next})))
}

/// `GET /rooms/{room}`.
pub(crate) async fn show(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(figures(&*find(&api, &room_name(name)?)?)))
}

fn figures(room: &ListedRoom) -> Value {
    json!({
        "room": room.name(),
        "users_online": room.online(),
        "last_message_id": room.last_message(),
        "epoch": room.epoch(),
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
    let Reply::Members(members) = reply.await? else { return Err(NoReply::Lost.problem()) };
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
    let Reply::History(page) = reply.await? else { return Err(NoReply::Lost.problem()) };
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
    _: Request<Body>,
) -> Result<Response, Problem> {
    let Path((name, id)) = path.map_err(|error| Problem::new(ProblemKind::Malformed, error.body_text()))?;
    let room = find(&api, &name)?;
    let deletion = Deletion {
        message: MessageId(id),
        user: UserId::SYSTEM,
        name: caller.name,
        account: None,
        is_admin: true,
    };
    let asking = api.clone();
    let work = async move {
        let reply = ask(&asking, &room, |origin| Change::Delete { deletion, origin }.into()).await?;
        match reply {
            Reply::Done(deleted) => Ok(json!({"message_id": deleted.message, "epoch": deleted.epoch})),
            reply => Err(reply.problem()),
        }
    };
    Ok(carry_out(&api, None, work).await)
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

/// Asks the home of a room.
async fn ask(
    api: &Api,
    room: &ListedRoom,
    proposal: impl FnOnce(crate::rooms::ClientRef) -> Proposal,
) -> Result<Reply, Problem> {
    let room = room.index();
    let asked = api.0.link.ask(room.home(), |origin| {
        mail::Request::Room(RoomRequest::Room { room, proposal: proposal(origin) })
    });
    let asked = asked.await.map_err(NoReply::problem)?;
    match tokio::time::timeout(REQUEST_TIMEOUT, asked.reply()).await {
        Ok(Ok(Reply::Refused(refusal))) => Err(Reply::Refused(refusal).problem()),
        Ok(reply) => reply.map_err(NoReply::problem),
        Err(_) => Err(Problem::new(ProblemKind::Unknown, "there was no answer in time")),
    }
}
