//! Idempotency keys: a request that is repeated with its key is answered as the first time, and does nothing.
//!
//! A caller repeats a request when it cannot know what became of it: its connection broke, or the answer was 504. Only
//! final outcomes are kept. Where nothing happened, the repetition is to succeed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

use super::problem::{Problem, ProblemKind};

/// The header of a request with a key.
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest key in bytes.
pub(super) const KEY_BYTES_MAX: usize = 128;

/// How long an outcome is kept.
const KEPT_FOR: Duration = Duration::from_secs(5 * 60);

/// The most keys. Each takes some 200 bytes, and a few hundred for the outcome.
const KEYS_MAX: usize = 1_000_000;

/// A key, together with the name of the API key that it is used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct IdempotencyKey([u8; 32]);

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
        is_valid.then(|| Self(digest(&[caller.as_bytes(), text.as_bytes()])))
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
pub(super) enum Known<T> {
    /// Nothing: the request is to be carried out, and its outcome given to [`Attempt::finish`].
    New(Attempt<T>),
    /// The first request with it is under way.
    UnderWay,
    /// The first request with it had another content.
    OtherContent,
    /// The outcome of the first request.
    Done(T),
}

/// The outcomes of requests with keys. Clones share them.
#[derive(Debug)]
pub(super) struct Outcomes<T>(Arc<Shared<T>>);

impl<T> Clone for Outcomes<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Outcomes<T> {
    fn default() -> Self {
        let kept = Kept { by_key: HashMap::new(), in_order: VecDeque::new() };
        Self(Arc::new(Shared { kept: Mutex::new(kept), keys_max: KEYS_MAX }))
    }
}

#[derive(Debug)]
struct Shared<T> {
    kept: Mutex<Kept<T>>,
    keys_max: usize,
}

#[derive(Debug)]
struct Kept<T> {
    by_key: HashMap<IdempotencyKey, Entry<T>>,
    /// The finished ones, the oldest first.
    in_order: VecDeque<(Instant, IdempotencyKey)>,
}

#[derive(Debug)]
struct Entry<T> {
    content: ContentDigest,
    /// `None` while the request is under way.
    outcome: Option<T>,
}

impl<T: Clone> Outcomes<T> {
    /// Looks a key up, and begins an attempt if it is new.
    pub(super) fn begin(&self, key: IdempotencyKey, content: ContentDigest, now: Instant) -> Known<T> {
        let mut kept = self.lock();
        kept.forget_old(now);
        match kept.by_key.get(&key) {
            Some(entry) if entry.content != content => Known::OtherContent,
            Some(Entry { outcome: Some(outcome), .. }) => Known::Done(outcome.clone()),
            Some(_) => Known::UnderWay,
            None => {
                kept.by_key.insert(key, Entry { content, outcome: None });
                Known::New(Attempt { outcomes: self.clone(), key: Some(key) })
            }
        }
    }
}

impl<T> Outcomes<T> {
    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        // Each change is complete before anything can panic.
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Kept<T> {
    fn forget_old(&mut self, now: Instant) {
        while let Some((finished, key)) = self.in_order.front().copied()
            && now.saturating_duration_since(finished) >= KEPT_FOR
        {
            self.in_order.pop_front();
            self.by_key.remove(&key);
        }
    }
}

/// A request with a new key. When it is dropped without an outcome, nothing happened, and the key is new again.
#[derive(Debug)]
pub(super) struct Attempt<T> {
    outcomes: Outcomes<T>,
    /// Present until it is finished.
    key: Option<IdempotencyKey>,
}

impl<T> Attempt<T> {
    /// Keeps the outcome. Returns how many keys had to go before their time, because there are too many.
    pub(super) fn finish(mut self, outcome: T, now: Instant) -> u64 {
        let mut forgotten_early = 0;
        let Some(key) = self.key.take() else { return forgotten_early };
        let mut kept = self.outcomes.lock();
        if let Some(entry) = kept.by_key.get_mut(&key) {
            entry.outcome = Some(outcome);
            kept.in_order.push_back((now, key));
        }
        while kept.in_order.len() > self.outcomes.0.keys_max
            && let Some((_, oldest)) = kept.in_order.pop_front()
        {
            kept.by_key.remove(&oldest);
            forgotten_early += 1;
        }
        forgotten_early
    }
}

impl<T> Drop for Attempt<T> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.outcomes.lock().by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::parse(text, "billing").unwrap()
    }

    fn content(text: &str) -> ContentDigest {
        ContentDigest::of(&[text.as_bytes()])
    }

    #[test]
    fn the_outcome_of_the_first_request_is_that_of_its_repetitions() {
        let (outcomes, now) = (Outcomes::default(), Instant::now());
        let Known::New(attempt) = outcomes.begin(key("a"), content("x"), now) else { panic!() };
        assert!(matches!(outcomes.begin(key("a"), content("x"), now), Known::UnderWay));
        assert!(matches!(outcomes.begin(key("a"), content("y"), now), Known::OtherContent));
        attempt.finish(7, now);
        assert!(matches!(outcomes.begin(key("a"), content("x"), now), Known::Done(7)));
        assert!(matches!(outcomes.begin(key("a"), content("y"), now), Known::OtherContent));
        assert!(matches!(outcomes.begin(key("b"), content("x"), now), Known::New(_)));
    }

    #[test]
    fn where_nothing_happened_the_key_is_new_again() {
        let (outcomes, now) = (Outcomes::<u8>::default(), Instant::now());
        drop(outcomes.begin(key("a"), content("x"), now));
        assert!(matches!(outcomes.begin(key("a"), content("y"), now), Known::New(_)));
    }

    #[test]
    fn an_outcome_is_kept_for_five_minutes() {
        let (outcomes, now) = (Outcomes::default(), Instant::now());
        let Known::New(attempt) = outcomes.begin(key("a"), content("x"), now) else { panic!() };
        attempt.finish(1, now);
        let end = now + KEPT_FOR;
        assert!(matches!(
            outcomes.begin(key("a"), content("x"), end - Duration::from_millis(1)),
            Known::Done(1)
        ));
        assert!(matches!(outcomes.begin(key("a"), content("x"), end), Known::New(_)));
    }

    #[test]
    fn the_oldest_go_early_when_there_are_too_many_and_are_counted() {
        let mut outcomes = Outcomes::default();
        Arc::get_mut(&mut outcomes.0).unwrap().keys_max = 2;
        let now = Instant::now();
        for text in ["a", "b", "c"] {
            let Known::New(attempt) = outcomes.begin(key(text), content("x"), now) else { panic!() };
            assert_eq!(attempt.finish(1, now), u64::from(text == "c"));
        }
        assert!(matches!(outcomes.begin(key("b"), content("x"), now), Known::Done(1)));
        assert!(matches!(outcomes.begin(key("a"), content("x"), now), Known::New(_)));
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
