//! The paths of the interface, and the answers to everything else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, RawQuery, State};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use tracing::field::display;
use tracing::{debug, info};

use super::access::{Peer, check_host};
use super::handlers::{
    admin, bans, batch, broadcast, close_room, connection_orders, connections, events, health, metrics,
    openapi, publish, rooms, stats, users,
};
use super::keys::Scope;
use super::parameters::Parameters;
use super::problem::{Problem, ProblemKind};
use super::state::Api;
use crate::access_log;
use crate::metrics::StatusClass;

/// Fields of every answer: it is not to be stored, and is nothing but what its type says.
pub(super) const EVERYWHERE: [(HeaderName, HeaderValue); 2] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// All paths.
pub(super) fn router(api: Api) -> Router {
    let read_singly = Router::new()
        .route("/api/v1/stats", get(stats::show))
        .route("/api/v1/connections/{id}", get(connections::show))
        .route("/api/v1/rooms/{room}", get(rooms::show))
        .route("/api/v1/users/{account}", get(users::show));
    let read = Router::new()
        .route("/metrics", get(metrics::show))
        .route("/api/v1/connections", get(connections::list))
        .route("/api/v1/events", get(events::stream))
        .route("/api/v1/rooms", get(rooms::list))
        .route("/api/v1/rooms/{room}/members", get(rooms::members))
        .route("/api/v1/rooms/{room}/history", get(rooms::history))
        .route("/api/v1/bans", get(bans::list))
        .merge(without_parameters(read_singly));
    let moderate = Router::new()
        .route("/api/v1/rooms/{room}/messages/{id}", delete(rooms::delete_message))
        .route("/api/v1/rooms/{room}", delete(close_room::delete))
        .route("/api/v1/users/{account}/disconnect", post(users::disconnect))
        .route("/api/v1/users/{account}/mute", post(users::mute))
        .route("/api/v1/users/{account}/unmute", post(users::unmute))
        .route("/api/v1/users/{account}/ban", post(users::ban))
        .route("/api/v1/users/{account}/unban", post(users::unban))
        .route("/api/v1/users/{account}/message", post(users::message))
        .route("/api/v1/users/{account}/move", post(users::move_to_room))
        .route("/api/v1/connections/{id}/disconnect", post(connection_orders::disconnect))
        .route("/api/v1/connections/{id}/mute", post(connection_orders::mute))
        .route("/api/v1/connections/{id}/ban", post(connection_orders::ban))
        .route("/api/v1/bans/{id}", delete(bans::remove));
    let publish = Router::new()
        .route("/api/v1/publish", post(publish::post))
        .route("/api/v1/broadcast/{topic}", post(broadcast::post))
        .route("/api/v1/batch", post(batch::post));
    let description = Router::new().route("/api/v1/openapi.json", get(openapi::show));
    Router::new()
        .merge(with_scope(read, &api, Scope::Read))
        .merge(with_scope(without_parameters(publish), &api, Scope::Publish))
        .merge(with_scope(without_parameters(moderate), &api, Scope::Moderate))
        .merge(without_parameters(description))
        .route("/admin", get(admin::show))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(api.clone(), finish))
        .with_state(api)
}

/// Paths that need a key with this scope.
fn with_scope(paths: Router<Api>, api: &Api, scope: Scope) -> Router<Api> {
    paths.route_layer(middleware::from_fn_with_state((api.clone(), scope), authorize))
}

/// Paths without parameters in their query.
fn without_parameters(paths: Router<Api>) -> Router<Api> {
    paths.route_layer(middleware::from_fn(refuse_parameters))
}

async fn refuse_parameters(
    RawQuery(query): RawQuery,
    request: Request<Body>,
    next: Next,
) -> Result<Response, Problem> {
    Parameters::of(query.as_deref()).end()?;
    Ok(next.run(request).await)
}

/// Checks the key of a request, and logs the request with the key's name.
async fn authorize(
    State((api, scope)): State<(Api, Scope)>,
    Extension(peer): Extension<Peer>,
    path: MatchedPath,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let mut line = RequestLine::begin(&request, path, peer);
    let response = match api.0.access.authorize(request.headers(), scope, peer) {
        Ok(caller) => {
            line.caller = Some(caller.name.clone());
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    line.status = Some(response.status());
    response
}

/// The line of a request in the log: with `--log-access` in the access log. It is written when this is dropped, which is when the
/// answer begins, or when the caller hangs up or the server ends before that.
///
/// The path is logged as a pattern, because the names in it may be private.
struct RequestLine {
    /// The key's name; `None` for one that was refused.
    caller: Option<Arc<str>>,
    address: Option<SocketAddr>,
    method: Method,
    path: MatchedPath,
    /// `None` until there is an answer.
    status: Option<StatusCode>,
    began: Instant,
}

impl RequestLine {
    fn begin(request: &Request<Body>, path: MatchedPath, Peer(address): Peer) -> Self {
        let method = request.method().clone();
        let address = address.map(|it| SocketAddr::new(it.ip().to_canonical(), it.port()));
        Self { caller: None, address, method, path, status: None, began: Instant::now() }
    }
}

impl Drop for RequestLine {
    fn drop(&mut self) {
        let Self { caller, address, method, path, status, began } = self;
        let (caller, path) = (caller.as_deref(), path.as_str());
        let (address, status) = (address.map(display), status.map(|status| status.as_u16()));
        let milliseconds = began.elapsed().as_millis() as u64;
        let message = if status.is_some() { "API request" } else { "API request without an answer" };
        if access_log::is_enabled() {
            info!(target: access_log::TARGET, caller, address, %method, path, status, milliseconds, "{message}");
        } else {
            debug!(caller, address, %method, path, status, milliseconds, "{message}");
        }
    }
}

async fn not_found(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(100).collect();
    Problem::new(ProblemKind::NotFound, format!("there is no {path}"))
}

/// axum adds `Allow`.
async fn method_not_allowed(method: Method) -> Problem {
    let method: String = method.as_str().chars().take(20).collect();
    Problem::new(ProblemKind::MethodNotAllowed, format!("{method} is not among them; see Allow"))
}

/// Counts a request, and adds the fields of every answer.
async fn finish(State(api): State<Api>, request: Request<Body>, next: Next) -> Response {
    let began = Instant::now();
    // Not the path itself: that would be a series of metrics for each name in it.
    let path = request.extensions().get::<MatchedPath>().cloned();
    let mut response = match check_host(request.version(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().extend(EVERYWHERE);
    let metrics = api.0.metrics.api();
    metrics.requests.with(StatusClass::of(response.status().as_u16())).add(1);
    if let Some(path) = path {
        metrics.durations.record(path.as_str(), began.elapsed());
    }
    response
}
