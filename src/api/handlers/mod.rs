//! One file for each part of the interface, and how the outcome of a request is kept and answered.

pub(super) mod batch;
pub(super) mod broadcast;
pub(super) mod health;
pub(super) mod metrics;
pub(super) mod openapi;
pub(super) mod publish;
pub(super) mod rooms;
pub(super) mod stats;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::time::timeout;

use super::Api;
use super::idempotency::{Attempt, ContentDigest, IdempotencyKey, Known};
use super::link::{NoReply, Reply};
use super::problem::{Problem, ProblemKind};
use crate::rooms::RoomRefusal;

/// How long a request may take. Behind it, its outcome is unknown to the caller.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Says that an answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The outcome of a request or of an item, as it is answered and kept for its repetitions.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    status: StatusCode,
    body: Arc<Value>,
    is_problem: bool,
}

impl Finished {
    fn of(outcome: &Result<Value, Problem>) -> Self {
        match outcome {
            Ok(value) => Self { status: StatusCode::OK, body: Arc::new(value.clone()), is_problem: false },
            Err(problem) => {
                Self { status: problem.status(), body: Arc::new(problem.to_json()), is_problem: true }
            }
        }
    }

    /// The outcome as the result of an item: its fields, and its status.
    fn into_result(self, is_replayed: bool) -> Value {
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

/// Begins a request with an idempotency key. `Ok(None)` is one without a key.
///
/// # Errors
///
/// The answer: that of the first request with the key, or the reason why there is none.
fn begin(
    api: &Api,
    key: Option<IdempotencyKey>,
    content: ContentDigest,
) -> Result<Option<Attempt<Finished>>, BegunBefore> {
    let Some(key) = key else { return Ok(None) };
    match api.0.outcomes.begin(key, content, Instant::now()) {
        Known::New(attempt) => Ok(Some(attempt)),
        Known::Done(finished) => Err(BegunBefore::Done(finished)),
        Known::UnderWay => Err(BegunBefore::Refused(Problem::new(
            ProblemKind::UnderWay,
            "the first request with this idempotency key is under way",
        ))),
        Known::OtherContent => Err(BegunBefore::Refused(Problem::new(
            ProblemKind::Invalid,
            "the first request with this idempotency key had another content",
        ))),
    }
}

/// The answer to a request whose idempotency key was used before.
enum BegunBefore {
    Done(Finished),
    Refused(Problem),
}

impl IntoResponse for BegunBefore {
    fn into_response(self) -> Response {
        match self {
            Self::Done(finished) => {
                let mut response = finished.into_response();
                response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
                response
            }
            Self::Refused(problem) => problem.into_response(),
        }
    }
}

/// Keeps an outcome for the repetitions of its request. Where nothing happened, a repetition is to succeed.
fn keep(api: &Api, attempt: Option<Attempt<Finished>>, outcome: &Result<Value, Problem>) {
    if let (Some(attempt), false) = (attempt, outcome.as_ref().is_err_and(Problem::is_passing)) {
        let forgotten_early = attempt.finish(Finished::of(outcome), Instant::now());
        api.0.metrics.api().keys_forgotten_early.add(forgotten_early);
    }
}

/// Carries a request out, to its end even if its caller gives up, and answers it.
async fn carry_out(
    api: &Api,
    attempt: Option<Attempt<Finished>>,
    work: impl Future<Output = Result<Value, Problem>> + Send + 'static,
) -> Response {
    let api = api.clone();
    let working = tokio::spawn(async move {
        let outcome = work.await;
        keep(&api, attempt, &outcome);
        outcome
    });
    match timeout(REQUEST_TIMEOUT, working).await {
        // A problem has header fields of its own.
        Ok(Ok(Err(problem))) => problem.into_response(),
        Ok(Ok(outcome)) => Finished::of(&outcome).into_response(),
        Ok(Err(_)) => NoReply::Lost.problem().into_response(),
        Err(_) => {
            let detail =
                format!("there was no answer within {REQUEST_TIMEOUT:?}; repeat it with an idempotency key");
            Problem::new(ProblemKind::Unknown, detail).into_response()
        }
    }
}

impl Reply {
    /// The problem of a request that this is no answer to.
    fn problem(self) -> Problem {
        match self {
            Self::Refused(RoomRefusal::UnknownMessage(_)) => {
                Problem::new(ProblemKind::NotFound, "the room does not keep this message")
            }
            Self::Refused(RoomRefusal::NoRoom) => no_room(),
            Self::Refused(RoomRefusal::TooManyRooms) => Problem::new(
                ProblemKind::Unavailable,
                "there are as many rooms as there may be, and none of them is empty",
            ),
            Self::Refused(
                RoomRefusal::NotStored
                | RoomRefusal::NotDeleted
                | RoomRefusal::NotOpened
                | RoomRefusal::PermissionDenied,
            ) => Problem::new(ProblemKind::Unavailable, "the disk takes nothing at the moment"),
            Self::NotStored => {
                Problem::new(ProblemKind::NotStored, "members may have seen it, and the disk has refused it")
            }
            Self::Done(_) | Self::Opened(_) | Self::Relayed { .. } | Self::Members(_) | Self::History(_) => {
                debug_assert!(false, "Bug: an answer to another request");
                NoReply::Lost.problem()
            }
        }
    }
}

fn no_room() -> Problem {
    Problem::new(ProblemKind::NotFound, "there is no room of this name")
}

impl NoReply {
    fn problem(self) -> Problem {
        match self {
            Self::Draining => Problem::new(ProblemKind::Unavailable, "the server shuts down"),
            Self::Lost => Problem::new(ProblemKind::Unknown, "the server has ended before it had an answer"),
        }
    }
}
