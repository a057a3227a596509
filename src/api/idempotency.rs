//! Idempotency keys: a request that is repeated with its key is answered as the first time, and does nothing.
//!
//! A caller repeats a request when it cannot know what became of it: its connection broke, or the answer was 504. Only
//! final outcomes are kept. Where nothing happened, the repetition is to succeed.
//!
//! With `--data`, a request is noted on the disk before it is carried out, and with its outcome before it is answered. After
//! a crash between the two, its outcome is unknown, and a repetition is told that: it must not be carried out twice.

use std::time::Instant;

use axum::http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::finished::Finished;
use super::problem::{Problem, ProblemKind};
use crate::kept_requests::{KeptRequest, KeptRequests, RequestKey, RequestState};
use crate::storage::{StateChange, StateLink, StateQueueFull};

/// The header of a request with a key.
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest key in bytes.
pub(super) const KEY_BYTES_MAX: usize = 128;

/// A key, together with the name of the API key that it is used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct IdempotencyKey(RequestKey);

impl IdempotencyKey {
    /// The key of a request's header, if it has one.
    ///
    /// # Errors
    ///
    /// When it is not 1 to 128 visible ASCII characters.
    pub(super) fn of_headers(headers: &HeaderMap, caller: &str) -> Result<Option<Self>, Problem> {
        let Some(value) = headers.get(HEADER) else { return Ok(None) };
        let key = value.to_str().ok().and_then(|text| Self::parse(text, caller));
        let invalid = || {
            Problem::new(ProblemKind::Malformed, "Idempotency-Key is not 1 to 128 visible ASCII characters")
        };
        key.map(Some).ok_or_else(invalid)
    }

    /// A key as it was written; `None` if it is invalid.
    pub(super) fn parse(text: &str, caller: &str) -> Option<Self> {
        let is_valid =
            (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_valid.then(|| Self(RequestKey(digest(&[caller.as_bytes(), text.as_bytes()]))))
    }
}

/// The content of a request, to tell whether another one is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Of the parts of a request that make it what it is.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        Self(digest(parts))
    }
}

/// A digest of parts, of which none can be taken for a piece of another.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// The state of a key.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing: the request is to be carried out, and its outcome given to [`Attempt::finish`].
    New(Attempt),
    /// The first request with it is under way.
    UnderWay,
    /// The first request with it had another content.
    OtherContent,
    /// The outcome of the first request.
    Done(Finished),
    /// Nothing, and so many keys wait for the disk that this one cannot be noted.
    QueueFull,
}

/// Completes when the file has the key or its outcome, and fails where it cannot have it.
pub(super) type Noted = oneshot::Receiver<()>;

/// The outcomes of requests with keys. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Outcomes {
    kept: KeptRequests,
    /// Where they are noted on the disk, with `--data`.
    state: Option<StateLink>,
}

impl Outcomes {
    /// Those of an earlier life of the server are kept already.
    pub(super) fn new(kept: KeptRequests, state: Option<StateLink>) -> Self {
        Self { kept, state }
    }

    /// Looks a key up, and begins an attempt if it is new.
    pub(super) fn begin(&self, key: IdempotencyKey, content: ContentDigest, now: Instant) -> Known {
        match self.kept.begin(key.0, content.0, now) {
            Some(KeptRequest { content: first, .. }) if first != content.0 => Known::OtherContent,
            Some(KeptRequest { state: RequestState::UnderWay, .. }) => Known::UnderWay,
            Some(KeptRequest { state: RequestState::Done(answer), .. }) => {
                Known::Done(Finished::of_kept(answer).unwrap_or_else(cut_off))
            }
            Some(KeptRequest { state: RequestState::CutOff, .. }) => Known::Done(cut_off()),
            None => match self.note_first(key) {
                Ok(noted) => {
                    Known::New(Attempt { outcomes: self.clone(), key: Some(key), noted, has_begun: false })
                }
                Err(StateQueueFull) => {
                    self.kept.forget(key.0);
                    Known::QueueFull
                }
            },
        }
    }

    /// The file is to have the request before it is carried out.
    fn note_first(&self, key: IdempotencyKey) -> Result<Option<Noted>, StateQueueFull> {
        self.state.as_ref().map(|state| state.note_first(StateChange::Request(key.0))).transpose()
    }

    /// The file is to have the request as it is kept now.
    fn note(&self, key: IdempotencyKey) -> Option<Noted> {
        let state = self.state.as_ref()?;
        Some(state.note_until_stored(StateChange::Request(key.0)))
    }

    /// Keeps the end of a request. Returns how many keys had to go before their time.
    fn end(&self, key: IdempotencyKey, end: RequestState, now: Instant) -> u64 {
        let forgotten = self.kept.end(key.0, end, now);
        if let Some(state) = &self.state {
            forgotten.iter().for_each(|key| state.note(StateChange::Request(*key)));
        }
        forgotten.len() as u64
    }
}

/// Waits until the storage has noted something. Where it cannot, which it logs, a request is not known after a restart, and
/// goes on.
pub(super) async fn until_noted(noted: Option<Noted>) {
    if let Some(noted) = noted {
        let _ = noted.await;
    }
}

/// The answer to a request that is repeated, and of which the first one has begun and was cut off, for example by a crash.
fn cut_off() -> Finished {
    Finished::of(&Err(Problem::new(
        ProblemKind::Unknown,
        "the first request with this idempotency key was cut off while it was under way; look whether it had an effect, \
         and send it with another key if not",
    )))
}

/// A request with a new key. When it is dropped without an outcome, nothing happened, and the key is new again; unless it
/// has begun, for then its outcome is unknown.
#[derive(Debug)]
pub(super) struct Attempt {
    outcomes: Outcomes,
    /// Present until it is finished.
    key: Option<IdempotencyKey>,
    /// That the key is in use.
    noted: Option<Noted>,
    /// True from when the request may have an effect.
    has_begun: bool,
}

impl Attempt {
    /// Completes when the file has the key. The request waits for it.
    pub(super) fn take_noted(&mut self) -> Option<Noted> {
        self.noted.take()
    }

    /// From now on the request may have an effect.
    pub(super) fn begin(&mut self) {
        self.has_begun = true;
    }

    /// Nothing happened: the key is new again.
    pub(super) fn forget(mut self) {
        self.has_begun = false;
    }

    /// Keeps the outcome. Returns how many keys had to go before their time, because there are too many; and what completes
    /// when the file has the outcome.
    pub(super) fn finish(mut self, outcome: Finished, now: Instant) -> (u64, Option<Noted>) {
        let Some(key) = self.key.take() else { return (0, None) };
        let forgotten_early = self.outcomes.end(key, RequestState::Done(outcome.into_kept()), now);
        (forgotten_early, self.outcomes.note(key))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        if self.has_begun {
            // In the file it is under way, which means the same after a restart.
            self.outcomes.end(key, RequestState::CutOff, Instant::now());
        } else {
            self.outcomes.kept.forget(key.0);
            drop(self.outcomes.note(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::unix_seconds;
    use crate::kept_requests::KeptAnswer;

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::parse(text, "billing").unwrap()
    }

    fn outcomes() -> Outcomes {
        Outcomes::new(KeptRequests::default(), None)
    }

    fn done(number: u8) -> Finished {
        Finished::of(&Ok(number.into()))
    }

    fn is_done(known: &Known, number: u8) -> bool {
        matches!(known, Known::Done(finished) if *finished == done(number))
    }

    fn content(text: &str) -> ContentDigest {
        ContentDigest::of(&[text.as_bytes()])
    }

    #[test]
    fn the_outcome_of_the_first_request_is_that_of_its_repetitions() {
        let (outcomes, now) = (outcomes(), Instant::now());
        let Known::New(attempt) = outcomes.begin(key("a"), content("x"), now) else { panic!() };
        assert!(matches!(outcomes.begin(key("a"), content("x"), now), Known::UnderWay));
        assert!(matches!(outcomes.begin(key("a"), content("y"), now), Known::OtherContent));
        attempt.finish(done(7), now);
        assert!(is_done(&outcomes.begin(key("a"), content("x"), now), 7));
        assert!(matches!(outcomes.begin(key("a"), content("y"), now), Known::OtherContent));
        assert!(matches!(outcomes.begin(key("b"), content("x"), now), Known::New(_)));
    }

    #[test]
    fn where_nothing_happened_the_key_is_new_again() {
        let (outcomes, now) = (outcomes(), Instant::now());
        drop(outcomes.begin(key("a"), content("x"), now));
        assert!(matches!(outcomes.begin(key("a"), content("y"), now), Known::New(_)));
    }

    #[test]
    fn where_something_may_have_happened_the_outcome_stays_unknown() {
        let (outcomes, now) = (outcomes(), Instant::now());
        let Known::New(mut attempt) = outcomes.begin(key("a"), content("x"), now) else { panic!() };
        attempt.begin();
        drop(attempt);
        let Known::Done(unknown) = outcomes.begin(key("a"), content("x"), now) else { panic!() };
        assert_eq!(unknown, cut_off());
        let Known::New(mut attempt) = outcomes.begin(key("b"), content("x"), now) else { panic!() };
        attempt.begin();
        attempt.forget();
        assert!(matches!(outcomes.begin(key("b"), content("x"), now), Known::New(_)));
    }

    #[test]
    fn after_a_restart_an_outcome_is_known_and_one_that_is_missing_is_unknown() {
        let now = Instant::now();
        let stored = |text: &str, state| {
            let request = KeptRequest { content: content("x").0, at: unix_seconds(), state };
            (key(text).0, request)
        };
        let requests = vec![
            stored("done", RequestState::Done(done(2).into_kept())),
            stored("begun", RequestState::CutOff),
            stored("wrong", RequestState::Done(KeptAnswer { status: 7, body: "{}".into() })),
        ];
        let outcomes = Outcomes::new(KeptRequests::restored(requests, now), None);
        assert!(is_done(&outcomes.begin(key("done"), content("x"), now), 2));
        assert!(matches!(outcomes.begin(key("done"), content("y"), now), Known::OtherContent));
        for text in ["begun", "wrong"] {
            let Known::Done(unknown) = outcomes.begin(key(text), content("x"), now) else { panic!() };
            assert_eq!(unknown, cut_off());
        }
    }

    #[test]
    fn keys_are_of_one_caller_and_visible() {
        assert_ne!(IdempotencyKey::parse("a", "billing"), IdempotencyKey::parse("a", "shop"));
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert!(IdempotencyKey::parse(&"k".repeat(128), "billing").is_some());
        for text in ["", " ", "a b", "é", &"k".repeat(129)] {
            assert!(IdempotencyKey::parse(text, "billing").is_none(), "{text}");
        }
    }
}
