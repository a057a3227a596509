//! Orders about users, connections, accounts and bans: how they are read, given to shards, and answered.
//!
//! A shard carries an order out and tells what it means for other connections. That goes to all shards, each of which answers
//! how many of its connections it was about; the sum is the answer to the backend.

use std::future::Future;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts as _, Path, Request};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tracing::info;

use super::body::{BODY_BYTES_MAX, require_json};
use super::fields::Fields;
use super::idempotency::{ContentDigest, IdempotencyKey};
use super::keys::Caller;
use super::link::{NoReply, Reply};
use super::outcome::carry_out_once;
use super::problem::{Problem, ProblemKind};
use super::state::Api;
use crate::clock::unix_seconds;
use crate::events::{Event, ModerationEvent, ModerationTarget};
use crate::log_text::shown;
use crate::mail::{self, ModerationOrder, OrderOutcome, OrderTarget};
use crate::metrics::{Label as _, OrderKind};
use crate::moderation::{Admin, BanSubject, ModerationAction, OrderRefusal};
use crate::rooms::{ClientRef, ShardIndex};

/// The longest term of a mute or a ban, as in the chat: a year.
const TERM_SECONDS_MAX: u64 = 31_536_000;

/// The most orders to all shards that are under way; others wait. A shard keeps the connections that each is about, 8 bytes
/// for each of them: 5 MB where all are about 10,000.
pub(super) const ORDERS_MAX: usize = 64;

/// A request with an order, before its body is read.
pub(super) struct OrderRequest {
    pub(super) api: Api,
    pub(super) caller: Caller,
    /// The name in its path: of the account or the connection that it is about.
    pub(super) name: String,
    request: Request<Body>,
}

impl FromRequest<Api> for OrderRequest {
    type Rejection = Response;

    async fn from_request(request: Request<Body>, api: &Api) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let caller = Extension::from_request_parts(&mut parts, api).await;
        let Extension(caller) = caller.map_err(IntoResponse::into_response)?;
        let path = Path::from_request_parts(&mut parts, api).await;
        let Path(name) = path.map_err(|error| Problem::of_path(error).into_response())?;
        Ok(Self { api: api.clone(), caller, name, request: Request::from_parts(parts, body) })
    }
}

impl OrderRequest {
    /// Reads the body, which may be absent where no field is required. `path` makes the order what it is, together with the
    /// body.
    pub(super) async fn read(self, path: &[&str]) -> Result<Posted, Problem> {
        let Self { api, caller, request, .. } = self;
        let key = IdempotencyKey::of_headers(request.headers(), &caller.name)?;
        let is_json = require_json(request.headers());
        let body = api.0.bodies.read(request.into_body(), BODY_BYTES_MAX).await?;
        let fields = if body.bytes.is_empty() {
            Fields::of_object(Map::new(), String::new())
        } else {
            is_json?;
            Fields::of_body(&body.bytes)?
        };
        let path = path.iter().map(|part| part.as_bytes());
        let parts: Vec<&[u8]> = std::iter::once(&b"order"[..]).chain(path).chain([&*body.bytes]).collect();
        Ok(Posted { fields, key, content: ContentDigest::of(&parts) })
    }
}

/// The body of an order, and what begins with it.
pub(super) struct Posted {
    pub(super) fields: Fields,
    key: Option<IdempotencyKey>,
    content: ContentDigest,
}

impl Posted {
    /// Refuses the order if a field was wrong, or is not known.
    pub(super) fn end(&mut self) -> Result<(), Problem> {
        let fields = std::mem::replace(&mut self.fields, Fields::of_object(Map::new(), String::new()));
        fields.end().map_err(Problem::of_fields)
    }

    /// Carries the order out once, after all fields were read.
    pub(super) async fn carry_out(
        self,
        api: &Api,
        work: impl Future<Output = Result<Value, Problem>> + Send + 'static,
    ) -> Response {
        carry_out_once(api, self.key, self.content, work).await
    }
}

impl Fields {
    /// The reason of an order; an empty one is none.
    pub(super) fn reason(&mut self, bytes_max: usize) -> Option<String> {
        let reason = self.text("reason")?;
        if reason.len() > bytes_max {
            self.refuse("reason", format!("is longer than {bytes_max} bytes"));
        }
        Some(reason).filter(|reason| !reason.is_empty())
    }

    /// The seconds of a mute or a ban, at least `min`. `None` where they are wrong.
    pub(super) fn seconds(&mut self, min: u64) -> Option<u32> {
        let seconds = self.number("seconds");
        self.require("seconds", seconds.is_some());
        match seconds? {
            seconds if (min..=TERM_SECONDS_MAX).contains(&seconds) => u32::try_from(seconds).ok(),
            _ => {
                self.refuse("seconds", format!("is not {min} to {TERM_SECONDS_MAX}"));
                None
            }
        }
    }
}

/// Reads the fields of an order to disconnect.
pub(super) fn read_kick(fields: &mut Fields, api: &Api) -> Option<ModerationAction> {
    let reason = fields.reason(api.0.limits.message_bytes_max);
    Some(ModerationAction::Kick { reason })
}

/// Reads the fields of a mute, as in the chat.
pub(super) fn read_mute(fields: &mut Fields, _: &Api) -> Option<ModerationAction> {
    fields.seconds(1).map(|seconds| ModerationAction::Mute { seconds })
}

/// Reads the fields of a ban, as in the chat.
pub(super) fn read_ban(fields: &mut Fields, api: &Api) -> Option<ModerationAction> {
    let (seconds, reason) = (fields.seconds(0), fields.reason(api.0.limits.message_bytes_max));
    seconds.map(|seconds| ModerationAction::Ban { seconds, reason })
}

/// The account of a path.
///
/// # Errors
///
/// When no account can have this name.
pub(super) fn account(name: &str) -> Result<Arc<str>, Problem> {
    match BanSubject::account(name) {
        Some(BanSubject::Account(account)) => Ok(account),
        _ => Err(Problem::new(ProblemKind::NotFound, "an account has 1 to 128 characters")),
    }
}

/// Gives an order to a shard, and what follows from it to all shards. Returns how many connections it was about.
///
/// # Errors
///
/// [`Refused::Order`] where it has no effect.
pub(super) async fn give(
    api: &Api,
    caller: &Caller,
    shard: ShardIndex,
    target: OrderTarget,
    action: ModerationAction,
) -> Result<usize, Refused> {
    let by = admin(caller);
    let asked = api.0.link.ask(shard, |origin| {
        let origin = origin.into();
        mail::Request::Moderate(ModerationOrder { by, origin, target, action })
    });
    let OrderOutcome { mut connections, notices } = match asked.await?.reply().await? {
        Reply::Ordered(outcome) => outcome.map_err(Refused::Order)?,
        reply => return Err(Refused::Request(reply.problem())),
    };
    for notice in notices {
        let notice = Arc::new(notice);
        let take = |origin| mail::Request::TakeNotice { notice: Arc::clone(&notice), origin };
        // The order is in force, whatever becomes of this.
        let told = order_all(api, take).await.map_err(|_| NoReply::Lost.problem())?;
        connections += count(told)?;
    }
    Ok(connections)
}

/// Why an order has no effect.
#[derive(Debug)]
pub(super) enum Refused {
    /// For what it says.
    Order(OrderRefusal),
    /// It was not given, or its outcome is not known.
    Request(Problem),
}

impl From<NoReply> for Refused {
    fn from(no_reply: NoReply) -> Self {
        Self::Request(no_reply.problem())
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Request(problem)
    }
}

impl Refused {
    /// The problem, where the order could not be carried out.
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::Request(problem) => problem,
            Self::Order(
                refusal @ (OrderRefusal::TooManyBans | OrderRefusal::TooManyMutes | OrderRefusal::NotStored),
            ) => Problem::new(ProblemKind::Unavailable, refusal.to_string()),
            Self::Order(refusal @ OrderRefusal::OutcomeUnknown) => {
                Problem::new(ProblemKind::Unknown, refusal.to_string())
            }
            Self::Order(refusal @ OrderRefusal::TrustedProxy) => {
                Problem::new(ProblemKind::Conflict, refusal.to_string())
            }
            Self::Order(refusal @ (OrderRefusal::UnknownBan | OrderRefusal::UserNotFound)) => {
                Problem::new(ProblemKind::NotFound, refusal.to_string())
            }
        }
    }
}

/// Gives all shards the same order, and waits for their answers. At most [`ORDERS_MAX`] are under way.
///
/// # Errors
///
/// As for [`ask_all`].
pub(super) async fn order_all(
    api: &Api,
    order: impl Fn(ClientRef) -> mail::Request,
) -> Result<Vec<Reply>, Problem> {
    let _permit = api.0.order_room.acquire().await.expect("Bug: it is never closed");
    ask_all(api, order).await
}

/// Asks all shards the same, and waits for their answers.
///
/// # Errors
///
/// When one of them was not asked, or did not answer.
pub(super) async fn ask_all(
    api: &Api,
    request: impl Fn(ClientRef) -> mail::Request,
) -> Result<Vec<Reply>, Problem> {
    let shards = api.0.directory.shards();
    let mut asked = Vec::with_capacity(usize::from(shards));
    for shard in (0..shards).map(ShardIndex) {
        match api.0.link.ask(shard, &request).await {
            Ok(one) => asked.push(one),
            Err(no_reply) if asked.is_empty() => return Err(no_reply.problem()),
            // Other shards were asked already.
            Err(_) => return Err(NoReply::Lost.problem()),
        }
    }
    let mut replies = Vec::with_capacity(asked.len());
    for asked in asked {
        replies.push(asked.reply().await.map_err(NoReply::problem)?);
    }
    Ok(replies)
}

/// The sum of what shards have counted.
pub(super) fn count(replies: Vec<Reply>) -> Result<usize, Problem> {
    let counts = replies.into_iter().map(|reply| match reply {
        Reply::Counted(connections) => Ok(connections),
        reply => Err(reply.problem()),
    });
    counts.sum()
}

/// Counts, logs and tells of an order that shards have carried out together: about an account or a room.
pub(super) fn report(
    api: &Api,
    caller: &Caller,
    kind: OrderKind,
    target: ModerationTarget,
    connections: usize,
) {
    api.0.metrics.api().moderation_orders.with(kind).add(1);
    let by = admin(caller);
    info!(
        account = target.account.as_deref().map(shown),
        room = target.room.as_deref().map(shown),
        %by,
        measure = %kind,
        connections,
        "moderated"
    );
    let (at, action, by) = (unix_seconds(), kind.as_str(), by.label());
    let order = ModerationEvent { at, action, by, target, seconds: None, reason: None };
    api.0.events.append([Event::Moderation(order)]);
}

/// The answer to an order.
pub(super) fn answer(connections: usize) -> Value {
    json!({ "connections": connections })
}

fn admin(caller: &Caller) -> Admin {
    Admin::Backend { key: Arc::clone(&caller.name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_without_effect_is_told_with_its_reason() {
        for (refusal, status) in [
            (OrderRefusal::TooManyBans, 503),
            (OrderRefusal::TooManyMutes, 503),
            (OrderRefusal::TrustedProxy, 409),
            (OrderRefusal::NotStored, 503),
            (OrderRefusal::OutcomeUnknown, 504),
            (OrderRefusal::UnknownBan, 404),
            (OrderRefusal::UserNotFound, 404),
        ] {
            let problem = Refused::Order(refusal).problem();
            assert_eq!(problem.status().as_u16(), status, "{refusal}");
            assert_eq!(problem.to_json()["detail"], refusal.to_string());
        }
    }

    #[test]
    fn terms_and_reasons_have_limits() {
        let read = |body: &str, min| {
            let mut fields = Fields::of_body(body.as_bytes()).unwrap();
            let read = (fields.seconds(min), fields.reason(5));
            fields.end().map(|()| read).map_err(|errors| errors.len())
        };
        assert_eq!(read(r#"{"seconds": 0, "reason": ""}"#, 0), Ok((Some(0), None)));
        assert_eq!(
            read(r#"{"seconds": 31536000, "reason": "x yé"}"#, 1),
            Ok((Some(31_536_000), Some("x yé".into())))
        );
        for (body, min, errors) in [
            (r#"{"seconds": 0}"#, 1, 1),
            (r#"{"seconds": 31536001, "reason": "xxxxxx"}"#, 0, 2),
            (r#"{"seconds": 4294967296}"#, 0, 1),
            (r#"{"seconds": null}"#, 0, 1),
            (r#"{"seconds": true, "reason": 1, "x": 2}"#, 0, 3),
        ] {
            assert_eq!(read(body, min), Err(errors), "{body}");
        }
    }

    #[test]
    fn an_account_has_1_to_128_characters() {
        assert_eq!(account(&"é".repeat(128)).unwrap().chars().count(), 128);
        for name in [String::new(), "é".repeat(129)] {
            assert_eq!(account(&name).unwrap_err().status().as_u16(), 404);
        }
    }
}
