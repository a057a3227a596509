//! `POST /publish`: a message to a room, or to several.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::{Finished, begin, carry_out};
use crate::api::Api;
use crate::api::body::{BODY_BYTES_MAX, require_json};
use crate::api::fields::Fields;
use crate::api::idempotency::{ContentDigest, IdempotencyKey};
use crate::api::keys::Caller;
use crate::api::link::{Asked, NoReply, Published, Reply};
use crate::api::message::{RoomPost, Rooms};
use crate::api::problem::{Problem, ProblemKind};
use crate::mail;
use crate::rooms::{Change, NewMessage, Request as RoomRequest};

pub(in crate::api) async fn post(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let key = IdempotencyKey::of_headers(&headers, &caller.name)?;
    require_json(&headers)?;
    let body = api.0.bodies.read(request.into_body(), BODY_BYTES_MAX).await?;
    let mut fields = Fields::of_body(&body.bytes)?;
    let (rooms, post) = (Rooms::read(&mut fields), RoomPost::read(&mut fields, api.0.limits));
    fields.end().map_err(Problem::of_fields)?;
    let (rooms, post) = rooms.zip(post).expect("Bug: a wrong field that was not refused");
    let attempt = match begin(&api, key, ContentDigest::of(&[b"publish", &body.bytes])) {
        Ok(attempt) => attempt,
        Err(begun_before) => return Ok(begun_before.into_response()),
    };
    Ok(carry_out(attempt, async move { publish(&api, &rooms, &post).await }).await)
}

async fn publish(api: &Api, rooms: &Rooms, post: &RoomPost) -> Result<Value, Problem> {
    match rooms {
        Rooms::One(room) => {
            finish(say(api, room, post.message()).await).await.map(Published::to_json)
        }
        Rooms::Several(rooms) => {
            let mut asked = Vec::with_capacity(rooms.len());
            for room in rooms {
                asked.push(say(api, room, post.message()).await);
            }
            let mut results = Vec::with_capacity(rooms.len());
            for (room, asked) in rooms.iter().zip(asked) {
                let outcome = finish(asked).await.map(Published::to_json);
                let mut result = Finished::of(&outcome).into_result(false);
                result["room"] = json!(room);
                results.push(result);
            }
            Ok(json!({ "results": results }))
        }
    }
}

/// Sends a message to the home of a room.
///
/// # Errors
///
/// When there is no such room, or the server shuts down.
pub(super) async fn say(api: &Api, room: &str, message: NewMessage) -> Result<Asked, Problem> {
    let directory = &api.0.directory;
    let not_found = || Problem::new(ProblemKind::NotFound, "there is no room of this name");
    let room = directory.find(room).ok_or_else(not_found)?;
    let asked = api.0.link.ask(directory.home(room), |origin| {
        mail::Request::Room(RoomRequest::Room { room, proposal: Change::Message { message, origin }.into() })
    });
    asked.await.map_err(NoReply::problem)
}

/// Waits for the outcome of a message that was sent, unless it was not.
pub(super) async fn finish(asked: Result<Asked, Problem>) -> Result<Published, Problem> {
    outcome(asked?.reply().await)
}

fn outcome(reply: Result<Reply, NoReply>) -> Result<Published, Problem> {
    match reply.map_err(NoReply::problem)? {
        Reply::Published(published) => Ok(published),
        Reply::NotTaken => {
            Err(Problem::new(ProblemKind::Unavailable, "the disk takes no messages at the moment"))
        }
        Reply::NotStored => Err(Problem::new(
            ProblemKind::NotStored,
            "members may have seen the message, and the disk has refused it",
        )),
        Reply::Relayed { .. } | Reply::Members(_) | Reply::History(_) => Err(NoReply::Lost.problem()),
    }
}

impl Published {
    pub(super) fn to_json(self) -> Value {
        json!({"message_id": self.message, "epoch": self.epoch})
    }
}
