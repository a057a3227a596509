//! `POST /publish`: a message to a room, or to several.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::api::body::{BODY_BYTES_MAX, require_json};
use crate::api::fields::Fields;
use crate::api::finished::Finished;
use crate::api::idempotency::{ContentDigest, IdempotencyKey};
use crate::api::keys::Caller;
use crate::api::link::{Asked, HeldRoom, NoReply, Published, Reply};
use crate::api::message::{RoomPost, Rooms};
use crate::api::outcome::{begin, carry_out, no_room};
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::mail;
use crate::rooms::{Change, NewMessage, Request as RoomRequest, RoomIndex};

pub(crate) async fn post(
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
    let publishing = api.clone();
    Ok(carry_out(&api, attempt, async move { publish(&publishing, &rooms, &post).await }).await)
}

async fn publish(api: &Api, rooms: &Rooms, post: &RoomPost) -> Result<Value, Problem> {
    match rooms {
        Rooms::One(room) => {
            let target = find(api, room).await.target(api).await?;
            finish(say(api, &target, post.message()).await).await.map(Published::to_json)
        }
        Rooms::Several(rooms) => {
            let mut findings = Vec::with_capacity(rooms.len());
            for room in rooms {
                findings.push(find(api, room).await);
            }
            let mut sent = Vec::with_capacity(rooms.len());
            for finding in findings {
                sent.push(match finding.target(api).await {
                    Ok(target) => say(api, &target, post.message()).await,
                    Err(problem) => Err(problem),
                });
            }
            let mut results = Vec::with_capacity(rooms.len());
            for (room, asked) in rooms.iter().zip(sent) {
                let outcome = finish(asked).await.map(Published::to_json);
                let mut result = Finished::of(&outcome).into_result(false);
                result["room"] = json!(room);
                results.push(result);
            }
            Ok(json!({ "results": results }))
        }
    }
}

/// A room that a message can be sent to.
pub(super) enum Target {
    /// One that is always there.
    Configured(RoomIndex),
    /// One that was opened for the message, or found open.
    Held(HeldRoom),
}

impl Target {
    fn room(&self) -> RoomIndex {
        match self {
            Self::Configured(room) | Self::Held(HeldRoom { room, .. }) => *room,
        }
    }
}

/// Finds the room of this name, or asks its home to open it.
pub(super) async fn find(api: &Api, name: &str) -> Finding {
    let directory = &api.0.directory;
    if let Some(room) = directory.find(name) {
        return Finding::Found(room);
    }
    if !directory.on_demand().allows(name) {
        return Finding::Refused(no_room());
    }
    let asked = api.0.link.ask(directory.home_of(name), |origin| {
        mail::Request::Room(RoomRequest::Open { name: name.into(), origin })
    });
    match asked.await {
        Ok(asked) => Finding::Asked(asked),
        Err(error) => Finding::Refused(error.problem()),
    }
}

/// A room on its way to be found.
pub(super) enum Finding {
    Found(RoomIndex),
    Asked(Asked),
    Refused(Problem),
}

impl Finding {
    /// Waits until the room is open.
    pub(super) async fn target(self, api: &Api) -> Result<Target, Problem> {
        let asked = match self {
            Self::Found(room) => return Ok(Target::Configured(room)),
            Self::Asked(asked) => asked,
            Self::Refused(problem) => return Err(problem),
        };
        match asked.reply().await.map_err(NoReply::problem)? {
            Reply::Opened(room) => Ok(Target::Held(api.0.link.hold(room))),
            reply => Err(reply.problem()),
        }
    }
}

/// Sends a message to a room.
///
/// # Errors
///
/// When the server shuts down.
pub(super) async fn say(api: &Api, target: &Target, message: NewMessage) -> Result<Asked, Problem> {
    let room = target.room();
    let asked = api.0.link.ask(room.home(), |origin| {
        mail::Request::Room(RoomRequest::Room {
            room,
            proposal: Change::Message { message, visit: None, origin }.into(),
        })
    });
    asked.await.map_err(NoReply::problem)
}

/// Waits for the outcome of a message that was sent, unless it was not.
pub(super) async fn finish(asked: Result<Asked, Problem>) -> Result<Published, Problem> {
    outcome(asked?.reply().await)
}

fn outcome(reply: Result<Reply, NoReply>) -> Result<Published, Problem> {
    match reply.map_err(NoReply::problem)? {
        Reply::Done(published) => Ok(published),
        reply => Err(reply.problem()),
    }
}

impl Published {
    pub(super) fn to_json(self) -> Value {
        json!({"message_id": self.message, "epoch": self.epoch})
    }
}
