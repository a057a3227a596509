//! The paths of the interface, and the answers to everything else.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::Api;
use super::handlers::{health, metrics, openapi, stats};
use super::problem::{Problem, ProblemKind};

/// What every answer says: that it is not to be stored, and not to be taken for anything but its type.
const EVERYWHERE: [(HeaderName, HeaderValue); 2] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// All paths.
pub(super) fn router(api: Api) -> Router {
    let v1 = Router::new()
        .route("/openapi.json", get(openapi::show))
        .route("/stats", get(stats::show));
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show))
        .nest("/api/v1", v1)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(api.clone(), finish))
        .with_state(api)
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

async fn finish(State(_api): State<Api>, request: Request<axum::body::Body>, next: Next) -> Response {
    let mut response = next.run(request).await.into_response();
    response.headers_mut().extend(EVERYWHERE);
    response
}
