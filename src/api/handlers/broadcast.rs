//! `POST /broadcast/{topic}`: the body goes to a raw topic.

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use uproar_protocol::frames::MessageKind;

use crate::api::body::{BODY_BYTES_MAX, is_json, media_type};
use crate::api::idempotency::{ContentDigest, IdempotencyKey};
use crate::api::keys::Caller;
use crate::api::link::{Asked, NoReply, Reply};
use crate::api::message::TopicPost;
use crate::api::outcome::{begin, carry_out};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::state::Api;
use crate::handshake::endpoint;
use crate::mail;
use crate::rooms::Request as RoomRequest;

pub(crate) async fn post(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    topic: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let key = IdempotencyKey::of_headers(&headers, &caller.name)?;
    let Path(topic) = topic.map_err(|error| Problem::new(ProblemKind::Malformed, error.body_text()))?;
    let bytes_max = api.0.limits.frame_bytes_max.min(BODY_BYTES_MAX);
    let body = api.0.bodies.read(request.into_body(), bytes_max).await?;
    let is_text = media_type(&headers).is_some_and(|kind| kind.starts_with("text/") || is_json(&kind));
    if is_text && std::str::from_utf8(&body.bytes).is_err() {
        return Err(Problem::new(ProblemKind::Invalid, "the body is not UTF-8, as its content type demands"));
    }
    let kind = if is_text { MessageKind::Text } else { MessageKind::Binary };
    let content = ContentDigest::of(&[b"broadcast", topic.as_bytes(), &[u8::from(is_text)], &body.bytes]);
    let attempt = match begin(&api, key, content) {
        Ok(attempt) => attempt,
        Err(begun_before) => return Ok(begun_before.into_response()),
    };
    let post = TopicPost { topic, kind, payload: body.bytes.clone() };
    let relaying = api.clone();
    let work = async move {
        let _body = body;
        let receivers = finish(relay(&relaying, post).await).await?;
        Ok(json!({ "receivers": receivers }))
    };
    Ok(carry_out(&api, attempt, work).await)
}

/// Sends a message to the home of a topic.
///
/// # Errors
///
/// When the topic's name is too long, or the server shuts down.
pub(super) async fn relay(api: &Api, post: TopicPost) -> Result<Asked, Problem> {
    let TopicPost { topic, kind, payload } = post;
    let too_long = || Problem::new(ProblemKind::NotFound, "no topic has so long a name");
    let topic = endpoint::topic_of(&topic).ok_or_else(too_long)?;
    let home = api.0.directory.home_of(&topic);
    let asked = api.0.link.ask(home, |origin| {
        mail::Request::Room(RoomRequest::Relay { topic: topic.into(), kind, payload, origin: Some(origin) })
    });
    asked.await.map_err(NoReply::problem)
}

/// Waits until all queues have taken a message, and returns how many these are.
pub(super) async fn finish(asked: Result<Asked, Problem>) -> Result<usize, Problem> {
    match asked?.reply().await.map_err(NoReply::problem)? {
        Reply::Relayed { receivers } => Ok(receivers),
        reply => Err(reply.problem()),
    }
}
