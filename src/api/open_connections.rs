//! The connections that are open, what each of them does, and which one is closed for a new one or a new stream of events.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::Notify;

use super::problem::{Problem, ProblemKind};
use crate::metrics::ApiMetrics;

/// The most connections. Each reads one request at a time. One that is carried out may outlive its connection: see
/// [`WORKS_MAX`](super::outcome::WORKS_MAX).
pub(super) const CONNECTIONS_MAX: usize = 256;

/// How long a socket may take no byte of an answer before its connection can be closed for a new one. So callers that do not
/// read keep nobody out for long. The socket takes bytes in pieces: a caller may read a little meanwhile.
const UNREAD_MAX: Duration = Duration::from_secs(10);

/// How long a new connection has for its first request before it can be closed for another new one.
const FIRST_REQUEST_MIN: Duration = Duration::from_secs(1);

/// The most new connections that have this time. Of more, the oldest are closed, so that a flood of silent connections keeps
/// nobody out.
const NEW_KEPT_MAX: usize = CONNECTIONS_MAX / 4;

/// The most streams of events. Each holds a connection for long, and must leave most of them to other requests.
const EVENT_STREAMS_MAX: usize = CONNECTIONS_MAX / 4;

/// How long a socket may take no byte of a stream before the stream can be closed for another one: three of its comments.
const STREAM_STALL_MAX: Duration = Duration::from_secs(45);

/// The connections that are open.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    open: Mutex<Slab<OpenConnection>>,
    /// Notified when the last one has ended.
    empty: Notify,
    metrics: Arc<ApiMetrics>,
}

#[derive(Debug)]
struct OpenConnection {
    activity: Activity,
    close: Arc<Notify>,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// It is open since, and has had no request yet.
    New { since: Instant },
    /// It has had no request since.
    Idle { since: Instant },
    /// Its request is not answered yet.
    UnderWay,
    /// Its answer is a stream of events that goes on, of which its socket has taken no byte since.
    Streaming { since: Instant },
    /// Bytes of its answer wait for its socket, which has taken none since.
    Unread { since: Instant },
}

impl Activity {
    /// The order in which connections are closed for a new one: the lowest first. `None` for one that is not.
    fn rank(self, now: Instant, keeps_new: bool) -> Option<(bool, Instant)> {
        let has_passed = |time, since| now.saturating_duration_since(since) >= time;
        match self {
            Self::New { since } if keeps_new && !has_passed(FIRST_REQUEST_MIN, since) => None,
            Self::New { since } | Self::Idle { since } => Some((false, since)),
            Self::Unread { since } if has_passed(UNREAD_MAX, since) => Some((true, since)),
            Self::Streaming { since } if has_passed(STREAM_STALL_MAX, since) => Some((true, since)),
            Self::Unread { .. } | Self::Streaming { .. } | Self::UnderWay => None,
        }
    }
}

/// The open streams of events: since when their sockets have taken no byte, and their indices.
fn streams(open: &Slab<OpenConnection>) -> impl Iterator<Item = (Instant, usize)> {
    open.iter().filter_map(|(index, it)| match it.activity {
        Activity::Streaming { since } => Some((since, index)),
        _ => None,
    })
}

impl Shared {
    fn with_open<T>(&self, change: impl FnOnce(&mut Slab<OpenConnection>) -> T) -> T {
        // Each change is complete before anything can panic.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut open)
    }
}

impl Connections {
    pub(super) fn new(metrics: Arc<ApiMetrics>) -> Self {
        Self(Arc::new(Shared { metrics, ..Shared::default() }))
    }

    /// A permit for a new connection. When there are as many as allowed, the one that has been idle longest is asked to
    /// close, or else one whose caller does not read; `None` when all have a request, or are too new.
    pub(super) fn enter(&self) -> Option<ConnectionPermit> {
        self.enter_at(Instant::now())
    }

    fn enter_at(&self, now: Instant) -> Option<ConnectionPermit> {
        let close = Arc::new(Notify::new());
        let index = self.0.with_open(|open| {
            if open.len() >= CONNECTIONS_MAX {
                let is_new = |it: &OpenConnection| matches!(it.activity, Activity::New { .. });
                let keeps_new = open.iter().filter(|(_, it)| is_new(it)).count() <= NEW_KEPT_MAX;
                let rank = |it: &OpenConnection| it.activity.rank(now, keeps_new);
                let ranked = open.iter().filter_map(|(index, it)| Some((rank(it)?, index)));
                let (_, lowest) = ranked.min()?;
                open.remove(lowest).close.notify_one();
            }
            let activity = Activity::New { since: now };
            let index = open.insert(OpenConnection { activity, close: Arc::clone(&close) });
            self.0.metrics.connections.set(open.len());
            Some(index)
        })?;
        Some(ConnectionPermit { shared: Arc::clone(&self.0), index, close })
    }

    pub(super) async fn wait_until_empty(&self) {
        loop {
            let mut empty = pin!(self.0.empty.notified());
            empty.as_mut().enable();
            if self.0.with_open(|open| open.is_empty()) {
                return;
            }
            empty.await;
        }
    }
}

/// The permit of an open connection, until it is dropped, or the connection is asked to close.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    shared: Arc<Shared>,
    index: usize,
    close: Arc<Notify>,
}

impl ConnectionPermit {
    /// Notes a request, which is answered when the result is dropped. `None` when the connection has been asked to close: it
    /// has no permit any more, and must not begin one.
    pub(super) fn begin_request(self: &Arc<Self>) -> Option<RequestUnderWay> {
        self.with_own(|own| own.activity = Activity::UnderWay)?;
        self.shared.metrics.requests_under_way.add(1);
        Some(RequestUnderWay(Arc::clone(self)))
    }

    /// Notes that the answer to its request is a stream of events. When there are as many as allowed, the stream whose socket has
    /// taken no byte for longest is closed, if that is [`STREAM_STALL_MAX`] or more.
    ///
    /// # Errors
    ///
    /// [`ProblemKind::Busy`] when no stream can be closed for it.
    pub(super) fn begin_stream(&self) -> Result<(), Problem> {
        self.begin_stream_at(Instant::now()).ok_or_else(|| {
            self.shared.metrics.event_streams_refused.add(1);
            let detail = format!("{EVENT_STREAMS_MAX} event streams are open, which is the most");
            Problem::new(ProblemKind::Busy, detail)
        })
    }

    fn begin_stream_at(&self, now: Instant) -> Option<()> {
        self.shared.with_open(|open| {
            if streams(open).count() >= EVENT_STREAMS_MAX {
                let (since, stalled) = streams(open).min()?;
                if now.saturating_duration_since(since) < STREAM_STALL_MAX {
                    return None;
                }
                open.remove(stalled).close.notify_one();
            }
            // Without a permit, it is about to be closed.
            if let Some(own) = self.own(open) {
                own.activity = Activity::Streaming { since: now };
            }
            self.shared.metrics.event_streams.set(streams(open).count());
            Some(())
        })
    }

    /// Notes that the socket has taken bytes.
    pub(super) fn note_written(&self) {
        self.with_own(|own| {
            if let Activity::Unread { since } | Activity::Streaming { since } = &mut own.activity {
                *since = Instant::now();
            }
        });
    }

    /// Notes that the socket has taken all bytes that there are so far.
    pub(super) fn note_flushed(&self) {
        self.with_own(|own| {
            if let Activity::Unread { .. } = own.activity {
                own.activity = Activity::Idle { since: Instant::now() };
            }
        });
    }

    /// True when it has no request, and no byte of an answer is left.
    pub(super) fn is_idle(&self) -> bool {
        self.with_own(|own| matches!(own.activity, Activity::New { .. } | Activity::Idle { .. }))
            .unwrap_or(true)
    }

    pub(super) async fn asked_to_close(&self) {
        self.close.notified().await;
    }

    fn with_own<T>(&self, change: impl FnOnce(&mut OpenConnection) -> T) -> Option<T> {
        self.shared.with_open(|open| self.own(open).map(change))
    }

    /// `None` for a connection that was asked to close: another one may have its slot.
    fn own<'a>(&self, open: &'a mut Slab<OpenConnection>) -> Option<&'a mut OpenConnection> {
        open.get_mut(self.index).filter(|it| Arc::ptr_eq(&it.close, &self.close))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let is_last = self.shared.with_open(|open| {
            if self.own(open).is_some() {
                open.remove(self.index);
            }
            self.shared.metrics.connections.set(open.len());
            open.is_empty()
        });
        if is_last {
            self.shared.empty.notify_one();
        }
    }
}

/// A request whose answer has not been handed over whole.
pub(super) struct RequestUnderWay(Arc<ConnectionPermit>);

impl Drop for RequestUnderWay {
    fn drop(&mut self) {
        self.0.shared.metrics.requests_under_way.sub(1);
        let shared = &self.0.shared;
        shared.with_open(|open| {
            if let Some(own) = self.0.own(open) {
                own.activity = Activity::Unread { since: Instant::now() };
            }
            shared.metrics.event_streams.set(streams(open).count());
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn full(connections: &Connections) -> Vec<Arc<ConnectionPermit>> {
        (0..CONNECTIONS_MAX).map(|_| Arc::new(connections.enter().expect("a permit"))).collect()
    }

    fn must_close(permit: &ConnectionPermit) -> bool {
        permit.asked_to_close().now_or_never().is_some()
    }

    /// What its connection does when an answer ends.
    fn answer(permit: &ConnectionPermit, request: RequestUnderWay) {
        drop(request);
        permit.note_flushed();
    }

    #[test]
    fn the_connection_that_has_been_idle_longest_is_closed() {
        let connections = Connections::default();
        let permits = full(&connections);
        let first = permits[0].begin_request().unwrap();
        let newcomer = Arc::new(connections.enter().expect("the second is silent"));
        assert!(must_close(&permits[1]));
        assert!(permits[1].begin_request().is_none(), "it has no permit any more");
        let _busy: Vec<_> =
            permits[2..].iter().chain([&newcomer]).map(|permit| permit.begin_request().unwrap()).collect();
        assert!(connections.enter().is_none(), "all have a request");
        answer(&permits[0], first);
        assert!(connections.enter().is_some());
    }

    #[tokio::test]
    async fn a_connection_that_was_asked_to_close_changes_nothing_any_more() {
        let connections = Connections::default();
        let permits = full(&connections);
        // It gets the slot of the first.
        let newcomer = Arc::new(connections.enter().expect("a permit"));
        let request = newcomer.begin_request();
        permits[0].note_flushed();
        assert!(permits[0].is_idle() && !newcomer.is_idle());
        drop(request);
        let count = || connections.0.with_open(|open| open.len());
        assert_eq!(count(), CONNECTIONS_MAX);
        drop(permits);
        assert_eq!(count(), 1);
        drop(newcomer);
        connections.wait_until_empty().await;
    }

    #[test]
    fn a_caller_that_reads_its_answer_keeps_its_connection() {
        let connections = Connections::default();
        let permits = full(&connections);
        let _busy: Vec<_> = permits[1..].iter().map(|permit| permit.begin_request().unwrap()).collect();
        drop(permits[0].begin_request());
        let answered = Instant::now();
        assert!(!permits[0].is_idle());
        assert!(connections.enter_at(answered).is_none(), "it has had no time to read");
        permits[0].note_written();
        assert!(connections.enter_at(answered + UNREAD_MAX).is_none(), "it has read meanwhile");
        assert!(connections.enter_at(Instant::now() + UNREAD_MAX).is_some());
        assert!(must_close(&permits[0]));
    }

    #[test]
    fn idle_connections_are_closed_before_those_that_do_not_read() {
        let connections = Connections::default();
        let permits = full(&connections);
        drop(permits[0].begin_request());
        let mut newcomers = Vec::new();
        for permit in &permits[1..] {
            newcomers.push(connections.enter_at(Instant::now() + UNREAD_MAX).expect("a permit"));
            assert!(must_close(permit));
        }
    }

    #[test]
    fn a_new_connection_has_a_second_for_its_first_request() {
        let connections = Connections::default();
        let permits = full(&connections);
        let opened = Instant::now();
        let _busy: Vec<_> =
            permits[NEW_KEPT_MAX..].iter().map(|permit| permit.begin_request().unwrap()).collect();
        assert!(connections.enter_at(opened).is_none(), "all others are new");
        let _one_more = connections.enter_at(opened + FIRST_REQUEST_MIN).expect("a second has passed");
        assert!(must_close(&permits[0]));
        answer(&permits[1], permits[1].begin_request().unwrap());
        let _another = connections.enter_at(opened).expect("one is idle");
        assert!(must_close(&permits[1]) && !must_close(&permits[2]));
    }

    #[test]
    fn a_stream_that_takes_nothing_is_closed_for_another_one() {
        let connections = Connections::default();
        let permits = full(&connections);
        let requests: Vec<_> = permits.iter().map(|permit| permit.begin_request().unwrap()).collect();
        let (streaming, others) = permits.split_at(EVENT_STREAMS_MAX);
        let begun = Instant::now();
        for permit in streaming {
            permit.begin_stream_at(begun).expect("a permit");
        }
        assert!(others[0].begin_stream_at(begun).is_none(), "all of them are alive");
        streaming[0].note_written();
        others[0].begin_stream_at(begun + STREAM_STALL_MAX).expect("the second takes nothing");
        assert!(!must_close(&streaming[0]) && must_close(&streaming[1]));
        assert_eq!(connections.0.metrics.event_streams.get(), EVENT_STREAMS_MAX as u64);
        drop(requests);
        assert_eq!(connections.0.metrics.event_streams.get(), 0);
    }
}
