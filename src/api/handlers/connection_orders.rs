//! `POST /connections/{id}/…`: orders about one connection, whether or not it has signed in.

use axum::response::Response;

use crate::api::fields::Fields;
use crate::api::orders::{self, OrderRequest, Refused, answer};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::state::Api;
use crate::mail::OrderTarget;
use crate::moderation::{ModerationAction, OrderRefusal};
use crate::rooms::{ClientRef, ConnectionName};

/// `POST /connections/{id}/disconnect`.
pub(crate) async fn disconnect(request: OrderRequest) -> Result<Response, Problem> {
    order(request, "disconnect", orders::read_kick).await
}

/// `POST /connections/{id}/mute`: its account; or else its session, and those who come later from its address.
pub(crate) async fn mute(request: OrderRequest) -> Result<Response, Problem> {
    order(request, "mute", orders::read_mute).await
}

/// `POST /connections/{id}/ban`: its account, or else its address.
pub(crate) async fn ban(request: OrderRequest) -> Result<Response, Problem> {
    order(request, "ban", orders::read_ban).await
}

/// Carries out an order about a connection. One that has ended is no error.
async fn order(
    request: OrderRequest,
    verb: &str,
    read: impl FnOnce(&mut Fields, &Api) -> Option<ModerationAction>,
) -> Result<Response, Problem> {
    let ClientRef { shard, connection } = find(&request.api, &request.name)?;
    let (api, caller, name) = (request.api.clone(), request.caller.clone(), request.name.clone());
    let mut posted = request.read(&["connections", &name, verb]).await?;
    let action = read(&mut posted.fields, &api);
    posted.end()?;
    let action = action.expect("Bug: a wrong field that was not refused");
    let giving = api.clone();
    let work = async move {
        match orders::give(&giving, &caller, shard, OrderTarget::Connection(connection), action).await {
            Ok(connections) => Ok(answer(connections)),
            Err(Refused::Order(OrderRefusal::UserNotFound)) => Ok(answer(0)),
            Err(refused) => Err(refused.problem()),
        }
    };
    Ok(posted.carry_out(&api, work).await)
}

/// The connection of this name.
///
/// # Errors
///
/// When this life of the server cannot have had one of this name.
fn find(api: &Api, name: &str) -> Result<ClientRef, Problem> {
    let directory = &api.0.directory;
    let found = name.parse::<ConnectionName>().ok().filter(|name| {
        let is_own = name.instance == directory.instance();
        is_own && name.client.shard.0 < directory.shards()
    });
    found
        .map(|name| name.client)
        .ok_or_else(|| Problem::new(ProblemKind::NotFound, "there is no connection of this name"))
}
