//! The bodies of requests, within their limits of length, time and memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::problem::{Problem, ProblemKind};

/// The longest body, other than a batch.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest batch: 1,000 messages of 10 KiB, and their other fields.
pub(super) const BATCH_BYTES_MAX: usize = 16 << 20;

/// The bodies under way, all together: four of the longest batches.
const BODIES_BYTES_MAX: usize = 64 << 20;

/// Bodies are counted in pieces of this size, and each has [`PIECE_TIMEOUT`].
const PIECE_BYTES: usize = 64 << 10;

/// The time for each piece: 6.4 KiB/s, which any line has.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);

/// What bodies may take of memory.
#[derive(Clone, Debug)]
pub(super) struct BodyBudget(Arc<Semaphore>);

impl Default for BodyBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BODIES_BYTES_MAX / PIECE_BYTES)))
    }
}

/// A body, and its part of the budget until it is dropped.
#[derive(Debug)]
pub(super) struct WholeBody {
    pub(super) bytes: Bytes,
    _parts: Vec<OwnedSemaphorePermit>,
}

impl BodyBudget {
    /// Reads a whole body.
    ///
    /// # Errors
    ///
    /// When it is longer than `bytes_max`, does not come in time, breaks off, or there is no memory for it now.
    pub(super) async fn read(&self, mut body: Body, bytes_max: usize) -> Result<WholeBody, Problem> {
        let too_large =
            || Problem::new(ProblemKind::TooLarge, format!("at most {} KiB are allowed", bytes_max >> 10));
        let announced = axum::body::HttpBody::size_hint(&body).lower();
        if announced > bytes_max as u64 {
            return Err(too_large());
        }
        let mut whole = BytesMut::new();
        let mut parts = Vec::new();
        loop {
            // Ahead of the bytes.
            let part = Arc::clone(&self.0).try_acquire_owned();
            parts.push(part.map_err(|_| {
                Problem::new(ProblemKind::Busy, "the bodies of other requests take all memory for bodies")
            })?);
            let until = parts.len() * PIECE_BYTES;
            let read = timeout(PIECE_TIMEOUT, read_until(&mut body, &mut whole, until, bytes_max)).await;
            match read {
                Ok(Ok(Progress::More)) => {}
                Ok(Ok(Progress::End)) => return Ok(WholeBody { bytes: whole.freeze(), _parts: parts }),
                Ok(Ok(Progress::TooLong)) => return Err(too_large()),
                Ok(Err(error)) => {
                    return Err(Problem::new(ProblemKind::Malformed, format!("the body broke off: {error}")));
                }
                Err(_) => {
                    let detail = format!("{} KiB of a body have {PIECE_TIMEOUT:?}", PIECE_BYTES >> 10);
                    return Err(Problem::new(ProblemKind::Timeout, detail));
                }
            }
        }
    }
}

enum Progress {
    More,
    End,
    TooLong,
}

async fn read_until(
    body: &mut Body,
    whole: &mut BytesMut,
    until: usize,
    bytes_max: usize,
) -> Result<Progress, axum::Error> {
    while whole.len() < until {
        let Some(frame) = body.frame().await else { return Ok(Progress::End) };
        // Trailers say nothing to us.
        let Ok(bytes) = frame?.into_data() else { continue };
        if whole.len() + bytes.len() > bytes_max {
            return Ok(Progress::TooLong);
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(Progress::More)
}

/// Checks that a body is JSON by its content type (RFC 8259, 11; RFC 6839, 3.1).
///
/// # Errors
///
/// [`ProblemKind::UnsupportedType`].
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    if media_type(headers).is_some_and(|kind| is_json(&kind)) {
        return Ok(());
    }
    Err(Problem::new(ProblemKind::UnsupportedType, "the body must be application/json, and say so"))
}

/// The media type of a body, in lower case and without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Whether a media type is JSON.
pub(super) fn is_json(kind: &str) -> bool {
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let budget = BodyBudget::default();
        for len in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 200_000] {
            let body = vec![b'x'; len];
            let read = budget.read(Body::from(body.clone()), 200_000).await.unwrap();
            assert_eq!(read.bytes, body);
        }
        let refused = budget.read(Body::from(vec![b'x'; 200_001]), 200_000).await.unwrap_err();
        assert_eq!(refused.status().as_u16(), 413);
        assert_eq!(budget.0.available_permits(), BODIES_BYTES_MAX / PIECE_BYTES, "all is given back");
    }

    #[tokio::test]
    async fn bodies_take_no_more_memory_than_they_may() {
        let budget = BodyBudget(Arc::new(Semaphore::new(2)));
        let first = budget.read(Body::from(vec![b'x'; PIECE_BYTES]), BODY_BYTES_MAX).await.unwrap();
        let refused = budget.read(Body::from("x"), BODY_BYTES_MAX).await.unwrap_err();
        assert_eq!(refused.status().as_u16(), 429);
        drop(first);
        budget.read(Body::from("x"), BODY_BYTES_MAX).await.unwrap();
    }

    #[test]
    fn json_says_that_it_is_json() {
        let check = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            require_json(&headers).is_ok()
        };
        for value in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
            assert!(check(value), "{value}");
        }
        for value in ["", "text/plain", "application/jsonx", "text/json", "json"] {
            assert!(!check(value), "{value}");
        }
        assert!(require_json(&HeaderMap::new()).is_err());
    }
}
