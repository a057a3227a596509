//! How a request is carried out once, and answered.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::finished::Finished;
use super::idempotency::{Attempt, ContentDigest, IdempotencyKey, Known, Noted, until_noted};
use super::link::{NoReply, Reply};
use super::problem::{Problem, ProblemKind};
use super::publishing::PublishError;
use super::state::Api;
use crate::rooms::RoomRefusal;

/// How long a request may take. Behind it, its outcome is unknown to the caller.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The most requests that are being carried out. Each goes on when its caller gives up, so there may be more than connections:
/// callers that repeat theirs while the disk hangs must not pile them up.
pub(super) const WORKS_MAX: usize = 1_024;

/// Says that an answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Begins a request with an idempotency key, and waits until that is noted, at most until the deadline. `Ok(None)` is one
/// without a key.
///
/// # Errors
///
/// As for [`begin`], and when the disk does not answer in time.
async fn begin_noted(
    api: &Api,
    key: Option<IdempotencyKey>,
    content: ContentDigest,
    deadline: Instant,
) -> Result<Option<Attempt>, BegunBefore> {
    let mut attempt = begin(api, key, content)?;
    let noted = until_noted(attempt.as_mut().and_then(Attempt::take_noted));
    // Nothing has happened yet.
    let late = |_| BegunBefore::Refused(Problem::new(ProblemKind::Unavailable, "the disk is too slow"));
    timeout_at(deadline, noted).await.map_err(late)?;
    Ok(attempt)
}

/// Begins a request with an idempotency key. `Ok(None)` is one without a key. It is to be carried out once
/// [`Attempt::take_noted`] is known.
///
/// # Errors
///
/// The answer: that of the first request with the key, or the reason why there is none.
pub(super) fn begin(
    api: &Api,
    key: Option<IdempotencyKey>,
    content: ContentDigest,
) -> Result<Option<Attempt>, BegunBefore> {
    let Some(key) = key else { return Ok(None) };
    match api.0.outcomes.begin(key, content, Instant::now().into_std()) {
        Known::New(attempt) => Ok(Some(attempt)),
        Known::Done(finished) => Err(BegunBefore::Done(finished)),
        Known::UnderWay => Err(BegunBefore::Refused(Problem::new(
            ProblemKind::UnderWay,
            "the first request with this idempotency key is under way",
        ))),
        Known::QueueFull => {
            api.0.metrics.api().requests_refused.add(1);
            Err(BegunBefore::Refused(Problem::new(
                ProblemKind::Unavailable,
                "too many idempotency keys wait for the disk",
            )))
        }
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

/// Keeps an outcome for the repetitions of its request. Where nothing happened, a repetition is to succeed. It is to be
/// answered once the result is known.
pub(super) fn keep(api: &Api, attempt: Option<Attempt>, outcome: &Result<Value, Problem>) -> Option<Noted> {
    let attempt = attempt?;
    if outcome.as_ref().is_err_and(Problem::is_passing) {
        attempt.forget();
        return None;
    }
    let (forgotten_early, noted) = attempt.finish(Finished::of(outcome), Instant::now().into_std());
    api.0.metrics.api().keys_forgotten_early.add(forgotten_early);
    noted
}

/// Carries a request out, once for each idempotency key, and answers it within [`REQUEST_TIMEOUT`].
pub(super) async fn carry_out_once(
    api: &Api,
    key: Option<IdempotencyKey>,
    content: ContentDigest,
    work: impl Future<Output = Result<Value, Problem>> + Send + 'static,
) -> Response {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    match begin_noted(api, key, content, deadline).await {
        Ok(attempt) => carry_out(api, attempt, deadline, work).await,
        Err(begun_before) => begun_before.into_response(),
    }
}

/// Carries a request out, to its end even if its caller gives up, and answers it until the deadline. When there are
/// [`WORKS_MAX`] already, nothing happens, and the answer is 429.
async fn carry_out(
    api: &Api,
    mut attempt: Option<Attempt>,
    deadline: Instant,
    work: impl Future<Output = Result<Value, Problem>> + Send + 'static,
) -> Response {
    let Ok(permit) = Arc::clone(&api.0.works).try_acquire_owned() else {
        api.0.metrics.api().requests_refused.add(1);
        let detail = format!("{WORKS_MAX} requests are being carried out, which is the most");
        return Problem::new(ProblemKind::Busy, detail).into_response();
    };
    let api = api.clone();
    if let Some(attempt) = &mut attempt {
        attempt.begin();
    }
    let working = tokio::spawn(async move {
        let _permit = permit;
        let outcome = work.await;
        until_noted(keep(&api, attempt, &outcome)).await;
        outcome
    });
    match timeout_at(deadline, working).await {
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

/// Waits for what only reads, as long as a request may take.
pub(super) async fn within_time<T>(reading: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let late = || Problem::new(ProblemKind::Unknown, "there was no answer in time");
    timeout(REQUEST_TIMEOUT, reading).await.unwrap_or_else(|_| Err(late()))
}

impl Reply {
    /// The problem of a request that this is no answer to.
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::Refused(RoomRefusal::UnknownMessage(_)) => {
                Problem::new(ProblemKind::NotFound, "the room does not keep this message")
            }
            Self::Refused(RoomRefusal::NotDeleted | RoomRefusal::PermissionDenied) => {
                PublishError::StorageFails.into()
            }
            other => PublishError::from(other).into(),
        }
    }
}

pub(super) fn no_room() -> Problem {
    PublishError::NoRoom.into()
}

impl NoReply {
    pub(super) fn problem(self) -> Problem {
        PublishError::from(self).into()
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let kind = match error {
            PublishError::Invalid(_) => ProblemKind::Invalid,
            PublishError::NoRoom | PublishError::NoTopic => ProblemKind::NotFound,
            PublishError::TooManyRooms
            | PublishError::StorageFails
            | PublishError::ShuttingDown
            | PublishError::Busy => ProblemKind::Unavailable,
            PublishError::NotStored => ProblemKind::NotStored,
            PublishError::Unknown => ProblemKind::Unknown,
        };
        Self::new(kind, error.to_string())
    }
}
