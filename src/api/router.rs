//! The paths of the interface, and the answers to everything else.

use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use tracing::debug;

use super::handlers::{batch, broadcast, health, metrics, openapi, publish, rooms, stats};
use super::keys::Scope;
use super::problem::{Problem, ProblemKind};
use super::state::Api;
use crate::metrics::StatusClass;

/// Fields of every answer: it is not to be stored, and is nothing but what its type says.
const EVERYWHERE: [(HeaderName, HeaderValue); 2] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// All paths.
pub(super) fn router(api: Api) -> Router {
    let read = Router::new()
        .route("/metrics", get(metrics::show))
        .route("/api/v1/stats", get(stats::show))
        .route("/api/v1/rooms", get(rooms::list))
        .route("/api/v1/rooms/{room}", get(rooms::show))
        .route("/api/v1/rooms/{room}/members", get(rooms::members))
        .route("/api/v1/rooms/{room}/history", get(rooms::history));
    let moderate = Router::new().route("/api/v1/rooms/{room}/messages/{id}", delete(rooms::delete_message));
    let publish = Router::new()
        .route("/api/v1/publish", post(publish::post))
        .route("/api/v1/broadcast/{topic}", post(broadcast::post))
        .route("/api/v1/batch", post(batch::post));
    Router::new()
        .merge(with_scope(read, &api, Scope::Read))
        .merge(with_scope(publish, &api, Scope::Publish))
        .merge(with_scope(moderate, &api, Scope::Moderate))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/api/v1/openapi.json", get(openapi::show))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::map_response_with_state(api.clone(), finish))
        .with_state(api)
}

/// Paths that need a key with this scope.
fn with_scope(paths: Router<Api>, api: &Api, scope: Scope) -> Router<Api> {
    paths.route_layer(middleware::from_fn_with_state((api.clone(), scope), authorize))
}

/// Checks the key of a request, and logs the request with the key's name. The path is logged as a pattern, because the names
/// in it may be private.
async fn authorize(
    State((api, scope)): State<(Api, Scope)>,
    path: MatchedPath,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let began = Instant::now();
    let caller = match api.0.access.authorize(request.headers(), scope) {
        Ok(caller) => caller,
        Err(problem) => {
            debug!(path = path.as_str(), status = problem.status().as_u16(), "API request refused");
            return problem.into_response();
        }
    };
    let (method, name) = (request.method().clone(), caller.name.clone());
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    debug!(
        caller = &*name,
        %method,
        path = path.as_str(),
        status = response.status().as_u16(),
        milliseconds = began.elapsed().as_millis() as u64,
        "API request"
    );
    response
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

async fn finish(State(api): State<Api>, mut response: Response) -> Response {
    response.headers_mut().extend(EVERYWHERE);
    api.0.metrics.api().requests.with(StatusClass::of(response.status().as_u16())).add(1);
    response
}
