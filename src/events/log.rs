//! The log: the last events, numbered.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::ended::EndedConnections;
use super::event::Event;
use crate::rooms::Instance;

/// The most events that are kept.
pub const EVENTS_KEPT: usize = 10_000;

/// The most bytes of events that are kept: with the longest messages there are fewer of them.
const BYTES_KEPT: usize = 64 << 20;

/// The name of an event: no other event gets it, not even after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The life of the server in which it happened.
    pub instance: Instance,
    /// Its number in the log, from 1 on.
    pub number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.instance, self.number)
    }
}

/// A text is no name of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an event")]
pub struct NoEventId;

impl FromStr for EventId {
    type Err = NoEventId;

    fn from_str(text: &str) -> Result<Self, NoEventId> {
        let (instance, number) = text.split_once('-').ok_or(NoEventId)?;
        let id = Self {
            instance: instance.parse().map_err(|_| NoEventId)?,
            number: number.parse().map_err(|_| NoEventId)?,
        };
        if id.to_string() == text { Ok(id) } else { Err(NoEventId) }
    }
}

/// An event with its name.
#[derive(Debug)]
pub struct LoggedEvent {
    /// Its name. Of a gap: that of the last event that is missing, so that a reader that comes back with it goes on behind
    /// the gap.
    pub id: EventId,
    /// The event.
    pub event: Event,
    /// The event as readers send it, from the first one on that needed it. Set under the lock of the log, which counts it.
    encoded: OnceLock<Bytes>,
}

impl LoggedEvent {
    pub(super) fn new(id: EventId, event: Event) -> Self {
        Self { id, event, encoded: OnceLock::new() }
    }

    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        self.event.bytes() + self.encoded.get().map_or(0, Bytes::len)
    }
}

/// The last events of this node, and the connections that have ended. Clones share them.
#[derive(Clone, Debug)]
pub struct EventLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    instance: Instance,
    kept: Mutex<Kept>,
    /// Changes behind each change of the log.
    tail: watch::Sender<Tail>,
    ended: EndedConnections,
}

/// The end of the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tail {
    last: u64,
    /// True when no event will follow.
    pub(super) is_closed: bool,
}

/// Invariant: `events` have the numbers up to `last`, without a gap.
#[derive(Debug, Default)]
pub(super) struct Kept {
    events: VecDeque<Arc<LoggedEvent>>,
    bytes: usize,
    last: u64,
}

impl EventLog {
    pub(super) fn new(instance: Instance) -> Self {
        Self(Arc::new(Shared {
            instance,
            kept: Mutex::default(),
            tail: watch::Sender::default(),
            ended: EndedConnections::default(),
        }))
    }

    /// The life of the server that it is of.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.0.instance
    }

    /// The connections that have ended.
    #[must_use]
    pub fn ended(&self) -> &EndedConnections {
        &self.0.ended
    }

    /// Appends events. They are for threads that serve no clients: a shard has an [`EventSender`](super::EventSender).
    pub fn append(&self, events: impl IntoIterator<Item = Event>) {
        let last = {
            let mut kept = self.lock();
            for event in events {
                kept.append(self.0.instance, event);
            }
            kept.last
        };
        self.0.tail.send_modify(|tail| tail.last = last);
    }

    /// Readers end when they have read the last event.
    pub(super) fn close(&self) {
        self.0.tail.send_modify(|tail| tail.is_closed = true);
    }

    /// The event as `encode` makes it, which is called once for all readers, unless two call this at the same time.
    pub(super) fn encoded(&self, logged: &LoggedEvent, encode: impl FnOnce(&LoggedEvent) -> Bytes) -> Bytes {
        if let Some(encoded) = logged.encoded.get() {
            return encoded.clone();
        }
        let encoded = encode(logged);
        self.lock().keep_encoded(logged, &encoded);
        encoded
    }

    pub(super) fn watch_tail(&self) -> watch::Receiver<Tail> {
        self.0.tail.subscribe()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Kept> {
        // Each change is complete before anything can panic.
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn append(&mut self, instance: Instance, event: Event) {
        self.last += 1;
        self.bytes += event.bytes();
        let id = EventId { instance, number: self.last };
        self.events.push_back(Arc::new(LoggedEvent::new(id, event)));
        self.forget_too_many();
    }

    fn keep_encoded(&mut self, logged: &LoggedEvent, encoded: &Bytes) {
        // A reader makes gaps of its own, which have the number of an event that is no longer kept.
        let is_kept = logged.id.number > self.forgotten();
        if is_kept && logged.encoded.set(encoded.clone()).is_ok() {
            self.bytes += encoded.len();
            self.forget_too_many();
        }
    }

    fn forget_too_many(&mut self) {
        while self.events.len() > EVENTS_KEPT || self.bytes > BYTES_KEPT {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
    }

    /// The number of the last event, 0 where there is none.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The number of the last event that is no longer kept.
    pub(super) fn forgotten(&self) -> u64 {
        self.last - self.events.len() as u64
    }

    /// The kept events behind the one of this number, which is at least [`Kept::forgotten`].
    pub(super) fn behind(&self, number: u64) -> impl Iterator<Item = &Arc<LoggedEvent>> {
        let skipped = number.saturating_sub(self.forgotten()) as usize;
        self.events.range(skipped.min(self.events.len())..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_one_name() {
        let id: EventId = "00c0ffee-12".parse().unwrap();
        assert_eq!((id.number, &*id.to_string()), (12, "00c0ffee-12"));
        let others = [
            "",
            "12",
            "c0ffee-12",
            "00C0FFEE-12",
            "00c0ffee-+12",
            "00c0ffee-012",
            "00c0ffee-12 ",
            "-",
            "+0c0ffee-1",
        ];
        for other in others {
            assert_eq!(other.parse::<EventId>(), Err(NoEventId), "{other:?}");
        }
    }

    #[test]
    fn long_events_are_kept_within_the_limit_of_bytes() {
        let mut kept = Kept::default();
        let reason = Some("x".repeat(BYTES_KEPT / 10));
        for _ in 0..20 {
            let event = super::super::ModerationEvent { reason: reason.clone(), ..Default::default() };
            kept.append(Instance::random(), Event::Moderation(event));
        }
        assert_eq!((kept.events.len(), kept.last(), kept.forgotten()), (9, 20, 11));
        assert!(kept.bytes <= BYTES_KEPT);
    }

    #[test]
    fn an_event_is_encoded_once_and_counted_while_it_is_kept() {
        let log = EventLog::new(Instance::random());
        let event = || Event::Gap { lost: None };
        log.append([event(), event()]);
        let [first, second] = [0, 1].map(|number| Arc::clone(log.lock().behind(number).next().unwrap()));
        let before = log.lock().bytes;
        let mut encodings = 0;
        for _ in 0..3 {
            let encoded = log.encoded(&first, |_| {
                encodings += 1;
                Bytes::from_static(b"first")
            });
            assert_eq!(encoded, "first");
        }
        let counted = log.lock().bytes - before;
        assert_eq!((encodings, counted), (1, 5));
        // One as large as the limit makes the log forget everything up to itself.
        let large = Bytes::from(vec![0; BYTES_KEPT]);
        assert_eq!(log.encoded(&second, |_| large.clone()).len(), BYTES_KEPT);
        let left = || {
            let kept = log.lock();
            (kept.events.len(), kept.bytes)
        };
        assert_eq!(left(), (0, 0));
        // One that is gone is not counted.
        assert_eq!(log.encoded(&Arc::new(LoggedEvent::new(second.id, event())), |_| large.clone()), large);
        assert_eq!(left(), (0, 0));
    }
}
