//! `POST /broadcast/{topic}`: the body goes to a raw topic.

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::json;
use uproar_protocol::frames::MessageKind;

use crate::api::body::{BODY_BYTES_MAX, is_json, media_type};
use crate::api::idempotency::{ContentDigest, IdempotencyKey};
use crate::api::keys::Caller;
use crate::api::message::TopicPost;
use crate::api::outcome::carry_out_once;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::publishing::relayed;
use crate::api::state::Api;

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
    let post = TopicPost { topic, kind, payload: body.bytes.clone() };
    let publisher = api.0.publisher.clone();
    let work = async move {
        let _body = body;
        let receivers = relayed(publisher.relay(post).await).await?;
        Ok(json!({ "receivers": receivers }))
    };
    Ok(carry_out_once(&api, key, content, work).await)
}
