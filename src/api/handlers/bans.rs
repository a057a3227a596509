//! `/bans`: lists the bans, and ends one.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::users::ban_row;
use crate::api::idempotency::{ContentDigest, IdempotencyKey};
use crate::api::keys::Caller;
use crate::api::orders::{self, Refused, answer};
use crate::api::outcome::carry_out_once;
use crate::api::parameters::Parameters;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::clock::unix_seconds;
use crate::mail::OrderTarget;
use crate::moderation::{BanId, BanSubject, ModerationAction};
use crate::rooms::ShardIndex;

/// `GET /bans`: by id. No shard is asked.
pub(crate) async fn list(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Json<Value>, Problem> {
    let mut query = Parameters::of(query.as_deref());
    let after = query.number("after").map(BanId);
    let limit = query.limit();
    query.end()?;
    // One more than asked for tells whether there is a next page.
    let mut bans = api.0.moderation.bans_after(after, limit + 1, unix_seconds());
    let has_more = bans.len() > limit;
    bans.truncate(limit);
    let next = bans.last().filter(|_| has_more).map(|(_, ban)| ban.id.to_string());
    let rows = bans.iter().map(|(subject, ban)| {
        let mut row = ban_row(ban);
        match subject {
            BanSubject::Account(account) => row["account"] = json!(account),
            BanSubject::Address(address) => row["address"] = json!(address.to_string()),
        }
        row
    });
    Ok(Json(json!({"bans": rows.collect::<Vec<_>>(), "next": next})))
}

/// `DELETE /bans/{id}`.
pub(crate) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<u64>, PathRejection>,
    headers: HeaderMap,
    _: Request<Body>,
) -> Result<Response, Problem> {
    let Path(id) = path.map_err(Problem::of_path)?;
    let key = IdempotencyKey::of_headers(&headers, &caller.name)?;
    let content = ContentDigest::of(&[b"end ban", &id.to_le_bytes()]);
    let giving = api.clone();
    let work = async move {
        let target = OrderTarget::Ban(BanId(id));
        // The bans are those of all shards.
        let given = orders::give(&giving, &caller, ShardIndex(0), target, ModerationAction::Unban).await;
        given.map(answer).map_err(Refused::problem)
    };
    Ok(carry_out_once(&api, key, content, work).await)
}
