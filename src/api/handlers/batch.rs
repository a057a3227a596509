//! `POST /batch`: many messages at once.
//!
//! A batch is not atomic. Its items are sent in order, so those for one room or topic take effect in order; then their
//! outcomes are awaited together.

use std::collections::HashMap;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::publish::Target;
use super::{broadcast, publish};
use crate::api::body::{BATCH_BYTES_MAX, require_json};
use crate::api::fields::Fields;
use crate::api::finished::Finished;
use crate::api::idempotency::{Attempt, ContentDigest, IdempotencyKey};
use crate::api::keys::Caller;
use crate::api::link::{Asked, NoReply, Published};
use crate::api::message::{ITEMS_MAX, Item, Post};
use crate::api::outcome::{BegunBefore, begin, carry_out, keep};
use crate::api::problem::Problem;
use crate::api::state::Api;

pub(crate) async fn post(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let key = IdempotencyKey::of_headers(&headers, &caller.name)?;
    require_json(&headers)?;
    let body = api.0.bodies.read(request.into_body(), BATCH_BYTES_MAX).await?;
    let items = read_items(&body.bytes, &caller.name, &api)?;
    let attempt = match begin(&api, key, ContentDigest::of(&[b"batch", &body.bytes])) {
        Ok(attempt) => attempt,
        Err(begun_before) => return Ok(begun_before.into_response()),
    };
    let publishing = api.clone();
    let work = async move {
        // The items are made of it.
        let _body = body;
        Ok(json!({ "results": publish_all(&publishing, items).await }))
    };
    Ok(carry_out(&api, attempt, work).await)
}

/// Reads all items. If one is malformed, nothing is done.
fn read_items(body: &[u8], caller: &str, api: &Api) -> Result<Vec<Item>, Problem> {
    let mut fields = Fields::of_body(body)?;
    let list = fields.list("items");
    fields.require("items", list.is_some());
    let list = list.unwrap_or_default();
    if list.len() > ITEMS_MAX {
        fields.refuse("items", format!("has more than {ITEMS_MAX} items"));
    }
    let mut items = Vec::with_capacity(list.len().min(ITEMS_MAX));
    let mut errors = Vec::new();
    for (index, value) in list.into_iter().enumerate().take(ITEMS_MAX) {
        match value {
            Value::Object(object) => match Item::read(object, index, caller, api.0.limits) {
                Ok(item) => items.push(item),
                Err(wrong) => errors.extend(wrong),
            },
            _ => fields.refuse(&format!("items/{index}"), "is not an object"),
        }
    }
    match fields.end() {
        Ok(()) if errors.is_empty() => Ok(items),
        Ok(()) => Err(Problem::of_fields(errors)),
        Err(others) => Err(Problem::of_fields([others, errors].concat())),
    }
}

/// An item that was sent, or has its outcome already.
enum Sent {
    ToRoom(Attempted, Result<Asked, Problem>),
    ToTopic(Attempted, Result<Asked, Problem>),
    Before(BegunBefore),
}

type Attempted = Option<Attempt<Finished>>;

async fn publish_all(api: &Api, items: Vec<Item>) -> Vec<Value> {
    let mut rooms = find_rooms(api, &items).await;
    let mut sent = Vec::with_capacity(items.len());
    for item in items {
        sent.push(send(api, item, &mut rooms).await);
    }
    // No message is on its way to them any more when they are released.
    drop(rooms);
    let mut results = Vec::with_capacity(sent.len());
    for sent in sent {
        results.push(match sent {
            Sent::ToRoom(attempt, asked) => {
                result(api, attempt, &publish::finish(asked).await.map(Published::to_json))
            }
            Sent::ToTopic(attempt, asked) => {
                let outcome = broadcast::finish(asked).await;
                result(api, attempt, &outcome.map(|receivers| json!({ "receivers": receivers })))
            }
            Sent::Before(BegunBefore::Done(finished)) => finished.into_result(true),
            Sent::Before(BegunBefore::Refused(problem)) => problem.to_json(),
        });
    }
    results
}

/// The rooms of a batch, by name.
type FoundRooms = HashMap<String, Result<Target, Problem>>;

/// Finds or opens the rooms of all items, each once and all together.
async fn find_rooms(api: &Api, items: &[Item]) -> FoundRooms {
    let mut findings = HashMap::new();
    for item in items {
        if let Post::Room { room, .. } = &item.post
            && !findings.contains_key(room)
        {
            findings.insert(room.clone(), publish::find(api, room).await);
        }
    }
    let mut found = HashMap::with_capacity(findings.len());
    for (room, finding) in findings {
        found.insert(room, finding.target(api).await);
    }
    found
}

async fn send(api: &Api, Item { post, key }: Item, rooms: &mut FoundRooms) -> Sent {
    let attempt = match begin(api, key, post.digest()) {
        Ok(attempt) => attempt,
        Err(begun_before) => return Sent::Before(begun_before),
    };
    match post {
        Post::Room { room, post } => {
            let asked = match rooms.get(&room) {
                Some(Ok(target)) => publish::say(api, target, post.message()).await,
                Some(Err(problem)) => Err(problem.clone()),
                None => Err(NoReply::Lost.problem()),
            };
            Sent::ToRoom(attempt, asked)
        }
        Post::Topic(post) => Sent::ToTopic(attempt, broadcast::relay(api, post).await),
    }
}

/// The result of an item, which is kept for its repetitions.
fn result(api: &Api, attempt: Attempted, outcome: &Result<Value, Problem>) -> Value {
    keep(api, attempt, outcome);
    Finished::of(outcome).into_result(false)
}
