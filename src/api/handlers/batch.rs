//! `POST /batch`: many messages at once.
//!
//! A batch is not atomic. Its items are sent in order, so those for one room or topic take effect in order; then their
//! outcomes are awaited together.

use std::collections::HashMap;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};

use crate::api::body::{BATCH_BYTES_MAX, require_json};
use crate::api::fields::Fields;
use crate::api::finished::result_of;
use crate::api::idempotency::{Attempt, ContentDigest, IdempotencyKey, until_noted};
use crate::api::keys::Caller;
use crate::api::link::{Asked, Published};
use crate::api::message::{ITEMS_MAX, Item, Post};
use crate::api::outcome::{BegunBefore, begin, carry_out_once, keep};
use crate::api::problem::Problem;
use crate::api::publishing::{PublishError, Publisher, Target, published, relayed};
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
    let content = ContentDigest::of(&[b"batch", &body.bytes]);
    let publishing = api.clone();
    let work = async move {
        // The items are made of it.
        let _body = body;
        Ok(json!({ "results": publish_all(&publishing, items).await }))
    };
    Ok(carry_out_once(&api, key, content, work).await)
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
    ToRoom(Attempted, Result<Asked, PublishError>),
    ToTopic(Attempted, Result<Asked, PublishError>),
    Before(BegunBefore),
}

type Attempted = Option<Attempt>;

async fn publish_all(api: &Api, items: Vec<Item>) -> Vec<Value> {
    let mut rooms = find_rooms(&api.0.publisher, &items).await;
    let begun = begin_all(api, items).await;
    let mut sent = Vec::with_capacity(begun.len());
    for begun in begun {
        sent.push(match begun {
            Ok((post, attempt)) => send(api, post, attempt, &mut rooms).await,
            Err(begun_before) => Sent::Before(begun_before),
        });
    }
    // No message is on its way to them any more when they are released.
    drop(rooms);
    let mut results = Vec::with_capacity(sent.len());
    let mut noted = Vec::new();
    for sent in sent {
        let (attempt, outcome) = match sent {
            Sent::ToRoom(attempt, asked) => {
                let outcome = published(asked).await.map(Published::to_json);
                (attempt, outcome.map_err(Problem::from))
            }
            Sent::ToTopic(attempt, asked) => {
                let outcome = relayed(asked).await.map(|receivers| json!({ "receivers": receivers }));
                (attempt, outcome.map_err(Problem::from))
            }
            Sent::Before(BegunBefore::Done(finished)) => {
                results.push(finished.to_replayed_result());
                continue;
            }
            Sent::Before(BegunBefore::Refused(problem)) => {
                results.push(problem.to_json());
                continue;
            }
        };
        noted.push(keep(api, attempt, &outcome));
        results.push(result_of(outcome));
    }
    for noted in noted {
        until_noted(noted).await;
    }
    results
}

/// Begins all items with a key, and waits until that is noted of all together.
async fn begin_all(api: &Api, items: Vec<Item>) -> Vec<Result<(Post, Attempted), BegunBefore>> {
    let begin_one = |Item { post, key }| begin(api, key, post.digest()).map(|attempt| (post, attempt));
    let mut begun: Vec<_> = items.into_iter().map(begin_one).collect();
    for (_, attempt) in begun.iter_mut().flatten() {
        until_noted(attempt.as_mut().and_then(Attempt::take_noted)).await;
    }
    for attempt in begun.iter_mut().flatten().filter_map(|(_, attempt)| attempt.as_mut()) {
        attempt.begin();
    }
    begun
}

/// The rooms of a batch, by name.
type FoundRooms = HashMap<String, Result<Target, PublishError>>;

/// Finds or opens the rooms of all items, each once and all together.
async fn find_rooms(publisher: &Publisher, items: &[Item]) -> FoundRooms {
    let mut findings = HashMap::new();
    for item in items {
        if let Post::Room { room, .. } = &item.post
            && !findings.contains_key(room)
        {
            findings.insert(room.clone(), publisher.find(room).await);
        }
    }
    let mut found = HashMap::with_capacity(findings.len());
    for (room, finding) in findings {
        found.insert(room, publisher.open(finding).await);
    }
    found
}

async fn send(api: &Api, post: Post, attempt: Attempted, rooms: &mut FoundRooms) -> Sent {
    match post {
        Post::Room { room, post } => {
            let asked = match rooms.get(&room) {
                Some(Ok(target)) => api.0.publisher.say(target, post.message()).await,
                Some(Err(error)) => Err(error.clone()),
                None => Err(PublishError::Unknown),
            };
            Sent::ToRoom(attempt, asked)
        }
        Post::Topic(post) => Sent::ToTopic(attempt, api.0.publisher.relay(post).await),
    }
}
