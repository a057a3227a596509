//! The requests of backends with an idempotency key, in memory: what each asked for, and its outcome.
//!
//! The HTTP API enters them here, and `state.db` follows: its thread reads a request when it writes the row. So the queue to
//! that thread holds keys, and no answers.
//!
//! They are bounded in number and in bytes. When there are too many, the oldest that have ended are forgotten early. Those
//! under way are as many as the API carries out.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::unix_seconds;

/// How long a request is kept after its end.
pub const REQUEST_KEPT_FOR: Duration = Duration::from_secs(5 * 60);

/// The most requests that have ended and are kept.
pub const REQUESTS_MAX: usize = 1_000_000;

/// The most bytes of all requests, of which each counts [`KeptRequest::bytes`].
pub const REQUESTS_BYTES_MAX: usize = 256 << 20;

/// What a request counts beside its answer: its place by key, and in the order of ends.
const REQUEST_BYTES: usize = 168;

const _: () = assert!(size_of::<(RequestKey, Entry)>() + size_of::<(Instant, RequestKey)>() <= REQUEST_BYTES);
// As many as may be kept find room, with the answers to single messages.
const _: () = assert!(REQUESTS_MAX * (REQUEST_BYTES + 100) <= REQUESTS_BYTES_MAX);

/// Old requests that the beginning of another one removes at most: more than it adds.
const REMOVED_MAX: usize = 1_000;

/// The digest of the API key's name and the idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(pub [u8; 32]);

/// A request with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRequest {
    /// The digest of what was asked for.
    pub content: [u8; 32],
    /// When it began or ended, in Unix seconds.
    pub at: u64,
    /// What has become of it.
    pub state: RequestState,
}

/// What has become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// It is being carried out.
    UnderWay,
    /// It was cut off while it was carried out, for example by a crash: whether it had an effect is unknown.
    CutOff,
    /// It was answered.
    Done(KeptAnswer),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The status.
    pub status: u16,
    /// The body, which is JSON.
    pub body: Arc<str>,
}

/// The requests that are kept. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct KeptRequests(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    by_key: BTreeMap<RequestKey, Entry>,
    /// Those that have ended, the oldest first. One that has been forgotten since is skipped.
    ended: VecDeque<(Instant, RequestKey)>,
    /// Invariant: the sum of all [`KeptRequest::bytes`].
    bytes: usize,
    requests_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    request: KeptRequest,
    /// `None` while the request is under way.
    ended: Option<Instant>,
}

impl KeptRequest {
    /// What it counts: its places in memory, and the text of its answer.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let answer = match &self.state {
            RequestState::Done(answer) => answer.body.len(),
            RequestState::UnderWay | RequestState::CutOff => 0,
        };
        REQUEST_BYTES + answer
    }
}

impl KeptRequests {
    /// The requests of an earlier life of the server, the oldest first.
    #[must_use]
    pub fn restored(requests: Vec<(RequestKey, KeptRequest)>, now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Table::default().restore(requests, now))))
    }

    /// Returns the earlier request with this key. If there is none, one begins.
    #[must_use]
    pub fn begin(&self, key: RequestKey, content: [u8; 32], now: Instant) -> Option<KeptRequest> {
        let mut table = self.lock();
        table.remove_old(now);
        match table.by_key.get(&key) {
            Some(earlier) if !earlier.is_old(now) => return Some(earlier.request.clone()),
            _ => drop(table.remove(key)),
        }
        let request = KeptRequest { content, at: unix_seconds(), state: RequestState::UnderWay };
        table.insert(key, Entry { request, ended: None });
        None
    }

    /// The request with this key has ended. Returns the keys that are forgotten before their time.
    pub fn end(&self, key: RequestKey, state: RequestState, now: Instant) -> Vec<RequestKey> {
        let mut table = self.lock();
        if let Some(Entry { request, .. }) = table.remove(key) {
            let request = KeptRequest { at: unix_seconds(), state, ..request };
            table.insert(key, Entry { request, ended: Some(now) });
            table.ended.push_back((now, key));
        }
        table.forget_excess(now)
    }

    /// Forgets the request with this key.
    pub fn forget(&self, key: RequestKey) {
        self.lock().remove(key);
    }

    /// The request with this key.
    #[must_use]
    pub fn get(&self, key: RequestKey) -> Option<KeptRequest> {
        self.lock().by_key.get(&key).map(|entry| entry.request.clone())
    }

    /// The next requests in the order of their keys, from the first or behind one: `count_max`, and fewer where they have
    /// more than `bytes_max` bytes; at least one, if there is one.
    #[must_use]
    pub fn next_by_key(
        &self,
        after: Option<RequestKey>,
        count_max: usize,
        bytes_max: usize,
    ) -> Vec<(RequestKey, KeptRequest)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut bytes = 0;
        let table = self.lock();
        let next = table.by_key.range((from, Bound::Unbounded)).take(count_max);
        let next = next.take_while(|(_, entry)| {
            let is_first = bytes == 0;
            bytes += entry.request.bytes();
            is_first || bytes <= bytes_max
        });
        next.map(|(key, entry)| (*key, entry.request.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Each change is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Table {
    fn default() -> Self {
        Self {
            by_key: BTreeMap::new(),
            ended: VecDeque::new(),
            bytes: 0,
            requests_max: REQUESTS_MAX,
            bytes_max: REQUESTS_BYTES_MAX,
        }
    }
}

impl Table {
    fn restore(mut self, requests: Vec<(RequestKey, KeptRequest)>, now: Instant) -> Self {
        let unix_now = unix_seconds();
        for (key, request) in requests {
            let age = Duration::from_secs(unix_now.saturating_sub(request.at));
            // A machine may have started more recently than that.
            let ended = now.checked_sub(age).unwrap_or(now);
            self.insert(key, Entry { request, ended: Some(ended) });
            self.ended.push_back((ended, key));
        }
        // The file is read within the same limits.
        self.forget_excess(now);
        self
    }

    fn insert(&mut self, key: RequestKey, entry: Entry) {
        self.bytes += entry.request.bytes();
        if let Some(earlier) = self.by_key.insert(key, entry) {
            self.bytes -= earlier.request.bytes();
        }
    }

    fn remove(&mut self, key: RequestKey) -> Option<Entry> {
        let entry = self.by_key.remove(&key)?;
        self.bytes -= entry.request.bytes();
        Some(entry)
    }

    /// Removes the request that has ended first. Returns its key if it was still kept.
    fn remove_oldest(&mut self) -> Option<RequestKey> {
        let (ended, key) = self.ended.pop_front()?;
        // Another request may have the key by now.
        let is_kept = self.by_key.get(&key).is_some_and(|entry| entry.ended == Some(ended));
        is_kept.then(|| self.remove(key)).flatten().map(|_| key)
    }

    /// Removes some of those that have been kept for long enough.
    fn remove_old(&mut self, now: Instant) {
        for _ in 0..REMOVED_MAX {
            match self.ended.front() {
                Some((ended, _)) if is_old(*ended, now) => drop(self.remove_oldest()),
                _ => break,
            }
        }
    }

    /// Forgets the oldest until there are not too many. Returns those that would have been kept for longer.
    fn forget_excess(&mut self, now: Instant) -> Vec<RequestKey> {
        let mut forgotten = Vec::new();
        while self.ended.len() > self.requests_max || self.bytes > self.bytes_max {
            let Some((ended, _)) = self.ended.front().copied() else { break };
            if let Some(key) = self.remove_oldest()
                && !is_old(ended, now)
            {
                forgotten.push(key);
            }
        }
        forgotten
    }
}

impl Entry {
    fn is_old(&self, now: Instant) -> bool {
        self.ended.is_some_and(|ended| is_old(ended, now))
    }
}

fn is_old(ended: Instant, now: Instant) -> bool {
    now.saturating_duration_since(ended) >= REQUEST_KEPT_FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> RequestKey {
        RequestKey([number; 32])
    }

    fn done(text: &str) -> RequestState {
        RequestState::Done(KeptAnswer { status: 200, body: text.into() })
    }

    /// Requests within other limits than usual.
    fn within(requests_max: usize, bytes_max: usize) -> KeptRequests {
        KeptRequests(Arc::new(Mutex::new(Table { requests_max, bytes_max, ..Table::default() })))
    }

    /// Begins and ends a request; returns the keys that are forgotten for it.
    fn answer(kept: &KeptRequests, number: u8, text: &str, now: Instant) -> Vec<RequestKey> {
        assert_eq!(kept.begin(key(number), [0; 32], now), None);
        kept.end(key(number), done(text), now)
    }

    fn is_kept(kept: &KeptRequests, number: u8) -> bool {
        kept.get(key(number)).is_some()
    }

    #[test]
    fn the_first_request_is_found_until_it_has_been_kept_for_its_time() {
        let (kept, now) = (KeptRequests::default(), Instant::now());
        assert_eq!(kept.begin(key(1), [7; 32], now), None);
        let found = |now| kept.begin(key(1), [8; 32], now).map(|first| (first.content, first.state));
        assert_eq!(found(now + 2 * REQUEST_KEPT_FOR), Some(([7; 32], RequestState::UnderWay)));
        kept.end(key(1), done("1"), now);
        let end = now + REQUEST_KEPT_FOR;
        assert_eq!(found(end - Duration::from_millis(1)), Some(([7; 32], done("1"))));
        assert_eq!(found(end), None);
        assert_eq!(found(end), Some(([8; 32], RequestState::UnderWay)));
        kept.forget(key(1));
        assert_eq!((is_kept(&kept, 1), kept.lock().bytes), (false, 0));
    }

    #[test]
    fn old_ones_are_removed_some_at_a_time_and_are_old_at_once() {
        let (kept, now) = (within(usize::MAX, usize::MAX), Instant::now());
        let number = |n: u16| {
            let mut key = key(0);
            key.0[..2].copy_from_slice(&n.to_be_bytes());
            key
        };
        for n in 0..3_000 {
            assert_eq!(kept.begin(number(n), [0; 32], now), None);
            kept.end(number(n), done("1"), now);
        }
        let later = now + REQUEST_KEPT_FOR;
        // It is not among those that are removed first, and counts as removed all the same.
        assert_eq!(kept.begin(number(2_999), [0; 32], later), None);
        assert_eq!(kept.lock().by_key.len(), 2_000);
        assert_eq!(kept.begin(number(9_999), [0; 32], later), None);
        assert_eq!(kept.begin(number(9_998), [0; 32], later), None);
        let under_way: Vec<_> = kept.lock().by_key.keys().copied().collect();
        assert_eq!(under_way, [number(2_999), number(9_998), number(9_999)]);
    }

    #[test]
    fn the_oldest_are_forgotten_early_when_there_are_too_many() {
        let (kept, now) = (within(2, usize::MAX), Instant::now());
        assert_eq!(kept.begin(key(9), [0; 32], now), None);
        for (number, forgotten) in [(1, vec![]), (2, vec![]), (3, vec![key(1)]), (4, vec![key(2)])] {
            assert_eq!(answer(&kept, number, "1", now), forgotten);
        }
        assert_eq!([1, 2, 3, 4, 9].map(|number| is_kept(&kept, number)), [false, false, true, true, true]);
    }

    /// Goal: a few long answers, or many short ones, take no more memory than all may take.
    #[test]
    fn the_oldest_are_forgotten_early_when_they_are_too_large_together() {
        let bytes_max = 3 * REQUEST_BYTES + 1_000;
        let (kept, now) = (within(usize::MAX, bytes_max), Instant::now());
        let long = "x".repeat(500);
        assert_eq!(answer(&kept, 1, &long, now), []);
        assert_eq!(answer(&kept, 2, &long, now), []);
        assert_eq!(answer(&kept, 3, "", now), []);
        assert_eq!(kept.lock().bytes, bytes_max);
        assert_eq!(answer(&kept, 4, "", now), [key(1)]);
        assert_eq!(answer(&kept, 5, &long, now), [key(2)]);
        // One that is too large by itself leaves room for others.
        assert_eq!(answer(&kept, 6, &"x".repeat(bytes_max), now), [3, 4, 5, 6].map(key));
        assert_eq!(kept.lock().bytes, 0);
        // What has been kept for its time is not forgotten early.
        answer(&kept, 7, &long, now);
        assert_eq!(answer(&kept, 8, &"x".repeat(600), now + REQUEST_KEPT_FOR), []);
    }

    #[test]
    fn requests_are_restored_within_the_limits() {
        let now = Instant::now();
        let request = |age: u64, body: &str| KeptRequest {
            content: [0; 32],
            at: unix_seconds() - age,
            state: done(body),
        };
        let long = "x".repeat(500);
        let rows =
            vec![(key(1), request(290, &long)), (key(2), request(200, "")), (key(3), request(0, &long))];
        let limits = Table { bytes_max: 3 * REQUEST_BYTES + 999, ..Table::default() };
        let kept = KeptRequests(Arc::new(Mutex::new(limits.restore(rows, now))));
        assert_eq!([1, 2, 3].map(|number| is_kept(&kept, number)), [false, true, true]);
        assert!(kept.begin(key(2), [0; 32], now + Duration::from_secs(90)).is_some());
        assert!(kept.begin(key(2), [0; 32], now + Duration::from_secs(110)).is_none());
    }

    #[test]
    fn they_are_listed_by_key_a_few_at_a_time() {
        let (kept, now) = (KeptRequests::default(), Instant::now());
        for number in [3, 1, 4, 2] {
            answer(&kept, number, &"x".repeat(100), now);
        }
        let listed = |after: Option<u8>, count_max, bytes_max| -> Vec<u8> {
            let next = kept.next_by_key(after.map(key), count_max, bytes_max);
            next.into_iter().map(|(key, _)| key.0[0]).collect()
        };
        assert_eq!(listed(None, 3, usize::MAX), [1, 2, 3]);
        assert_eq!(listed(Some(3), 3, usize::MAX), [4]);
        assert_eq!(listed(Some(1), 3, 2 * (REQUEST_BYTES + 100)), [2, 3]);
        assert_eq!(listed(Some(1), 3, 1), [2], "one at least");
        assert_eq!(listed(Some(4), 3, usize::MAX), [0; 0]);
    }
}
