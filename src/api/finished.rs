//! The outcome of a request, as it is answered and kept for its repetitions.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::problem::Problem;

/// The outcome of a request or of an item, as it is answered and kept for its repetitions.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    status: StatusCode,
    body: Arc<Value>,
    is_problem: bool,
}

impl Finished {
    pub(super) fn of(outcome: &Result<Value, Problem>) -> Self {
        match outcome {
            Ok(value) => Self { status: StatusCode::OK, body: Arc::new(value.clone()), is_problem: false },
            Err(problem) => {
                Self { status: problem.status(), body: Arc::new(problem.to_json()), is_problem: true }
            }
        }
    }

    /// The outcome as the result of an item: its fields, and its status.
    pub(super) fn into_result(self, is_replayed: bool) -> Value {
        let mut result = Arc::unwrap_or_clone(self.body);
        result["status"] = self.status.as_u16().into();
        if is_replayed {
            result["replayed"] = true.into();
        }
        result
    }
}

impl IntoResponse for Finished {
    fn into_response(self) -> Response {
        let kind = if self.is_problem { "application/problem+json" } else { "application/json" };
        (self.status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], self.body.to_string())
            .into_response()
    }
}
