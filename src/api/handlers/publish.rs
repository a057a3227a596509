//! `POST /publish`: a message to a room, or to several.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use crate::api::body::{BODY_BYTES_MAX, require_json};
use crate::api::fields::Fields;
use crate::api::finished::result_of;
use crate::api::idempotency::{ContentDigest, IdempotencyKey};
use crate::api::keys::Caller;
use crate::api::link::Published;
use crate::api::message::{RoomPost, Rooms};
use crate::api::outcome::carry_out_once;
use crate::api::problem::Problem;
use crate::api::publishing::{Publisher, published};
use crate::api::state::Api;

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
    let content = ContentDigest::of(&[b"publish", &body.bytes]);
    let publisher = api.0.publisher.clone();
    let work = async move { publish(&publisher, &rooms, &post).await };
    Ok(carry_out_once(&api, key, content, work).await)
}

async fn publish(publisher: &Publisher, rooms: &Rooms, post: &RoomPost) -> Result<Value, Problem> {
    match rooms {
        Rooms::One(room) => {
            let target = publisher.open(publisher.find(room).await).await?;
            let published = published(publisher.say(&target, post.message()).await).await?;
            Ok(published.to_json())
        }
        Rooms::Several(rooms) => {
            let mut findings = Vec::with_capacity(rooms.len());
            for room in rooms {
                findings.push(publisher.find(room).await);
            }
            let mut sent = Vec::with_capacity(rooms.len());
            for finding in findings {
                sent.push(match publisher.open(finding).await {
                    Ok(target) => publisher.say(&target, post.message()).await,
                    Err(error) => Err(error),
                });
            }
            let mut results = Vec::with_capacity(rooms.len());
            for (room, asked) in rooms.iter().zip(sent) {
                let outcome = published(asked).await.map(Published::to_json).map_err(Problem::from);
                let mut result = result_of(outcome);
                result["room"] = json!(room);
                results.push(result);
            }
            Ok(json!({ "results": results }))
        }
    }
}

impl Published {
    pub(super) fn to_json(self) -> Value {
        json!({"message_id": self.message, "epoch": self.epoch})
    }
}
