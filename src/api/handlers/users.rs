//! `/users/{account}` and below: shows the connections of an account, and gives orders about them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use crate::api::fields::Fields;
use crate::api::link::Reply;
use crate::api::orders::{self, OrderRequest, Refused, answer, ask_all, order_all};
use crate::api::outcome::within_time;
use crate::api::problem::Problem;
use crate::api::state::Api;
use crate::clock::unix_seconds;
use crate::events::ModerationTarget;
use crate::mail::{
    self, ACCOUNT_CONNECTIONS_SHOWN, AccountConnection, AccountMessage, AccountMove, OrderTarget,
};
use crate::metrics::OrderKind;
use crate::moderation::{Ban, ModerationAction, OrderRefusal};
use crate::name;
use crate::rooms::UserId;

/// `GET /users/{account}`. An account that nobody uses has no connections.
pub(crate) async fn show(
    State(api): State<Api>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let Path(name) = path.map_err(Problem::of_path)?;
    let account = orders::account(&name)?;
    let request = |origin| mail::Request::ShowAccount { account: Arc::clone(&account), origin };
    let (mut shown, mut connections_total) = (Vec::new(), 0);
    for reply in within_time(ask_all(&api, request)).await? {
        match reply {
            Reply::Account { connections, total } => {
                shown.extend(connections);
                connections_total += total;
            }
            reply => return Err(reply.problem()),
        }
    }
    // By age. Each shard shows the first that it has, so of more than are shown here, older ones may be missing.
    shown.sort_unstable_by_key(|connection| (connection.since, connection.user));
    shown.truncate(ACCOUNT_CONNECTIONS_SHOWN);
    let (ban, muted_until) = api.0.moderation.terms_of_account(&account, unix_seconds());
    Ok(Json(json!({
        "account": account,
        "connections_total": connections_total,
        "connections": shown.iter().map(|connection| row(&api, connection)).collect::<Vec<_>>(),
        "mute": muted_until.map(|until| json!({ "until": until })),
        "ban": ban.as_ref().map(ban_row),
    })))
}

fn row(api: &Api, connection: &AccountConnection) -> Value {
    let AccountConnection { client, user, name, dialect, room, topic, since } = connection;
    json!({
        "id": api.0.directory.instance().name(*client).to_string(),
        "user_id": user, "name": name, "dialect": dialect.to_string(), "room": room, "topic": topic, "since": since,
    })
}

/// A ban, without its subject. What is not known is `null`.
pub(super) fn ban_row(Ban { id, until, reason, by, since }: &Ban) -> Value {
    let known = |text: &Arc<str>| Some(Arc::clone(text)).filter(|text| !text.is_empty());
    json!({
        "id": id,
        "until": Some(*until).filter(|until| *until > 0),
        "reason": known(reason),
        "by": known(by),
        "since": Some(*since).filter(|since| *since > 0),
    })
}

/// `POST /users/{account}/disconnect`.
pub(crate) async fn disconnect(request: OrderRequest) -> Result<Response, Problem> {
    order(request, "disconnect", orders::read_kick).await
}

/// `POST /users/{account}/mute`.
pub(crate) async fn mute(request: OrderRequest) -> Result<Response, Problem> {
    order(request, "mute", orders::read_mute).await
}

/// `POST /users/{account}/unmute`.
pub(crate) async fn unmute(request: OrderRequest) -> Result<Response, Problem> {
    order(request, "unmute", |_, _| Some(ModerationAction::Unmute)).await
}

/// `POST /users/{account}/ban`.
pub(crate) async fn ban(request: OrderRequest) -> Result<Response, Problem> {
    order(request, "ban", orders::read_ban).await
}

/// `POST /users/{account}/unban`. An account without a ban is no error.
pub(crate) async fn unban(request: OrderRequest) -> Result<Response, Problem> {
    order(request, "unban", |_, _| Some(ModerationAction::Unban)).await
}

/// Carries out an order about an account.
async fn order(
    request: OrderRequest,
    verb: &str,
    read: impl FnOnce(&mut Fields, &Api) -> Option<ModerationAction>,
) -> Result<Response, Problem> {
    let account = orders::account(&request.name)?;
    let (api, caller) = (request.api.clone(), request.caller.clone());
    let mut posted = request.read(&["users", &account, verb]).await?;
    let action = read(&mut posted.fields, &api);
    posted.end()?;
    let action = action.expect("Bug: a wrong field that was not refused");
    let giving = api.clone();
    let work = async move {
        let shard = giving.0.directory.home_of(&account);
        match orders::give(&giving, &caller, shard, OrderTarget::Account(account), action).await {
            Ok(connections) => Ok(answer(connections)),
            Err(Refused::Order(OrderRefusal::UnknownBan)) => Ok(answer(0)),
            Err(refused) => Err(refused.problem()),
        }
    };
    Ok(posted.carry_out(&api, work).await)
}

/// `POST /users/{account}/message`: a private message to all connections of an account.
pub(crate) async fn message(request: OrderRequest) -> Result<Response, Problem> {
    let account = orders::account(&request.name)?;
    let (api, caller) = (request.api.clone(), request.caller.clone());
    let mut posted = request.read(&["users", &account, "message"]).await?;
    let (content, from_name) = (read_content(&mut posted.fields, &api), read_name(&mut posted.fields));
    posted.end()?;
    let (content, from_name) = content.zip(from_name).expect("Bug: a wrong field that was not refused");
    let giving = api.clone();
    let work = async move {
        let request = |origin| {
            let (account, origin) = (Arc::clone(&account), Some(origin));
            let (from, from_name, content) = (UserId::SYSTEM, Arc::clone(&from_name), Arc::clone(&content));
            let message = AccountMessage { from, from_name, from_account: None, account, content, origin };
            mail::Request::PrivateToAccount(message)
        };
        let connections = orders::count(order_all(&giving, request).await?)?;
        orders::report(&giving, &caller, OrderKind::Message, target_of(account), connections);
        Ok(answer(connections))
    };
    Ok(posted.carry_out(&api, work).await)
}

fn read_content(fields: &mut Fields, api: &Api) -> Option<Arc<str>> {
    let bytes_max = api.0.limits.message_bytes_max;
    let content = fields.text("content");
    fields.require("content", content.is_some());
    match content? {
        content if content.is_empty() => fields.refuse("content", "is empty"),
        content if content.len() > bytes_max => {
            fields.refuse("content", format!("is longer than {bytes_max} bytes"));
        }
        content => return Some(content.into()),
    }
    None
}

fn read_name(fields: &mut Fields) -> Option<Arc<str>> {
    let text = fields.text("from_name");
    let name = text.as_deref().map_or_else(|| Some(name::SYSTEM.into()), name::parse);
    if name.is_none() {
        fields.refuse("from_name", "is no valid name: 1 to 20 characters that show");
    }
    name
}

/// `POST /users/{account}/move`: the chat connections of an account enter another room. Their rights do not count: the order
/// of a backend overrules them.
pub(crate) async fn move_to_room(request: OrderRequest) -> Result<Response, Problem> {
    let account = orders::account(&request.name)?;
    let (api, caller) = (request.api.clone(), request.caller.clone());
    let mut posted = request.read(&["users", &account, "move"]).await?;
    let (from, to) = (posted.fields.text("from"), posted.fields.text("to"));
    posted.fields.require("to", to.is_some());
    posted.end()?;
    let (from, to) = (from.map(Arc::from), to.expect("Bug: a wrong field that was not refused"));
    let giving = api.clone();
    let work = async move {
        // The room is held until all shards have been told, and so is there when the connections ask for it.
        let publisher = &giving.0.publisher;
        let _room = publisher.open(publisher.find(&to).await).await?;
        let to: Arc<str> = to.into();
        let request = |origin| {
            let (account, from, to) = (Arc::clone(&account), from.clone(), Arc::clone(&to));
            mail::Request::MoveAccount(AccountMove { account, from, to, origin })
        };
        let connections = orders::count(order_all(&giving, request).await?)?;
        orders::report(&giving, &caller, OrderKind::Move, target_of(account), connections);
        Ok(answer(connections))
    };
    Ok(posted.carry_out(&api, work).await)
}

fn target_of(account: Arc<str>) -> ModerationTarget {
    ModerationTarget { account: Some(account), ..ModerationTarget::default() }
}
