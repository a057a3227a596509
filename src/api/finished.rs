//! The outcome of a request, as it is answered and kept for its repetitions.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::kept_requests::KeptAnswer;

/// The outcome of a request or of an item, as it is answered and kept for its repetitions. Clones share its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    status: StatusCode,
    /// JSON.
    body: Arc<str>,
}

impl Finished {
    pub(super) fn of(outcome: &Result<Value, Problem>) -> Self {
        match outcome {
            Ok(value) => Self { status: StatusCode::OK, body: value.to_string().into() },
            Err(problem) => Self { status: problem.status(), body: problem.to_json().to_string().into() },
        }
    }

    /// The outcome as it is kept.
    pub(super) fn into_kept(self) -> KeptAnswer {
        KeptAnswer { status: self.status.as_u16(), body: self.body }
    }

    /// An outcome that was kept; `None` if it is none.
    pub(super) fn of_kept(KeptAnswer { status, body }: KeptAnswer) -> Option<Self> {
        Some(Self { status: StatusCode::from_u16(status).ok()?, body })
    }

    /// The outcome as the result of an item that is repeated.
    pub(super) fn to_replayed_result(&self) -> Value {
        // All outcomes are objects.
        let mut result: Map<String, Value> = serde_json::from_str(&self.body).unwrap_or_default();
        result.insert("status".to_owned(), self.status.as_u16().into());
        result.insert("replayed".to_owned(), true.into());
        result.into()
    }
}

/// An outcome as the result of an item: its fields, and its status.
pub(super) fn result_of(outcome: Result<Value, Problem>) -> Value {
    match outcome {
        Ok(mut result) => {
            result["status"] = StatusCode::OK.as_u16().into();
            result
        }
        // It has its status.
        Err(problem) => problem.to_json(),
    }
}

impl IntoResponse for Finished {
    fn into_response(self) -> Response {
        let is_problem = self.status != StatusCode::OK;
        let kind = if is_problem { "application/problem+json" } else { "application/json" };
        (self.status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], self.body.to_string())
            .into_response()
    }
}
