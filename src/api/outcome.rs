//! How a request is carried out once, and answered.

use std::future::Future;
use std::time::{Duration, Instant};

use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::time::timeout;

use super::finished::Finished;
use super::idempotency::{Attempt, ContentDigest, IdempotencyKey, Known};
use super::link::{NoReply, Reply};
use super::problem::{Problem, ProblemKind};
use super::state::Api;
use crate::rooms::RoomRefusal;

/// How long a request may take. Behind it, its outcome is unknown to the caller.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Says that an answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Begins a request with an idempotency key. `Ok(None)` is one without a key.
///
/// # Errors
///
/// The answer: that of the first request with the key, or the reason why there is none.
pub(super) fn begin(
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
pub(super) enum BegunBefore {
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
pub(super) fn keep(api: &Api, attempt: Option<Attempt<Finished>>, outcome: &Result<Value, Problem>) {
    if let (Some(attempt), false) = (attempt, outcome.as_ref().is_err_and(Problem::is_passing)) {
        let forgotten_early = attempt.finish(Finished::of(outcome), Instant::now());
        api.0.metrics.api().keys_forgotten_early.add(forgotten_early);
    }
}

/// Carries a request out, to its end even if its caller gives up, and answers it.
pub(super) async fn carry_out(
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
    pub(super) fn problem(self) -> Problem {
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

pub(super) fn no_room() -> Problem {
    Problem::new(ProblemKind::NotFound, "there is no room of this name")
}

impl NoReply {
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::Draining => Problem::new(ProblemKind::Unavailable, "the server shuts down"),
            Self::Lost => Problem::new(ProblemKind::Unknown, "the server has ended before it had an answer"),
        }
    }
}
